// Package sandbox takes from this process, for good, what its work does not need of the file system.
//
// It does what ReadWritePaths= of a systemd unit does, but follows the program's own settings: a unit knows its paths before
// the program has read where the archive is.
package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// ErrNoLandlock says that this kernel, or its configuration, has no Landlock.
var ErrNoLandlock = errors.New("this kernel has no Landlock")

// Writes leaves the whole process the directories, and all below them, as the only ones in which it can write, make, rename
// and remove. Reading stays as it is. What is open stays usable. A directory that is not there, or that this user cannot
// reach, is left out: whoever then works on it gets the error.
//
// Landlock knows no chmod, chown and utime; the program may do these where its user may.
func Writes(dirs ...string) error {
	if version, err := ll.LandlockGetABIVersion(); err != nil || version < 1 {
		return ErrNoLandlock
	}
	const rights = ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile |
		ll.AccessFSMakeChar | ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo |
		ll.AccessFSMakeBlock | ll.AccessFSMakeSym
	config, err := landlock.NewConfig(landlock.AccessFSSet(rights))
	if err != nil {
		return fmt.Errorf("enter sandbox: %w", err)
	}
	var there []string
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			there = append(there, dir)
		}
	}
	if err := config.BestEffort().RestrictPaths(landlock.PathAccess(rights, there...)); err != nil {
		return fmt.Errorf("enter sandbox: %w", err)
	}
	return nil
}

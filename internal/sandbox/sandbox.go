// Package sandbox takes away from this process, for good, what its work does not need: parts of the
// file system, the network, other programs, and its share of the processor and the disk.
//
// Landlock restricts a process as ReadWritePaths= of a systemd unit does, but after the program has
// read its settings: a unit knows its paths before the program knows where the archive is.
package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// ErrNoLandlock reports that this kernel, or its configuration, has no Landlock.
var ErrNoLandlock = errors.New("this kernel has no Landlock")

func available() bool {
	version, err := ll.LandlockGetABIVersion()
	return err == nil && version >= 1
}

// Writes leaves the process the directories, and everything below them, as the only ones in which it
// can write, create, rename and remove. Reading is not restricted. Open files stay usable. A
// directory that does not exist, or that this user cannot reach, is left out: whoever works on it
// later gets the error.
//
// Landlock does not cover chmod, chown and utime: the process may call them where its user may.
func Writes(dirs ...string) error {
	if !available() {
		return ErrNoLandlock
	}
	const rights = ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile |
		ll.AccessFSMakeChar | ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo |
		ll.AccessFSMakeBlock | ll.AccessFSMakeSym
	config, err := landlock.NewConfig(landlock.AccessFSSet(rights))
	if err != nil {
		return fmt.Errorf("enter sandbox: %w", err)
	}
	var existing []string
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			existing = append(existing, dir)
		}
	}
	if err := config.BestEffort().RestrictPaths(landlock.PathAccess(rights, existing...)); err != nil {
		return fmt.Errorf("enter sandbox: %w", err)
	}
	return nil
}

// Restrict leaves the process the directories and everything below them: it can read, create, write
// and remove regular files there and nowhere else. It can execute nothing, gain no privileges,
// connect to and listen on no TCP port, and signal no other process, as far as this kernel's
// Landlock covers these. Open files and the journal's socket stay usable.
func Restrict(dirs ...string) error {
	if !available() {
		return ErrNoLandlock
	}
	const rights = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate |
		ll.AccessFSReadDir | ll.AccessFSMakeReg | ll.AccessFSRemoveFile
	if err := landlock.V6.BestEffort().Restrict(landlock.PathAccess(rights, dirs...)); err != nil {
		return fmt.Errorf("enter sandbox: %w", err)
	}
	return nil
}

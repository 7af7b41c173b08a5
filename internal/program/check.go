// Package program calls a program of the administrator's for an event: a client
// that came, a recording that was published.
//
// The caller and the program do not meet. The caller puts a Call, which has all
// that is needed, into a Queue, a directory that a systemd path unit watches; the
// unit's service takes the calls out, in order and one at a time, and runs them
// outside the caller's sandbox and locks. So a program that hangs, fails or prints
// without end holds up only the calls behind it, each by no more than its time
// limit, and settings that are broken in between break no call.
package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrUnsafe reports a program that somebody else could replace.
var ErrUnsafe = errors.New("others may write to it")

// Check returns an error that names what is wrong with a command, the program and
// its arguments, and the remedy. The program must have an absolute path, be
// executable, and neither it nor its directory may be writable by anybody but root
// and this user, who runs it.
func Check(command []string) error {
	if len(command) == 0 || command[0] == "" {
		return errors.New(`a program is missing, such as ["/etc/tunnelcast/notify"]`)
	}
	path := command[0]
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the program %q must have an absolute path, such as /etc/tunnelcast/notify", path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("the program %s: %w", path, cause(err))
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return fmt.Errorf("the program %s: %w", path, cause(err))
	case !info.Mode().IsRegular():
		return fmt.Errorf("the program %s is not a file", path)
	case info.Mode()&0o111 == 0 || syscall.Access(real, 1) != nil: // X_OK
		return fmt.Errorf("the program %s is not executable: `chmod +x %s`", path, real)
	}
	// Whoever may write to a directory may put another file in the place of this one.
	for _, what := range []string{real, filepath.Dir(real), filepath.Dir(path)} {
		if err := safe(what); err != nil {
			return fmt.Errorf("the program %s is refused: %w", path, err)
		}
	}
	return nil
}

func safe(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode()&0o022 != 0 {
		return fmt.Errorf("%w: %s has the mode %#o: `chmod go-w %[2]s`", ErrUnsafe, path, info.Mode().Perm())
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner != 0 && int(owner) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to the user %d: `chown root %[2]s`", ErrUnsafe, path, owner)
	}
	return nil
}

// cause leaves out the path, which the message has already.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

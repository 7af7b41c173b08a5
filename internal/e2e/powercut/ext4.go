package powercut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// Ext4 recovers the file system in an image with e2fsck, which replays the journal and then checks
// everything, and copies all its files to dir, an empty directory.
func Ext4(ctx context.Context, image, dir string) error {
	out, err := exec.CommandContext(ctx, "e2fsck", "-fy", image).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // it has changed something, as it must
		err = nil
	}
	if err != nil {
		return fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	out, err = exec.CommandContext(ctx, "debugfs", "-R", "rdump / "+dir, image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("debugfs: %w: %s", err, out)
	}
	return nil
}

// MakeExt4 makes a file system with Debian's defaults in a new image of so many bytes. The owner of its
// root is the one given.
func MakeExt4(ctx context.Context, image string, size int64, uid, gid int) error {
	f, err := os.OpenFile(image, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	// Without the lazy parts, the kernel does not write to the disk by itself.
	out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F",
		"-E", fmt.Sprintf("lazy_itable_init=0,lazy_journal_init=0,root_owner=%d:%d", uid, gid), image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

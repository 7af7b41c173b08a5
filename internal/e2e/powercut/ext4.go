package powercut

import (
	"context"
	"errors"
	"fmt"
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

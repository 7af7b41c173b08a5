package box

import (
	"context"
	"fmt"
	"strings"
)

// Probe plays a whole recording with this computer's ffmpeg and returns the names of its streams' codecs, in order.
// Anything that ffmpeg complains about is an error.
func Probe(ctx context.Context, file string) (codecs string, err error) {
	out, err := output(ctx, []string{"ffprobe"},
		"-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", file)
	if err != nil {
		return "", err
	}
	complaints, err := output(ctx, []string{"sh", "-c", `exec "$@" 2>&1`, "sh"},
		"ffmpeg", "-v", "error", "-xerror", "-i", file, "-f", "null", "-")
	if err != nil {
		return "", err
	}
	if complaints != "" {
		return "", fmt.Errorf("play %s: %s", file, strings.TrimSpace(complaints))
	}
	return strings.Join(strings.Fields(out), " "), nil
}

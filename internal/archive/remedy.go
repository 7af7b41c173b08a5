package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Remedy says what helps when a directory could not be worked in.
func Remedy(dir string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("install -d -o www-data -g www-data %s, or name another with the key archive", dir)
	case errors.Is(err, syscall.EROFS):
		return "findmnt -T " + dir + "; mount -o remount,rw it, and see the kernel's log for why it was not"
	case errors.Is(err, fs.ErrPermission):
		return "chown www-data " + dir + ": nginx records there as www-data, and so must this run"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "df " + dir + "; tunnelcast-archiveprune --dry-run --max-age 24h shows what could go"
	}
	return "it must be a directory that www-data may write to; the clock must be right"
}

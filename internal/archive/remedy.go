package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Remedy returns what an administrator can do about an error of working in dir, or at the path in it that
// err names.
func Remedy(dir string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("`install -d -o www-data -g www-data %s`, or name another with the key archive", dir)
	case errors.Is(err, syscall.EROFS):
		return "`findmnt -T " + dir + "` shows where it is mounted; `journalctl -k -p err` why it is read-only; " +
			"`mount -o remount,rw DIRECTORY`"
	case errors.Is(err, fs.ErrPermission):
		at := dir
		var inside *fs.PathError
		if errors.As(err, &inside) && filepath.IsAbs(inside.Path) {
			at = inside.Path
			_, statErr := os.Lstat(at)
			if errors.Is(statErr, fs.ErrNotExist) && !errors.Is(err, syscall.EPERM) { // it was to be made
				at = filepath.Dir(at)
			}
		}
		return permit(at, errors.Is(err, syscall.EPERM))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "`df " + dir + "`; `tunnelcast-archiveprune --dry-run --max-age 24h` shows what could be removed"
	}
	return "it must be a directory that www-data may write to; the clock must be right"
}

// permit returns how to let this user work on path. protected means that something stronger than
// permissions forbids it.
func permit(path string, protected bool) string {
	self := unix.Geteuid()
	me := userName(self)
	for i := 1; i < len(path); i++ { // each directory on the way
		if path[i] != '/' {
			continue
		}
		if above := path[:i]; errors.Is(unix.Faccessat(unix.AT_FDCWD, above, unix.X_OK, unix.AT_EACCESS), unix.EACCES) {
			return fmt.Sprintf("`setfacl -m u:%s:x %s`, or `chmod o+x %[2]s`: %[1]s may not pass it", me, above)
		}
	}
	if protected {
		return fmt.Sprintf("`lsattr -d %s %s`; `chattr -i -a FILE` if it should not be protected, and "+
			"`chmod -t DIRECTORY` if that need not be sticky", filepath.Dir(path), path)
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return "`namei -l " + path + "`"
	}
	switch owner := int(stat.Uid); {
	case owner == self:
		return "`chmod u+rwx " + path + "`"
	case owner == 0:
		return fmt.Sprintf("`chown %s %s`: nginx records there as %s, and so must this run", me, path, me)
	default:
		// chown would keep the other user from recording there.
		them := userName(owner)
		return fmt.Sprintf("it belongs to %s: if nginx records as %s, so must these runs (`systemctl edit "+
			"tunnelcast-{archiveprune,minfree,sweep,published}.service`: `[Service]` `User=%s`)", them, them, them)
	}
}

func userName(id int) string {
	if u, err := user.LookupId(strconv.Itoa(id)); err == nil {
		return u.Username
	}
	return strconv.Itoa(id)
}

package archive

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
)

// IsLostAndFound reports whether path is the directory lost+found that an ext4 file system has at
// its top. fsck puts there what it finds, and only root may read it: it is left alone, and that is
// not a failure.
func IsLostAndFound(path string) bool {
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return false
	}
	defer parent.Close()
	return isLostAndFound(int(parent.Fd()), filepath.Base(path))
}

func isLostAndFound(parent int, name string) bool {
	if name != "lost+found" {
		return false
	}
	var top, it unix.Statx_t
	if file.StatAt(parent, "", &top) != nil || file.StatAt(parent, name, &it) != nil {
		return false
	}
	// Before Linux 5.8 the kernel does not tell.
	isTop := top.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 || top.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	// Not uid 0: in a user namespace, as with PrivateUsers=, root may be without a number.
	return isTop && it.Uid != uint32(unix.Geteuid())
}

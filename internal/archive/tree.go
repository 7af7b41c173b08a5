// Package archive walks a directory of recordings and removes files from it.
//
// It promises this, whoever renames, links, mounts or writes in the directory meanwhile: a file is
// removed only if it is inside the directory and on its mount, is a regular file that is not reached
// through a link, is the one that the walk looked at, of the same size and age, and has nobody who
// writes to it or has locked it. Everything else stays as it was, and is reported to the caller. The
// package decides nothing: a callback chooses what is removed.
//
// It cannot promise one thing. A process that opens the path in the microseconds between the last
// check and the unlink keeps an unlinked file; Linux offers no way to prevent that.
package archive

import (
	"errors"
	"fmt"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// Tree is an open archive. It stays inside the directory it was opened on: every directory is opened
// from the descriptor of the one above, without following a symbolic link and on the same mount, so
// that no name is ever resolved twice. (os.Root follows links that stay inside, and crosses mounts.)
type Tree struct {
	fd      int
	dev     uint64
	mount   uint64
	path    string
	top     owner
	writers inuse.Writers
	linked  sync.Mutex // held while a file that has several names is checked
}

// owner is what decides, together with the permissions, who may remove a name.
type owner struct {
	uid        uint32
	mode       uint16
	attributes uint64 // STATX_ATTR_*
}

func ownerOf(stat *unix.Statx_t) owner { return owner{stat.Uid, stat.Mode, stat.Attributes} }

// OpenTree opens the directory at name. It and the directories on the way to it may be symbolic links,
// because an archive is often moved to a bigger disk and a link is left in its place. The name is
// resolved here, once; what it leads to later does not matter. A name that leads to the root directory
// is an error.
func OpenTree(name string) (*Tree, error) {
	var fd int
	err := file.Again(func() (err error) {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		if target, linkErr := os.Readlink(name); linkErr == nil {
			err = fmt.Errorf("it is a symbolic link to %s: %w", target, err)
		}
		return nil, fmt.Errorf("open archive %s: %w", name, err)
	}
	var stat, root unix.Statx_t
	if err = file.StatAt(fd, "", &stat); err == nil {
		err = unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_INO, &root)
	}
	if err == nil && stat.Ino == root.Ino && file.Device(&stat) == file.Device(&root) {
		err = errors.New("it leads to the root directory: the whole system is not an archive")
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open archive %s: %w", name, err)
	}
	return &Tree{fd: fd, dev: file.Device(&stat), mount: stat.Mnt_id, path: name, top: ownerOf(&stat)}, nil
}

// Close closes the tree.
func (t *Tree) Close() error { return unix.Close(t.fd) }

// Space is the state of a file system.
type Space struct {
	Free, Size         int64 // bytes; Free is what a process without privileges may still write
	FreeInodes, Inodes int64 // 0 if it has no fixed number of them
}

// Space returns the state of the tree's file system.
func (t *Tree) Space() (Space, error) {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(t.fd, &stat); err != nil {
		return Space{}, fmt.Errorf("ask for the free space of %s: %w", t.path, err)
	}
	// Bavail, not Bfree: the rest is root's.
	space := Space{Free: int64(stat.Bavail) * stat.Frsize, Size: int64(stat.Blocks) * stat.Frsize}
	if stat.Ffree <= stat.Files {
		space.FreeInodes, space.Inodes = int64(stat.Ffree), int64(stat.Files)
	}
	return space, nil
}

// Settled is Space after the file system has done what it defers: btrfs, ZFS and others count the blocks
// of a removed file as free only after the next commit.
func (t *Tree) Settled() (Space, error) {
	if err := unix.Syncfs(t.fd); err != nil {
		return Space{}, fmt.Errorf("sync the file system of %s: %w", t.path, err)
	}
	return t.Space()
}

// Writable returns an error if this process may not remove files from the tree's top.
func (t *Tree) Writable() error {
	if err := unix.Faccessat(t.fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("write to %s: %w", t.path, err)
	}
	return nil
}

// File is one regular file of a tree, as the walk saw it. It is valid during the call that it is
// passed to.
type File struct {
	file.Identity
	Name  string // inside its directory
	Bytes int64  // that it takes of the disk
	Links uint32 // how many names it has
	owner owner
	dir   *dir
}

// Path returns the path of the file.
func (f *File) Path() string { return path.Join(f.dir.path, f.Name) }

// AppendPath appends the path of the file to b.
func (f *File) AppendPath(b []byte) []byte {
	return append(append(append(b, f.dir.path...), '/'), f.Name...)
}

// Place returns a number that identifies the file by where it is. An inode number does not: FAT and
// many FUSE file systems give a file another one the next time they are asked.
func (f *File) Place() uint64 { return placeIn(f.dir.place, f.Name) }

// placeIn is FNV-1a, 64 bits, of a directory's place and a name in it.
func placeIn(dir uint64, name string) uint64 {
	const prime = 0x100000001b3
	h := (dir ^ '/') * prime
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime
	}
	return h
}

// holds reports whether a file or directory is on the tree's own mount, and not itself a mount. On
// overlayfs a file's device is not its directory's; before Linux 5.8, which does not report the mount,
// no file there is the tree's. For directories the device is compared too, because a snapshot of btrfs
// is not a mount.
func (t *Tree) holds(stat *unix.Statx_t) bool {
	known := stat.Mask&unix.STATX_MNT_ID != 0
	if known && stat.Mnt_id != t.mount {
		return false
	}
	return known && stat.Mode&unix.S_IFMT == unix.S_IFREG || file.Device(stat) == t.dev
}

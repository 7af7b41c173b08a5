package archive

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/recording"
)

// leasesWork reports whether a refused lease (F_SETLEASE, fcntl(2)) means that somebody
// has the file open, for files in the directory that is open as dir. It asks for a lease
// on a new file of its own, which nobody else has open, and removes that file. now is
// the time that the file system gave it, which on a network file system is the server's.
//
// Where leases do not work, as with NFS version 3, every lease is refused. With NFS
// version 4 and CIFS a lease is granted only while the server has given the client a
// delegation or an oplock for that very file (fs/nfs/nfs4proc.c, nfs4_add_lease;
// fs/smb/client/cifsfs.c, cifs_setlease), so there a refusal means nothing, whatever the
// new file gets. A lease that is granted means the same everywhere.
func leasesWork(dir int) (work bool, now time.Time, err error) {
	// A sweep removes it if this process is killed here.
	name := recording.HiddenName(rand.Text(), 0)
	if err := makeFile(dir, name); err != nil {
		return false, now, fmt.Errorf("make a file to ask for a lease on: %w", err)
	}
	var file unix.Stat_t
	var fs unix.Statfs_t
	fd, err := openAt(dir, name, unix.O_RDONLY, 0)
	if err == nil {
		defer unix.Close(fd) // and with it the lease
		err = errors.Join(statOpen(fd, &file), unix.Fstatfs(fd, &fs))
		work = setLease(fd, unix.F_RDLCK) == nil
	}
	if removed := unlinkAt(dir, name); removed != unix.ENOENT { // a sweep may have been quicker
		err = errors.Join(err, removed)
	}
	if err != nil {
		return false, now, fmt.Errorf("ask for a lease on a new file: %w", err)
	}
	switch uint32(fs.Type) {
	case unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		work = false
	}
	return work, time.Unix(file.Mtim.Unix()), nil
}

// makeFile makes a file of a byte. Some FUSE file systems make none that is open for
// reading alone.
func makeFile(dir int, name string) error {
	fd, err := openAt(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = retry(func() (int, error) { return unix.Write(fd, []byte{0}) })
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		unlinkAt(dir, name)
	}
	return err
}

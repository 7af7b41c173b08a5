package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Root is the device of the root file system.
const root = "/dev/vda"

// initrd does what Debian's initrd does, as far as the machine needs it. It does not return unless it failed.
func initrd() error {
	fmt.Println("vm: init runs") // what the trial of an accelerator waits for
	for _, m := range []struct{ source, target, kind string }{
		{"dev", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"},
	} {
		if err := mount(m.source, m.target, m.kind, 0); err != nil {
			return err
		}
	}
	options, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if strings.Contains(string(options), "vm.trial") {
		return syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	}
	modules, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for _, file := range modules {
		if err := load(file); err != nil {
			fmt.Println("vm:", err) // such as a faster checksum that this processor does not have
		}
	}
	for range 600 {
		if _, err = os.Stat(root); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	err = errors.Join(
		err,
		syscall.Unmount("/proc", 0),
		mount(root, "/root", "ext4", 0),
		mount("/dev", "/root/dev", "", syscall.MS_MOVE),
		os.Chdir("/root"),
		mount(".", "/", "", syscall.MS_MOVE),
		syscall.Chroot("."),
	)
	if err != nil {
		return err
	}
	return syscall.Exec("/sbin/init", []string{"/sbin/init"}, []string{"PATH=/usr/sbin:/usr/bin", "TERM=dumb"})
}

func mount(source, target, kind string, flags uintptr) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

// load loads a kernel module.
func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	const finitModule = 313 // of amd64
	empty := []byte{0}
	_, _, errno := syscall.Syscall(finitModule, f.Fd(), uintptr(unsafe.Pointer(&empty[0])), 0)
	if errno != 0 && errno != syscall.EEXIST {
		return fmt.Errorf("load %s: %w", file, errno)
	}
	return nil
}

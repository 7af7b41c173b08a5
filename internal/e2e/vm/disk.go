package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

// A Disk is a file of this computer that is a disk of the machine.
type Disk struct {
	Name     string // at most 20 letters; the device is /dev/disk/by-id/virtio-NAME
	File     string
	ReadOnly bool
	// Log, if not "", is a file of this computer that gets every write and flush, in the format of the kernel's
	// dm-log-writes and with sectors of 512 bytes.
	Log string
}

// Plug adds a disk, and returns the name of its device when that is there.
func (q *qemu) Plug(ctx context.Context, d Disk) (string, error) {
	file := func(name string) (map[string]any, error) {
		absolute, err := filepath.Abs(name)
		return map[string]any{"driver": "file", "filename": absolute, "cache": map[string]any{"no-flush": true}}, err
	}
	image, err := file(d.File)
	if err != nil {
		return "", fmt.Errorf("plug disk %s: %w", d.Name, err)
	}
	node := map[string]any{"driver": "raw", "node-name": d.Name, "file": image, "read-only": d.ReadOnly}
	if d.Log != "" {
		if err := os.WriteFile(d.Log, nil, 0o600); err != nil {
			return "", fmt.Errorf("plug disk %s: %w", d.Name, err)
		}
		log, err := file(d.Log)
		if err != nil {
			return "", fmt.Errorf("plug disk %s: %w", d.Name, err)
		}
		node["driver"], node["log"], node["log-sector-size"] = "blklogwrites", log, 512
		node["log-super-update-interval"] = 1 // so that the log always has its number of entries
	}
	if err := q.monitor.do("blockdev-add", node, nil); err != nil {
		return "", err
	}
	if err := q.monitor.do("device_add", map[string]any{
		"driver": "virtio-blk-pci", "drive": d.Name, "serial": d.Name, "id": "disk-" + d.Name,
	}, nil); err != nil {
		return "", err
	}
	device := "/dev/disk/by-id/virtio-" + d.Name
	return device, q.Wait(ctx, "disk "+d.Name, func() (bool, error) {
		_, err := q.Run(ctx, "test", "-b", device)
		return err == nil, nil
	})
}

// Unplug removes a disk, and returns when qemu has closed its file.
func (q *qemu) Unplug(ctx context.Context, name string) error {
	if err := q.monitor.do("device_del", map[string]any{"id": "disk-" + name}, nil); err != nil {
		return err
	}
	// The machine has to let go of the device first.
	return q.Wait(ctx, "the end of disk "+name, func() (bool, error) {
		err := q.monitor.do("blockdev-del", map[string]any{"node-name": name}, nil)
		return err == nil, err
	})
}

var puts atomic.Int64

// Put copies a large file of this computer into the machine, with mode 0644. It goes through a disk, because the serial
// port is slow.
func (q *qemu) Put(ctx context.Context, file, name string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("copy into the machine: %w", err)
	}
	disk := "put" + strconv.FormatInt(puts.Add(1), 10)
	device, err := q.Plug(ctx, Disk{Name: disk, File: file, ReadOnly: true})
	if err != nil {
		return err
	}
	// The disk ends with a whole sector.
	if _, err := q.Shell(ctx, `mkdir -p "$(dirname "$3")"; head -c "$1" "$2" >"$3"; chmod 644 "$3"`,
		strconv.FormatInt(info.Size(), 10), device, name); err != nil {
		return err
	}
	return q.Unplug(ctx, disk)
}

package vm

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"tunnelcast/internal/e2e/box"
)

//go:embed files/image.sh
var recipe string

// buildImage makes the directory work with the machine's kernel, its initrd and a disk, from the box's tree.
func buildImage(ctx context.Context, dir, work string, lock *os.File, suite string, step func(string)) error {
	tree, release, err := box.Tree(ctx, suite, step)
	if err != nil {
		return err
	}
	defer release()
	part := func(what string) { step(box.Releases[suite] + " image: " + what) }
	if err := os.Mkdir(work, 0o755); err != nil {
		return fmt.Errorf("build the image: %w", err)
	}
	if err := box.RunRecipe(ctx, recipe, dir, lock, part, "tree", tree, work); err != nil {
		return err
	}
	root := filepath.Join(work, "tree")
	if err := box.Follow(root, suite); err != nil {
		return err
	}
	program, err := buildAgent(ctx, work)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"/etc/hostname":                      "gateway\n",
		"/etc/hosts":                         "127.0.0.1 localhost\n127.0.1.1 gateway\n",
		"/etc/resolv.conf":                   "nameserver 127.0.0.1\n",
		"/etc/fstab":                         "/dev/vda / ext4 errors=remount-ro 0 1\n",
		"/etc/systemd/system.conf.d/vm.conf": patient,
		"/etc/systemd/system/agent.service":  agentUnit,
		"/etc/systemd/system/vm-net.service": networkUnit,
	} {
		if err := box.WriteFile(root, name, content, 0o644); err != nil {
			return err
		}
	}
	if err := box.WriteFile(root, "/usr/local/sbin/agent", program, 0o755); err != nil {
		return err
	}
	if err := writeInitrd(work, program); err != nil {
		return err
	}
	return box.RunRecipe(ctx, recipe, dir, lock, part, "disk", work)
}

// On an emulated processor of a busy computer, a device may need longer than systemd's 90 s to appear.
const patient = `[Manager]
DefaultTimeoutStartSec=15min
DefaultDeviceTimeoutSec=15min
`

const agentUnit = `[Unit]
Description=Agent of the tests
BindsTo=dev-virtio\x2dports-run.device
After=dev-virtio\x2dports-run.device

[Service]
ExecStart=/usr/local/sbin/agent
# What a test started may outlive the agent.
KillMode=process
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
`

const networkUnit = `[Unit]
Description=Addresses of the gateway
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target network.target named.service nginx.service strongswan.service
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'ip link set lo up; ip address add ` + box.Inside + `/32 dev lo; ip address add ` + box.Outside +
	`/32 dev lo; echo 1 >/proc/sys/net/ipv4/ip_forward'

[Install]
WantedBy=multi-user.target
`

// buildAgent compiles the agent.
func buildAgent(ctx context.Context, work string) (program string, err error) {
	file := filepath.Join(work, "agent")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file,
		"tunnelcast/internal/e2e/vm/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("build the agent: %w", err)
	}
	return string(data), os.Remove(file)
}

// writeInitrd writes the initrd: the agent, and the modules that the recipe chose, in the order of their names. It is a
// cpio archive of the format newc, which the kernel documents in driver-api/early-userspace/buffer-format.
func writeInitrd(work, program string) error {
	var out bytes.Buffer
	inode := 0
	add := func(name string, mode int, content string) {
		inode++
		fmt.Fprintf(&out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
		out.WriteString(name + "\x00")
		pad(&out)
		out.WriteString(content)
		pad(&out)
	}
	for _, dir := range []string{"dev", "proc", "root", "modules"} {
		add(dir, 0o040755, "")
	}
	add("init", 0o100755, program)
	modules := filepath.Join(work, "modules")
	err := filepath.WalkDir(modules, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		add("modules/"+d.Name(), 0o100644, string(content))
		return err
	})
	if err != nil {
		return fmt.Errorf("write the initrd: %w", err)
	}
	add("TRAILER!!!", 0, "")
	if err := os.WriteFile(filepath.Join(work, "initrd"), out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the initrd: %w", err)
	}
	return os.RemoveAll(modules)
}

// pad fills up to a multiple of four bytes.
func pad(b *bytes.Buffer) { b.WriteString(strings.Repeat("\x00", -b.Len()&3)) }

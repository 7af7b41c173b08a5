package vm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/e2e/box"
)

// commandLine is the kernel's. Everything but the first two words makes an emulated boot faster.
const commandLine = "console=ttyS0 rw quiet mitigations=off cryptomgr.notests tsc=reliable no_timer_check panic=-1"

// trialTime is how long KVM may take to start a process. On a processor it takes a second or two.
const trialTime = 30 * time.Second

// An accelerator is how qemu runs the machine's processor.
type accelerator string

const (
	kvm accelerator = "kvm"
	tcg accelerator = "tcg" // plain emulation
)

func (a accelerator) args() []string {
	if a == kvm {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi,tb-size=512", "-cpu", "qemu64"}
}

// findAccelerator chooses the accelerator, and returns it with a few words about the choice. The device /dev/kvm proves
// nothing: on some virtual computers it exists and runs no kernel. Therefore an image is tried, once for each
// processor, kernel and qemu.
func findAccelerator(ctx context.Context, base, image, version string) (accelerator, string, error) {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return tcg, fmt.Sprintf("plain emulation, which is slow (%v)", err), nil
	}
	device.Close()
	memo := filepath.Join(base, fmt.Sprintf("kvm-%x", sum(version, processor(), kernel())))
	verdict, err := os.ReadFile(memo)
	if errors.Is(err, os.ErrNotExist) {
		ran := trial(ctx, kvm, image)
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
		verdict = []byte(fmt.Sprint(ran))
		err = errors.Join(os.WriteFile(memo+".new", verdict, 0o644), os.Rename(memo+".new", memo))
	}
	if err != nil {
		return "", "", fmt.Errorf("remember whether KVM works: %w", err)
	}
	if string(verdict) == "true" {
		return kvm, "KVM", nil
	}
	return tcg, fmt.Sprintf("plain emulation, which is slow (/dev/kvm exists, but ran no kernel within %v, as %s "+
		"remembers)", trialTime, memo), nil
}

// trial reports whether the kernel of an image starts its first process.
func trial(ctx context.Context, a accelerator, image string) bool {
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(a.args(), "-m", "512", "-display", "none",
		"-nodefaults", "-no-user-config", "-no-reboot", "-kernel", filepath.Join(image, "vmlinuz"),
		"-initrd", filepath.Join(image, "initrd"), "-append", commandLine+" vm.trial", "-serial", "stdio")...)
	cmd.Env = box.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, _ := cmd.Output() // how it ended says less than how far it came
	return strings.Contains(string(out), "vm: init runs")
}

var model = regexp.MustCompile(`(?m)^(model name|flags)\s*:.*`)

// processor describes this computer's processor: a frozen machine of another one does not go on.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err.Error()
	}
	return strings.Join(model.FindAllString(string(info), 2), "\n")
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err.Error()
	}
	return string(release)
}

// sum returns a short hash for a name in the cache.
func sum(parts ...string) []byte {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d %s", len(p), p)
	}
	return h.Sum(nil)[:8]
}

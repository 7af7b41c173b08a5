package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"tunnelcast/internal/rotation"
)

// swanctlLabel is the profile of swanctl on Debian and Ubuntu.
const swanctlLabel = "/usr/sbin/swanctl"

// appArmorDir is below the host's root.
const appArmorDir = "sys/kernel/security/apparmor"

var (
	// The sandbox of a unit has all of /sys read-only, which says nothing about the profile.
	errReadOnly = errors.New("the kernel cannot be asked from here, where /sys is read-only")

	errNoProfile = errors.New("no profile of that name is loaded")
)

// appArmor asks the kernel whether AppArmor lets swanctl read files. It does not read
// rules: only the kernel knows which are loaded and what a rule with deny, owner or a
// variable means. A host without AppArmor, a profile that is not loaded and one in
// complain mode allow everything.
type appArmor struct {
	root string

	asked    bool
	enforced bool
}

func (a *appArmor) access(file string) rotation.Access {
	real, err := filepath.EvalSymlinks(file)
	if err != nil || !a.enforces() {
		return rotation.Access{} // what is wrong with the file is reported elsewhere
	}
	allowed, err := queryAppArmor(filepath.Join(a.root, appArmorDir, ".access"), real)
	switch {
	case errors.Is(err, errNoProfile):
		return rotation.Access{}
	case errors.Is(err, syscall.EROFS):
		return rotation.Access{Err: errReadOnly}
	case err != nil:
		return rotation.Access{Err: fmt.Errorf("ask AppArmor whether swanctl may read %s: %w", real, err)}
	case !allowed:
		return rotation.Access{Denied: real, Rule: rule(real)}
	}
	return rotation.Access{}
}

// enforces reports whether the profile of swanctl is loaded and enforced. If the list of
// profiles cannot be read, it may be.
func (a *appArmor) enforces() bool {
	if a.asked {
		return a.enforced
	}
	a.asked = true
	profiles, err := os.ReadFile(filepath.Join(a.root, appArmorDir, "profiles"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	a.enforced = err != nil
	for line := range strings.Lines(string(profiles)) {
		name, mode, _ := strings.Cut(strings.TrimSpace(line), " (")
		a.enforced = a.enforced || name == swanctlLabel && (mode == "enforce)" || mode == "kill)")
	}
	return a.enforced
}

// rule returns the rule that lets swanctl read a file: in certbot's archive, one for every
// renewal.
func rule(file string) string {
	if dir := filepath.Dir(file); filepath.Base(filepath.Dir(dir)) == "archive" {
		kind := strings.TrimRight(strings.TrimSuffix(filepath.Base(file), ".pem"), "0123456789")
		file = filepath.Join(filepath.Dir(dir), "*", kind+"*.pem")
	}
	return file + " r,"
}

// queryAppArmor asks a file of the kernel, which answers what was written to it before
// (query_label in security/apparmor/apparmorfs.c). The query is label, class and path; the
// answer has a line "allow 0x...".
func queryAppArmor(access, path string) (allowed bool, err error) {
	const (
		classFile = "\x02"
		mayRead   = 4
	)
	f, err := os.OpenFile(access, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.WriteString("label\x00" + swanctlLabel + "\x00" + classFile + path)
	if errors.Is(err, syscall.ENOENT) {
		return false, errNoProfile
	}
	if err != nil {
		return false, err
	}
	answer := make([]byte, 4096)
	n, err := f.Read(answer)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(answer[:n])) {
		if bits, ok := strings.CutPrefix(strings.TrimSpace(line), "allow "); ok {
			allow, err := strconv.ParseUint(strings.TrimSpace(bits), 0, 32)
			return allow&mayRead != 0, err
		}
	}
	return false, fmt.Errorf("its answer %q has no line allow", answer[:n])
}

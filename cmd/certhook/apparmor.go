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
)

// swanctlLabel is the profile of swanctl on Debian and Ubuntu.
const swanctlLabel = "/usr/sbin/swanctl"

// appArmorDir is below the host's root.
const appArmorDir = "sys/kernel/security/apparmor"

const appArmorRemedy = "add the line to /etc/apparmor.d/local/usr.sbin.swanctl and run " +
	"apparmor_parser -r /etc/apparmor.d/usr.sbin.swanctl"

// A denial says that AppArmor keeps swanctl from reading a file, so that the next
// reload of charon's unit would lose what is in it.
type denial struct{ file string }

func (d denial) Error() string {
	rule := d.file
	// One rule for every renewal.
	if dir := filepath.Dir(d.file); filepath.Base(filepath.Dir(dir)) == "archive" {
		kind := strings.TrimRight(strings.TrimSuffix(filepath.Base(d.file), ".pem"), "0123456789")
		rule = filepath.Join(filepath.Dir(dir), "*", kind+"*.pem")
	}
	return fmt.Sprintf("it does not let swanctl read %s: it lacks %q", d.file, rule+" r,")
}

// mayRead asks the kernel whether AppArmor lets swanctl read a file. Rules are not
// read: only the kernel knows which are loaded and what a rule with deny, owner or
// a variable comes to. A host without AppArmor, a profile that is not loaded and one
// in complain mode allow everything.
func mayRead(root, file string) error {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil // what is wrong with the file is said elsewhere
	}
	profiles, err := os.ReadFile(filepath.Join(root, appArmorDir, "profiles"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	enforced := err != nil // an unreadable list says nothing
	for line := range strings.Lines(string(profiles)) {
		name, mode, _ := strings.Cut(strings.TrimSpace(line), " (")
		enforced = enforced || name == swanctlLabel && (mode == "enforce)" || mode == "kill)")
	}
	if !enforced {
		return nil
	}
	allowed, err := queryAppArmor(filepath.Join(root, appArmorDir, ".access"), real)
	switch {
	case errors.Is(err, errNoProfile):
		return nil
	case errors.Is(err, syscall.EROFS):
		return errNotAsked
	case err != nil:
		return fmt.Errorf("ask AppArmor whether swanctl may read %s: %w", real, err)
	case !allowed:
		return denial{real}
	}
	return nil
}

// errNotAsked is of a sandbox that has all of /sys read-only, which says nothing about the profile.
var errNotAsked = errors.New("the kernel cannot be asked from here, where /sys is read-only")

var errNoProfile = errors.New("no profile of that name is loaded")

// queryAppArmor makes one query of a file of the kernel that answers what was
// written to it before (security/apparmor/apparmorfs.c, query_label: label, path's
// class, path; the answer has a line "allow 0x...").
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

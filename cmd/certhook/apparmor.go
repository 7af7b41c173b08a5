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

// swanctlProgram is what a profile of swanctl confines, and on Debian and Ubuntu its name.
const swanctlProgram = "/usr/sbin/swanctl"

// appArmorDir is below the host's root.
const appArmorDir = "sys/kernel/security/apparmor"

var (
	// The sandbox of a unit has all of /sys read-only, which says nothing about the profile.
	errReadOnly = errors.New("the kernel cannot be asked from here, where /sys is read-only")

	errNoProfile = errors.New("no profile of that name is loaded")
)

// appArmor asks the kernel whether AppArmor lets swanctl read files. It does not read
// rules: only the kernel knows which are loaded and what a rule with deny, owner or a
// variable means. A host without AppArmor and one where no profile of swanctl is loaded
// allow everything. A profile in complain mode allows everything but what a deny rule
// forbids.
type appArmor struct {
	root string

	asked   bool
	profile profile
}

// A profile is one that is loaded.
type profile struct {
	label string // its name; "" if swanctl has no profile that restricts it
	mode  string
}

func (a *appArmor) access(file string) rotation.Access {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return rotation.Access{} // what is wrong with the file is reported elsewhere
	}
	if !a.asked {
		a.asked, a.profile = true, a.find()
	}
	if a.profile.label == "" {
		return rotation.Access{}
	}
	answer, err := queryAppArmor(filepath.Join(a.root, appArmorDir, ".access"), a.profile.label, real)
	switch {
	case errors.Is(err, errNoProfile):
		return rotation.Access{}
	case errors.Is(err, syscall.EROFS):
		return rotation.Access{Err: errReadOnly}
	case err != nil:
		return rotation.Access{Err: fmt.Errorf("ask AppArmor whether swanctl may read %s: %w", real, err)}
	case answer["allow"]:
		return rotation.Access{}
	// aa_audit_file in security/apparmor/file.c: complain mode lets pass what would be logged.
	case a.profile.mode == "complain" && !answer["quiet"]:
		return rotation.Access{}
	case answer["quiet"] || answer["deny"]:
		return rotation.Access{Denied: real}
	}
	return rotation.Access{Denied: real, Rule: rule(real)}
}

// find returns the profile that confines swanctl. If the list of profiles cannot be read,
// there may be one of the usual name. To which programs a profile of another name is
// attached, the kernel does not tell.
func (a *appArmor) find() profile {
	profiles, err := os.ReadFile(filepath.Join(a.root, appArmorDir, "profiles"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return profile{swanctlProgram, "enforce"}
	}
	for line := range strings.Lines(string(profiles)) {
		label, mode, _ := strings.Cut(strings.TrimSpace(line), " (")
		mode = strings.TrimSuffix(mode, ")")
		if (label == swanctlProgram || label == filepath.Base(swanctlProgram)) && mode != "unconfined" {
			return profile{label, mode}
		}
	}
	return profile{}
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
// (query_label in security/apparmor/apparmorfs.c). The query is label, class and path. The
// answer has lines such as "allow 0x..."; of each, the result is whether it includes reading.
// The rules for the owner apply as if the file were root's.
func queryAppArmor(access, label, path string) (map[string]bool, error) {
	const (
		classFile = "\x02"
		mayRead   = 4
	)
	f, err := os.OpenFile(access, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, err = f.WriteString("label\x00" + label + "\x00" + classFile + path)
	if errors.Is(err, syscall.ENOENT) {
		return nil, errNoProfile
	}
	if err != nil {
		return nil, err
	}
	text := make([]byte, 4096)
	n, err := f.Read(text)
	if err != nil {
		return nil, err
	}
	answer := map[string]bool{}
	for line := range strings.Lines(string(text[:n])) {
		kind, bits, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseUint(bits, 0, 32); err == nil {
			answer[kind] = value&mayRead != 0
		}
	}
	if _, ok := answer["allow"]; !ok {
		return nil, fmt.Errorf("its answer %q has no line allow", text[:n])
	}
	return answer, nil
}

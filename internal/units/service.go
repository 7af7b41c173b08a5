package units

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Service is what a service sees of the file system, in the words of systemctl show. This is how
// systemd itself has read the unit and every drop-in, whatever their place, quoting and order.
type Service struct {
	Load         string // LoadState
	Stale        bool   // NeedDaemonReload: the files have changed since systemd read them
	User         string
	Root         string   // RootDirectory or RootImage
	System       string   // ProtectSystem: no, yes, full, strict
	Home         string   // ProtectHome: no, yes, read-only, tmpfs
	Tmp          bool     // PrivateTmp
	ReadWrite    []string // these three with the prefixes "-" (may be missing) and "+" of systemd
	ReadOnly     []string
	Inaccessible []string
	Temporary    []string // TemporaryFileSystem
	Binds        []Bind   // BindPaths and BindReadOnlyPaths
}

// Bind is a directory that the service sees under another name or under the same.
type Bind struct {
	From, To  string
	ReadOnly  bool
	MayBeGone bool
}

// GetService returns what systemd knows about a service.
func GetService(ctx context.Context, unit string) (Service, error) {
	conn, err := dbus.NewWithContext(ctx)
	if err != nil {
		return Service{}, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	defer conn.Close()
	general, err := conn.GetUnitPropertiesContext(ctx, unit)
	if err != nil {
		return Service{}, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	special, err := conn.GetUnitTypePropertiesContext(ctx, unit, "Service")
	if err != nil {
		return Service{}, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	text := func(name string) string { s, _ := special[name].(string); return s }
	list := func(name string) []string { l, _ := special[name].([]string); return l }
	s := Service{
		User: text("User"), Root: text("RootDirectory") + text("RootImage"),
		System: text("ProtectSystem"), Home: text("ProtectHome"),
		ReadWrite: list("ReadWritePaths"), ReadOnly: list("ReadOnlyPaths"), Inaccessible: list("InaccessiblePaths"),
	}
	s.Load, _ = general["LoadState"].(string)
	s.Stale, _ = general["NeedDaemonReload"].(bool)
	s.Tmp, _ = special["PrivateTmp"].(bool)
	// TemporaryFileSystem has the D-Bus type a(ss): path, options. BindPaths has a(ssbt): from, to,
	// whether from may be missing, flags.
	for _, name := range []string{"TemporaryFileSystem", "BindPaths", "BindReadOnlyPaths"} {
		rows, _ := special[name].([][]any)
		for _, row := range rows {
			switch from, _ := row[0].(string); {
			case name == "TemporaryFileSystem":
				s.Temporary = append(s.Temporary, from)
			case len(row) > 2:
				to, _ := row[1].(string)
				gone, _ := row[2].(bool)
				readOnly := name == "BindReadOnlyPaths"
				s.Binds = append(s.Binds, Bind{From: from, To: to, ReadOnly: readOnly, MayBeGone: gone})
			}
		}
	}
	return s, nil
}

// CheckWrites returns the Fault of a service for a directory.
func CheckWrites(ctx context.Context, unit, dir string) (remedy string, err error) {
	s, err := GetService(ctx, unit)
	if err != nil {
		return "", err
	}
	return s.Fault(unit, dir)
}

// Fault returns what keeps the service from writing to an existing directory, or from starting at
// all, and the remedy. It follows symbolic links, as systemd does in its settings.
func (s Service) Fault(unit, dir string) (remedy string, err error) {
	edit := func(line string) string { return "`systemctl edit " + unit + "`: `[Service]` `" + line + "`" }
	switch {
	case s.Load == "not-found":
		return "`apt-get install --reinstall tunnelcast`", errors.New("it is not installed")
	case s.Load != "loaded":
		return "`systemctl unmask " + unit + "`", fmt.Errorf("it is %s", s.Load)
	case s.Stale:
		return "`systemctl daemon-reload`", errors.New("its files have changed since systemd read them")
	case s.Root != "" && s.Root != "/":
		return edit("RootDirectory="), fmt.Errorf("RootDirectory=%s gives it another root directory", s.Root)
	}
	if remedy, err := s.missing(edit); err != nil {
		return remedy, err
	}
	if cause := s.hidden(dir); cause != "" {
		return edit(lift(cause, dir)), fmt.Errorf("%s keeps it away", cause)
	}
	if err := s.userMayWrite(dir); err != nil {
		return "", err
	}
	return "", nil
}

// missing returns an error if a path does not exist without which systemd cannot set up the mounts of
// the service (status 226/NAMESPACE).
func (s Service) missing(edit func(string) string) (remedy string, err error) {
	gone := func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	fault := func(name, path string) error {
		return fmt.Errorf("%s=%s does not exist, so systemd cannot start it", name, path)
	}
	for name, paths := range map[string][]string{
		"ReadWritePaths": s.ReadWrite, "ReadOnlyPaths": s.ReadOnly, "InaccessiblePaths": s.Inaccessible,
	} {
		for _, path := range paths {
			if !strings.HasPrefix(path, "-") && gone(plain(path)) {
				return edit(name + "=" + quotePath("-"+plain(path))), fault(name, path)
			}
		}
	}
	for _, bind := range s.Binds {
		if !bind.MayBeGone && gone(bind.From) {
			return edit("BindPaths=" + quotePath("-"+bind.From)), fault("BindPaths", bind.From)
		}
	}
	return "", nil
}

// A mount is the effect of one setting on a directory and everything below it.
type mount struct {
	path, setting string
	effect        effect
	from          string // of a bind
}

// effect is what a mount does. systemd applies those of one path in this order, the strongest last
// (MountMode in namespace.c).
type effect int

const (
	readWrite effect = iota
	readOnly
	private // another directory is seen there; only a bind makes visible what is below
	bound
	boundReadOnly
	inaccessible // with everything below, whatever other settings there are (systemd issue 7153)
)

func (s Service) mounts() []mount {
	var all []mount
	add := func(effect effect, setting string, paths ...string) {
		for _, path := range paths {
			all = append(all, mount{path: resolved(plain(path)), setting: setting, effect: effect})
		}
	}
	switch s.System {
	case "strict":
		add(readOnly, "ProtectSystem=strict", "/")
	case "full":
		add(readOnly, "ProtectSystem=full", "/usr", "/boot", "/efi", "/etc")
	case "yes":
		add(readOnly, "ProtectSystem=yes", "/usr", "/boot", "/efi")
	}
	homes := []string{"/home", "/root", "/run/user"}
	switch s.Home {
	case "yes":
		add(inaccessible, "ProtectHome=yes", homes...)
	case "read-only":
		add(readOnly, "ProtectHome=read-only", homes...)
	case "tmpfs":
		add(private, "ProtectHome=tmpfs", homes...)
	}
	if s.Tmp {
		add(private, "PrivateTmp=yes", "/tmp", "/var/tmp")
	}
	for _, path := range s.Inaccessible {
		add(inaccessible, "InaccessiblePaths="+path, path)
	}
	for _, path := range s.ReadOnly {
		add(readOnly, "ReadOnlyPaths="+path, path)
	}
	for _, path := range s.ReadWrite {
		add(readWrite, "ReadWritePaths="+path, path)
	}
	for _, path := range s.Temporary {
		add(private, "TemporaryFileSystem="+path, path)
	}
	for _, bind := range s.Binds {
		setting := bind.From + ":" + bind.To
		m := mount{path: resolved(bind.To), setting: "BindPaths=" + setting, effect: bound, from: resolved(bind.From)}
		if bind.ReadOnly {
			m.setting, m.effect = "BindReadOnlyPaths="+setting, boundReadOnly
		}
		all = append(all, m)
	}
	// The outermost first.
	slices.SortStableFunc(all, func(a, b mount) int {
		if n := len(a.path) - len(b.path); n != 0 {
			return n
		}
		return int(a.effect - b.effect)
	})
	return all
}

// hidden returns the setting that keeps the service from writing to dir, or "".
func (s Service) hidden(dir string) (cause string) {
	dir = resolved(dir)
	away := false // another directory is seen there
	for _, m := range s.mounts() {
		below, err := filepath.Rel(m.path, dir)
		if err != nil || below == ".." || strings.HasPrefix(below, "../") {
			continue
		}
		switch m.effect {
		case inaccessible:
			return m.setting
		case private:
			away, cause = true, m.setting
		case bound, boundReadOnly:
			away, cause = filepath.Join(m.from, below) != dir, ""
			if away || m.effect == boundReadOnly {
				cause = m.setting
			}
		case readOnly:
			if !away {
				cause = m.setting
			}
		case readWrite:
			if !away {
				cause = ""
			}
		}
	}
	return cause
}

// lift returns the line of a drop-in that cancels the effect of a setting on dir.
func lift(cause, dir string) string {
	name, _, _ := strings.Cut(cause, "=")
	switch name {
	case "ProtectSystem":
		return "ReadWritePaths=" + quotePath(resolved(dir))
	case "ProtectHome", "PrivateTmp":
		return name + "=no"
	}
	return name + "="
}

// userMayWrite reports whether the user of the service exists and may write to dir. It returns an error
// if this process cannot find out.
func (s Service) userMayWrite(dir string) error {
	if s.User == "" || s.User == "root" || s.User == "0" {
		return nil
	}
	account, err := user.Lookup(s.User)
	if _, number := strconv.Atoi(s.User); err != nil && number == nil {
		account, err = user.LookupId(s.User)
	}
	if err != nil {
		return fmt.Errorf("its User=%s: %w, so systemd cannot start it", s.User, err)
	}
	if me := os.Geteuid(); me != 0 && account.Uid != strconv.Itoa(me) {
		return fmt.Errorf("it runs as %s: repeat this check as that user, `runuser -u %s`", s.User, s.User)
	} else if me == 0 {
		return modeAllows(account, dir)
	}
	return nil
}

// modeAllows returns an error if the owner and the mode of a directory do not let a user write to it. It
// returns nil if there is an access control list, which may allow more. It does not look at the
// directories above.
func modeAllows(account *user.User, dir string) error {
	var stat syscall.Stat_t
	if err := syscall.Stat(dir, &stat); err != nil {
		return nil // the check of the directory reports that
	}
	if _, err := syscall.Getxattr(dir, "system.posix_acl_access", nil); err == nil {
		return nil
	}
	groups, err := account.GroupIds()
	if err != nil {
		groups = []string{account.Gid}
	}
	const write, search = 2, 1
	bits := stat.Mode
	switch {
	case account.Uid == strconv.Itoa(int(stat.Uid)):
		bits >>= 6
	case slices.Contains(groups, strconv.Itoa(int(stat.Gid))):
		bits >>= 3
	}
	if bits&(write|search) != write|search {
		return fmt.Errorf("its user %s may not write there: %s belongs to %d:%d, mode %#o",
			account.Username, dir, stat.Uid, stat.Gid, stat.Mode&0o7777)
	}
	return nil
}

func plain(path string) string { return strings.TrimLeft(path, "-+") }

// resolved returns a path without symbolic links, as far as this user can see them.
func resolved(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return filepath.Clean(path)
}

// quotePath quotes a path for a setting that takes several (systemd.syntax(7)).
func quotePath(path string) string {
	path = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "%", "%%").Replace(path)
	if strings.ContainsAny(path, ` '\`) {
		return `"` + path + `"`
	}
	return path
}

package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage/lineagetest"
	"tunnelcast/internal/rotation"
)

func TestAccessWithoutAnEnforcedProfile(t *testing.T) {
	for name, profiles := range map[string]string{
		"no AppArmor": "",
		"no profile":  "/usr/sbin/named (enforce)\n",
		"unconfined":  "/usr/sbin/swanctl (unconfined)\n",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			key := filepath.Join(root, "privkey.pem")
			if err := os.WriteFile(key, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if profiles != "" {
				dir := filepath.Join(root, appArmorDir)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "profiles"), []byte(profiles), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := (&appArmor{root: root}).access(key); got != (rotation.Access{}) {
				t.Errorf("got %v", got)
			}
		})
	}
}

// The kernel's file answers what was written to it. The test has a terminal in raw mode in its
// place, whose other end plays the kernel.
func TestAccessAsksTheKernel(t *testing.T) {
	const (
		allowed = "allow 0x00000006\ndeny 0x00000000\naudit 0x00000000\nquiet 0x00000000\n"
		lacking = "allow 0x00000002\ndeny 0x00000000\naudit 0x00000000\nquiet 0x00000000\n"
		denied  = "allow 0x00000002\ndeny 0x00000000\naudit 0x00000000\nquiet 0x00000004\n"
	)
	for name, test := range map[string]struct {
		mode, answer string
		want         string // in the error
	}{
		"allowed":               {"enforce", allowed, ""},
		"no rule":               {"enforce", lacking, "it lacks the line `"},
		"a deny rule":           {"enforce", denied, "a deny rule forbids that"},
		"complain: no rule":     {"complain", lacking, ""},
		"complain: a deny rule": {"complain", denied, "a deny rule forbids that"},
		"kill":                  {"kill", lacking, "it lacks the line `"},
		"no answer":             {"enforce", "nothing\n", "has no line allow"},
	} {
		t.Run(name, func(t *testing.T) {
			kernel, access := pseudoTerminal(t)
			root := t.TempDir()
			dir, key := filepath.Join(root, appArmorDir), filepath.Join(root, "privkey.pem")
			err := errors.Join(os.WriteFile(key, nil, 0o600), os.MkdirAll(dir, 0o755),
				os.Symlink(access, filepath.Join(dir, ".access")),
				os.WriteFile(filepath.Join(dir, "profiles"), []byte("/usr/sbin/swanctl ("+test.mode+")\n"), 0o644))
			if err != nil {
				t.Fatal(err)
			}
			asked := make(chan string)
			go func() {
				question := make([]byte, 4096)
				n, _ := kernel.Read(question)
				kernel.WriteString(test.answer)
				asked <- string(question[:n])
			}()
			got := (&appArmor{root: root}).access(key)
			if (got == rotation.Access{}) != (test.want == "") || !strings.Contains(got.Error(), test.want) {
				t.Errorf("got %v, want %q", got, test.want)
			}
			if want := "label\x00/usr/sbin/swanctl\x00\x02" + key; <-asked != want {
				t.Errorf("the kernel was not asked %q", want)
			}
		})
	}
	t.Run("cannot be asked", func(t *testing.T) {
		root := t.TempDir()
		dir, key := filepath.Join(root, appArmorDir), filepath.Join(root, "privkey.pem")
		err := errors.Join(os.WriteFile(key, nil, 0o600), os.MkdirAll(dir, 0o755),
			os.WriteFile(filepath.Join(dir, "profiles"), []byte("/usr/sbin/swanctl (enforce)\n"), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		got := (&appArmor{root: root}).access(key)
		if got.Err == nil || !strings.Contains(got.Error(), "ask AppArmor whether swanctl may read "+key) {
			t.Errorf("got %v", got)
		}
	})
	// As in the sandbox of a unit. That says nothing about the profile, and must not make the daily run fail.
	t.Run("read-only", func(t *testing.T) {
		root := t.TempDir()
		dir, key := filepath.Join(root, appArmorDir), filepath.Join(root, "privkey.pem")
		err := errors.Join(os.WriteFile(key, nil, 0o600), os.MkdirAll(dir, 0o755),
			os.WriteFile(filepath.Join(dir, ".access"), nil, 0o600),
			os.WriteFile(filepath.Join(dir, "profiles"), []byte("/usr/sbin/swanctl (enforce)\n"), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		archivetest.Mount(t, dir, "", dir, unix.MS_BIND, "")
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		if got := (&appArmor{root: root}).access(key); !errors.Is(got, errReadOnly) {
			t.Errorf("got %v, want %v", got, errReadOnly)
		}
	})
}

// A profile need not be named after the program that it confines.
func TestProfileOfAnotherName(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, appArmorDir)
	err := errors.Join(os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "profiles"), []byte("/usr/sbin/named (enforce)\nswanctl (enforce)\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := (&appArmor{root: root}).find(), (profile{"swanctl", "enforce"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// pseudoTerminal returns one end of a terminal in raw mode, and the path of the other.
func pseudoTerminal(t *testing.T) (end *os.File, path string) {
	t.Helper()
	end, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end.Close() })
	number, err := unix.IoctlGetInt(int(end.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(end.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := term.MakeRaw(int(end.Fd())); err != nil {
		t.Fatal(err)
	}
	return end, fmt.Sprintf("/dev/pts/%d", number)
}

func TestLineageDir(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("here", 0o755); err != nil {
		t.Fatal(err)
	}
	for lineage, want := range map[string]string{
		"vpn.example": "/etc/letsencrypt/live/vpn.example", "here": filepath.Join(dir, "here"),
		"./there": filepath.Join(dir, "there"), "/le/live/vpn/": "/le/live/vpn",
	} {
		if got, err := lineageDir(lineage); err != nil || got != want {
			t.Errorf("%s: got %s, error %v, want %s", lineage, got, err, want)
		}
	}
}

func TestIPsecConf(t *testing.T) {
	root := t.TempDir()
	le := filepath.Join(root, "etc/letsencrypt")
	live := lineagetest.NewAuthority(t, "CA", 1).Renew(t, identity).Save(t, le, identity, 1)
	certs := filepath.Join(root, "etc/ipsec.d/certs")
	err := errors.Join(os.MkdirAll(certs, 0o755),
		os.Symlink(filepath.Join(live, "fullchain.pem"), filepath.Join(certs, "vpn.pem")))
	if err != nil {
		t.Fatal(err)
	}
	for conf, found := range map[string]bool{
		"conn rw\n  leftcert=vpn.pem\n":                                true,
		"conn rw\n\tleftcert = \"" + live + "/cert.pem\"\n":            true,
		"conn rw\n  # leftcert=vpn.pem\n  leftsubnet=0.0.0.0/0\n":      false,
		"conn rw\n  leftcert=other.pem\n  rightcert=%smartcard:50\n\n": false,
	} {
		if err := os.WriteFile(filepath.Join(root, "etc/ipsec.conf"), []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		h := &host{env: hook.Env{Now: time.Now}, root: root,
			cli: cli{SwanctlDir: filepath.Join(root, "etc/swanctl"), Vici: filepath.Join(root, "none")}}
		plan, err := h.read(t.Context(), live).decide(live)
		if err != nil {
			t.Fatal(err)
		}
		want := rotation.Unused
		if found {
			want = rotation.IPsec
		}
		if plan.Reason.Kind != want {
			t.Errorf("%q: got %v", conf, plan.Reason)
		}
	}
}

func TestOneRuleForAllRenewals(t *testing.T) {
	for file, want := range map[string]string{
		"/etc/letsencrypt/archive/vpn.example/privkey12.pem": "/etc/letsencrypt/archive/*/privkey*.pem r,",
		"/srv/le/archive/vpn/cert3.pem":                      "/srv/le/archive/*/cert*.pem r,",
		"/etc/vpn/privkey.pem":                               "/etc/vpn/privkey.pem r,",
	} {
		if got := rule(file); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestWarnDays(t *testing.T) {
	for days, want := range map[int]int{6: 1, 45: 14, 90: 29, 365: 29} {
		start := time.Unix(0, 0)
		leaf := &x509.Certificate{NotBefore: start, NotAfter: start.Add(time.Duration(days) * 24 * time.Hour)}
		if got := new(host).warnDays(leaf); got != want {
			t.Errorf("%d days of lifetime: got %d, want %d", days, got, want)
		}
		if got := (&host{cli: cli{WarnDays: 5}}).warnDays(leaf); got != 5 {
			t.Errorf("set to 5: got %d", got)
		}
	}
}

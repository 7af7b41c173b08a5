package main

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The kernel's file that answers queries is none that a test can make; what comes
// before the query is.
func TestMayReadWithoutAnEnforcedProfile(t *testing.T) {
	for name, profiles := range map[string]string{
		"no AppArmor":   "",
		"complain mode": "/usr/sbin/named (enforce)\n/usr/sbin/swanctl (complain)\n",
		"unconfined":    "/usr/sbin/swanctl (unconfined)\n",
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
			if err := mayRead(root, key); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDenialNamesOneRuleForAllRenewals(t *testing.T) {
	for file, rule := range map[string]string{
		"/etc/letsencrypt/archive/vpn.example/privkey12.pem": `"/etc/letsencrypt/archive/*/privkey*.pem r,"`,
		"/srv/le/archive/vpn/cert3.pem":                      `"/srv/le/archive/*/cert*.pem r,"`,
		"/etc/vpn/privkey.pem":                               `"/etc/vpn/privkey.pem r,"`,
	} {
		want := "it does not let swanctl read " + file + ": it lacks " + rule
		if got := (denial{file}).Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestWarnDays(t *testing.T) {
	for days, want := range map[int]int{6: 1, 45: 14, 90: 29, 365: 29} {
		leaf := &x509.Certificate{NotBefore: time.Unix(0, 0), NotAfter: time.Unix(0, 0).Add(time.Duration(days) * 24 * time.Hour)}
		if got := new(host).warnDays(leaf); got != want {
			t.Errorf("%d days of lifetime: got %d, want %d", days, got, want)
		}
		if got := (&host{cli: cli{WarnDays: 5}}).warnDays(leaf); got != 5 {
			t.Errorf("set to 5: got %d", got)
		}
	}
}

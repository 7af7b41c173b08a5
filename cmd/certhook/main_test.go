package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tunnelcast/internal/hook/hooktest"
	"tunnelcast/internal/lineage/lineagetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"certhook": main})
}

// TestScripts runs the command as a process, on a host without charon. Each script has the
// lineages of saveLineages in le/live, and in etc/swanctl a configuration that uses "good".
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			le, swanctl := filepath.Join(env.WorkDir, "le"), filepath.Join(env.WorkDir, "etc/swanctl")
			saveLineages(t, le)
			for _, dir := range []string{"x509", "x509ca", "private"} {
				if err := os.MkdirAll(filepath.Join(swanctl, dir), 0o755); err != nil {
					return err
				}
			}
			conf := fmt.Sprintf("connections { rw { local { certs = %s/live/good/cert.pem\n id = %s\n } } }\n",
				le, identity)
			if err := os.WriteFile(filepath.Join(swanctl, "swanctl.conf"), []byte(conf), 0o600); err != nil {
				return err
			}
			config := fmt.Sprintf("vici = %q\nswanctl-dir = %q\nunit = \"tunnelcast-test-none.service\"\n",
				filepath.Join(env.WorkDir, "no.vici"), swanctl)
			return os.WriteFile(filepath.Join(env.WorkDir, "c.toml"), []byte(config), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": hooktest.Status},
	})
}

func saveLineages(t *testing.T, le string) {
	authority := lineagetest.NewAuthority(t, "CA", 2)
	files := func(change func(*x509.Certificate)) lineagetest.Files {
		key := lineagetest.NewKey(t, false)
		leaf := authority.Issue(t, key.Public(), []string{identity}, change)
		return lineagetest.NewFiles(t, leaf, authority.Chain(), key)
	}
	files(nil).Save(t, le, "good", 1)
	files(nil).Save(t, le, "foreign", 1)
	files(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).Save(t, le, "expired", 1)
	files(func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(6 * 24 * time.Hour) }).Save(t, le, "sixdays", 1)
	files(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(20 * time.Hour) }).Save(t, le, "lastday", 1)
	mismatched := files(nil)
	mismatched["privkey.pem"] = files(nil)["privkey.pem"]
	mismatched.Save(t, le, "mismatched", 1)
	files(nil).Save(t, le, "halfway", 1)
	lineagetest.Files{"cert.pem": files(nil)["cert.pem"]}.Save(t, le, "halfway", 2)
	cut := files(nil)
	cut["chain.pem"] = cut["chain.pem"][:200]
	cut.Save(t, le, "cut", 1)
}

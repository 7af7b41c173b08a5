package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tunnelcast/internal/rotation"
)

// TestLayouts goes through the ways to name a lineage to swanctl.
func TestLayouts(t *testing.T) {
	for name, certs := range map[string]string{
		"path of fullchain.pem":     "DIR/fullchain.pem",
		"link in x509, named":       "vpn.pem",
		"link in x509, by identity": "",
	} {
		t.Run(name, func(t *testing.T) {
			g := newTestGateway(t, certs, "c1")
			for range 3 {
				old := g.presented("c1")
				leaf := g.renew()
				if _, _, err := g.hook(g.live); err != nil {
					t.Fatal(err)
				}
				if shown := g.presented("c1"); shown.Equal(old) || !shown.Equal(leaf) {
					t.Fatal("the next client does not see the new certificate")
				}
			}
			g.agrees()
			// What a reload of the unit does must find the same.
			g.mustSwanctl("gw", "--load-all", "--noprompt")
			if err := g.login("c1"); err != nil {
				t.Error(err)
			}
			g.agrees()
		})
	}
}

// TestOtherClientsLayouts has the files that acme.sh, lego and Caddy write, and copies that an
// old hook makes.
func TestOtherClientsLayouts(t *testing.T) {
	t.Run("fullchain.pem and privkey.pem alone", func(t *testing.T) {
		g := newTestGateway(t, "DIR/fullchain.pem", "c1")
		for range 2 {
			leaf := g.renew()
			for _, name := range []string{"cert.pem", "chain.pem"} {
				if err := os.Remove(filepath.Join(g.live, name)); err != nil {
					t.Fatal(err)
				}
			}
			conf := strings.ReplaceAll(g.conf("DIR/fullchain.pem"), "chain.pem }", "fullchain.pem }")
			g.write("gw/swanctl.conf", conf)
			g.renewed(leaf)
		}
	})
	t.Run("copies that an old hook has loaded", func(t *testing.T) {
		g := newTestGateway(t, "vpn.pem", "c1")
		for link, file := range map[string]string{"private": "privkey.pem", "x509": "cert.pem"} {
			if err := os.Remove(filepath.Join(g.dir, "gw", link, "vpn.pem")); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(g.live, file))
			if err != nil {
				t.Fatal(err)
			}
			g.write("gw/"+link+"/vpn.pem", string(text))
		}
		g.mustSwanctl("gw", "--load-all", "--noprompt")
		out, log, err := g.hook(g.live)
		const notice = "charon serves a copy of the renewed certificate already"
		if err != nil || out != "" || !strings.Contains(log, notice) {
			t.Errorf("error %v, output %q, log %s", err, out, log)
		}
		g.renew()
		if _, _, err := g.hook(g.live); !isFinding(err, rotation.CopyServed) {
			t.Errorf("the copy is old, and the hook returns %v", err)
		}
	})
}

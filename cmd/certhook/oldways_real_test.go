package main

import (
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tunnelcast/internal/lineage/lineagetest"
)

// TestOldWays renews, does what is commonly done instead of certhook, and looks at what happens
// to the next client. certhook refuses the same renewal, while the old pair serves, or mends
// what the old way has left.
//
// swanctl --load-all with nothing wrong is measured in
// TestNoLoginIsLostWhileCertificatesRotate: its fault is a gap.
func TestOldWays(t *testing.T) {
	g := newGuide(t, "c1")
	with := func(file string, text []byte) func() lineagetest.Files {
		return func() lineagetest.Files {
			files := g.authority.Renew(t, identity)
			files[file] = text
			return files
		}
	}
	good := func() lineagetest.Files { return g.authority.Renew(t, identity) }
	// What happens to the next client, in the words of fate.
	const (
		old      = "is shown the old certificate"
		noKey    = "received AUTHENTICATION_FAILED notify error"
		noIssuer = "no issuer certificate found"
	)
	for _, row := range []struct {
		name    string
		fresh   bool // charon was started again, without certhook's files
		renewal func() lineagetest.Files
		lost    string // a file of the renewal that is gone
		way     string // of swanctl; none is run if empty
		status  int    // swanctl's
		next    string
		refused string // certhook's error; empty if it heals
	}{
		{name: "a chain of two, loaded by its authority's file", fresh: true, renewal: good,
			way: "--load-all --noprompt", next: noIssuer},
		{name: "nothing", renewal: good, next: old},
		{name: "load-creds alone", renewal: good, way: "--load-creds --noprompt", next: noKey},
		{name: "load-conns alone", renewal: good, way: "--load-conns", next: old},
		{name: "load-all, key dangling", renewal: good, lost: "privkey",
			way: "--load-all --noprompt", next: noKey, refused: "read privkey.pem: dangling link"},
		{name: "load-all, key corrupt", renewal: with("privkey.pem", []byte("-----BEGIN PRIVATE KEY-----\nMIG\n")),
			way: "--load-all --noprompt", next: noKey, refused: "privkey.pem: damaged or truncated"},
		{name: "load-all, chain unreadable", renewal: with("chain.pem", []byte("\x00")),
			way: "--load-all --noprompt", status: 22, next: noKey, refused: "chain.pem: no certificate"},
		{name: "load-all, chain dangling", renewal: good, lost: "chain",
			way: "--load-all --noprompt", status: 22, next: noKey, refused: "read chain.pem: dangling link"},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := g.presented("c1")
			renewed := g.save(row.renewal())
			if row.lost != "" {
				g.removeArchived(row.lost)
			}
			if row.fresh {
				g.forget()
			}
			if row.refused != "" {
				_, _, err := g.hook(g.live)
				wantError(t, err, 1, row.refused)
				if !g.presented("c1").Equal(before) {
					t.Error("after certhook's refusal the old pair is not served")
				}
			}

			if row.way != "" {
				out, err := g.swanctl("gw", strings.Fields(row.way)...)
				status := 0
				if exit := new(exec.ExitError); errors.As(err, &exit) {
					status = exit.ExitCode()
				}
				if status != row.status {
					t.Errorf("swanctl %s ends with %d, want %d:\n%s", row.way, status, row.status, out)
				}
			}
			if next := g.fate(before); !strings.Contains(next, row.next) {
				t.Errorf("the next client %s, want %q", next, row.next)
			}

			if row.refused != "" {
				renewed = g.renew()
			}
			if _, _, err := g.hook(g.live); err != nil {
				t.Fatal(err)
			}
			if !g.presented("c1").Equal(renewed) {
				t.Error("certhook has not healed it")
			}
			g.agrees()
		})
	}
}

// fate returns what happens to a client that logs in now.
func (g *testGateway) fate(before *x509.Certificate) string {
	g.t.Helper()
	switch shown, err := g.shown("c1"); {
	case err != nil:
		return "fails: " + err.Error()
	case shown.Equal(before):
		return "is shown the old certificate"
	default:
		return "is shown the new certificate"
	}
}

// forget restarts charon as on a host where certhook has never run.
func (g *testGateway) forget() {
	g.t.Helper()
	g.mustSwanctl("client", "--terminate", "--ike", "c1", "--timeout", "60")
	g.stop["gw"]()
	for _, name := range g.issuers() {
		if err := os.Remove(filepath.Join(g.dir, "gw/x509ca", name)); err != nil {
			g.t.Fatal(err)
		}
	}
	g.start("gw")
}

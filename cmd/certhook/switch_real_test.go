package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/lineage/lineagetest"
)

// guide is the guide's layout: certs names live/, private/ holds a link to the
// key. The client trusts the root alone; the chain has two issuers.
type guide struct {
	*charons
	authority *lineagetest.Authority
	le, live  string
	version   int
}

func newGuide(t *testing.T, clients ...string) *guide {
	g := &guide{authority: lineagetest.NewAuthority(t, "CA", 2), le: t.TempDir()}
	g.live = filepath.Join(g.le, "live", identity)
	g.charons = startCharons(t, filepath.Join(g.live, "cert.pem"), lineagetest.PEM(g.authority.Root()), clients...)
	if err := os.Symlink(filepath.Join(g.live, "privkey.pem"), filepath.Join(g.dir, "gw/private/vpn.pem")); err != nil {
		t.Fatal(err)
	}
	g.renew()
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	if _, _, err := g.hook(g.live); err != nil {
		t.Fatal(err)
	}
	return g
}

// renew does what certbot does before it calls the hook.
func (g *guide) renew() *x509.Certificate {
	g.t.Helper()
	return g.save(g.authority.Renew(g.t, identity))
}

func (g *guide) save(files lineagetest.Files) *x509.Certificate {
	g.t.Helper()
	g.version++
	files.Save(g.t, g.le, identity, g.version)
	certs, err := lineage.ParseCertificates(files["cert.pem"])
	if err != nil {
		g.t.Fatal(err)
	}
	return certs[0]
}

// issuers returns the files in x509ca.
func (g *guide) issuers() []string {
	entries, err := os.ReadDir(filepath.Join(g.dir, "gw/x509ca"))
	if err != nil {
		g.t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// logins lets clients log in again and again until stopped, and counts.
type logins struct {
	tried, lost atomic.Int64
	first       atomic.Pointer[error] // why the first one was lost
	stop        func()
}

func (c *charons) keepLoggingIn(clients ...string) *logins {
	ctx, cancel := context.WithCancel(c.t.Context())
	l := &logins{}
	var wg sync.WaitGroup
	for _, name := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := c.login(name)
				l.tried.Add(1)
				if err != nil {
					l.lost.Add(1)
					l.first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	l.stop = func() { cancel(); wg.Wait() }
	return l
}

// rotations is how many times the certificate is renewed under load.
func rotations() int {
	if n, err := strconv.Atoi(os.Getenv("TUNNELCAST_ROTATIONS")); err == nil {
		return n
	}
	return 20
}

// rotate renews again and again, a login or more between, and returns how long
// each move took.
func (g *guide) rotate(l *logins, move func() error) (took []time.Duration) {
	g.t.Helper()
	for range rotations() {
		g.renew()
		start := time.Now()
		if err := move(); err != nil {
			g.t.Fatal(err)
		}
		took = append(took, time.Since(start))
		before, end := l.tried.Load(), time.Now().Add(30*time.Second)
		for l.tried.Load() < before+2 && time.Now().Before(end) {
			<-time.After(time.Millisecond)
		}
	}
	slices.Sort(took)
	return took
}

func TestNoLoginIsLostWhileCertificatesRotate(t *testing.T) {
	g := newGuide(t, "c1", "c2", "c3", "stays")
	if err := g.login("stays"); err != nil {
		t.Fatal(err)
	}
	established := g.mustSwanctl("client", "--list-sas", "--ike", "stays")

	l := g.keepLoggingIn("c1", "c2", "c3")
	took := g.rotate(l, func() error {
		output, _, err := g.hook(g.live)
		if output != "" {
			err = errors.Join(err, fmt.Errorf("the hook says %q", output))
		}
		return err
	})
	l.stop()
	t.Logf("certhook: %d rotations, %d logins tried, %d lost; one switch took %v (median), %v (longest)",
		len(took), l.tried.Load(), l.lost.Load(), took[len(took)/2], took[len(took)-1])
	if l.lost.Load() > 0 {
		t.Errorf("lost, the first: %v", *l.first.Load())
	}

	// The same line of list-sas, so the same SA: unique id and SPIs are in it.
	head, _, _ := strings.Cut(established, "\n")
	if now := g.mustSwanctl("client", "--list-sas", "--ike", "stays"); !strings.HasPrefix(now, head) || !strings.Contains(head, "ESTABLISHED") {
		t.Errorf("the tunnel that was up is not the same:\n%s\n%s", established, now)
	}
	g.mustSwanctl("client", "--terminate", "--ike", "stays")
	if leaf := g.renew(); g.presented("c1").Equal(leaf) {
		t.Error("the client saw a certificate before the hook ran")
	} else if _, _, err := g.hook(g.live); err != nil {
		t.Error(err)
	} else if !g.presented("c1").Equal(leaf) {
		t.Error("the next client does not see the new certificate")
	}

	// What strongswan.service does on reload, for comparison: its gap is no
	// fault of ours, and on a lucky run shows nothing.
	all := g.keepLoggingIn("c1", "c2", "c3")
	g.rotate(all, func() error {
		_, err := g.swanctl("gw", "--load-all", "--noprompt")
		return err
	})
	all.stop()
	t.Logf("swanctl --load-all: %d rotations, %d logins tried, %d lost", rotations(), all.tried.Load(), all.lost.Load())
}

// TestFaultsLeaveTheOldPairServing breaks a renewal or a tool in every way, one
// after the other.
func TestFaultsLeaveTheOldPairServing(t *testing.T) {
	g := newGuide(t, "c1")
	names := []string{identity}
	other := lineagetest.NewAuthority(t, "Other", 2)
	issue := func(change func(*x509.Certificate)) lineagetest.Files {
		key := lineagetest.NewKey(t, false)
		return lineagetest.NewFiles(t, g.authority.Issue(t, key.Public(), names, change), g.authority.Chain(), key)
	}
	with := func(file string, text []byte) lineagetest.Files {
		files := issue(nil)
		files[file] = text
		return files
	}
	chain := lineagetest.PEM(g.authority.Chain()...)
	script := func(text string) []string {
		path := filepath.Join(t.TempDir(), "swanctl")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return []string{"--swanctl", path}
	}
	for _, fault := range []struct {
		name  string
		files lineagetest.Files
		spoil func() // after the files are saved
		args  []string
		want  string // in the error
	}{
		{name: "key corrupt", files: with("privkey.pem", []byte("-----BEGIN PRIVATE KEY-----\nMIG\n")), want: "privkey.pem: damaged or cut short"},
		{name: "key of another certificate", files: with("privkey.pem", lineagetest.KeyPEM(t, lineagetest.NewKey(t, false))), want: "privkey.pem does not belong to cert.pem"},
		{name: "key dangling", files: issue(nil), spoil: func() {
			os.Remove(filepath.Join(g.le, "archive", identity, fmt.Sprintf("privkey%d.pem", g.version)))
		}, want: "read privkey.pem: dangling link"},
		{name: "certificate dangling", files: issue(nil), spoil: func() {
			os.Remove(filepath.Join(g.le, "archive", identity, fmt.Sprintf("cert%d.pem", g.version)))
		}, want: "read cert.pem: dangling link"},
		{name: "links turned halfway", files: lineagetest.Files{"cert.pem": issue(nil)["cert.pem"]}, want: "links turned halfway"},
		{name: "chain cut short", files: with("chain.pem", chain[:len(chain)-40]), want: "chain.pem: damaged or cut short"},
		{name: "chain unreadable", files: with("chain.pem", []byte("\x00")), want: "chain.pem: no certificate"},
		{name: "chain of another authority", files: with("chain.pem", lineagetest.PEM(other.Chain()...)), want: "did not sign cert.pem"},
		{name: "expired", files: issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), want: "expired at"},
		{name: "not yet valid", files: issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), want: "not valid before"},
		{name: "wrong name", files: issue(func(c *x509.Certificate) { c.DNSNames = []string{"www.example"} }), want: `the identity "vpn.example" is not among`},
		{name: "swanctl fails", files: issue(nil), args: script("echo broken; exit 22"), want: "exit status 22: broken"},
		{name: "swanctl fails at the connections", files: issue(nil), args: script("case $1 in --load-conns) echo bad conn; exit 22; esac"), want: "exit status 22: bad conn"},
		{name: "swanctl does nothing", files: issue(nil), args: script("exit 0"), want: "charon did not get vpn.example"},
		{name: "swanctl hangs", files: issue(nil), args: script("exec sleep 100"), want: "not done within 5s"},
		{name: "swanctl missing", files: issue(nil), args: []string{"--swanctl", "/nonexistent/swanctl"}, want: "no such file"},
		{name: "VICI hangs", files: issue(nil), args: []string{"--vici", hungSocket(t)}, want: "no answer within 5s"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			old := g.presented("c1")
			files, was := g.issuers(), readAll(t, filepath.Join(g.dir, "gw/x509ca"))
			g.save(fault.files)
			if fault.spoil != nil {
				fault.spoil()
			}
			_, log, err := g.hook(g.live, fault.args...)
			if err == nil || !strings.Contains(err.Error(), fault.want) || hook.Status(err) != 1 {
				t.Errorf("error %v (log %s), want %q and status 1", err, log, fault.want)
			} else if strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if !g.presented("c1").Equal(old) {
				t.Error("the old pair is not served any more")
			}
			if now := readAll(t, filepath.Join(g.dir, "gw/x509ca")); now != was {
				t.Errorf("the issuers' files are %v, were %v, or their contents differ", g.issuers(), files)
			}
		})
	}
	leaf := g.renew()
	if _, _, err := g.hook(g.live); err != nil || !g.presented("c1").Equal(leaf) {
		t.Errorf("after all faults a good renewal gives %v", err)
	}
}

// hungSocket listens and never answers.
func hungSocket(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "vici")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path
}

func readAll(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s\n%s", e.Name(), text)
	}
	return all.String()
}

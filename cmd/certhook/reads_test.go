package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/lineage/lineagetest"
	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// A run reads swanctl.conf, every certificate and every private key once, however many
// lineages there are.
func TestTheHostIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	swanctl, le := filepath.Join(dir, "swanctl"), filepath.Join(dir, "le")
	authority := lineagetest.NewAuthority(t, "CA", 2)
	charon := &fakeCharon{certificates: lineagetest.PEM(authority.Chain()...)}
	var conf strings.Builder
	watched := []string{swanctl}
	for _, name := range []string{"x509ca", "private"} {
		if err := os.MkdirAll(filepath.Join(swanctl, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"a", "b", "c"} {
		files := authority.Renew(t, name+".example")
		live := files.Save(t, le, name, 1)
		watched = append(watched, filepath.Join(le, "archive", name))
		fmt.Fprintf(&conf, "connections { %s { local { certs = %s/cert.pem\n id = %[1]s.example } } }\n", name, live)
		link := filepath.Join(swanctl, "private", name+".pem")
		if err := os.Symlink(filepath.Join(live, "privkey.pem"), link); err != nil {
			t.Fatal(err)
		}
		for n, issuer := range authority.Chain() {
			file := filepath.Join(swanctl, "x509ca", fmt.Sprintf("tunnelcast-%s-%d.pem", name, n+1))
			if err := os.WriteFile(file, lineagetest.PEM(issuer), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		charon.leaves = append(charon.leaves, files["cert.pem"])
		charon.connections = append(charon.connections, []string{"a", "b", "c"}[i])
	}
	if err := os.WriteFile(filepath.Join(swanctl, "swanctl.conf"), []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	opened := watchOpens(t, watched...)
	var out bytes.Buffer
	err := run(t.Context(), hook.Env{
		Name: "certhook",
		Args: []string{"--config", os.DevNull, "--vici", charon.start(t), "--swanctl-dir", swanctl,
			"--unit", "tunnelcast-test-none.service", "check", "--heal"},
		Getenv: func(string) string { return "" },
		Stdout: &out, Stderr: &out,
		Log: slog.New(slog.DiscardHandler), Result: slog.New(slog.DiscardHandler),
		Now: time.Now,
	})
	if err != nil || strings.Count(out.String(), "ok    lineage ") != 3 {
		t.Fatalf("%v\n%s", err, out.String())
	}
	counts := opened()
	for _, file := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%d times %s", counts[file], file)
		if counts[file] > 1 {
			t.Errorf("%s is read %d times, want once", file, counts[file])
		}
	}
	for _, want := range []string{"swanctl.conf", "privkey1.pem", "cert1.pem"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(counts)), func(f string) bool { return filepath.Base(f) == want }) {
			t.Errorf("%s is not read", want)
		}
	}
}

// fakeCharon answers what a run without changes asks. It serves leaves, each in PEM, with
// their keys.
type fakeCharon struct {
	leaves       [][]byte
	certificates []byte // others, in PEM
	connections  []string
}

func (c *fakeCharon) start(t *testing.T) (socket string) {
	t.Helper()
	var events []vici.Message
	add := func(text []byte, key string) {
		certs, err := lineage.ParseCertificates(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, cert := range certs {
			events = append(events, vicitest.Message(
				vici.Value("type", "X509"), vici.Value("data", string(cert.Raw)), vici.Value("has_privkey", key)))
		}
	}
	for _, leaf := range c.leaves {
		add(leaf, "yes")
	}
	add(c.certificates, "no")
	return vicitest.Start(t, &vicitest.Server{Handle: func(command string, _ vici.Message) (vicitest.Answer, bool) {
		switch command {
		case "list-certs":
			return vicitest.Answer{Events: events}, true
		case "get-conns":
			return vicitest.Answer{Response: vicitest.Message(vici.List("conns", c.connections...))}, true
		case "get-keys", "get-authorities":
			return vicitest.Answer{Response: vicitest.Message(vici.List(strings.TrimPrefix(command, "get-")))}, true
		}
		return vicitest.Answer{}, false
	}})
}

// watchOpens counts how often the files in some directories are opened.
func watchOpens(t *testing.T, dirs ...string) (counts func() map[string]int) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	watches := map[int32]string{}
	for _, dir := range dirs {
		wd, err := unix.InotifyAddWatch(fd, dir, unix.IN_OPEN)
		if err != nil {
			t.Fatal(err)
		}
		watches[int32(wd)] = dir
	}
	return func() map[string]int {
		all := map[string]int{}
		buffer := make([]byte, 64<<10)
		for {
			n, err := unix.Read(fd, buffer)
			if errors.Is(err, unix.EAGAIN) {
				return all
			}
			if err != nil {
				t.Fatal(err)
			}
			for events := buffer[:n]; len(events) > 0; {
				// struct inotify_event: wd, mask, cookie, len, each of 4 bytes, then the name
				wd := int32(nativeUint32(events[0:]))
				mask, length := nativeUint32(events[4:]), nativeUint32(events[12:])
				name := strings.TrimRight(string(events[16:16+length]), "\x00")
				events = events[16+length:]
				if mask&unix.IN_ISDIR == 0 && name != "" {
					all[filepath.Join(watches[wd], name)]++
				}
			}
		}
	}
}

func nativeUint32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

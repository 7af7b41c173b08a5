package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/lineage/lineagetest"
)

// A run reads swanctl.conf, every certificate and every private key once, however many
// lineages there are.
func TestTheHostIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	swanctl, le := filepath.Join(dir, "swanctl"), filepath.Join(dir, "le")
	authority := lineagetest.NewAuthority(t, "CA", 2)
	charon := &fakeCharon{others: lineagetest.PEM(authority.Chain()...)}
	var conf strings.Builder
	watched := []string{swanctl}
	for _, name := range []string{"x509ca", "private"} {
		if err := os.MkdirAll(filepath.Join(swanctl, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
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
		charon.connections = append(charon.connections, name)
	}
	if err := os.WriteFile(filepath.Join(swanctl, "swanctl.conf"), []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	opened := watchOpens(t, watched...)
	out, err := runCerthook(t, charon.start(t), swanctl, "check", "--heal")
	if err != nil || strings.Count(out, "ok    lineage ") != 3 {
		t.Fatalf("%v\n%s", err, out)
	}
	counts := opened()
	for _, file := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%d times %s", counts[file], file)
		if counts[file] > 1 {
			t.Errorf("%s is read %d times, want once", file, counts[file])
		}
	}
	for _, want := range []string{"swanctl.conf", "privkey1.pem", "cert1.pem"} {
		read := func(file string) bool { return filepath.Base(file) == want }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(counts)), read) {
			t.Errorf("%s is not read", want)
		}
	}
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

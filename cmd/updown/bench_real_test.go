package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/lease"
)

// BenchmarkHook runs whole processes, as charon does, in turn: ours, nsupdate
// with a key, and the shell script that pipes lines into an unsigned nsupdate.
// The numbers are medians, in milliseconds: ours for a fresh name, for the next
// call of the same connect and for a disconnect; theirs for an addition and for a
// deletion; a shell that does nothing. The last is what all of them wait for, the
// DNS server's answer to one addition: BIND syncs its journal twice for it.
func BenchmarkHook(b *testing.B) {
	nsupdate := tool(b, "bin/nsupdate")
	named := startBind(b)
	dir := b.TempDir()
	if shm, err := os.MkdirTemp("/dev/shm", "updown-bench-"); err == nil { // as /run is
		dir = shm
		b.Cleanup(func() { os.RemoveAll(shm) })
	}
	updown := filepath.Join(b.TempDir(), "updown")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", updown, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	config := filepath.Join(dir, "updown.toml")
	text := fmt.Sprintf("server = %q\nkey = %q\nrun-dir = %q\npools = [\"10.9.0.0/16\"]\ntimeout = \"10s\"\n", named.addr, named.key(), filepath.Join(dir, "run"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	host, port, _ := strings.Cut(named.addr, ":")

	server, err := newTestGateway(b, named).server()
	if err != nil {
		b.Fatal(err)
	}

	times := map[string][]time.Duration{}
	run := func(kind string, env []string, stdin string, words ...string) {
		b.Helper()
		cmd := exec.CommandContext(b.Context(), words[0], words[1:]...)
		cmd.Env = append(env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
		cmd.Stdin = strings.NewReader(stdin)
		start := time.Now()
		out, err := cmd.CombinedOutput()
		times[kind] = append(times[kind], time.Since(start))
		if err != nil {
			b.Fatalf("%s: %v\n%s", kind, err, out)
		}
	}
	for n := 0; b.Loop(); n++ {
		address := fmt.Sprintf("10.9.%d.%d", n/200%250, n%200+1)
		pluto := func(verb string) []string {
			return []string{"PLUTO_VERB=" + verb, fmt.Sprint("PLUTO_UNIQUEID=", n), fmt.Sprint("PLUTO_XAUTH_ID=ours", n), "PLUTO_PEER_SOURCEIP4_1=" + address}
		}
		run("up", pluto("up-client"), "", updown, "--config", config, "iptables")
		run("repeat", pluto("up-client"), "", updown, "--config", config, "iptables")
		run("down", pluto("down-client"), "", updown, "--config", config, "iptables")

		header := fmt.Sprintf("server %s %s\nzone example\n", host, port)
		remove := fmt.Sprintf("update delete theirs%d.example. A\n", n)
		add := remove + fmt.Sprintf("update add theirs%d.example. 3600 A %s\n", n, address)
		run("nsupdate-up", nil, header+add+"send\n", append(slices.Clone(nsupdate), "-k", named.key())...)
		run("nsupdate-down", nil, header+remove+"send\n", append(slices.Clone(nsupdate), "-k", named.key())...)
		script := []string{"/bin/sh", "-c", `printf "$0" | "$@"`}
		run("script-up", nil, "", append(append(slices.Clone(script), header+add+"send\n"), nsupdate...)...)
		run("script-down", nil, "", append(append(slices.Clone(script), header+remove+"send\n"), nsupdate...)...)
		run("sh", nil, "", "/bin/sh", "-c", "")

		name := lease.Address(fmt.Sprintf("named%d.example.", n), netip.MustParseAddr(address))
		change := lease.Change{Zone: "example.", Add: []lease.RR{name}, Seen: []lease.Owner{{Name: name.Owner}}}
		start := time.Now()
		if err := server.Update(b.Context(), change, time.Minute); err != nil {
			b.Fatal(err)
		}
		times["answer"] = append(times["answer"], time.Since(start))
	}
	b.ReportMetric(0, "ns/op")
	for kind, all := range times {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, kind+"-ms")
	}
}

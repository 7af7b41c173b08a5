package iproute

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/links"
	"tunnelcast/internal/promised"
)

// inNetwork runs the test that calls it in a network namespace of its own, by starting this test program again. It
// returns false in the process that only waits for that one.
func inNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv("IN_NETWORK_NAMESPACE") == "1" {
		return true
	}
	if os.Geteuid() != 0 {
		promised.Lacking(t, fmt.Errorf("a network namespace needs root"))
	}
	cmd := exec.Command("unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "IN_NETWORK_NAMESPACE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func ip(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
	return string(out)
}

// lines returns the lines of ip's answer that have our protocol number.
func lines(t *testing.T, args string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(ip(t, args)) {
		if strings.Contains(line, "proto 116") {
			found = append(found, strings.Join(strings.Fields(line), " "))
		}
	}
	return found
}

func carryOut(t *testing.T, sections links.Sections) {
	t.Helper()
	for range 2 {
		host, err := Read()
		if err != nil {
			t.Fatal(err)
		}
		plan, err := sections.Plan(host)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range plan.Steps {
			if err := Apply(context.Background(), step); err != nil {
				t.Error(err)
			}
		}
	}
	host, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := sections.Plan(host); err != nil || len(plan.Steps) > 0 {
		t.Errorf("a further run would do %+v, %v", plan.Steps, err)
	}
}

func want(t *testing.T, args string, want ...string) {
	t.Helper()
	if got := lines(t, args); !slices.Equal(got, want) {
		t.Errorf("ip %s:\ngot  %q\nwant %q", args, got, want)
	}
}

// TestKernel lets the kernel say what it made of our steps.
func TestKernel(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	ip(t, "link set lo up")
	ip(t, "link add ppp0 type veth peer name far")
	ip(t, "link set far up")
	ip(t, "address add 203.0.113.5 peer 192.0.2.1 dev ppp0")
	ip(t, "address add 2001:db8::5 peer 2001:db8::1 dev ppp0 nodad")
	ip(t, "link set ppp0 up")
	ip(t, "rule add from 203.0.113.1 lookup 99 priority 77")
	ip(t, "route add 10.99.0.0/16 dev ppp0")
	others := ip(t, "rule") + ip(t, "route show table all type unicast")

	sections := links.Sections{"ppp0": {Table: 2000, Routes: []netip.Prefix{
		netip.MustParsePrefix("192.168.2.0/24"), netip.MustParsePrefix("fd00:2::/64")}}}
	carryOut(t, sections)
	want(t, "-4 route show table 2000", "default via 192.0.2.1 dev ppp0 proto 116 onlink")
	want(t, "-6 route show table 2000", "default via 2001:db8::1 dev ppp0 proto 116 metric 1024 onlink pref medium")
	want(t, "-4 route", "192.168.2.0/24 via 192.0.2.1 dev ppp0 proto 116 onlink")
	want(t, "-6 route", "fd00:2::/64 via 2001:db8::1 dev ppp0 proto 116 metric 1024 onlink pref medium")
	want(t, "-4 rule", "200: from 203.0.113.5 lookup 2000 proto 116")
	want(t, "-6 rule", "200: from 2001:db8::5 lookup 2000 proto 116")

	t.Log("another address and peer, both families")
	ip(t, "address add 203.0.113.6 peer 192.0.2.9 dev ppp0")
	ip(t, "address del 203.0.113.5 peer 192.0.2.1 dev ppp0")
	ip(t, "address add 2001:db8::6 peer 2001:db8::9 dev ppp0 nodad")
	ip(t, "address del 2001:db8::5 peer 2001:db8::1 dev ppp0")
	carryOut(t, sections)
	want(t, "-4 route show table 2000", "default via 192.0.2.9 dev ppp0 proto 116 onlink")
	want(t, "-6 route show table 2000", "default via 2001:db8::9 dev ppp0 proto 116 metric 1024 onlink pref medium")
	want(t, "-4 rule", "200: from 203.0.113.6 lookup 2000 proto 116")
	want(t, "-6 rule", "200: from 2001:db8::6 lookup 2000 proto 116")

	t.Log("the link goes")
	ip(t, "link del ppp0")
	carryOut(t, sections)
	want(t, "-4 rule")
	want(t, "-6 rule")

	t.Log("a link of a kind that needs no next hop")
	ip(t, "link add ppp0 type veth peer name far2")
	ip(t, "link set far2 up")
	ip(t, "link set ppp0 arp off")
	ip(t, "address add 203.0.113.7/32 dev ppp0")
	ip(t, "link set ppp0 up")
	carryOut(t, sections)
	want(t, "-4 route show table 2000", "default dev ppp0 proto 116 scope link")
	want(t, "-4 rule", "200: from 203.0.113.7 lookup 2000 proto 116")

	t.Log("the section goes")
	carryOut(t, links.Sections{})
	want(t, "-4 route show table all")
	want(t, "-6 route show table all")
	want(t, "-4 rule")
	for _, line := range []string{"77:\tfrom 203.0.113.1 lookup 99"} {
		if !strings.Contains(others, line) || !strings.Contains(ip(t, "rule"), line) {
			t.Errorf("%s: is it there?\n%s", line, ip(t, "rule"))
		}
	}
}

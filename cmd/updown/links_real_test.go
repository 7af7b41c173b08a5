package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/links"
	"tunnelcast/internal/promised"
)

// linkHost is a host with a network, an /etc and a /run of its own, in which /etc/ppp has Debian's ip-up and
// ip-down and a link to our program. The test calls them as pppd does.
type linkHost struct {
	*testing.T
	program string
}

// newLinkHost runs the test that calls it again inside such a host. In the process that only waits for that it
// returns nil.
func newLinkHost(t *testing.T, settings string) *linkHost {
	t.Helper()
	const inside = "UPDOWN_TEST_HOST"
	if program := os.Getenv(inside); program != "" {
		h := &linkHost{T: t, program: program}
		h.prepare(settings)
		return h
	}
	if os.Geteuid() != 0 {
		promised.Lacking(t, "a network of its own needs root")
	}
	for _, tool := range []string{"unshare", "ip", "/etc/ppp/ip-up"} {
		promised.Program(t, tool)
	}
	program := filepath.Join(t.TempDir(), "tunnelcast-updown")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command("unshare", "--net", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+program)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return nil
}

func (h *linkHost) prepare(settings string) {
	h.Helper()
	h.sh(`mount -t tmpfs none /mnt && mkdir /mnt/etc /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/work overlay /etc
mount -t tmpfs none /run && mkdir /run/netns
for d in ip-up.d ip-down.d ipv6-up.d ipv6-down.d; do
	rm -f /etc/ppp/$d/*
	ln -s ` + h.program + ` /etc/ppp/$d/tunnelcast
done
mkdir -p /etc/tunnelcast
ip link set lo up`)
	h.configure(settings)
}

func (h *linkHost) configure(settings string) {
	h.Helper()
	if err := os.WriteFile("/etc/tunnelcast/updown.toml", []byte(settings), 0o644); err != nil {
		h.Fatal(err)
	}
}

func (h *linkHost) sh(script string) string {
	h.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		h.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return string(out)
}

// connect makes the veth that is called name and gives it an address, as pppd does before it calls ip-up.
func (h *linkHost) connect(name, local, peer string) {
	h.Helper()
	h.sh(
		fmt.Sprintf(
			`ip link show %[1]s >/dev/null 2>&1 || ip link add %[1]s type veth peer name %[1]s-isp
ip link set %[1]s-isp up
ip address flush dev %[1]s; ip address add %[2]s peer %[3]s dev %[1]s; ip link set %[1]s up`,
			name,
			local,
			peer,
		),
	)
}

// pppd calls a script of Debian's as pppd does: with these arguments and variables, and no others.
func (h *linkHost) pppd(script, link, local, peer, ipparam string) {
	h.Helper()
	cmd := exec.Command("/etc/ppp/"+script, link, "/dev/pts/1", "115200", local, peer, ipparam)
	cmd.Env = []string{
		"IFNAME=" + link,
		"IPLOCAL=" + local,
		"IPREMOTE=" + peer,
		"PPPD_PID=1",
		"PPPLOGNAME=root",
		"DEVICE=/dev/pts/1",
	}
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		h.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// unit does what tunnelcast-links.path and its service do.
func (h *linkHost) unit() {
	h.Helper()
	const request = "/run/tunnelcast/links/request"
	if _, err := os.Stat(request); err != nil {
		h.Fatalf("nothing was requested: %v", err)
	}
	h.sh("rm -f " + request + "; " + h.program + " links")
}

// monitor returns what the kernel reports of routes and rules while do runs.
func (h *linkHost) monitor(do func()) string {
	h.Helper()
	monitor := exec.Command("ip", "monitor", "route", "rule")
	out, err := monitor.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := monitor.Start(); err != nil {
		h.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	// marked changes a rule until the monitor reports it: it reports all that comes in between, and listens now.
	marked := func(priority string) string {
		var text strings.Builder
		done := make(chan struct{})
		go func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
					exec.Command("ip", "rule", "add", "from", "192.0.2.250", "lookup", "251", "priority",
						priority).Run()
					exec.Command("ip", "rule", "del", "priority", priority).Run()
				}
			}
		}()
		defer close(done)
		for lines.Scan() {
			line := strings.ReplaceAll(strings.TrimSpace(lines.Text()), "\t", " ")
			if strings.HasPrefix(line, priority+":") {
				break
			}
			if !strings.Contains(line, "lookup 251") {
				text.WriteString(line + "\n")
			}
		}
		return text.String()
	}
	marked("901")
	do()
	text := marked("902")
	monitor.Process.Kill()
	_ = monitor.Wait()
	return text
}

// rules returns the rules that are ours, and the routes of table 200.
func (h *linkHost) rules() string {
	h.Helper()
	return h.sh(
		"ip rule show | grep 'proto 116' | sed 's/\t/ /'; ip route show table 200 2>/dev/null | sed 's/ *$//' || true",
	)
}

func (h *linkHost) want(want string) {
	h.Helper()
	if got := h.rules(); strings.TrimSpace(got) != strings.TrimSpace(want) {
		h.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestLinksHooks takes a link through its life by Debian's own scripts.
func TestLinksHooks(t *testing.T) {
	h := newLinkHost(t, "[link.home]\ntable = 200\n")
	if h == nil {
		return
	}
	h.connect("ppp0", "203.0.113.5", "192.0.2.1")
	h.pppd("ip-up", "ppp0", "203.0.113.5", "192.0.2.1", "home")
	h.unit()
	up := "200: from 203.0.113.5 lookup 200 proto 116\ndefault via 192.0.2.1 dev ppp0 proto 116 onlink\n"
	h.want(up)

	t.Log("while the address stays, nothing of the link is touched: a rule that is left over goes, no more")
	changes := h.monitor(func() {
		h.sh("ip rule add from 203.0.113.99 lookup 200 priority 200 protocol 116")
		for range 3 {
			h.sh(h.program + " links")
		}
	})
	if want := "200: from 203.0.113.99 lookup 200 proto 116\nDeleted 200: from 203.0.113.99 lookup 200 proto " +
		"116\n"; changes != want {
		t.Errorf("the kernel reports\n%swant\n%s", changes, want)
	}
	h.want(up)

	t.Log("a link without a section")
	h.connect("ppp1", "203.0.113.6", "192.0.2.1")
	h.pppd("ip-up", "ppp1", "203.0.113.6", "192.0.2.1", "other")
	if _, err := os.Stat("/run/tunnelcast/links/request"); err == nil {
		t.Error("a run was requested for it")
	}

	t.Log("a new address, whose ip-up nobody called: the timer's run")
	h.connect("ppp0", "203.0.113.77", "192.0.2.9")
	h.sh(h.program + " links")
	h.want("200: from 203.0.113.77 lookup 200 proto 116\ndefault via 192.0.2.9 dev ppp0 proto 116 onlink\n")

	t.Log("ip-down finds the interface gone")
	h.sh("ip link del ppp0")
	h.pppd("ip-down", "ppp0", "203.0.113.77", "192.0.2.9", "home")
	h.unit()
	h.want("")

	t.Log("another interface has the old one's name, and no ip-up was called for it")
	h.connect("ppp0", "203.0.113.8", "192.0.2.1")
	h.sh(h.program + " links")
	h.want("")
	h.pppd("ip-up", "ppp0", "203.0.113.8", "192.0.2.1", "home")
	h.unit()
	h.want("200: from 203.0.113.8 lookup 200 proto 116\ndefault via 192.0.2.1 dev ppp0 proto 116 onlink\n")

	t.Log("check names what is wrong")
	h.configure("[link.nope]\ntable = 201\n[link.home]\nroutes = [\"192.168.2.0/24\"]\nname = \"home.example\"\n" +
		"server = \"127.0.0.1:1\"\nkey = \"none\"\nallow-private = true\n")
	h.sh("echo 0 >/proc/sys/net/ipv4/ip_forward")
	out, _ := exec.Command(h.program, "check").Output()
	for _, want := range []string{
		"FAIL  link nope: there is no such interface",
		"FAIL  forwarding on ppp0: it is off",
		"FAIL  routes and rules: not done yet: ip -4 route add 192.168.2.0/24 via 192.0.2.1 dev ppp0",
		"FAIL  name home.example at 127.0.0.1:1: ",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("check does not print %q:\n%s", want, out)
		}
	}
	h.configure("[link.home]\ntable = 200\n")

	t.Log("somebody else's rule and route stay; the section goes")
	h.sh("ip rule add from 203.0.113.8 lookup 99 priority 150; ip route add 10.77.0.0/16 dev ppp0")
	h.configure("# nothing\n")
	h.sh(h.program + " links")
	h.want("")
	if out := h.sh("ip rule; ip route"); !strings.Contains(out, "lookup 99") || !strings.Contains(out, "10.77.0.0/16") {
		t.Errorf("not ours, but gone:\n%s", out)
	}
	if _, err := os.Stat("/run/tunnelcast/links"); err == nil {
		t.Error("the memory of links stays")
	}
	t.Log("a variable of that name alone is not a call by pppd")
	if out := h.sh("IFNAME=eth0 " + h.program + " links --dry-run"); out != "" {
		t.Errorf("got %s", out)
	}
}

// TestLinksAnswer asks from outside over two uplinks: each answer leaves by its own. A network that drops packets
// with a source of the other uplink's, as providers do, stands outside.
func TestLinksAnswer(t *testing.T) {
	h := newLinkHost(t, "[link.ppp0]\ntable = 200\n")
	if h == nil {
		return
	}
	h.sh(`ip netns add isp
ip link add eth1 type veth peer name isp1 netns isp
ip link add ppp0 type veth peer name isp0 netns isp
ip address add 198.51.100.2/24 dev eth1; ip link set eth1 up; ip link set ppp0 up
isp="ip netns exec isp"
$isp ip link set lo up; $isp ip address add 192.0.2.99/32 dev lo
$isp ip address add 198.51.100.1/24 dev isp1; $isp ip link set isp1 up
$isp ip address add 192.0.2.1/32 dev isp0; $isp ip link set isp0 up
$isp sh -c "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter"
ip route add default via 198.51.100.1`)
	server, err := net.Listen("tcp4", "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, "answer")
			conn.Close()
		}
	}()
	address := func(local string) {
		t.Helper()
		h.sh(fmt.Sprintf(`ip address flush dev ppp0; ip address add %[1]s peer 192.0.2.1 dev ppp0
ip netns exec isp ip route replace %[1]s dev isp0 src 192.0.2.99`, local))
	}
	// asks returns whether a client outside gets an answer.
	asks := func(local string) bool {
		out, err := exec.Command("ip", "netns", "exec", "isp", "timeout", "5", "bash", "-c",
			"exec 3<>/dev/tcp/"+local+"/8080 && cat <&3").Output()
		return err == nil && string(out) == "answer\n"
	}
	address("203.0.113.5")
	if asks("203.0.113.5") {
		t.Fatal("without a rule the answer arrives, too: this test shows nothing")
	}
	for _, local := range []string{"203.0.113.5", "203.0.113.77"} {
		address(local)
		h.pppd("ip-up", "ppp0", local, "192.0.2.1", "")
		h.unit()
		if !asks(local) {
			t.Errorf(
				"no answer from %s by its own link:\n%s",
				local,
				h.sh("ip rule; ip route show table 200; ip address"),
			)
		}
		if !asks("198.51.100.2") {
			t.Error("no answer by the other link")
		}
	}
	t.Log("check warns of rp_filter and of a table with another user")
	h.sh("ip rule add fwmark 7 lookup 200 priority 300; echo 1 >/proc/sys/net/ipv4/conf/ppp0/rp_filter")
	out, _ := exec.Command(h.program, "check").Output()
	for _, want := range []string{
		"ok    link ppp0, address 203.0.113.77",
		"FAIL  table 200 of link ppp0: a rule with the priority 300 leads to it that is not ours",
		"FAIL  rp_filter of ppp0: it is 1",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("check does not print %q:\n%s", want, out)
		}
	}
	if out := h.sh(h.program + " list"); !strings.Contains(out, "ppp0  up     203.0.113.77  192.0.2.1  200") {
		t.Errorf("list: %s", out)
	}
}

// TestLinksReconnects reconnects two hundred times with random addresses and kills runs at random moments. One run
// later there is one rule and one route.
func TestLinksReconnects(t *testing.T) {
	h := newLinkHost(t, "[link.ppp0]\ntable = 200\n")
	if h == nil {
		return
	}
	var local string
	for n := range 200 {
		local = fmt.Sprintf("203.0.113.%d", 1+rand.IntN(250))
		h.connect("ppp0", local, "192.0.2.1")
		if n%10 == 0 {
			h.pppd("ip-up", "ppp0", local, "192.0.2.1", "")
		}
		cmd := exec.Command(h.program, "links")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond) // the moment of the kill, not a wait
		if n%3 != 0 {
			cmd.Process.Kill()
		}
		cmd.Wait()
		if n%7 == 0 {
			h.sh("ip link del ppp0")
		}
	}
	h.connect("ppp0", local, "192.0.2.1")
	h.sh(h.program + " links")
	h.want("200: from " + local + " lookup 200 proto 116\ndefault via 192.0.2.1 dev ppp0 proto 116 onlink\n")
}

// BenchmarkLinksHook measures what pppd waits for.
func BenchmarkLinksHook(b *testing.B) {
	program := filepath.Join(b.TempDir(), "tunnelcast-updown")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	config := filepath.Join(b.TempDir(), "updown.toml")
	if err := os.WriteFile(config, []byte("[link.ppp0]\ntable = 200\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		cmd := exec.Command(program, "ppp0", "/dev/pts/1")
		cmd.Env = []string{"PPP_IFACE=ppp0"}
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}

// TestBindLinkNames lets names follow links on a real named.
func TestBindLinkNames(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b)
	ppp := func(addrs ...string) links.Host {
		l := links.Link{Name: "ppp0", Index: 5, Up: true, Device: true}
		for _, a := range addrs {
			l.Addresses = append(l.Addresses, links.Address{Addr: netip.MustParseAddr(a)})
		}
		return links.Host{Links: []links.Link{l}}
	}
	publish := func(section map[string]any, now links.Host) string {
		t.Helper()
		g.LinkSections.sections = map[string]any{"ppp0": section}
		sections, err := g.linkSections()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var texts []string
		for _, p := range g.publish(ctx, sections, now, false) {
			texts = append(texts, p.String())
		}
		return strings.Join(texts, "\n")
	}
	home := map[string]any{"name": "home.example"}
	none := g.zone()
	serial := func() uint32 {
		t.Helper()
		server, err := g.dnsServer()
		if err != nil {
			t.Fatal(err)
		}
		n, err := server.Serial(t.Context(), "example.")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}

	if said := publish(home, ppp("8.8.4.4", "2a00::1", "fe80::1")); said != "" {
		t.Error(said)
	}
	g.want("home A 8.8.4.4; home AAAA 2a00::1")
	before := serial()
	publish(home, ppp("8.8.4.4", "2a00::1", "fe80::1"))
	if after := serial(); after != before {
		t.Errorf("a name that is right was changed: serial %d, then %d", before, after)
	}
	if said := publish(home, ppp("1.1.1.1")); said != "" {
		t.Error(said)
	}
	g.want("home A 1.1.1.1; home AAAA 2a00::1")
	if said := publish(home, ppp("100.64.0.7")); !strings.Contains(
		said,
		"link.ppp0: 100.64.0.7 of ppp0, an address shared",
	) {
		t.Errorf("got %q", said)
	}
	g.want("home A 1.1.1.1; home AAAA 2a00::1")
	publish(home, links.Host{})
	g.want("home A 1.1.1.1; home AAAA 2a00::1")
	home["remove"] = true
	publish(home, links.Host{})
	g.want(none)
	publish(home, links.Host{}) // the zone's wildcard must not lead to a removal
	g.want(none)

	t.Log("a name that is an alias, and a server that is out of reach")
	if said := publish(map[string]any{"name": "www.example"}, ppp("8.8.4.4")); !strings.Contains(
		said,
		"www.example has a CNAME record",
	) {
		t.Errorf("got %q", said)
	}
	nobody := map[string]any{"name": "home.example", "server": "127.0.0.1:1"}
	if said := publish(nobody, ppp("8.8.4.4")); !strings.Contains(said, "connection refused") {
		t.Errorf("got %q", said)
	}
	t.Log("the zone's own name")
	if said := publish(map[string]any{"name": "example"}, ppp("8.8.4.4")); said != "" {
		t.Error(said)
	}
	if !strings.Contains(g.zone(), "example. A 8.8.4.4") {
		t.Errorf("got %s", g.zone())
	}
}

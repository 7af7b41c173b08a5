package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/lease"
)

// Our message is the same as that of bind9's nsupdate for the same operation: every
// section, and the key, algorithm and fudge of the signature.
func TestSameMessageAsNsupdate(t *testing.T) {
	nsupdate := tool(t, "bin/nsupdate")
	const secret = "bnN1cGRhdGUgYW5kIHdl"
	file := filepath.Join(t.TempDir(), "ddns.key")
	if err := os.WriteFile(file, []byte("key \"ddns\" {\n\talgorithm hmac-sha256;\n\tsecret \""+secret+"\";\n};\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ddns.ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}

	// A server that accepts every update and records it.
	received := make(chan *dns.Msg, 1)
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	recorder := &dns.Server{
		PacketConn:    p,
		TsigSecret:    map[string]string{"ddns.": secret},
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			if err := w.TsigStatus(); err != nil || m.IsTsig() == nil {
				t.Errorf("the signature is not good: %v", err)
			}
			reply := new(dns.Msg).SetReply(m)
			reply.SetTsig("ddns.", dns.HmacSHA256, 300, time.Now().Unix())
			if err := w.WriteMsg(reply); err != nil {
				t.Error(err)
			}
			received <- m
		}),
	}
	go func() { _ = recorder.ActivateAndServe() }()
	t.Cleanup(func() { _ = recorder.Shutdown() })
	host, port, err := net.SplitHostPort(p.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}

	addr := func(owner, text string) lease.RR { return lease.Address(owner, netip.MustParseAddr(text)) }
	const alice, reverse, ptr = "alice.example.", "0.0.10.in-addr.arpa.", "100.0.0.10.in-addr.arpa."
	pointer := func(to string) lease.RR { return lease.RR{Owner: ptr, Type: "PTR", Target: to} }
	for name, test := range map[string]struct {
		change   lease.Change
		nsupdate string
	}{
		"a new name": {
			lease.Change{Zone: "example.", Seen: []lease.Owner{{Name: alice}},
				Add: []lease.RR{addr(alice, "10.0.0.100")}},
			"prereq nxdomain alice.example.\nupdate add alice.example. 60 A 10.0.0.100\n",
		},
		"a new name of both families": {
			lease.Change{Zone: "example.", Seen: []lease.Owner{{Name: alice}},
				Add: []lease.RR{addr(alice, "10.0.0.100"), addr(alice, "fd00::100")}},
			"prereq nxdomain alice.example.\nupdate add alice.example. 60 A 10.0.0.100\nupdate add alice.example. " +
				"60 AAAA fd00::100\n",
		},
		"a second device": {
			lease.Change{Zone: "example.", Seen: []lease.Owner{{Name: alice, InUse: true,
				Holds: []lease.RR{addr(alice, "10.0.0.100")}}}, Add: []lease.RR{addr(alice, "10.0.0.101")}},
			"prereq yxrrset alice.example. A 10.0.0.100\nprereq nxrrset alice.example. AAAA\nprereq nxrrset " +
				"alice.example. PTR\n" +
				"prereq nxrrset alice.example. CNAME\nprereq nxrrset alice.example. DNAME\nprereq nxrrset " +
				"alice.example. NS\n" +
				"update add alice.example. 60 A 10.0.0.101\n",
		},
		"an address gone": {
			lease.Change{Zone: "example.", Remove: []lease.RR{addr(alice, "10.0.0.100"), addr(alice, "fd00::100")}},
			"update delete alice.example. A 10.0.0.100\nupdate delete alice.example. AAAA fd00::100\n",
		},
		"a pointer": {
			lease.Change{Zone: reverse, Seen: []lease.Owner{{Name: ptr}}, Add: []lease.RR{pointer(alice)}},
			"prereq nxdomain 100.0.0.10.in-addr.arpa.\nupdate add 100.0.0.10.in-addr.arpa. 60 PTR alice.example.\n",
		},
		"a pointer gone": {
			lease.Change{Zone: reverse, Remove: []lease.RR{pointer(alice)}},
			"update delete 100.0.0.10.in-addr.arpa. PTR alice.example.\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := &ddns.Server{Addr: p.LocalAddr().String(), Key: key}
			if err := server.Update(t.Context(), test.change, time.Minute); err != nil {
				t.Fatal(err)
			}
			ours := decoded(<-received)
			words := append(nsupdate, "-k", file)
			cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
			cmd.Stdin = strings.NewReader(fmt.Sprintf("server %s %s\nzone %s\n%ssend\n", host, port, test.change.Zone,
				test.nsupdate))
			var output bytes.Buffer
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Run(); err != nil {
				t.Fatalf("nsupdate: %v\n%s", err, output.String())
			}
			if theirs := decoded(<-received); ours != theirs {
				t.Errorf("ours\n%s\nnsupdate's\n%s", ours, theirs)
			}
		})
	}
}

// decoded returns a message as text, without ids and times.
func decoded(m *dns.Msg) string {
	m.Id = 0
	signature := m.IsTsig()
	signature.OrigId, signature.TimeSigned, signature.MAC = 0, 0, ""
	return m.String()
}

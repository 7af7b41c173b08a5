package charon

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"tunnelcast/internal/lease"
	"tunnelcast/internal/session"
	"tunnelcast/internal/vici"
)

// ikeSA holds what is read of one IKE_SA (list_ike in
// src/libcharon/plugins/vici/vici_query.c). The slices are parts of the message.
type ikeSA struct {
	connection  []byte
	id          []byte // charon's number
	state       []byte
	remoteHost  []byte
	remoteID    []byte
	eapID       []byte
	xauthID     []byte
	established []byte // how many seconds ago
	vips        [][]byte
	children    []childSA
}

// childSA holds what is read of one CHILD_SA (list_child in the same file).
type childSA struct {
	id, reqID []byte // charon's numbers
	in, out   []byte // how many bytes
	lastIn    []byte // how many seconds ago; nil if there was no packet
	lastOut   []byte
}

// read reads the IKE_SAs of one list-sa event one after the other into sa and calls each
// for every one. CHILD_SAs are read only if children is set. Reading all events of a
// list into one sa saves allocations.
func (sa *ikeSA) read(message vici.Message, children bool, each func() error) error {
	for e, err := range message.Elements() {
		switch {
		case err != nil:
			return err
		case e.Depth == 0 && e.Kind == vici.SectionStart:
			*sa = ikeSA{connection: e.Key, vips: sa.vips[:0], children: sa.children[:0]}
		case e.Depth == 0 && e.Kind == vici.SectionEnd:
			if err := each(); err != nil {
				return fmt.Errorf("connection %s: %w", sa.connection, err)
			}
		case e.Depth == 1:
			sa.set(e)
		case e.Depth == 2 && e.Kind == vici.SectionStart && children: // in child-sas
			sa.children = append(sa.children, childSA{})
		case e.Depth == 3 && children:
			sa.children[len(sa.children)-1].set(e)
		}
	}
	return nil
}

func (sa *ikeSA) set(e vici.Element) {
	switch string(e.Key) {
	case "uniqueid":
		sa.id = e.Value
	case "state":
		sa.state = e.Value
	case "remote-host":
		sa.remoteHost = e.Value
	case "remote-id":
		sa.remoteID = e.Value
	case "remote-eap-id":
		sa.eapID = e.Value
	case "remote-xauth-id":
		sa.xauthID = e.Value
	case "established":
		sa.established = e.Value
	case "remote-vips":
		if e.Kind == vici.ListItem {
			sa.vips = append(sa.vips, e.Value)
		}
	}
}

func (sa *childSA) set(e vici.Element) {
	switch string(e.Key) {
	case "uniqueid":
		sa.id = e.Value
	case "reqid":
		sa.reqID = e.Value
	case "bytes-in":
		sa.in = e.Value
	case "bytes-out":
		sa.out = e.Value
	case "use-in":
		sa.lastIn = e.Value
	case "use-out":
		sa.lastOut = e.Value
	}
}

// liveStates are the states in which an IKE_SA has its virtual IPs. A rekeyed one
// lists none, because its successor has them; one that is being deleted returns them.
var liveStates = []string{"ESTABLISHED", "REKEYING", "REKEYED"}

// live reports whether the IKE_SA is live and has virtual IPs.
func (sa *ikeSA) live() bool {
	return len(sa.vips) > 0 && slices.Contains(liveStates, string(sa.state))
}

func (sa *ikeSA) lease(now time.Time) (l lease.Lease, err error) {
	l.Connection = string(sa.connection)
	l.Remote = string(sa.remoteHost)
	// charon sends an EAP or XAuth identity only if it differs from the IKE identity.
	l.Identity = lease.Identity(string(sa.eapID), string(sa.xauthID), string(sa.remoteID))
	if l.Established, err = ago("established", sa.established, now); err != nil {
		return l, err
	}
	for _, text := range sa.vips {
		addr, err := netip.ParseAddr(string(text))
		if err != nil || addr.Zone() != "" {
			return l, fmt.Errorf("virtual IP %q is not an address", text)
		}
		l.Addresses = append(l.Addresses, addr.Unmap())
	}
	return l, nil
}

func (sa *childSA) child(now time.Time) (c session.Child, err error) {
	c.ID, c.ReqID = string(sa.id), string(sa.reqID)
	var errs [4]error
	c.In, errs[0] = number("bytes-in", sa.in)
	c.Out, errs[1] = number("bytes-out", sa.out)
	c.LastIn, errs[2] = ago("use-in", sa.lastIn, now)
	c.LastOut, errs[3] = ago("use-out", sa.lastOut, now)
	return c, cmp.Or(errs[:]...)
}

// number returns the value of a key, or 0 if there is none.
func number(key string, value []byte) (uint64, error) {
	if len(value) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a number", key, value)
	}
	return n, nil
}

// ago returns the time that is as many seconds before now as the value of a key, or the
// zero time if there is none.
//
// charon may read its clock before it asks the kernel when the last packet came. It
// sends the difference unsigned, so that -1 arrives as 1<<64 - 1.
func ago(key string, value []byte, now time.Time) (time.Time, error) {
	if len(value) == 0 {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		var unsigned uint64
		if unsigned, err = number(key, value); err != nil {
			return time.Time{}, err
		}
		n = int64(unsigned)
	}
	const most = math.MaxInt64 / int64(time.Second) // seconds in a time.Duration
	return now.Add(-time.Duration(min(max(n, 0), most)) * time.Second), nil
}

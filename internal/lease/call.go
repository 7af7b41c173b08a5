package lease

import (
	"fmt"
	"net/netip"
)

// Verb is what happened to a client, as far as names are concerned.
type Verb int

// The verbs. Other is any event besides up and down.
const (
	Other Verb = iota
	Up
	Down
)

// Call is one call of the hook by charon.
type Call struct {
	Verb      Verb
	Identity  string
	Addresses []netip.Addr // all virtual IPs, of both families, in every call
	SA        string       // charon's number of the IKE_SA; equal in all calls of one connect
	Child     string       // the name of the CHILD_SA's configuration
}

// ReadCall reads the PLUTO_* variables of strongSwan's updown plugin
// (src/libcharon/plugins/updown/updown_listener.c). It ignores PLUTO_PEER_CLIENT,
// which is one traffic selector and may be the client's own LAN.
func ReadCall(getenv func(string) string) (Call, error) {
	c := Call{
		// charon has either the EAP or the XAuth identity in PLUTO_XAUTH_ID.
		Identity: Identity(getenv("PLUTO_XAUTH_ID"), "", getenv("PLUTO_PEER_ID")),
		SA:       getenv("PLUTO_UNIQUEID"),
		Child:    getenv("PLUTO_CONNECTION"),
	}
	switch getenv("PLUTO_VERB") {
	case "up-host", "up-client", "up-host-v6", "up-client-v6":
		c.Verb = Up
	case "down-host", "down-client", "down-host-v6", "down-client-v6":
		c.Verb = Down
	}
	for _, family := range []string{"PLUTO_PEER_SOURCEIP4_", "PLUTO_PEER_SOURCEIP6_"} {
		// charon numbers them from 1 and sets at most 127 variables.
		for n := 1; n < 128; n++ {
			variable := fmt.Sprint(family, n)
			text := getenv(variable)
			if text == "" {
				break
			}
			addr, err := netip.ParseAddr(text)
			if err != nil || addr.Zone() != "" {
				return c, fmt.Errorf("read %s: %q is not an address", variable, text)
			}
			c.Addresses = append(c.Addresses, addr.Unmap())
		}
	}
	return c, nil
}

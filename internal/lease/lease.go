// Package lease decides which names VPN clients have. A lease is an identity and the
// virtual IPs that charon assigned to it. The zones should hold exactly the live
// leases; only addresses inside the gateway's own pools may be added to them or
// removed.
//
// All functions take and return plain values. Other packages ask charon, read the
// zones and send updates.
package lease

import (
	"cmp"
	"net/netip"
	"strings"
	"time"
)

// Lease is an IKE_SA of a client with virtual IPs.
type Lease struct {
	Identity    string // as charon prints it: up to 511 bytes, chosen by the peer
	Addresses   []netip.Addr
	Established time.Time // zero if charon does not report it
	Remote      string    // the client's outer address
	Connection  string
}

// Identity returns the identity that a client is known by: the one that it proved
// by EAP, otherwise by XAuth, otherwise that of its IKE_SA. Each may be "". The
// hook and sync must agree on it, so nothing else decides this.
func Identity(eap, xauth, ike string) string { return cmp.Or(eap, xauth, ike) }

// SameIdentity reports whether two identities are equal to charon. It compares names
// and e-mail addresses without regard to case (equals_strcasecmp in
// src/libstrongswan/utils/identification.c) and opaque identities exactly. Opaque is
// a string with a colon and no "@", and one with a "=" that is not a distinguished
// name (identification_create_from_string there). In distinguished names charon
// ignores the case of some strings; this function ignores it in none.
func SameIdentity(a, b string) bool { return IdentityKey(a) == IdentityKey(b) }

// IdentityKey returns a string that is equal for two identities if SameIdentity is true.
func IdentityKey(identity string) string {
	if strings.Contains(identity, "=") || strings.Contains(identity, ":") && !strings.Contains(identity, "@") {
		return identity
	}
	return lower(identity)
}

package charon

import (
	"testing"
	"time"
)

// Whatever charon sends, a lease has addresses, and they can be in a zone.
func FuzzLeases(f *testing.F) {
	f.Fuzz(func(t *testing.T, message []byte) {
		leases, err := appendLeases(nil, new(ikeSA), message, time.Unix(1_800_000_000, 0))
		if err != nil {
			return
		}
		for _, l := range leases {
			if len(l.Addresses) == 0 {
				t.Fatalf("%v has no address", l)
			}
			for _, addr := range l.Addresses {
				if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" {
					t.Fatalf("%v has the address %v", l, addr)
				}
			}
		}
	})
}

// Whatever charon sends, a pool is a range.
func FuzzPools(f *testing.F) {
	f.Fuzz(func(t *testing.T, message []byte) {
		pools, err := readPools(message)
		if err != nil {
			return
		}
		for _, r := range pools {
			if !r.First.IsValid() || r.First.BitLen() != r.Last.BitLen() || r.Last.Less(r.First) {
				t.Fatalf("%v is not a range", r)
			}
		}
	})
}

func FuzzCertificate(f *testing.F) {
	f.Fuzz(func(t *testing.T, message []byte) {
		c, err := readCertificate(message)
		if len(c.DER) > len(message) || err != nil && (c.DER != nil || c.HasKey) {
			t.Fatalf("%d bytes of DER in %d, error %v", len(c.DER), len(message), err)
		}
	})
}

// Whatever charon sends, every IKE_SA is counted, and those that are live are the leases.
func FuzzSessions(f *testing.F) {
	f.Fuzz(func(t *testing.T, message []byte) {
		now := time.Unix(1_800_000_000, 0)
		sessions := Sessions{States: map[string]int{}}
		if err := sessions.read(message, now); err != nil {
			return
		}
		leases, err := appendLeases(nil, new(ikeSA), message, now)
		if err != nil || len(leases) != len(sessions.Live) {
			t.Fatalf("%d sessions, %d leases, error %v", len(sessions.Live), len(leases), err)
		}
		for _, sa := range sessions.Live {
			for _, child := range sa.Children {
				if child.LastIn.After(now) || child.LastOut.After(now) {
					t.Fatalf("a packet in the future: %+v", child)
				}
			}
		}
	})
}

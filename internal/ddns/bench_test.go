package ddns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tunnelcast/internal/lease"
)

// BenchmarkUpdate makes the signed messages of an update without sending them: that of one hook, and those of
// a sync that adds a thousand names.
func BenchmarkUpdate(b *testing.B) {
	for _, names := range []int{1, 1000} {
		change := lease.Change{Zone: "example."}
		for n := range names {
			owner := fmt.Sprintf("client%d.example.", n)
			change.Seen = append(change.Seen, lease.Owner{Name: owner})
			addr := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
			change.Add = append(change.Add, lease.Address(owner, addr))
		}
		for _, key := range []*Key{nil, {Name: "local-ddns.", Algorithm: "hmac-sha256", secret: "c2VjcmV0"}} {
			signed := "signed"
			if key == nil {
				signed = "unsigned"
			}
			b.Run(fmt.Sprintf("%d names, %s", names, signed), func(b *testing.B) {
				server := &Server{Key: key}
				b.ReportAllocs()
				for b.Loop() {
					for _, part := range split(change) {
						if _, _, err := server.sign(part.message(change.Zone, time.Minute)()); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

package rotation_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"tunnelcast/internal/rotation"
)

// A host whose certificate cannot be served gets a reason, and no steps.
func ExampleDecide_invalid() {
	const path = "/etc/letsencrypt/live/vpn/cert.pem"
	cert := &rotation.File{Path: path, Hops: []string{path}}
	host := &rotation.Snapshot{
		Dir:      "/etc/swanctl",
		Unit:     "strongswan.service",
		Sections: []rotation.Section{{Connection: "rw", Identity: "vpn.example", Certs: []*rotation.File{cert}}},
		Charon:   &rotation.Charon{Connections: []string{"rw"}},
	}
	vpn := &rotation.Lineage{
		Dir:   "/etc/letsencrypt/live/vpn",
		Dirs:  []string{"/etc/letsencrypt/live/vpn"},
		Fault: errors.New("privkey.pem does not belong to cert.pem"),
	}
	plan := rotation.Decide(host, vpn, time.Now())
	fmt.Println(plan.Reason, len(plan.Steps))
	// Output: privkey.pem does not belong to cert.pem 0
}

// A lineage that no connection names is not charon's.
func ExampleDecide_unused() {
	host := &rotation.Snapshot{Dir: "/etc/swanctl"}
	www := &rotation.Lineage{Dir: "/etc/letsencrypt/live/www", Dirs: []string{"/etc/letsencrypt/live/www"}}
	fmt.Print(rotation.Decide(host, www, time.Now()))
	// Output: because charon does not use this lineage
}

// A step prints as the dry run shows it.
func ExampleStep_String() {
	old := &x509.Certificate{
		Subject:      pkix.Name{CommonName: "vpn.example"},
		SerialNumber: big.NewInt(0x4f2a),
		NotAfter:     time.Date(2026, 12, 24, 12, 0, 0, 0, time.UTC),
	}
	fmt.Println(rotation.Step{Action: rotation.LoadConnection, Name: "rw"})
	fmt.Println(rotation.Step{Action: rotation.UnloadKey, Name: "1c52d2", Cert: old})
	// Output:
	// load-conn      rw
	// unload-key     1c52d2: vpn.example (serial 4f2a, until 2026-12-24 12:00Z)
}

// The name of an issuer's file leads back to its lineage.
func ExampleIssuerOf() {
	fmt.Println(rotation.IssuerOf("tunnelcast-vpn.example-1.pem"))
	// Output: vpn.example
}

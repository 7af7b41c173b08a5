package lineage_test

import (
	"crypto/x509"
	"fmt"
	"testing/fstest"

	"tunnelcast/internal/lineage"
)

// An error names the file and what is wrong with it.
func ExampleRead() {
	live := fstest.MapFS{
		"fullchain.pem": {Data: []byte("-----BEGIN CERTIFICATE-----\nMIIB")},
		"privkey.pem":   {Data: []byte("")},
	}
	_, err := lineage.Read(live)
	fmt.Println(err)
	// Output: fullchain.pem: damaged or truncated: 0 of 1 PEM blocks are complete
}

// A certificate serves a connection if it has the connection's identity.
func ExampleHolds() {
	cert := &x509.Certificate{DNSNames: []string{"vpn.example", "*.wild.example"}}
	for _, identity := range []string{"vpn.example", "@a.wild.example", "www.example"} {
		fmt.Println(identity, lineage.Holds(cert, identity) == nil)
	}
	// Output:
	// vpn.example true
	// @a.wild.example true
	// www.example false
}

package swanctl_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"tunnelcast/internal/swanctl"
)

func ExampleRead() {
	dir, err := os.MkdirTemp("", "swanctl")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	err = os.WriteFile(filepath.Join(dir, "swanctl.conf"), []byte(`
guide { local { certs = /etc/letsencrypt/live/vpn.example/cert.pem } }
connections {
	vpn : guide { local { id = vpn.example } }
}`), 0o600)
	if err != nil {
		log.Fatal(err)
	}
	conf, err := swanctl.Read(dir)
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range conf.LocalAuths() {
		fmt.Println(a.Connection, a.Identity, a.Certs)
	}
	// Output: vpn vpn.example [/etc/letsencrypt/live/vpn.example/cert.pem]
}

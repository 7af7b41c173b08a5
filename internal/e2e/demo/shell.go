package main

import (
	"fmt"
	"os"
	"strings"

	"tunnelcast/internal/e2e/box"
)

// shell installs the package, connects a device, and lets the person at the terminal work on the gateway.
func (t *story) shell(deb string) error {
	t.chapter("tunnelcast is installed, and a client connects")
	if err := t.install(deb); err != nil {
		return err
	}
	laptop, err := t.connect("laptop", "alice")
	if err != nil {
		return err
	}
	t.chapter("A shell on the gateway")
	enter := func(words []string) string { return strings.Join(words, " ") + " bash" }
	dig := fmt.Sprintf("dig @%s +short alice.%s", box.Inside, box.Zone)
	t.show("", fmt.Sprintf(`You are root on %s. alice is connected, from a device of her own. For example:
  tunnelcast-updown list             who is connected, and under which name
  tunnelcast-updown check            is this host ready? The other three programs have it too
  %-33s  what the name server answers
  journalctl -t tunnelcast-updown    what the hook and sync did
  certbot renew --force-renewal      renews the certificate and calls certhook
  ls -l %-27s  the recordings: none yet

Another shell on the gateway, for root in another terminal of this computer:
  %s
A shell on alice's device, on which swanctl --terminate --ike vpn disconnects it:
  %s

exit or Ctrl-D ends this shell and removes the server.
`, box.Name, dig, box.Archive, enter(t.box.Gateway.Enter()), enter(laptop.Enter())))
	return t.box.Gateway.Shell(t.ctx, os.Stdin)
}

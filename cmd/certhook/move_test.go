package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tunnelcast/internal/lineage"
	"tunnelcast/internal/lineage/lineagetest"
)

// A tunnel that comes up between the decision and its step is not closed: the connection
// keeps its earlier certificate, and the key of that stays.
func TestTunnelThatComesUpMeanwhile(t *testing.T) {
	dir := t.TempDir()
	swanctl := filepath.Join(dir, "swanctl")
	authority := lineagetest.NewAuthority(t, "CA", 1)
	before, after := authority.Renew(t, identity), authority.Renew(t, identity)
	before.Save(t, filepath.Join(dir, "le"), "vpn", 1)
	live := after.Save(t, filepath.Join(dir, "le"), "vpn", 2)
	conf := fmt.Sprintf("connections { site { local { certs = %s/cert.pem\n id = %s }\n"+
		" children { lan { start_action = start } } } }\n", live, identity)
	err := errors.Join(os.MkdirAll(filepath.Join(swanctl, "private"), 0o755),
		os.WriteFile(filepath.Join(swanctl, "swanctl.conf"), []byte(conf), 0o600),
		os.WriteFile(filepath.Join(swanctl, "private", "vpn.pem"), after["privkey.pem"], 0o600))
	oldKey, err1 := lineage.ParseKey(before["privkey.pem"])
	newKey, err2 := lineage.ParseKey(after["privkey.pem"])
	if err := errors.Join(err, err1, err2); err != nil {
		t.Fatal(err)
	}
	asked := 0
	charon := &fakeCharon{
		leaves: [][]byte{before["cert.pem"]}, others: after["chain.pem"], connections: []string{"site"},
		keys: []string{oldKey.ID()}, loads: newKey.ID(),
		up: func() bool { asked++; return asked > 1 },
	}
	_, err = runCerthook(t, charon.start(t), swanctl, "deploy", "--lineage", live)
	if wantError(t, err, 3, "because its tunnel came up during this run"); !has(err, leftUndone) {
		t.Errorf("the error %v has another event", err)
	}
	if got, want := charon.commands(), "load-key load-authority flush-certs"; got != want {
		t.Errorf("charon got %q, want %q", got, want)
	}
}

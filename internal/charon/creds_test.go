package charon

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// govici would lose packets above 128 here.
func TestCertificatesAreComplete(t *testing.T) {
	const n = 5000
	var events []vici.Message
	for i := range n {
		fields := []vici.Field{vici.Value("data", fmt.Sprintf("\x30\x82\x00%d", i))}
		if i%2 == 1 {
			fields = append(fields, vici.Value("has_privkey", "yes"))
		}
		events = append(events, vicitest.Message(fields...))
	}
	s := answers{"list-certs": {Events: events}}.session(t)
	for range 2 { // the second call must see nothing of the first
		certs, err := s.Certificates(t.Context())
		if err != nil || len(certs) != n {
			t.Fatalf("got %d certificates of %d, error %v", len(certs), n, err)
		}
		for i, c := range certs {
			if string(c.DER) != fmt.Sprintf("\x30\x82\x00%d", i) || c.HasKey != (i%2 == 1) {
				t.Fatalf("certificate %d is %q, key %v", i, c.DER, c.HasKey)
			}
		}
	}
}

func TestKeysAndConnections(t *testing.T) {
	s := answers{
		"load-key":       response(vici.Value("success", "yes"), vici.Value("id", "0123")),
		"get-keys":       response(vici.List("keys", "0123", "4567")),
		"get-conns":      response(vici.List("conns", "rw")),
		"load-cert":      response(vici.Value("success", "yes")),
		"load-authority": response(vici.Value("success", "yes")),
		"unload-key":     response(vici.Value("success", "no"), vici.Value("errmsg", "key not found")),
	}.session(t)
	ctx := t.Context()
	if id, err := s.LoadKey(ctx, []byte("PEM")); err != nil || id != "0123" {
		t.Errorf("LoadKey: %q, %v", id, err)
	}
	if ids, err := s.Keys(ctx); err != nil || !slices.Equal(ids, []string{"0123", "4567"}) {
		t.Errorf("Keys: %q, %v", ids, err)
	}
	if names, err := s.Connections(ctx); err != nil || !slices.Equal(names, []string{"rw"}) {
		t.Errorf("Connections: %q, %v", names, err)
	}
	der := []byte("DER")
	if err := errors.Join(s.LoadIssuer(ctx, "ca", der), s.LoadCertificate(ctx, der)); err != nil {
		t.Error(err)
	}
	err := s.UnloadKey(ctx, "89")
	if want := "charon unload-key: refused: key not found"; err == nil || err.Error() != want {
		t.Errorf("UnloadKey: %v, want %s", err, want)
	}
}

// A list that charon refuses is an error, not an empty list.
func TestRefusedList(t *testing.T) {
	refusal := response(vici.Value("success", "no"), vici.Value("errmsg", "not today"))
	certs, err := answers{"list-certs": refusal}.session(t).Certificates(t.Context())
	if want := "charon list-certs: refused: not today"; err == nil || err.Error() != want {
		t.Errorf("%d certificates, error %v, want %s", len(certs), err, want)
	}
}

package charon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// govici's own streaming call loses packets above 128 here.
func TestCertificatesLosesNone(t *testing.T) {
	const n = 5000
	f := &fake{events: map[string][][]byte{}}
	for i := range n {
		e := value("data", fmt.Sprintf("\x30\x82\x00%d", i))
		if i%2 == 1 {
			e = append(e, value("has_privkey", "yes")...)
		}
		f.events["list-certs"] = append(f.events["list-certs"], e)
	}
	s := f.start(t)
	for range 2 { // the second call sees nothing of the first
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
	s := (&fake{answer: map[string][]byte{
		"load-key":       append(value("success", "yes"), value("id", "0123")...),
		"get-keys":       list("keys", "0123", "4567"),
		"get-conns":      list("conns", "rw"),
		"load-cert":      value("success", "yes"),
		"load-authority": value("success", "yes"),
		"unload-key":     append(value("success", "no"), value("errmsg", "key not found")...),
	}}).start(t)
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
	if err := errors.Join(s.LoadIssuer(ctx, "ca", []byte("DER")), s.LoadCertificate(ctx, []byte("DER"))); err != nil {
		t.Error(err)
	}
	if err := s.UnloadKey(ctx, "89"); err == nil || !strings.HasPrefix(err.Error(), "charon unload-key: ") || !strings.Contains(err.Error(), "key not found") {
		t.Errorf("UnloadKey: %v", err)
	}
}

// A call says what ended it: charon that does not answer, or the run.
func TestAnEndedRunIsNoSilence(t *testing.T) {
	s := (&fake{silent: true}).start(t)
	stopped := errors.New("stopped by the signal terminated")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	_, listErr := s.Certificates(ctx)
	_, keysErr := s.Keys(ctx)
	for name, err := range map[string]error{"list-certs": listErr, "get-keys": keysErr, "load-cert": s.LoadCertificate(ctx, nil)} {
		if !errors.Is(err, stopped) || strings.Contains(err.Error(), "within") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingListens(t *testing.T) {
	if _, err := Dial(t.Context(), t.TempDir()+"/none"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}

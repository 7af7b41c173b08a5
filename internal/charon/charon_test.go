package charon

import (
	"context"
	"errors"
	"strings"
	"testing"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// answers is a charon with these answers, by command.
type answers map[string]vicitest.Answer

// session connects to the charon that gives these answers.
func (a answers) session(t testing.TB) *Session {
	t.Helper()
	return dial(t, &vicitest.Server{Handle: func(command string, _ vici.Message) (vicitest.Answer, bool) {
		answer, ok := a[command]
		return answer, ok
	}})
}

func dial(t testing.TB, charon *vicitest.Server) *Session {
	t.Helper()
	s, err := Dial(t.Context(), vicitest.Start(t, charon))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func response(fields ...vici.Field) vicitest.Answer {
	return vicitest.Answer{Response: vicitest.Message(fields...)}
}

// silent is a charon that receives commands and never answers.
func silent(t *testing.T) *vicitest.Server {
	return &vicitest.Server{Handle: func(string, vici.Message) (vicitest.Answer, bool) {
		<-t.Context().Done()
		return vicitest.Answer{}, false
	}}
}

// A call that was stopped says who stopped it, not that charon is slow.
func TestStopped(t *testing.T) {
	s := dial(t, silent(t))
	stopped := errors.New("stopped by the signal terminated")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	_, listErr := s.Certificates(ctx)
	_, keysErr := s.Keys(ctx)
	for name, err := range map[string]error{
		"list-certs": listErr, "get-keys": keysErr, "load-cert": s.LoadCertificate(ctx, nil),
	} {
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

package charon

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// A call that charon does not answer says so, and for how long it waited. In the
// bubble, the five seconds pass at once.
func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe() // of which the bubble knows that everybody waits
		defer far.Close()
		s := &Session{client: vici.NewClient(near)}
		go vici.NewReader(far).Next()
		start := time.Now()
		_, err := s.Keys(t.Context())
		want := "charon get-keys: no answer within 5s: context deadline exceeded"
		if !errors.Is(err, context.DeadlineExceeded) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if waited := time.Since(start); waited != callTime {
			t.Errorf("waited %s", waited)
		}
	})
}

// After a call that failed, the next one connects again. What undoes the steps of a
// switch needs that.
func TestReconnects(t *testing.T) {
	keys := response(vici.List("keys", "0123"))
	server := &vicitest.Server{
		Handle: func(string, vici.Message) (vicitest.Answer, bool) { return keys, true },
		Cut:    func(connection, _ int) bool { return connection == 1 },
	}
	s := dial(t, server)
	if ids, err := s.Keys(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of a charon that ends: %q, %v", ids, err)
	}
	if ids, err := s.Keys(t.Context()); err != nil || len(ids) != 1 || server.Connections() != 2 {
		t.Errorf("of the next: %q, %v, on connection %d", ids, err, server.Connections())
	}
}

func TestNothingListens(t *testing.T) {
	if _, err := Dial(t.Context(), t.TempDir()+"/none"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}

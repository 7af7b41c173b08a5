package vici_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

func dial(t testing.TB, server *vicitest.Server) *vici.Client {
	t.Helper()
	conn, err := net.Dial("unix", vicitest.Start(t, server))
	if err != nil {
		t.Fatal(err)
	}
	c := vici.NewClient(conn)
	t.Cleanup(func() { c.Close() })
	return c
}

// charon knows version, fails reload-settings, and lists so many SAs.
func charon(sas int) *vicitest.Server {
	return &vicitest.Server{Handle: func(command string, request vici.Message) (answer vicitest.Answer, ok bool) {
		switch command {
		case "version":
			answer.Response = vicitest.Message(vici.Value("version", "5.9.8"))
		case "reload-settings":
			answer.Response = vicitest.Message(vici.Value("success", "no"), vici.Value("errmsg", "no such file"))
		case "flush-certs":
			answer.Response = vicitest.Message(vici.Value("success", "no"))
		case "list-sas":
			for i := range sas {
				answer.Events = append(answer.Events, vicitest.SA(i))
			}
			if uniqueid, _ := request.Value("ike-id"); uniqueid == "0" {
				answer.Response = vicitest.Message(vici.Value("success", "no"), vici.Value("errmsg", "no such SA"))
			}
		default:
			return answer, false
		}
		return answer, true
	}}
}

func version(ctx context.Context, c *vici.Client) (string, error) {
	response, err := c.Call(ctx, "version", nil)
	if err != nil {
		return "", err
	}
	return response.Value("version")
}

// A command that charon refuses or does not know leaves the connection usable.
func TestCall(t *testing.T) {
	c := dial(t, charon(2))
	for command, want := range map[string]string{
		"reload-settings": "refused: no such file",
		"restart":         "refused: charon has no such command",
		"flush-certs":     "refused: charon reports no reason",
	} {
		_, err := c.Call(t.Context(), command, nil)
		if !errors.Is(err, vici.ErrRefused) || err.Error() != want {
			t.Errorf("%s: got %v, want %s", command, err, want)
		}
		if got, err := version(t.Context(), c); err != nil || got != "5.9.8" {
			t.Errorf("after %s: version %q, error %v", command, got, err)
		}
	}
	request := vicitest.Message(vici.Value("ike-id", "0"))
	err := c.Stream(t.Context(), "list-sas", "list-sa", request, func(vici.Message) error { return nil })
	if !errors.Is(err, vici.ErrRefused) || err.Error() != "refused: no such SA" {
		t.Errorf("list-sas: %v", err)
	}
	if got, err := version(t.Context(), c); err != nil || got != "5.9.8" {
		t.Errorf("after list-sas: version %q, error %v", got, err)
	}
}

// A list is whole although charon sends faster than the caller reads. govici loses
// everything above 128 packets here.
func TestStreamLosesNothing(t *testing.T) {
	const sas = 5000
	c := dial(t, charon(sas))
	for range 2 { // the second call sees nothing of the first
		got := 0
		err := c.Stream(t.Context(), "list-sas", "list-sa", nil, func(m vici.Message) error {
			if string(m) != string(vicitest.SA(got)) {
				return fmt.Errorf("event %d is %q", got, m)
			}
			got++
			return nil
		})
		if err != nil || got != sas {
			t.Fatalf("got %d SAs of %d, error %v", got, sas, err)
		}
	}
}

// What the caller cannot use ends the list with the caller's error.
func TestStreamStops(t *testing.T) {
	c := dial(t, charon(3))
	stop := errors.New("not an SA")
	if err := c.Stream(t.Context(), "list-sas", "list-sa", nil, func(vici.Message) error { return stop }); err != stop {
		t.Errorf("got %v", err)
	}
	if _, err := version(t.Context(), c); err == nil {
		t.Error("the connection is still used, with half a list on it")
	}
}

// Wherever the connection ends, the list is an error.
func TestCutStream(t *testing.T) {
	for packet := range 5 { // a confirmation, two events, the response, a confirmation
		server := charon(2)
		server.Cut = func(_, sent int) bool { return sent > packet }
		err := dial(t, server).Stream(t.Context(), "list-sas", "list-sa", nil, func(vici.Message) error { return nil })
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d packets: %v", packet, err)
		}
	}
}

// A call ends when its context does, and says why.
func TestContextEnds(t *testing.T) {
	server := &vicitest.Server{Handle: func(string, vici.Message) (vicitest.Answer, bool) {
		<-t.Context().Done() // as while an updown hook holds charon
		return vicitest.Answer{}, true
	}}
	why := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, why)
	defer cancel()
	c := dial(t, server)
	if _, err := version(ctx, c); err != why {
		t.Errorf("got %v", err)
	}
	if _, err := version(t.Context(), c); err == nil {
		t.Error("the connection is still used, with a response to come on it")
	}
}

// hostile is a server that answers any first packet by these bytes, and ends.
func hostile(t *testing.T, answer string) *vici.Client {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close() })
	go func() {
		defer far.Close()
		if _, err := vici.NewReader(far).Next(); err == nil {
			io.WriteString(far, answer)
		}
	}()
	return vici.NewClient(near)
}

func TestUnexpectedAnswers(t *testing.T) {
	const fourGiB = "invalid packet length 4294967295: VICI allows 1 to 524288 bytes"
	for name, test := range map[string]struct{ answer, want string }{
		"nothing":             {"", "unexpected EOF"},
		"an event":            {"\x00\x00\x00\x03\x07\x01x", "unexpected packet of type 7 in reply to version"},
		"a confirmation":      {"\x00\x00\x00\x01\x05", "unexpected packet of type 5 in reply to version"},
		"a request":           {"\x00\x00\x00\x03\x00\x01x", "unexpected packet of type 0 in reply to version"},
		"an unknown type":     {"\x00\x00\x00\x01\xff", "unexpected packet of type 255 in reply to version"},
		"no type":             {"\x00\x00\x00\x00", "invalid packet length 0: VICI allows 1 to 524288 bytes"},
		"a packet of 4 GiB":   {"\xff\xff\xff\xff\x01", fourGiB},
		"half a length":       {"\x00\x00", "unexpected EOF"},
		"half a packet":       {"\x00\x00\x00\x09\x01", "unexpected EOF"},
		"a name that is cut":  {"\x00\x00\x00\x02\x07\x09", "malformed VICI packet: it ends within its name"},
		"a malformed message": {"\x00\x00\x00\x02\x01\x02", "malformed VICI message"},
	} {
		if got, err := version(t.Context(), hostile(t, test.answer)); err == nil || err.Error() != test.want {
			t.Errorf("%s: version %q, error %v, want %s", name, got, err, test.want)
		}
	}
	err := hostile(t, "\x00\x00\x00\x01\x06").Stream(t.Context(), "list-sas", "list-sa", nil, nil)
	if !errors.Is(err, vici.ErrRefused) || !strings.Contains(err.Error(), "list-sa") {
		t.Errorf("an unknown event: %v", err)
	}
}

// A request that charon would drop without an answer is not sent.
func TestRefusedRequests(t *testing.T) {
	c := dial(t, charon(0))
	if _, err := c.Call(t.Context(), "", nil); err == nil || !strings.Contains(err.Error(), `invalid name ""`) {
		t.Errorf("no command: %v", err)
	}
	c = dial(t, charon(0))
	_, err := c.Call(t.Context(), "load-conn", make(vici.Message, 512<<10))
	if err == nil || err.Error() != "packet too long: 524299 bytes, VICI allows 524288" {
		t.Errorf("a large message: %v", err)
	}
}

package charon

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

func TestSessions(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	child := func(id string, more ...vici.Field) vici.Field {
		fields := []vici.Field{vici.Value("name", "net"), vici.Value("uniqueid", id), vici.Value("reqid", "1"),
			vici.Value("state", "INSTALLED"), vici.List("local-ts", "0.0.0.0/0")}
		return vici.Section("net-"+id, append(fields, more...)...)
	}
	sa := func(id, state string, more ...vici.Field) vici.Message {
		fields := []vici.Field{vici.Value("uniqueid", id), vici.Value("state", state),
			vici.Value("remote-host", "198.51.100.1"), vici.Value("remote-id", "x"),
			vici.Value("remote-eap-id", "alice"), vici.Value("established", "60")}
		return vicitest.Message(vici.Section("vpn", append(fields, more...)...))
	}
	vips := vici.List("remote-vips", "10.0.0.100")
	s := answers{"list-sas": {Events: []vici.Message{
		sa("7", "ESTABLISHED", vips, vici.Section("child-sas",
			child("3", vici.Value("bytes-in", "100"), vici.Value("use-in", "5"),
				vici.Value("bytes-out", "200"), vici.Value("use-out", "4")),
			child("4", vici.Value("bytes-in", "0"), vici.Value("bytes-out", "0")),
			child("5", vici.Value("use-in", "18446744073709551615")))), // a packet since charon read its clock
		sa("8", "DELETING", vips),
		sa("9", "ESTABLISHED"), // site to site
	}}}.session(t)
	got, err := s.Sessions(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	if want := "map[DELETING:1 ESTABLISHED:2]"; fmt.Sprint(got.States) != want {
		t.Errorf("states %v, want %s", got.States, want)
	}
	if len(got.Live) != 1 {
		t.Fatalf("got %+v", got.Live)
	}
	live := got.Live[0]
	var children []string
	for _, c := range live.Children {
		in, out := "never", "never"
		if !c.LastIn.IsZero() {
			in = now.Sub(c.LastIn).String()
		}
		if !c.LastOut.IsZero() {
			out = now.Sub(c.LastOut).String()
		}
		children = append(children, fmt.Sprint(c.ID, " ", c.ReqID, " ", c.In, " ", in, " ", c.Out, " ", out))
	}
	want := "7 alice [10.0.0.100] 198.51.100.1 vpn 1m0s: 3 1 100 5s 200 4s; 4 1 0 never 0 never; 5 1 0 0s 0 never"
	line := fmt.Sprint(live.ID, " ", live.Identity, " ", live.Addresses, " ", live.Remote, " ", live.Connection, " ",
		now.Sub(live.Established), ": ", strings.Join(children, "; "))
	if line != want {
		t.Errorf("got  %s\nwant %s", line, want)
	}

	many := vici.Section("child-sas", child("3", vici.Value("bytes-in", "many")))
	s = answers{"list-sas": {Events: []vici.Message{sa("7", "ESTABLISHED", vips, many)}}}.session(t)
	got, err = s.Sessions(t.Context(), now)
	if err == nil || !strings.Contains(err.Error(), `bytes-in "many" is not a number`) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTerminate(t *testing.T) {
	for errmsg, want := range map[string]string{
		"":                                   "",
		"no matching SAs to terminate found": ErrNoSession.Error(),
		"terminating SA failed":              "terminate IKE_SA 7: ",
	} {
		var asked map[string]any
		s := dial(t, &vicitest.Server{Handle: func(command string, request vici.Message) (vicitest.Answer, bool) {
			asked, _ = vicitest.Tree(request)
			if errmsg == "" {
				return response(vici.Value("success", "yes")), command == "terminate"
			}
			refusal := response(vici.Value("success", "no"), vici.Value("errmsg", errmsg))
			return refusal, command == "terminate"
		}})
		err := s.Terminate(t.Context(), "7")
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", errmsg, err, want)
		}
		if errors.Is(err, ErrNoSession) != (want == ErrNoSession.Error()) {
			t.Errorf("%q: %v", errmsg, err)
		}
		if asked["ike-id"] != "7" || asked["timeout"] != "-1" {
			t.Errorf("asked for %v", asked)
		}
	}
}

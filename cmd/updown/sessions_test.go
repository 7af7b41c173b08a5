package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/program"
	"tunnelcast/internal/session"
	"tunnelcast/internal/units"
	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// login is a session of the charon that stands in.
type login struct {
	id       int
	identity string
	addr     string
	remote   string
	age      int // seconds
	in, idle int // bytes, seconds
}

// standIn is a charon whose sessions are a list. terminate takes one off it.
type standIn struct {
	mu     sync.Mutex
	logins []login
	refuse string // what terminate answers instead
}

func (c *standIn) set(logins ...login) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logins = slices.Clone(logins)
}

func (c *standIn) identities() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, l := range c.logins {
		all = append(all, fmt.Sprint(l.identity, l.id))
	}
	return strings.Join(all, " ")
}

func (c *standIn) handle(command string, request vici.Message) (answer vicitest.Answer, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch command {
	case "get-pools":
		answer.Response = vicitest.Message(vici.Section("clients",
			vici.Value("base", "10.0.0.100"), vici.Value("size", "101")))
	case "list-sas":
		for _, l := range c.logins {
			child := vici.Section("net-"+strconv.Itoa(l.id), vici.Value("uniqueid", strconv.Itoa(l.id)),
				vici.Value("reqid", strconv.Itoa(l.id)), vici.Value("bytes-in", strconv.Itoa(l.in)),
				vici.Value("use-in", strconv.Itoa(l.idle)), vici.Value("bytes-out", "0"))
			answer.Events = append(answer.Events, vicitest.Message(vici.Section("vpn",
				vici.Value("uniqueid", strconv.Itoa(l.id)), vici.Value("state", "ESTABLISHED"),
				vici.Value("established", strconv.Itoa(l.age)), vici.Value("remote-host", l.remote),
				vici.Value("remote-eap-id", l.identity), vici.List("remote-vips", l.addr),
				vici.Section("child-sas", child))))
		}
	case "terminate":
		if c.refuse != "" {
			answer.Response = vicitest.Message(vici.Value("success", "no"), vici.Value("errmsg", c.refuse))
			break
		}
		id, _ := request.Value("ike-id")
		c.logins = slices.DeleteFunc(c.logins, func(l login) bool { return strconv.Itoa(l.id) == id })
		answer.Response = vicitest.Message(vici.Value("success", "yes"))
	default:
		return answer, false
	}
	return answer, true
}

// sessionGateway is a gateway with a named, whose charon stands in.
func sessionGateway(t testing.TB, b *bind, args ...string) (*testGateway, *standIn) {
	t.Helper()
	charon := &standIn{}
	socket := vicitest.Start(t, &vicitest.Server{Handle: charon.handle})
	g := newTestGateway(t, b, append([]string{"--vici", socket}, args...)...)
	own, err := newHost(g.settings, g.env)
	if err != nil {
		t.Fatal(err)
	}
	g.askCharon, g.listSessions, g.endSession = own.askCharon, own.listSessions, own.endSession
	return g, charon
}

// entries returns the fields after a message of the log, of every entry that has it.
func (g *testGateway) entries(message string) (all []string) {
	pattern := regexp.MustCompile(`msg="?` + regexp.QuoteMeta(message) + `"? MESSAGE_ID=\S+ (.*)`)
	for _, m := range pattern.FindAllStringSubmatch(g.log.String(), -1) {
		all = append(all, m[1])
	}
	return all
}

func TestBindLimits(t *testing.T) {
	b := startBind(t)
	two := []login{
		{1, "alice", "10.0.0.100", "198.51.100.1", 3600, 100, 1},
		{2, "alice", "10.0.0.101", "198.51.100.2", 600, 100, 1},
		{3, "bob", "10.0.0.102", "198.51.100.3", 900, 5000, 700},
	}
	for name, test := range map[string]struct {
		args []string
		left string
		zone string
	}{
		"none": {nil, "alice1 alice2 bob3", "alice A 10.0.0.100; alice A 10.0.0.101; bob A 10.0.0.102"},
		"max-session": {[]string{"--max-session", "30m"}, "alice2 bob3",
			"alice A 10.0.0.101; bob A 10.0.0.102"},
		"max-idle": {[]string{"--max-idle", "10m"}, "alice1 alice2",
			"alice A 10.0.0.100; alice A 10.0.0.101"},
		"one, the newest": {[]string{"--sessions-per-identity", "1"}, "alice2 bob3",
			"alice A 10.0.0.101; bob A 10.0.0.102"},
		"one, the oldest": {[]string{"--sessions-per-identity", "1", "--keep", "oldest"}, "alice1 bob3",
			"alice A 10.0.0.100; bob A 10.0.0.102"},
		"one, except alice's": {[]string{"--sessions-per-identity", "1", "--except", "Alice"}, "alice1 alice2 bob3",
			"alice A 10.0.0.100; alice A 10.0.0.101; bob A 10.0.0.102"},
	} {
		t.Run(name, func(t *testing.T) {
			g, charon := sessionGateway(t, b, test.args...)
			charon.set(two...)
			if err := g.host.sync(t.Context(), syncFlags{DryRun: true}); err != nil {
				t.Fatal(err)
			}
			ends := 3 - len(strings.Fields(test.left))
			if n := strings.Count(g.stdout.String(), "; would end the session of "); n != ends ||
				len(strings.Fields(charon.identities())) != 3 {
				t.Errorf("dry run: %d ends, %s\n%s", n, charon.identities(), g.stdout.String())
			}
			g.sync()
			if got := charon.identities(); got != test.left {
				t.Errorf("left are %s, want %s", got, test.left)
			}
			if said := g.entries("session ended"); len(said) != ends {
				t.Errorf("%d entries: %q", len(said), said)
			}
			g.sync() // charon has called the hook
			g.want(test.zone)
			if said := g.entries("session ended"); len(said) != ends {
				t.Errorf("said again: %q", said)
			}
		})
	}
}

func TestBindEndedSessionIsSaid(t *testing.T) {
	g, charon := sessionGateway(t, startBind(t), "--max-session", "30m", "--max-idle", "10m")
	charon.set(login{3, "bob", "10.0.0.102", "198.51.100.3", 3600, 5000, 700})
	g.sync()
	want := `identity=bob name=bob.example address=10.0.0.102 from=198.51.100.3 age=1h0m0s ` +
		`bytes-in=5000 bytes-out=0 limit=max-session ` +
		`reason="max-session 30m0s: connected for 1h0m0s"`
	if said := g.entries("session ended"); len(said) != 1 || said[0] != want {
		t.Errorf("got  %q\nwant %q", said, want)
	}
}

// The limits of one identity take the place of the others.
func TestBindLimitsOfOne(t *testing.T) {
	b := startBind(t)
	file := filepath.Join(b.dir, "updown.toml")
	const limits = "max-session = \"30m\"\n[limit.owner]\nmax-session = \"0\"\n" +
		"[limit.\"g.uest\"]\nmax-session = \"1m\"\n"
	if err := os.WriteFile(file, []byte(limits), 0o600); err != nil {
		t.Fatal(err)
	}
	g, charon := sessionGateway(t, b, "--config", file)
	charon.set(login{1, "owner", "10.0.0.100", "x", 360000, 1, 1}, login{2, "g.uest", "10.0.0.101", "y", 90, 1, 1},
		login{3, "bob", "10.0.0.102", "z", 90, 1, 1})
	g.sync()
	if got := charon.identities(); got != "owner1 bob3" {
		t.Error(got)
	}
}

// A client that reconnects at once has a session of its own.
func TestBindReconnectsAtOnce(t *testing.T) {
	g, charon := sessionGateway(t, startBind(t), "--max-session", "30m")
	charon.set(login{1, "alice", "10.0.0.100", "198.51.100.1", 3600, 100, 1})
	g.sync()
	for range 3 {
		charon.set(login{2, "alice", "10.0.0.100", "198.51.100.1", 1, 0, 0})
		g.sync()
		g.want("alice A 10.0.0.100")
	}
	if got := charon.identities(); got != "alice2" {
		t.Error(got)
	}
}

// What charon refuses to end fails the run, and nothing else.
func TestBindTerminateFails(t *testing.T) {
	g, charon := sessionGateway(t, startBind(t), "--max-session", "30m")
	charon.set(login{1, "alice", "10.0.0.100", "x", 3600, 0, 0}, login{2, "bob", "10.0.0.101", "y", 3600, 0, 0})
	charon.refuse = "terminating SA failed"
	wantSome(t, g.syncs(), `2 of 2 sessions to end are left, the first is of "alice"`, "terminating SA failed")
	g.want("alice A 10.0.0.100; bob A 10.0.0.101")
	charon.refuse = "no matching SAs to terminate found" // it has gone in between
	g.sync()
	if said := g.entries("session ended"); len(said) != 0 {
		t.Error(said)
	}
	charon.refuse = ""
	g.sync()
	if got := charon.identities(); got != "" {
		t.Error(got)
	}
}

// Limits are held to while named is down, too.
func TestBindLimitsWithoutNamed(t *testing.T) {
	b := startBind(t)
	g, charon := sessionGateway(t, b, "--max-session", "30m")
	b.named.Stop()
	charon.set(login{1, "alice", "10.0.0.100", "x", 3600, 0, 0})
	if err := g.syncs(); err == nil {
		t.Error("sync has not failed")
	}
	if got := charon.identities(); got != "" {
		t.Error(got)
	}
}

func TestBindThousandSessions(t *testing.T) {
	b := startBind(t)
	g, charon := sessionGateway(t, b, "--pools", "10.9.0.0/16", "--max-session", "30m", "--max-idle", "20m",
		"--sessions-per-identity", "1",
		"--on-event", notify(t, b.dir, ""))
	var logins []login
	for i := range 1000 {
		l := login{i + 1, fmt.Sprint("client", i), fmt.Sprintf("10.9.%d.%d", i/250, i%250), fmt.Sprint("remote", i),
			600, 100, 1}
		if i%4 == 0 {
			l.age = 3600
		}
		logins = append(logins, l)
	}
	charon.set(logins...)
	start := time.Now()
	g.sync()
	t.Logf("1,000 sessions, 250 ended, in %s", time.Since(start))
	if n := len(strings.Fields(charon.identities())); n != 750 {
		t.Errorf("%d sessions are left", n)
	}
	g.sync()
	if n := strings.Count(g.zone(), "client"); n != 750 {
		t.Errorf("%d names", n)
	}
	start = time.Now()
	g.sync()
	t.Logf("nothing to do in %s", time.Since(start))
	if n, err := eventQueue(g.RunDir).Waiting(); n != 1250 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
}

// notify writes a program that appends to told in dir what it was told.
func notify(t testing.TB, dir, more string) string {
	t.Helper()
	file := filepath.Join(dir, "notify")
	text := fmt.Sprintf("#!/bin/sh\necho \"$TUNNELCAST_EVENT $TUNNELCAST_IDENTITY $TUNNELCAST_NAME "+
		"$TUNNELCAST_ADDRESS $TUNNELCAST_FROM "+
		"$TUNNELCAST_BYTES_IN $TUNNELCAST_REASON\" >>%s/told\n%s", dir, more)
	for _, err := range []error{os.WriteFile(file, []byte(text), 0o755), os.Chmod(file, 0o755), os.Chmod(dir, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// told makes the calls that wait and returns what the program was told since.
func (g *testGateway) told() string {
	g.t.Helper()
	if err := runEvents(g.t.Context(), g.env, eventQueue(g.RunDir)); err != nil {
		g.t.Error(err)
	}
	file := filepath.Join(filepath.Dir(g.OnEvent[0]), "told")
	text, _ := os.ReadFile(file)
	os.Remove(file)
	return strings.TrimSpace(string(text))
}

func TestBindEvents(t *testing.T) {
	b := startBind(t)
	file := notify(t, b.dir, "")
	g, charon := sessionGateway(t, b, "--on-event", file, "--max-session", "30m")
	alice := login{1, "alice", "10.0.0.100", "198.51.100.1", 60, 100, 1}
	bob := login{2, "bob", "10.0.0.101", "198.51.100.2", 30, 0, 0}
	step := func(want string, logins ...login) {
		t.Helper()
		charon.set(logins...)
		g.sync()
		g.sync()
		if got := g.told(); got != want {
			t.Errorf("told\n%s\nwant\n%s", got, want)
		}
	}
	step("connected alice alice.example 10.0.0.100 198.51.100.1 100 \n"+
		"connected bob bob.example 10.0.0.101 198.51.100.2 0", alice, bob)
	step("", alice, bob)
	alice.in = 300
	step("", alice, bob)
	step("disconnected alice alice.example 10.0.0.100 198.51.100.1 300", bob)
	bob.age = 1801
	memory, err := loadSessions(g.RunDir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	memory.Sessions[0].Since = time.Now().Add(-time.Hour) // the time has passed
	if err := memory.save(g.RunDir); err != nil {
		t.Fatal(err)
	}
	step("ended bob bob.example 10.0.0.101 198.51.100.2 0 max-session 30m0s: connected for 1h0m0s", bob)

	// A restart of charon is told once: all have gone, then they come.
	step("connected alice alice.example 10.0.0.100 198.51.100.1 300", alice)
	g.vici(filepath.Join(b.dir, "no-socket"))
	g.askUnit = func(context.Context, string) (units.State, error) {
		return units.State{Load: "loaded", Active: "inactive"}, nil
	}
	step("disconnected alice alice.example 10.0.0.100 198.51.100.1 300")
	// A boot takes the memory of both.
	if err := os.RemoveAll(g.RunDir); err != nil {
		t.Fatal(err)
	}
	step("")
	if said := g.entries("event told"); len(said) != 6 {
		t.Errorf("%d entries: %q", len(said), said)
	}
}

// vici has the gateway ask another charon.
func (g *testGateway) vici(socket string) {
	c := g.settings
	c.Vici = socket
	own, err := newHost(c, g.env)
	if err != nil {
		g.t.Fatal(err)
	}
	g.askCharon, g.listSessions, g.endSession = own.askCharon, own.listSessions, own.endSession
}

// A program that must not be called is named, and its events wait for another.
func TestBindEventsOfABadProgram(t *testing.T) {
	b := startBind(t)
	file := notify(t, b.dir, "")
	g, charon := sessionGateway(t, b, "--on-event", file)
	charon.set(login{1, "alice", "10.0.0.100", "x", 60, 0, 0})
	if err := os.Chmod(file, 0o777); err != nil {
		t.Fatal(err)
	}
	wantSome(t, g.syncs(), "on-event: 1 events wait: the program "+file+" is refused: others may write to it",
		"chmod go-w")
	g.want("alice A 10.0.0.100")
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
	g.sync()
	if got := g.told(); got != "connected alice alice.example 10.0.0.100 x 0" {
		t.Error(got)
	}
}

// A program that hangs, fails or prints much disturbs no name and no other event.
func TestBindEventsOfAProgramThatFails(t *testing.T) {
	b := startBind(t)
	// Long enough for the other programs on a busy computer, and much shorter than 1,000 s.
	g, charon := sessionGateway(t, b, "--event-timeout", "4s", "--on-event", notify(t, b.dir,
		"case $TUNNELCAST_IDENTITY in hangs) sleep 1000;; fails) echo no; exit 3;; floods) yes flood;; esac\n"))
	charon.set(login{1, "hangs", "10.0.0.100", "x", 4, 0, 0}, login{2, "fails", "10.0.0.101", "x", 3, 0, 0},
		login{3, "floods", "10.0.0.102", "x", 2, 0, 0}, login{4, "good", "10.0.0.103", "x", 1, 0, 0})
	start := time.Now()
	g.sync()
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("sync took %s", took)
	}
	if got := strings.Count(g.told(), "connected"); got != 4 {
		t.Errorf("%d events were told", got)
	}
	said := strings.Join(g.entries("the program of on-event failed"), "\n")
	for _, want := range []string{"identity=hangs", "did not end within 4s", "identity=fails", `cause="exit status 3"`,
		"identity=floods"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if n := len(g.entries("flood")); n != 100 {
		t.Errorf("%d lines of a flood", n)
	}
	if said := g.entries("event told"); len(said) != 1 {
		t.Errorf("%q", said)
	}
	if made, failed := eventQueue(g.RunDir).Counts(); made != 4 || failed != 3 {
		t.Errorf("made %d, failed %d", made, failed)
	}
	g.sync()
	if got := g.told(); got != "" {
		t.Errorf("told again: %s", got)
	}
}

// Wherever a run is killed between the memory and the queue, each event is told once.
func TestEventsAreToldOnce(t *testing.T) {
	dir := t.TempDir()
	s := &sessions{runDir: filepath.Join(dir, "run"), env: hook.Env{Now: time.Now}}
	s.OnEvent, s.EventTimeout = []string{notify(t, dir, "")}, time.Minute
	queue := eventQueue(s.runDir)
	m := sessionMemory{}
	if err := m.add([]string{"TUNNELCAST_EVENT=one"}, queue); err != nil {
		t.Fatal(err)
	}
	if err := m.save(s.runDir); err != nil {
		t.Fatal(err)
	}
	killed := m
	if err := s.tellPending(&m, queue); err != nil { // and the memory of that is lost
		t.Fatal(err)
	}
	calls := 0
	drain := func() {
		t.Helper()
		if err := queue.Drain(t.Context(), func(context.Context, program.Call) error { calls++; return nil },
			func(program.Call, error) {}); err != nil {
			t.Fatal(err)
		}
	}
	drain()
	if err := s.tellPending(&killed, queue); err != nil {
		t.Fatal(err)
	}
	drain()
	if calls != 1 {
		t.Errorf("told %d times", calls)
	}
	// The memory is lost; the numbers go on.
	m = sessionMemory{}
	if err := m.add([]string{"TUNNELCAST_EVENT=two"}, queue); err != nil {
		t.Fatal(err)
	}
	if err := s.tellPending(&m, queue); err != nil {
		t.Fatal(err)
	}
	drain()
	if calls != 2 {
		t.Errorf("told %d times", calls)
	}
}

func TestSessionsAreRemembered(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	m := sessionMemory{Clock: bootTime(now).Add(-24 * time.Hour)}
	m.Sessions = append(m.Sessions, exampleSession(now, "a\xff\"\n"))
	since := m.Sessions[0].Since
	if err := m.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := loadSessions(dir, now)
	if err != nil || len(got.Sessions) != 1 || got.Sessions[0].Identity != "a\xff\"\n" ||
		got.Sessions[0].Addresses[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("got %+v, %v", got, err)
	}
	// The clock was set by a day since: the age is what it was.
	if d := got.Sessions[0].Since.Sub(since); (d - 24*time.Hour).Abs() > 5*time.Second {
		t.Errorf("moved by %s", d)
	}
	if err := os.WriteFile(memoryFile(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := loadSessions(dir, now); err == nil || len(got.Sessions) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestBadLimits(t *testing.T) {
	for text, want := range map[string]string{
		`max-session = 30`:              `has no unit: write 30s, 30m or 30h`,
		`max-session = "30"`:            `has no unit: write 30s, 30m or 30h`,
		`max-idle = "soon"`:             `"soon" is not a length of time, such as 30m or 12h`,
		`max-idle = "-1h"`:              `"-1h" is negative`,
		`sessions-per-identity = "two"`: `"two" is not a number of sessions, such as 1`,
		`keep = "oldest"`: `keep "oldest" says which sessions stay, but ` +
			`sessions-per-identity is not set`,
		"sessions-per-identity = 1\nkeep = \"best\"": `keep "best": must be "newest" or "oldest"`,
		"[limit.alice]\nmax-session = 8": `:1: [limit.alice]: max-session: "8" has no unit: ` +
			`write 8s, 8m or 8h`,
		"[limit.alice]\nkeep = \"newest\"":  `[limit.alice]: keep "newest" says which sessions stay`,
		"[limit.a.b]\nmax-session = \"8h\"": `[limit.a]: b: unknown key`,
		"[limit]\nmax-session = \"8h\"":     `the setting max-session is below [limit]`,
		`limit = 5`:                         `limit is a table for each identity: [limit.alice]`,
		`page = "clients.html"`:             `page "clients.html": must be the absolute path of a file`,
		`on-event = ["notify"]`:             `on-event "notify": must be the absolute path of a program`,
		`event-timeout = "0s"`:              `event-timeout 0s: must be positive`,
	} {
		file := filepath.Join(t.TempDir(), "updown.toml")
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		env := hook.Env{Name: "updown", Args: []string{"--config", file, "sync"},
			Getenv: func(string) string { return "" }}
		err := run(t.Context(), env)
		if hook.Status(err) != 80 || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func exampleSession(now time.Time, identity string) session.Session {
	s := session.Example(now)
	s.Identity = identity
	return s
}

func TestCheckSessions(t *testing.T) {
	dir := t.TempDir()
	file := notify(t, dir, "")
	g := newTestGateway(t, &bind{dir: dir, addr: "127.0.0.1:1"}, "--on-event", file, "--sessions-per-identity", "2")
	if err := os.MkdirAll(g.SwanctlDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.SwanctlDir, "swanctl.conf"),
		[]byte("connections { vpn { unique = replace } }"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func() string {
		g.stdout.Reset()
		g.checkSessions(t.Context(), hook.NewChecks(&g.stdout))
		return g.stdout.String()
	}
	out := check()
	for _, want := range []string{
		"connection vpn has unique = replace, too",
		"on-event " + file + ": called 0 times since boot, failed 0, 0 wait",
		eventsPath,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if err := os.Chmod(file, 0o777); err != nil {
		t.Fatal(err)
	}
	if out := check(); !strings.Contains(out, "is refused: others may write to it") {
		t.Errorf("got\n%s", out)
	}
}

func TestTestEvent(t *testing.T) {
	dir := t.TempDir()
	g := newTestGateway(t, &bind{dir: dir, addr: "127.0.0.1:1"}, "--on-event", notify(t, dir, "echo hello; exit 7"))
	err := g.sessions().testEvent(t.Context(), &g.stdout)
	if err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Error(err)
	}
	for _, want := range []string{"TUNNELCAST_EVENT=connected\n", "TUNNELCAST_REASON=test\n", "| hello\n"} {
		if !strings.Contains(g.stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, g.stdout.String())
		}
	}
	none := newTestGateway(t, &bind{dir: dir, addr: "127.0.0.1:1"})
	if err := none.sessions().testEvent(t.Context(), &none.stdout); hook.Status(err) != 80 {
		t.Error(err)
	}
}

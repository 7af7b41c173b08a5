package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// script writes a program of the administrator's.
func script(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "notify")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return file
}

func TestCheck(t *testing.T) {
	mode := func(file string, mode os.FileMode) string {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	link := func(file string) string {
		open := mode(t.TempDir(), 0o777)
		if err := os.Symlink(file, filepath.Join(open, "link")); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(open, "link")
	}
	openDir := script(t, "")
	mode(filepath.Dir(openDir), 0o1777)
	foreign := script(t, "")
	if os.Geteuid() == 0 {
		if err := os.Chown(foreign, 12345, 0); err != nil {
			t.Fatal(err)
		}
	} else {
		mode(foreign, 0o777)
	}
	for name, test := range map[string]struct{ program, want string }{
		"good":              {script(t, ""), ""},
		"relative":          {"notify", "absolute path"},
		"missing":           {"/nowhere/notify", "the program /nowhere/notify: no such file or directory"},
		"a directory":       {t.TempDir(), "is not a file"},
		"not executable":    {mode(script(t, ""), 0o644), "is not executable: `chmod +x"},
		"others may write":  {mode(script(t, ""), 0o757), "chmod go-w"},
		"a group may write": {mode(script(t, ""), 0o775), "chmod go-w"},
		"its directory":     {openDir, "others may write to it: " + filepath.Dir(openDir)},
		"a link's":          {link(script(t, "")), "others may write to it"},
		"another user's":    {foreign, "others may write to it"},
	} {
		err := Check([]string{test.program})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if err := Check(nil); err == nil {
		t.Error("no program is accepted")
	}
}

func TestRun(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   string // lines of output
		err    string
	}{
		"environment": {"env | grep -v -e ^PWD -e ^SHLVL -e ^_= -e ^OLDPWD | sort", path +
			"\nTUNNELCAST_EVENT=connected\nTUNNELCAST_IDENTITY=a\nb; $(id)", ""},
		"fails":        {"echo no; exit 3", "no", "exit status 3"},
		"both streams": {"echo out; echo err >&2", "out\nerr", ""},
		"hangs": {"echo begun; sleep 1000", "begun",
			"it did not end within 1s and was killed"},
		"hangs with its signals ignored": {"trap '' TERM; echo begun; while :; do sleep 1; done", "begun",
			"was killed"},
		"its child hangs":            {"sleep 1000 & echo begun", "begun", "was killed"},
		"a child of another session": {"setsid sleep 20 & echo begun", "begun", "was killed"},
		"reads its input":            {"cat; echo end", "end", ""},
		"a long line":                {"head -c 5000 /dev/zero | tr '\\0' x", strings.Repeat("x", maxLine), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if strings.Contains(test.err, "killed") {
				timeout = time.Second
			}
			call := Call{Command: []string{script(t, test.script)}, Timeout: timeout,
				Vars: []string{"TUNNELCAST_EVENT=connected\x00x", "TUNNELCAST_IDENTITY=a\nb; $(id)"}}
			var lines []string
			err := call.Run(t.Context(), func(line string) { lines = append(lines, line) })
			if got := strings.Join(lines, "\n"); got != test.want {
				t.Errorf("output %q, want %q", got, test.want)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
		})
	}
}

func TestRunFlood(t *testing.T) {
	n, last := 0, ""
	call := Call{Command: []string{script(t, "seq 1 200000")}, Timeout: time.Minute}
	err := call.Run(t.Context(), func(line string) { n, last = n+1, line })
	if err != nil || n != maxLines+1 || last != fmt.Sprintf("(%d lines more were dropped)", 200000-maxLines) {
		t.Errorf("%d lines, the last is %q, error %v", n, last, err)
	}
}

func TestRunRefuses(t *testing.T) {
	file := script(t, "echo run")
	if err := os.Chmod(file, 0o777); err != nil {
		t.Fatal(err)
	}
	err := Call{Command: []string{file}, Timeout: time.Minute}.Run(t.Context(), func(line string) { t.Error(line) })
	if !errors.Is(err, ErrUnsafe) {
		t.Error(err)
	}
}

// drained is what a run made of a queue.
type drained struct {
	made []string
	errs []string
}

func drain(t *testing.T, q Queue, make func(context.Context, Call) error) (d drained) {
	t.Helper()
	err := q.Drain(t.Context(), func(ctx context.Context, c Call) error {
		d.made = append(d.made, c.Vars[0])
		return make(ctx, c)
	}, func(c Call, err error) {
		if err != nil {
			d.errs = append(d.errs, err.Error())
		}
	})
	if err != nil {
		t.Error(err)
	}
	return d
}

func put(t *testing.T, q Queue, numbers ...uint64) {
	t.Helper()
	for _, n := range numbers {
		if err := q.Put(n, Call{Command: []string{"x"}, Vars: []string{fmt.Sprint(n)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func good(context.Context, Call) error { return nil }

func TestQueueOrder(t *testing.T) {
	q := Queue(t.TempDir())
	put(t, q, 10, 9, 2)
	if n, err := q.Waiting(); n != 3 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	// One that is put meanwhile is made by the same run.
	first := true
	d := drain(t, q, func(context.Context, Call) error {
		if first {
			put(t, q, 11)
		}
		first = false
		return nil
	})
	if !slices.Equal(d.made, []string{"2", "9", "10", "11"}) || d.errs != nil {
		t.Errorf("got %+v", d)
	}
	if n, err := q.Waiting(); n != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
}

// A caller that was killed before it could note what it has put puts it again.
func TestQueueMakesNoCallTwice(t *testing.T) {
	q := Queue(t.TempDir())
	put(t, q, 1, 2)
	drain(t, q, good)
	put(t, q, 1, 2, 3)
	if d := drain(t, q, good); !slices.Equal(d.made, []string{"3"}) || d.errs != nil {
		t.Errorf("got %+v", d)
	}
	if last, err := q.Last(); last != 3 || err != nil {
		t.Errorf("last %d, %v", last, err)
	}
	if made, failed := q.Counts(); made != 3 || failed != 0 {
		t.Errorf("made %d, failed %d", made, failed)
	}
}

// A run that was killed during a call has left the call and its mark.
func TestQueueAfterAKill(t *testing.T) {
	q := Queue(t.TempDir())
	put(t, q, 1, 2)
	func() {
		defer func() { _ = recover() }()
		_ = q.Drain(t.Context(), func(context.Context, Call) error { panic("killed") }, func(Call, error) {})
	}()
	d := drain(t, q, good)
	if !slices.Equal(d.made, []string{"2"}) || !slices.Equal(d.errs, []string{ErrInterrupted.Error()}) {
		t.Errorf("got %+v", d)
	}
	if made, failed := q.Counts(); made != 2 || failed != 1 {
		t.Errorf("made %d, failed %d", made, failed)
	}
}

// What is not a call goes, for a file that stays would have systemd start the
// service again without pause.
func TestQueueOfSomethingElse(t *testing.T) {
	q := Queue(t.TempDir())
	put(t, q, 5)
	for name, text := range map[string]string{"x": "", "00000000000000000004": "{"} {
		if err := os.WriteFile(filepath.Join(q.Dir(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := drain(t, q, func(context.Context, Call) error { return errors.New("exit status 1") })
	if len(d.errs) != 3 || !slices.Equal(d.made, []string{"5"}) {
		t.Errorf("got %+v", d)
	}
	if n, _ := q.Waiting(); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

func TestQueueIsFull(t *testing.T) {
	q := Queue(t.TempDir())
	put(t, q, 1)
	if err := q.Room(); err != nil {
		t.Error(err)
	}
	for i := range maxCalls {
		if err := os.WriteFile(filepath.Join(q.Dir(), fmt.Sprintf("%020d", i+2)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Room(); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

// Two programs that add calls while they are made lose none.
func TestQueueAdd(t *testing.T) {
	q := Queue(t.TempDir())
	const each = 50
	var adding sync.WaitGroup
	for i := range 2 {
		adding.Go(func() {
			for n := range each {
				if err := q.Add(Call{Command: []string{"x"}, Vars: []string{fmt.Sprint(i*each + n)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	made := map[string]bool{}
	for range 20 {
		for _, call := range drain(t, q, good).made {
			made[call] = true
		}
	}
	adding.Wait()
	for _, call := range drain(t, q, good).made {
		made[call] = true
	}
	if len(made) != 2*each {
		t.Errorf("%d calls were made of %d", len(made), 2*each)
	}
}

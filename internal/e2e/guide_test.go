package e2e

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/e2e/guide"
)

// A computer is a machine on which a page has commands run and files written.
type computer interface {
	Run(ctx context.Context, args ...string) (string, error)
	WriteFile(name, content string, mode os.FileMode) error
	ReadFile(name string) (string, error)
}

// A publisher is the computer of somebody who streams: this computer, in the network of a client.
type publisher struct{ *box.Client }

func (p publisher) Run(ctx context.Context, args ...string) (string, error) {
	return p.Client.Host(ctx, args...)
}

// A process is a command that runs until Ctrl-C.
type process struct {
	stop  context.CancelFunc // Ctrl-C
	ended <-chan error       // what it returned
}

// A reader takes the steps of pages on the machines of one box.
type reader struct {
	*testing.T
	computers  map[string]computer // by the name that blocks have; "" is the server
	values     map[string]string   // of the placeholders
	before     map[string]func()   // what happens before the first block of a section, by its heading
	background []process           // what runs until Ctrl-C
}

// read returns a page of docs.
func read(t *testing.T, name string) *guide.Page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	page, err := guide.Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return page
}

// follow takes the steps of a page, and ends the test at the first one that does not do what the page says.
func (r *reader) follow(name string) {
	r.Helper()
	page := read(r.T, name)
	maps.Copy(r.values, page.Values)
	// Only the run knows these.
	r.values["YOUR_PACKAGE"] = filepath.Base(os.Getenv("TUNNELCAST_DEB"))
	delete(r.values, "YOUR_KEY")
	section := ""
	for i, b := range page.Blocks {
		if b.Section != section {
			section = b.Section
			if do := r.before[section]; do != nil {
				do()
			}
		}
		var output *guide.Block
		if i+1 < len(page.Blocks) && page.Blocks[i+1].Kind == guide.Output {
			output = &page.Blocks[i+1]
		}
		began := time.Now()
		if err := r.take(b, output); err != nil {
			r.Fatalf("docs/%s:%d: %v", name, b.Line, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			r.Logf("docs/%s:%d took %v", name, b.Line, took.Round(time.Millisecond))
		}
	}
}

// interrupt ends what runs in the background. It is an error if that has ended before.
func (r *reader) interrupt() error {
	var errs []error
	for _, p := range r.background {
		select {
		case err := <-p.ended:
			errs = append(errs, errors.Join(errors.New("the command in the background has ended"), err))
		default:
			p.stop()
			<-p.ended
		}
	}
	r.background = nil
	return errors.Join(errs...)
}

// take does what a block says. output is the block with what the commands should print, or nil.
func (r *reader) take(b guide.Block, output *guide.Block) error {
	if b.Kind == guide.Output || b.Kind == guide.NotRun {
		return nil
	}
	c := r.computers[b.Machine]
	if c == nil {
		r.Fatalf("line %d: there is no machine %q", b.Line, b.Machine)
	}
	if strings.Contains(b.Text, "YOUR_KEY") {
		key, err := r.computers["client"].ReadFile("/root/.ssh/id_ed25519.pub")
		if err != nil {
			return err
		}
		r.values["YOUR_KEY"] = strings.TrimSpace(key)
	}
	text, err := guide.Fill(b.Text, r.values)
	if err != nil {
		return err
	}
	if b.Kind == guide.File {
		if b.Path, err = guide.Fill(b.Path, r.values); err != nil {
			return err
		}
		return writePart(c, b, text)
	}
	if b.Reboot {
		server, ok := c.(*box.Gateway)
		if !ok {
			r.Fatalf("line %d: only the server can restart", b.Line)
		}
		return server.Reboot(r.Context())
	}
	want := ""
	if output != nil {
		if want, err = guide.Fill(output.Text, r.values); err != nil {
			return err
		}
	}
	once := func(ctx context.Context) error {
		got, err := c.Run(ctx, "env", "-i", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb",
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"bash", "-ec", "cd; exec 2>&1\n"+text)
		if err != nil || output == nil {
			return err
		}
		return guide.Match(want, got)
	}
	if b.Until {
		ctx, stop := context.WithCancel(r.Context())
		ended := make(chan error, 1)
		go func() { ended <- once(ctx) }()
		r.background = append(r.background, process{stop, ended})
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), soon)
	defer cancel()
	if !b.Retry {
		return once(ctx)
	}
	err = box.Poll(ctx, soon, strings.TrimSpace(b.Text), func() (bool, error) {
		err := once(ctx)
		return err == nil, err
	})
	return errors.Join(err, r.interrupt())
}

// writePart writes a file or the end of one.
func writePart(c computer, b guide.Block, text string) error {
	if b.Append {
		before, err := c.ReadFile(b.Path)
		if err != nil {
			return err
		}
		return c.WriteFile(b.Path, before+text, 0o644)
	}
	// The directory must exist: an editor makes none.
	if _, err := c.Run(context.Background(), "test", "-d", filepath.Dir(b.Path)); err != nil {
		return err
	}
	return c.WriteFile(b.Path, text, 0o644)
}

// TestGuide takes every step of the guide on a VPS on which nothing was done, in each language.
func TestGuide(t *testing.T) {
	deb := deb(t)
	guides, err := filepath.Glob("../../docs/guide*.md")
	if err != nil || len(guides) == 0 {
		t.Fatal("no guide", err)
	}
	for _, file := range guides {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), boot)
			defer cancel()
			step := func(what string) { t.Log(what) }
			suite := cmp.Or(os.Getenv("TUNNELCAST_SUITE"), "bookworm")
			b, err := box.Start(ctx, box.Options{Suite: suite, Server: box.VPS, Step: step})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.Close() })
			t.Cleanup(func() {
				if t.Failed() {
					journal, err := b.Journal()
					t.Log(journal, err)
				}
			})
			if err := b.Internet(ctx); err != nil {
				t.Fatal(err)
			}
			client, err := b.Computer(ctx, "client")
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(deb)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.WriteFile("/root/"+filepath.Base(deb), string(data), 0o644); err != nil {
				t.Fatal(err)
			}
			r := &reader{T: t, values: map[string]string{}, computers: map[string]computer{
				"": b.Gateway, "client": client, "publisher": publisher{client},
			}}
			r.follow(name)
		})
	}
}

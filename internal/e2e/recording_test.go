package e2e

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/e2e/box"
)

// slot is what runs of recorddone on one host wait for, one after the other.
const slot = "/run/lock/tunnelcast-recorddone.1"

// studio is a camera that is connected, and the archive where its streams arrive.
type studio struct {
	*box.Box
	camera *box.Client
}

// publish streams until stop is called, which kills the publisher, and returns
// when nginx has recorded a second or so of it.
func (s studio) publish(t *testing.T, stream string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	_, before := s.flv(t, stream)
	go func() { ended <- s.camera.Publish(ctx, stream, 60) }()
	s.await(t, "the recording of "+stream+" to grow", func() (bool, error) {
		select {
		case err := <-ended:
			ended <- err
			return true, errors.Join(errors.New("the publisher has ended"), err)
		default:
		}
		size, written := s.flv(t, stream)
		return size > 20_000 && written.After(before), nil
	})
	return func() {
		cancel()
		<-ended
	}
}

func (s studio) await(t *testing.T, what string, ready func() (bool, error)) {
	t.Helper()
	if err := box.Poll(t.Context(), soon, what, ready); err != nil {
		t.Fatalf("%v; the archive holds %v", err, s.names(t, ""))
	}
}

// names lists the stream's files in the archive, and recorddone's hidden ones.
func (s studio) names(t *testing.T, stream string) []string {
	t.Helper()
	all, err := s.Gateway.Recordings()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(n string) bool { return !strings.HasPrefix(n, stream) && !strings.HasPrefix(n, ".") })
}

// flv gives the size of the stream's FLV, 0 if there is none, and when it was
// written to.
func (s studio) flv(t *testing.T, stream string) (size int64, written time.Time) {
	t.Helper()
	for _, name := range s.names(t, stream) {
		if strings.HasSuffix(name, ".flv") {
			if info, err := os.Stat(s.Gateway.Path(box.Archive + "/" + name)); err == nil {
				return info.Size(), info.ModTime()
			}
		}
	}
	return 0, time.Time{}
}

// hold takes the slot, so that hooks wait, until release is called.
func (s studio) hold(t *testing.T) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		s.Gateway.Run(ctx, "flock", "--no-fork", slot, "sleep", "300")
		close(ended)
	}()
	s.await(t, "the slot to be taken", func() (bool, error) {
		_, err := s.Gateway.Run(t.Context(), "flock", "--nonblock", slot, "true")
		return err != nil, nil
	})
	return func() {
		cancel()
		<-ended
	}
}

// waiting waits for n hooks to be at the stream's recording.
func (s studio) waiting(t *testing.T, stream string, n int) {
	t.Helper()
	s.await(t, "hooks to wait", func() (bool, error) {
		processes, err := s.Gateway.Run(t.Context(), "sh", "-c", `for p in /proc/[0-9]*/cmdline; do tr '\0' ' ' <$p; echo; done 2>/dev/null; true`)
		hooks := 0
		for line := range strings.Lines(processes) {
			program, args, _ := strings.Cut(line, " ")
			if strings.Contains(program, "record") && strings.HasPrefix(args, box.Archive+"/"+stream) {
				hooks++
			}
		}
		return hooks == n, err
	})
}

// published waits until nothing but n MP4 files is there of the stream, and plays
// them.
func (s studio) published(t *testing.T, stream string, n int) {
	t.Helper()
	var names []string
	s.await(t, "the recordings of "+stream+" to become MP4", func() (bool, error) {
		names = s.names(t, stream)
		return len(names) == n && !slices.ContainsFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".mp4") }), nil
	})
	for _, name := range names {
		file := s.Gateway.Path(box.Archive + "/" + name)
		if streams, err := box.Probe(t.Context(), file); err != nil || streams != "h264 aac" {
			t.Errorf("%s holds %q, %v", name, streams, err)
		}
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

// What becomes of recordings when publishers, nginx and hooks end as they should
// not, or meet.
func TestRecordingsSurvive(t *testing.T) {
	b := server(t)
	s := studio{b, client(t, b, "studio")}
	connect(t, s.camera, "dave")
	start := strings.TrimSpace(run(t, b, "date", "+@%s.%6N"))
	said := func(what string) (lines int) { // in the journal
		out, _ := b.Gateway.Journal(t.Context(), "--since="+start, "--grep="+what) // nothing found is an error
		return strings.Count(out, "\n")
	}

	t.Run("the publisher is killed", func(t *testing.T) {
		s.publish(t, "killed")()
		s.published(t, "killed", 1)
	})

	t.Run("two hooks on one recording", func(t *testing.T) {
		release := s.hold(t)
		defer release()
		s.publish(t, "twice")()
		s.waiting(t, "twice", 1)
		path := box.Archive + "/" + s.names(t, "twice")[0]
		second := make(chan error, 1)
		go func() {
			_, err := b.Gateway.Run(t.Context(), "runuser", "-u", "www-data", "--", "/usr/sbin/tunnelcast-recorddone", path)
			second <- err
		}()
		s.waiting(t, "twice", 2)
		release()
		s.published(t, "twice", 1)
		if err := <-second; err != nil {
			t.Error(err)
		}
	})

	t.Run("nginx is terminated", func(t *testing.T) {
		stop := s.publish(t, "terminated")
		run(t, b, "systemctl", "kill", "--signal=TERM", "nginx.service")
		// If the publisher went first, nginx would call the hook.
		s.await(t, "nginx to end", func() (bool, error) {
			out, _ := b.Gateway.Run(t.Context(), "systemctl", "is-active", "nginx.service")
			return strings.TrimSpace(out) == "inactive", nil
		})
		stop()
		run(t, b, "systemctl", "start", "nginx.service")
		if size, _ := s.flv(t, "terminated"); size == 0 {
			t.Fatalf("the archive holds %v before the sweep", s.names(t, "terminated"))
		}
		run(t, b, "systemctl", "start", "tunnelcast-sweep.service")
		s.published(t, "terminated", 1)
	})

	t.Run("nginx is restarted while a hook waits", func(t *testing.T) {
		release := s.hold(t)
		defer release()
		s.publish(t, "restarted")()
		s.waiting(t, "restarted", 1)
		run(t, b, "systemctl", "restart", "nginx.service")
		s.waiting(t, "restarted", 0)
		release()
		live := s.publish(t, "beside")
		run(t, b, "systemctl", "start", "tunnelcast-sweep.service")
		s.published(t, "restarted", 1)
		if size, _ := s.flv(t, "beside"); size == 0 {
			t.Error("the sweep took a recording that was live")
		}
		live()
		s.published(t, "beside", 1)
	})

	// From here on nginx records to one path per stream, and truncates a file that a
	// hook is at, or waits to be at.
	const config, names = "/etc/nginx/rtmp.conf", "record_suffix -%Y-%m-%d_%H-%M-%S.flv;"
	guide, err := b.Gateway.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	configure := func(how string) {
		t.Helper()
		err := b.Gateway.WriteFile(config, strings.Replace(guide, names, how, 1), 0o644)
		// The guide's is put back when t's context has ended.
		if _, rerr := b.Gateway.Run(context.WithoutCancel(t.Context()), "systemctl", "restart", "nginx.service"); err != nil || rerr != nil {
			t.Fatal(err, rerr)
		}
	}
	defer configure(names)

	t.Run("the path is recorded to again", func(t *testing.T) {
		configure("record_suffix .flv; record_unique off;")
		s.publish(t, "again")()
		s.await(t, "the first recording", func() (bool, error) { return slices.Equal(s.names(t, "again"), []string{"again.mp4"}), nil })

		release := s.hold(t)
		defer release()
		s.publish(t, "again")()
		s.waiting(t, "again", 1)
		stop := s.publish(t, "again")
		release()
		s.waiting(t, "again", 0)
		if size, _ := s.flv(t, "again"); size == 0 {
			t.Error("a live recording was removed")
		}
		s.await(t, "the journal to say that it was left alone", func() (bool, error) { return said("left alone.*/again.flv") > 0, nil })
		stop()
		s.published(t, "again", 2)
	})

	t.Run("the path is recorded to again and again", func(t *testing.T) {
		configure("record_suffix .flv; record_unique off; record_max_size 64K;")
		ended := make(chan error, 1)
		go func() { ended <- s.camera.Publish(t.Context(), "rotated", 6) }()
		s.await(t, "the publisher to end", func() (bool, error) {
			select {
			case err := <-ended:
				return true, err
			default:
			}
			out, _ := b.Gateway.Run(t.Context(), "sh", "-c", `nginx=$(cat /run/nginx.pid); for p in $(cat /proc/$nginx/task/$nginx/children); do find /proc/$p/fd -lname '*.flv (deleted)'; done`)
			if out != "" {
				return true, errors.New("nginx records to a file that was removed")
			}
			return false, nil
		})
		s.waiting(t, "rotated", 0)
		published := 0
		s.await(t, "as many recordings as the journal says were published", func() (bool, error) {
			// The publisher may have ended when nginx had begun another file.
			if size, _ := s.flv(t, "rotated"); size > 0 && size < 500 && said("/rotated.flv: no audio and no video") > 0 {
				return false, os.Remove(b.Gateway.Path(box.Archive + "/rotated.flv"))
			}
			published = len(s.names(t, "rotated"))
			return published > 0 && published == said("recording published.*/rotated"), nil
		})
		s.published(t, "rotated", published)
	})
}

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

// slot is the lock for which the runs of recorddone on one host wait.
const slot = "/run/lock/tunnelcast-recorddone.1"

// A studio is a connected camera, and the server that records its streams.
type studio struct {
	*box.Box
	camera *box.Client
}

// publish streams until stop is called, which kills the publisher. It returns when nginx has recorded about a second.
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

// await polls until ready returns true.
func (s studio) await(t *testing.T, what string, ready func() (bool, error)) {
	t.Helper()
	if err := box.Poll(t.Context(), soon, what, ready); err != nil {
		t.Fatalf("%v; the archive contains %v", err, s.names(t, ""))
	}
}

// names returns the stream's files in the archive, and recorddone's hidden ones.
func (s studio) names(t *testing.T, stream string) []string {
	t.Helper()
	all, err := s.Gateway.Recordings()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(n string) bool {
		return !strings.HasPrefix(n, stream) && !strings.HasPrefix(n, ".")
	})
}

// flv returns the size of the stream's FLV, 0 if there is none, and the time of the last write.
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

// hold takes the slot, so that hooks wait until release is called.
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

// waiting waits until exactly n hooks for the stream's recording are running.
func (s studio) waiting(t *testing.T, stream string, n int) {
	t.Helper()
	s.await(t, "hooks to wait", func() (bool, error) {
		processes, err := s.Gateway.Run(t.Context(), "sh", "-c",
			`for p in /proc/[0-9]*/cmdline; do tr '\0' ' ' <$p; echo; done 2>/dev/null; true`)
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

// published waits until the stream's files are n MP4 files, plays them, and removes them.
func (s studio) published(t *testing.T, stream string, n int) {
	t.Helper()
	var names []string
	s.await(t, "the recordings of "+stream+" to become MP4", func() (bool, error) {
		names = s.names(t, stream)
		return len(names) == n && !slices.ContainsFunc(names, notMP4), nil
	})
	for _, name := range names {
		file := s.Gateway.Path(box.Archive + "/" + name)
		if streams, err := box.Probe(t.Context(), file); err != nil || streams != "h264 aac" {
			t.Errorf("%s contains %q, %v", name, streams, err)
		}
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

func notMP4(name string) bool { return !strings.HasSuffix(name, ".mp4") }

// No recording is lost when publishers, nginx and hooks are killed, or work on the same file.
func TestRecordingsSurvive(t *testing.T) {
	b := server(t)
	s := studio{b, client(t, b, "studio")}
	connect(t, s.camera, "dave")
	start := strings.TrimSpace(run(t, b, "date", "+@%s.%6N"))
	entries := func(pattern string) int { // of the journal
		out, _ := b.Gateway.Journal(t.Context(), "--since="+start, "--grep="+pattern) // fails if there is none
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
			_, err := b.Gateway.Run(t.Context(),
				"runuser", "-u", "www-data", "--", "/usr/sbin/tunnelcast-recorddone", path)
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
		// If the publisher ended first, nginx would call the hook.
		s.await(t, "nginx to end", func() (bool, error) {
			out, _ := b.Gateway.Run(t.Context(), "systemctl", "is-active", "nginx.service")
			return strings.TrimSpace(out) == "inactive", nil
		})
		stop()
		run(t, b, "systemctl", "start", "nginx.service")
		if size, _ := s.flv(t, "terminated"); size == 0 {
			t.Fatalf("the archive contains %v before the sweep", s.names(t, "terminated"))
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
			t.Error("the sweep removed a live recording")
		}
		live()
		s.published(t, "beside", 1)
	})

	// From here on nginx records to one path per stream, and truncates a file that a hook is reading or waiting for.
	const config, names = "/etc/nginx/rtmp.conf", "record_suffix -%Y-%m-%d_%H-%M-%S.flv;"
	guide, err := b.Gateway.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	configure := func(how string) {
		t.Helper()
		err := b.Gateway.WriteFile(config, strings.Replace(guide, names, how, 1), 0o644)
		// At the end of the test its context has ended.
		ctx := context.WithoutCancel(t.Context())
		_, rerr := b.Gateway.Run(ctx, "systemctl", "restart", "nginx.service")
		if err := errors.Join(err, rerr); err != nil {
			t.Fatal(err)
		}
	}
	defer configure(names)

	t.Run("the path is recorded to again", func(t *testing.T) {
		configure("record_suffix .flv; record_unique off;")
		s.publish(t, "again")()
		s.await(t, "the first recording", func() (bool, error) {
			return slices.Equal(s.names(t, "again"), []string{"again.mp4"}), nil
		})

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
		s.await(t, "the entry that it was left alone", func() (bool, error) {
			return entries("left alone.*/again.flv") > 0, nil
		})
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
			out, _ := b.Gateway.Run(t.Context(), "sh", "-c", `nginx=$(cat /run/nginx.pid)
for p in $(cat /proc/$nginx/task/$nginx/children); do find /proc/$p/fd -lname '*.flv (deleted)'; done`)
			if out != "" {
				return true, errors.New("nginx is recording to a file that was removed")
			}
			return false, nil
		})
		s.waiting(t, "rotated", 0)
		published := 0
		s.await(t, "all recordings that the journal reports", func() (bool, error) {
			// The publisher may have ended when nginx had just begun another file.
			size, _ := s.flv(t, "rotated")
			if size > 0 && size < 500 && entries("/rotated.flv: no audio and no video") > 0 {
				return false, os.Remove(b.Gateway.Path(box.Archive + "/rotated.flv"))
			}
			published = len(s.names(t, "rotated"))
			return published > 0 && published == entries("recording published.*/rotated"), nil
		})
		s.published(t, "rotated", published)
	})
}

// Command screenshots makes the pictures in docs of what a viewer sees: the list of recordings, a recording that is
// played, and the page of the clients. It boots the guide's server, connects clients, publishes a stream and looks at
// the server with Chromium from one of the clients. Times, durations and sizes are set to fixed values, so that the
// pictures change only when the pages do.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/packaging"
)

func main() {
	deb := flag.String("deb", "", "the package to install, as make deb leaves it in bin/")
	dir := flag.String("out", "docs", "the directory for the pictures")
	only := flag.String("only", "", "the name of the one picture to make")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, *deb, *dir, *only); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

// A shot is one picture.
type shot struct {
	name          string // of the file, without .png
	page          string // path at the server
	width, height int    // pixels of the page
	dark          bool
}

// The list and the pages are shown inside a frame of the wanted width, because Chromium has no window that is as narrow
// as a phone.
var shots = []shot{
	{name: "viewer-archive", page: "/archive/", width: 760, height: 280},
	{name: "viewer-archive-phone", page: "/archive/", width: 375, height: 280, dark: true},
	{name: "viewer-playback", page: "/play.html", width: 640, height: 360},
	{name: "viewer-clients", page: "/clients.html", width: 900, height: 425},
	{name: "viewer-clients-phone", page: "/clients.html", width: 375, height: 800, dark: true},
}

func run(ctx context.Context, deb, dir, only string) (err error) {
	if err := box.Missing(); err != nil {
		return err
	}
	for _, tool := range []string{"chromium", "pngquant"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: packaging/setup.sh installs it", err)
		}
	}
	if _, err := os.Stat(deb); err != nil {
		return fmt.Errorf("find the package to install: %w", err)
	}
	step := func(what string) { fmt.Fprintln(os.Stderr, "screenshots:", what) }
	b, err := box.Start(ctx, box.Options{Suite: cmp.Or(os.Getenv("TUNNELCAST_SUITE"), "bookworm"), Step: step})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	s := &studio{ctx: ctx, box: b, step: step}
	if err := s.prepare(deb); err != nil {
		return b.Explain(err)
	}
	for _, shot := range shots {
		if only != "" && only != shot.name {
			continue
		}
		step("picture " + shot.name)
		if err := s.take(shot, filepath.Join(dir, shot.name+".png")); err != nil {
			return b.Explain(err)
		}
	}
	return nil
}

// A studio is the server with clients, of which one looks at it.
type studio struct {
	ctx    context.Context
	box    *box.Box
	viewer *box.Client
	step   func(string)
}

// updownConf has sync write the page of the clients.
const updownConf = `page = "/var/www/html/live.html"
[names]
"carol" = "carol-of-the-media-center-of-the-university"
`

// playPage shows a recording, paused at a second. The empty script arrives slowly, and the screenshot waits for it:
// until the browser has drawn the frame.
const playPage = `<!DOCTYPE html>
<meta charset="utf-8">
<title>FILE</title>
<style>html, body { margin: 0; background: black } video { display: block; width: 100vw; height: 100vh }</style>
<video controls muted src="/archive/FILE"></video>
<script async src="http://10.0.0.1:8081/slow.js"></script>
<script>
const video = document.querySelector("video")
video.onloadedmetadata = () => { video.currentTime = 8.5 }
</script>
`

// slowSite serves a file within ten seconds.
const slowSite = `server {
	listen 10.0.0.1:8081;
	root /var/www/html;
	limit_rate 8k;
}
`

// framePage shows a page in a frame.
const framePage = `<!DOCTYPE html>
<meta charset="utf-8">
<meta name="color-scheme" content="%s">
<style>html, body { margin: 0 } iframe { border: 0; display: block; width: %dpx; height: %dpx }</style>
<iframe src="%s"></iframe>
`

func (s *studio) gateway(script string) error {
	_, err := s.box.Gateway.Run(s.ctx, "sh", "-ec", script)
	return err
}

// prepare installs the package, connects clients, and has a recording made.
func (s *studio) prepare(deb string) error {
	s.step("installing the package")
	if err := s.box.Gateway.Install(s.ctx, deb); err != nil {
		return err
	}
	site, err := packaging.Examples.ReadFile("examples/nginx-archive.conf")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"/etc/nginx/conf.d/archive.conf": string(site),
		"/etc/nginx/conf.d/slow.conf":    slowSite,
		"/var/www/html/slow.js":          strings.Repeat("\n", 80<<10),
		"/etc/tunnelcast/updown.toml":    updownConf,
	} {
		if err := s.box.Gateway.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	if err := s.gateway("rm -f /etc/nginx/sites-enabled/default; systemctl restart nginx"); err != nil {
		return err
	}
	for _, user := range box.Users {
		s.step(user + " connects")
		c, err := s.box.Client(s.ctx, "screen")
		if err != nil {
			return err
		}
		if _, err := c.Connect(s.ctx, user); err != nil {
			return err
		}
		s.viewer = cmp.Or(s.viewer, c)
	}
	s.step("publishing a stream of 12 s")
	if err := s.publish("lecture-04"); err != nil {
		return err
	}
	if err := box.Poll(s.ctx, box.Patience, "the recording to become an MP4", func() (bool, error) {
		names, err := s.box.Gateway.Recordings()
		return len(names) == 1 && strings.HasSuffix(names[0], ".mp4"), err
	}); err != nil {
		return err
	}
	return s.settle()
}

// publish sends a test picture with a counter, of the shape of a screen, as a stream of 12 seconds.
func (s *studio) publish(stream string) error {
	dir, err := os.MkdirTemp("", "tunnelcast-screenshot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "stream.flv")
	_, err = box.Output(s.ctx, "ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i",
		"testsrc=size=640x360:rate=25", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "12",
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-c:a", "aac", file)
	if err != nil {
		return err
	}
	return s.viewer.PublishFile(s.ctx, stream, file)
}

// recordings are the names in the list, with their sizes in KiB. The first is the one that was made.
var recordings = []struct {
	name string
	kib  int
	time string
}{
	{"lecture-04-2026-11-20_13-00-02.mp4", 0, "2026-11-20 14:31"},
	{"lecture-03-2026-11-19_13-00-05.mp4", 1_433_600, "2026-11-19 14:30"},
	{"lecture-02-2026-11-18_13-00-03.mp4", 1_392_640, "2026-11-18 14:28"},
	{"orchestra-rehearsal-2026-11-19_18-02-44.mp4", 884_736, "2026-11-19 19:20"},
	{"ゼミ発表-2026-11-19_10-40-12.mp4", 512_000, "2026-11-19 11:25"},
}

// settle gives everything that the pages show a fixed time and size.
func (s *studio) settle() error {
	script := "cd " + box.Archive + "; mv *.mp4 '" + recordings[0].name + "'\n"
	for _, r := range recordings {
		if r.kib > 0 {
			script += fmt.Sprintf("truncate -s %dK '%s'\n", r.kib, r.name)
		}
		script += fmt.Sprintf("touch -d '%s' '%s'\n", r.time, r.name)
	}
	if err := s.gateway(script + "touch -d '2026-11-20 14:31' ."); err != nil {
		return err
	}
	if err := box.Poll(s.ctx, box.Patience, "the page of the clients", func() (bool, error) {
		_ = s.gateway("systemctl start tunnelcast-sync.service")
		page, _ := s.box.Gateway.ReadFile("/var/www/html/live.html")
		return strings.Contains(page, fmt.Sprintf("%d connected", len(box.Users))), nil
	}); err != nil {
		return err
	}
	page, err := s.box.Gateway.ReadFile("/var/www/html/live.html")
	if err != nil {
		return err
	}
	play := strings.ReplaceAll(playPage, "FILE", recordings[0].name)
	return errors.Join(s.box.Gateway.WriteFile("/var/www/html/clients.html", fixed(page), 0o644),
		s.box.Gateway.WriteFile("/var/www/html/play.html", play, 0o644))
}

// fixed returns the page of the clients with other values in place of those that differ from run to run.
func fixed(page string) string {
	for _, field := range []struct {
		pattern string
		values  []string // one for each client; the last for all others
	}{
		{`(data-label="connected"><span>)[^<]*()`, []string{"2 h 07 min", "41 min", "18 min", "3 min"}},
		{`(data-label="traffic"><span>)[^<]*( in</span>)`, []string{"1.4 GB", "12.6 MB", "830.2 MB", "96.0 KB"}},
		{`(<small>)[^<]*( out</small>)`, []string{"38.1 MB", "2.3 GB", "1.1 GB", "310.5 KB"}},
		{`(<time datetime="[^"]*">)[^<]*( UTC</time>)`, []string{"2026-11-20 05:31:00"}},
	} {
		n := 0
		page = regexp.MustCompile(field.pattern).ReplaceAllStringFunc(page, func(found string) string {
			parts := regexp.MustCompile(field.pattern).FindStringSubmatch(found)
			value := field.values[min(n, len(field.values)-1)]
			n++
			return parts[1] + value + parts[2]
		})
	}
	return page
}

// take makes one picture, and reduces its colours to 256.
func (s *studio) take(shot shot, file string) error {
	scheme, preferred := "light", "1"
	if shot.dark {
		scheme, preferred = "dark", "0"
	}
	frame := fmt.Sprintf(framePage, scheme, shot.width, shot.height, shot.page)
	if err := s.box.Gateway.WriteFile("/var/www/html/frame.html", frame, 0o644); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tunnelcast-screenshot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	raw := filepath.Join(dir, "raw.png")
	err = s.viewer.Look(s.ctx, "http://"+box.Inside+"/frame.html", "--screenshot="+raw, "--hide-scrollbars",
		fmt.Sprintf("--window-size=%d,%d", shot.width, shot.height),
		"--blink-settings=preferredColorScheme="+preferred)
	if err != nil {
		return err
	}
	_, err = box.Output(s.ctx, "pngquant", "--force", "--strip", "--speed=1", "--output", file, "64", raw)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

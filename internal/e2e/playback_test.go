package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording/recordingtest"
)

// The recordings are served twice, the second time so slowly that the test notices if the browser waits for a whole
// file. The log shows which part of a file was requested.
const playbackSite = `log_format playback '$request_uri $status $http_range';
server {
	listen 10.0.0.1:8080;
	root /var/www/html;
	access_log /var/log/nginx/playback.log playback;
	location /slow/ { alias /var/www/html/archive/; limit_rate 64k; }
}
`

// playbackPage plays each file, and reports what it has seen in a request, which the server logs.
const playbackPage = `<!DOCTYPE html>
<title>playback</title>
<body><script>
async function play(file, patience) {
	const video = document.body.appendChild(document.createElement("video"))
	const until = (what, ready) => new Promise((resolve, reject) => {
		const began = performance.now()
		const look = () => {
			if (ready()) resolve()
			else if (video.error) reject(what + ": " + video.error.message)
			else if (performance.now() - began > patience)
				reject(what + ": not within " + patience + " ms, at " + video.currentTime)
			else setTimeout(look, 10)
		}
		look()
	})
	// The brightness of a picture is its time in seconds: see lesson.
	const canvas = document.createElement("canvas")
	canvas.width = canvas.height = 1
	const picture = () => {
		if (!video.videoWidth) return -1
		const to = canvas.getContext("2d")
		to.drawImage(video, 0, 0, video.videoWidth, video.videoHeight / 4, 0, 0, 1, 1)
		return (to.getImageData(0, 0, 1, 1).data[1] * 219 / 255 - 4) / 15
	}
	const seen = {seeks: []}
	try {
		video.src = file
		await until("metadata", () => video.readyState >= 1)
		Object.assign(seen, {duration: video.duration, width: video.videoWidth, height: video.videoHeight})
		video.play()
		await until("play", () => video.currentTime > 0.5)
		seen.loaded = video.buffered.end(0)
		for (const part of [0.95, 0.5, 0.75, 0.1, 0]) {
			const to = part * video.duration
			video.pause()
			video.currentTime = to
			await until("seek to " + to, () => !video.seeking && video.readyState >= 2)
			const seek = {to, at: video.currentTime, picture: picture()}
			seen.seeks.push(seek)
			video.play()
			await until("play from " + to, () => video.currentTime > to + 0.2)
		}
		await until("end", () => { video.currentTime = video.duration - 0.2; return true })
		await until("end", () => video.ended)
		Object.assign(seen, {frames: video.webkitDecodedFrameCount, sound: video.webkitAudioDecodedByteCount})
	} catch (error) {
		seen.error = String(error)
	}
	video.remove()
	await fetch("/seen" + file + "?" + encodeURIComponent(JSON.stringify(seen)))
}
(async () => { for (const file of FILES) await play(file, 60000) })()
</script>
`

// seen is what the page reports about a file.
type seen struct {
	Duration      float64 // seconds
	Width, Height int
	Loaded        float64 // seconds of the file that had been loaded when it played
	Seeks         []struct{ To, At, Picture float64 }
	Frames, Sound int // decoded frames, and bytes of sound
	Error         string
}

// lesson makes an FLV file. In every second the upper half of the picture is brighter by 15; the lower half is noise.
// If size is "" the file has sound only.
func lesson(t *testing.T, size string, seconds int) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lesson.flv")
	args := []string{"-v", "error", "-nostdin", "-f", "lavfi", "-i", "sine=f=440:r=48000"}
	if size != "" {
		gray := "color=gray:s=" + size + ":r=25,"
		args = append(args, "-f", "lavfi", "-i",
			gray+"geq=lum=20+15*floor(T):cb=128:cr=128[a];"+gray+"noise=alls=40:allf=t[b];[a][b]vstack",
			"-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "25", "-bf", "2",
			"-b:v", "1M", "-maxrate", "1M", "-bufsize", "1M")
	}
	args = append(args, "-t", fmt.Sprint(seconds), "-c:a", "aac", file)
	out, err := exec.CommandContext(t.Context(), "ffmpeg", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	flv, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return flv
}

// A browser on a VPN client plays the MP4s that recorddone has made, before it has loaded them, and from wherever one
// clicks.
func TestPlayback(t *testing.T) {
	b := server(t)
	promised.Program(t, "chromium")
	s := studio{b, client(t, b, "viewer")}
	connect(t, s.camera, "carol")

	type recording struct {
		width, height int
		seconds       float64
	}
	want := map[string]recording{} // by path at the server
	for _, stream := range []struct {
		name  string
		flv   []byte
		parts []recording
	}{
		{"lesson", lesson(t, "320x120", 12), []recording{{320, 240, 12}}},
		{"changes", recordingtest.Append(lesson(t, "320x120", 5), lesson(t, "480x104", 4), 5000),
			[]recording{{320, 240, 5}, {480, 208, 4}}},
		{"music", lesson(t, "", 5), []recording{{0, 0, 5}}},
	} {
		file := filepath.Join(t.TempDir(), stream.name+".flv")
		if err := os.WriteFile(file, stream.flv, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.camera.PublishFile(t.Context(), stream.name, file); err != nil {
			t.Fatal(err)
		}
		var names []string
		s.await(t, "the recording of "+stream.name+" to become MP4", func() (bool, error) {
			names = s.names(t, stream.name)
			return len(names) == len(stream.parts) && !strings.Contains(strings.Join(names, " "), ".flv"), nil
		})
		// NAME-2.mp4 sorts before NAME.mp4.
		for i, name := range names {
			want["/archive/"+name] = stream.parts[len(names)-1-i]
			t.Cleanup(func() { os.Remove(b.Gateway.Path(box.Archive + "/" + name)) })
			if stream.name == "lesson" {
				want["/slow/"+name] = stream.parts[0]
			}
		}
	}

	var files []string
	for file := range want {
		files = append(files, file)
	}
	list, err := json.Marshal(files)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"/etc/nginx/conf.d/playback.conf": playbackSite,
		"/var/www/html/playback.html":     strings.Replace(playbackPage, "FILES", string(list), 1),
	} {
		if err := b.Gateway.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(b.Gateway.Path(name)) })
	}
	run(t, b, "systemctl", "reload", "nginx.service")

	ctx, cancel := context.WithCancel(t.Context())
	browser := make(chan error, 1)
	go func() { browser <- s.camera.Browse(ctx, "http://"+box.Inside+":8080/playback.html") }()
	defer func() {
		cancel()
		<-browser
	}()
	log := ""
	for _, file := range files {
		var got seen
		s.await(t, "the browser to have played "+file, func() (bool, error) {
			select {
			case err := <-browser:
				browser <- err
				return true, cmp.Or(err, fmt.Errorf("the browser has ended"))
			default:
			}
			log, _ = b.Gateway.ReadFile("/var/log/nginx/playback.log") // does not exist before the first request
			_, report, ok := strings.Cut(log, "/seen"+file+"?")
			if !ok {
				return false, nil
			}
			report, err := url.PathUnescape(strings.Fields(report)[0])
			if err != nil {
				return true, err
			}
			return true, json.Unmarshal([]byte(report), &got)
		})
		t.Logf("%s: %+v", file, got)
		want := want[file]
		if got.Error != "" {
			t.Errorf("%s: %s", file, got.Error)
		}
		if got.Width != want.width || got.Height != want.height || math.Abs(got.Duration-want.seconds) > 0.5 {
			t.Errorf("%s: %dx%d, %.2f s; want %dx%d, %v s", file,
				got.Width, got.Height, got.Duration, want.width, want.height, want.seconds)
		}
		for _, seek := range got.Seeks {
			if math.Abs(seek.At-seek.To) > 0.1 {
				t.Errorf("%s: a seek to %.2f s went to %.2f s", file, seek.To, seek.At)
			}
			if want.width > 0 && math.Abs(seek.Picture+0.5-seek.At) > 0.75 {
				t.Errorf("%s: at %.2f s the picture is that of second %.1f", file, seek.At, seek.Picture)
			}
		}
		if got.Sound == 0 || want.width > 0 && got.Frames == 0 {
			t.Errorf("%s: %d frames and %d bytes of sound decoded", file, got.Frames, got.Sound)
		}
		part, inMiddle := false, false
		for line := range strings.Lines(log) {
			if f := strings.Fields(line); f[0] == file {
				part = part || f[1] == "206"
				inMiddle = inMiddle || strings.HasPrefix(f[2], "bytes=") && !strings.HasPrefix(f[2], "bytes=0-")
			}
		}
		if !part {
			t.Errorf("%s: nginx answered no request for a part:\n%s", file, log)
		}
		if strings.HasPrefix(file, "/slow/") {
			if got.Loaded > got.Duration/2 {
				t.Errorf("%s: it began to play when %.1f s of %.1f s were loaded", file, got.Loaded, got.Duration)
			}
			if !inMiddle {
				t.Errorf("%s: the browser asked for no part in the middle:\n%s", file, log)
			}
		}
	}
}

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/e2e/vm"
	"tunnelcast/internal/recording"
	"tunnelcast/internal/recording/recordingtest"
)

// cutArchive is where an archive is mounted whose power is cut.
const cutArchive = "/srv/archive"

// An archiveTrial is an archive of recordings that are published while the power is cut.
type archiveTrial struct {
	*cutDisk
	flvs  map[string]string   // the SHA-256 of each FLV
	mp4s  map[string][]string // the names of the MP4s of each FLV, in the order of its reports
	whole map[string]string   // the SHA-256 of each MP4
	stay  []string            // the FLVs that stay, because their MP4 lacks something
}

// newArchiveTrial makes an archive of three recordings: a plain one, one that becomes two MP4s, and one that is
// damaged.
func newArchiveTrial(t *testing.T, m *vm.Machine, fs cutFS, name string) *archiveTrial {
	t.Helper()
	a := &archiveTrial{
		cutDisk: newCutDisk(t, m, fs, name, cutArchive), flvs: map[string]string{}, whole: map[string]string{},
		mp4s: map[string][]string{
			"plain.flv": {"plain.mp4"}, "parts.flv": {"parts.mp4", "parts-2.mp4"}, "damaged.flv": {"damaged.mp4"},
		},
		stay: []string{"damaged.flv"},
	}
	plain := recordingtest.Sample(t, 3, "200k")
	parts := recordingtest.Append(recordingtest.Sample(t, 1, "200k"), recordingtest.Encode(t,
		"-f", "lavfi", "-i", "testsrc2=s=160x120:r=25", "-t", "1", "-c:v", "libx264", "-preset", "ultrafast",
		"-pix_fmt", "yuv420p", "-g", "12"), 1000)
	damaged := slices.Clone(recordingtest.Sample(t, 2, "200k"))
	for i := len(damaged) / 2; i < len(damaged)/2+3000; i++ { // at least one tag
		damaged[i] ^= 0x55
	}
	for name, content := range map[string][]byte{"plain.flv": plain, "parts.flv": parts, "damaged.flv": damaged} {
		a.put(name, content)
	}
	return a
}

// put writes a recording of nginx's user.
func (a *archiveTrial) put(name string, content []byte) {
	a.t.Helper()
	if err := a.m.WriteFile(filepath.Join(a.dir, name), string(content), 0o644); err != nil {
		a.t.Fatal(err)
	}
	a.shell(`chown www-data:www-data "$1"`, filepath.Join(a.dir, name))
	a.flvs[name] = sumOf(content)
}

// finished notes what the MP4s are when all is done.
func (a *archiveTrial) finished() {
	a.t.Helper()
	sums := a.sums()
	for flv, mp4s := range a.mp4s {
		for _, mp4 := range mp4s {
			if a.whole[mp4] = sums[mp4]; sums[mp4] == "" {
				a.t.Fatalf("%s was not published as %s: the archive contains %v", flv, mp4, sums)
			}
		}
	}
}

// look returns what must not be so after a power cut. reports are the FLVs in the order in which they were reported as
// published.
func (a *archiveTrial) look(reports []string) func(files map[string]string, done int) []string {
	return func(files map[string]string, done int) (wrong []string) {
		var sources []string // the FLVs that are whole, under their own name or a hidden one
		for name, sum := range files {
			for flv, whole := range a.flvs {
				if sum == whole && (name == flv || name == recording.HiddenSource(flv)) {
					sources = append(sources, flv)
				}
			}
			if want, known := a.whole[name]; strings.HasSuffix(name, ".mp4") && (!known || sum != want) {
				wrong = append(wrong, name+" is not whole")
			}
		}
		for flv, mp4s := range a.mp4s {
			published := !slices.ContainsFunc(mp4s, func(mp4 string) bool { return files[mp4] != a.whole[mp4] })
			flvIsThere := slices.Contains(sources, flv)
			if !flvIsThere && (!published || slices.Contains(a.stay, flv)) {
				wrong = append(wrong, flv+" is lost")
			}
			if !published && slices.Contains(reports[:done], flv) {
				wrong = append(wrong, flv+" was reported as published and is not")
			}
		}
		slices.Sort(wrong)
		return wrong
	}
}

// nextSweep sweeps what each power cut has left. Everything must then be as if there had been none.
func (a *archiveTrial) nextSweep() {
	a.t.Helper()
	want := map[string]string{}
	for mp4, sum := range a.whole {
		want[mp4] = sum
	}
	for _, flv := range a.stay {
		want[flv] = a.flvs[flv]
	}
	a.next(`status=0
runuser -u www-data -- env -i /usr/sbin/tunnelcast-recorddone sweep $PWD || status=$?
# 3: the damaged recording was published by this run.
[ $status = 0 ] || [ $status = 3 ]`, func(files map[string]string) (wrong []string) {
		for name, sum := range want {
			if files[name] != sum {
				wrong = append(wrong, fmt.Sprintf("%s is missing or not whole", name))
			}
		}
		for name, sum := range files {
			// Without a journal, e2fsck finds removed files again, and their blocks may have been reused.
			found := strings.HasPrefix(name, "lost+found/") || a.flvs[name] != "" && a.flvs[name] != sum
			if want[name] == "" && (a.fs.commits || !found) {
				wrong = append(wrong, name+" is left")
			}
		}
		return wrong
	})
}

// pruneTrial prunes an archive by age and then, oldest first, by size. A power cut may bring back what was removed, and
// the next run removes it. What the policy keeps stays.
func pruneTrial(t *testing.T, m *vm.Machine, fs cutFS) {
	d := newCutDisk(t, m, fs, "prune", cutArchive)
	// 6 directories of 10 recordings of 8 KiB, from an hour to 180 hours old.
	d.shell(`cd "$1"
for i in $(seq 60); do
	mkdir -p $((i % 6))
	head -c 8192 /dev/urandom >$((i % 6))/$i.mp4
	touch -d "$((i * 3)) hours ago" $((i % 6))/$i.mp4
done
chown -R www-data:www-data .`, d.dir)
	all := d.sums()
	d.begin()
	const run = `cd %s; for limit in --max-size=1G --max-size=160KiB --max-size=80KiB; do
	runuser -u www-data -- env -i /usr/sbin/tunnelcast-archiveprune "$PWD" --max-age=72h $limit
	%s
done`
	d.shell(fmt.Sprintf(run, d.dir, "sync -f ."))
	d.reported()
	d.end()
	stay := d.sums()
	if len(stay) == 0 || len(stay) > 12 {
		t.Fatalf("of %d recordings, %d stay", len(all), len(stay))
	}
	wrong := func(files map[string]string, maybe map[string]string) (wrong []string) {
		for name, sum := range stay {
			if files[name] != sum {
				wrong = append(wrong, name+" is lost")
			}
		}
		for name, sum := range files {
			// Without a journal, e2fsck finds removed files that it has no names for.
			if maybe[name] != sum && !strings.HasPrefix(name, "lost+found/") {
				wrong = append(wrong, name+" is there and is not what it was")
			}
		}
		return wrong
	}
	d.check(func(files map[string]string, _ int) []string { return wrong(files, all) })
	d.next(fmt.Sprintf(run, ".", ":"), func(files map[string]string) []string { return wrong(files, stay) })
}

// isLong reports whether tests that take minutes are to run, too.
func isLong() bool { return os.Getenv("TUNNELCAST_LONG") != "" }

// long skips a test that takes minutes.
func long(t *testing.T) {
	t.Helper()
	if !isLong() {
		t.Skip("TUNNELCAST_LONG is not set")
	}
}

// nginxTrial publishes streams, so that nginx records each and calls recorddone. An FLV that is on the disk stays until
// its MP4 is.
func nginxTrial(t *testing.T, m *vm.Machine, fs cutFS) {
	camera, err := m.Client(t.Context(), "camera")
	if err != nil {
		t.Fatal(err)
	}
	defer camera.Close()
	if _, err := camera.Connect(t.Context(), "dave"); err != nil {
		t.Fatal(m.Explain(err))
	}
	d := newCutDisk(t, m, fs, "nginx", box.Archive)
	d.begin()
	streams := []string{"garden", "door", "street"}
	for _, stream := range streams {
		published := make(chan error, 1)
		go func() { published <- camera.Publish(t.Context(), stream, 5) }()
		d.shell(`cd "$1"; until [ -s "$(echo $2-*.flv)" ]; do sleep 0.2; done; sync`, d.dir, stream)
		d.reported() // that the FLV is on the disk
		if err := <-published; err != nil {
			t.Fatal(err)
		}
		d.shell(`cd "$1"
until [ -e "$(echo $2-*.mp4)" ] && [ ! -e "$(echo $2-*.flv)" ]; do sleep 0.2; done`, d.dir, stream)
		d.reported() // that the MP4 is
	}
	d.end()
	whole := d.sums()
	if len(whole) != len(streams) {
		t.Fatalf("the archive contains %v", whole)
	}
	d.check(func(files map[string]string, done int) (wrong []string) {
		flv, mp4 := map[string]bool{}, map[string]bool{}
		hidden := 0 // recordings that were set aside for their removal
		for name, sum := range files {
			stream, _, _ := strings.Cut(name, "-")
			switch {
			case recording.IsHiddenSource(name):
				hidden++
			case strings.HasSuffix(name, ".flv"):
				flv[stream] = true
			case strings.HasSuffix(name, ".mp4"):
				if mp4[stream] = sum == whole[name]; !mp4[stream] {
					wrong = append(wrong, name+" is not whole")
				}
			}
		}
		for i, stream := range streams {
			there := flv[stream] || mp4[stream] || hidden > 0
			if done > 2*i && !there || done > 2*i+1 && !mp4[stream] {
				wrong = append(wrong, "the recording of "+stream+" is lost")
			}
		}
		return wrong
	})
}

// order is the order in which recordings are published.
var order = []string{"plain.flv", "parts.flv", "damaged.flv"}

// publish publishes one recording after the other, as a person does by hand.
func (a *archiveTrial) publish() {
	a.t.Helper()
	for _, flv := range order {
		status := "0"
		if slices.Contains(a.stay, flv) {
			status = "3"
		}
		a.shell(`status=0
runuser -u www-data -- env -i /usr/sbin/tunnelcast-recorddone "$1" || status=$?
[ $status = $2 ]`, filepath.Join(a.dir, flv), status)
		a.reported()
	}
	a.end()
	a.finished()
}

func publishTrial(t *testing.T, m *vm.Machine, fs cutFS) {
	a := newArchiveTrial(t, m, fs, "publish")
	a.begin()
	a.publish()
	a.check(a.look(order))
	a.nextSweep()
}

// sweepTrial publishes all recordings in one run of sweep.
func sweepTrial(t *testing.T, m *vm.Machine, fs cutFS) {
	a := newArchiveTrial(t, m, fs, "sweep")
	a.begin()
	a.shell(`status=0
runuser -u www-data -- env -i /usr/sbin/tunnelcast-recorddone sweep "$1" || status=$?
[ $status = 3 ]`, a.dir)
	for range order {
		a.reported()
	}
	a.end()
	a.finished()
	a.check(a.look(order))
	a.nextSweep()
}

// TestMachinePowerCut cuts the power at every write of each program, and looks at what is left.
func TestMachinePowerCut(t *testing.T) {
	m := machine(t)
	// What runs by itself would write to the disks, too.
	inMachine(t, m, "systemctl stop tunnelcast-sweep.timer cron.service")
	// As certhook check asks for: otherwise charon has no key.
	inMachine(t, m, `echo '/etc/letsencrypt/archive/*/privkey*.pem r,' >>/etc/apparmor.d/local/usr.sbin.swanctl
apparmor_parser -r /etc/apparmor.d/usr.sbin.swanctl
swanctl --load-all --noprompt`)

	t.Run("publish", func(t *testing.T) { publishTrial(t, m, ext4) })

	// What the guide's script does, without ffmpeg, must be found: otherwise the test shows nothing.
	t.Run("script", func(t *testing.T) {
		a := newArchiveTrial(t, m, ext4, "script")
		a.begin()
		for _, flv := range order {
			a.shell(`cd "$1"; cat "$2.flv" /etc/services >.work; mv .work "$2.mp4"; rm "$2.flv"`,
				a.dir, strings.TrimSuffix(flv, ".flv"))
			a.reported()
		}
		a.end()
		a.stay = nil
		a.mp4s["parts.flv"] = []string{"parts.mp4"}
		a.finished()
		found := map[string]bool{}
		for _, o := range a.try(a.look(order)).Outcomes {
			for _, wrong := range o.Wrong {
				_, what, _ := strings.Cut(wrong, " ")
				found[what] = true
			}
		}
		for _, want := range []string{"is lost", "is not whole", "was reported as published and is not"} {
			if !found[want] {
				t.Errorf("of a script that syncs nothing, it was not found that a recording %s", want)
			}
		}
	})

	t.Run("issuers", func(t *testing.T) { issuersTrial(t, m) })
	t.Run("metrics", func(t *testing.T) { long(t); metricsTrial(t, m) })
	t.Run("memory", func(t *testing.T) { long(t); memoryTrial(t, m) })
	t.Run("nginx", func(t *testing.T) { long(t); nginxTrial(t, m, ext4) })
	t.Run("prune", func(t *testing.T) { long(t); pruneTrial(t, m, ext4) })
	t.Run("sweep", func(t *testing.T) { long(t); sweepTrial(t, m, ext4) })
	for _, fs := range []cutFS{ext4NoJournal, btrfs} {
		t.Run(fs.name, func(t *testing.T) {
			t.Run("publish", func(t *testing.T) {
				if fs.mounts {
					long(t)
				}
				publishTrial(t, m, fs)
			})
			long(t)
			t.Run("sweep", func(t *testing.T) { sweepTrial(t, m, fs) })
			t.Run("prune", func(t *testing.T) { pruneTrial(t, m, fs) })
			t.Run("nginx", func(t *testing.T) { nginxTrial(t, m, fs) })
		})
	}
}

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/e2e/powercut"
	"tunnelcast/internal/e2e/vm"
	"tunnelcast/internal/promised"
)

// A cutDisk is an ext4 file system with default options in a machine. The disk logs its writes.
type cutDisk struct {
	t      *testing.T
	m      *vm.Machine
	name   string
	dir    string // where it is mounted
	device string
	files  string // a directory of this computer for the disk and its log
	disk   vm.Disk
	before []byte // the disk, when it was plugged in
	from   int    // the first entry of the log at which the power is cut
	done   []int
	kept   []*powercut.Outcome // with what the power cut left of each, in the file outcomes
}

// cutSize is the size of a disk, in bytes. Each state is compared with it.
const cutSize = 24 << 20

// newCutDisk makes an ext4 file system on a disk, plugs it into the machine and mounts it at dir. Its root belongs to
// www-data.
func newCutDisk(t *testing.T, m *vm.Machine, name, dir string) *cutDisk {
	t.Helper()
	d := &cutDisk{t: t, m: m, name: name, dir: dir, files: t.TempDir()}
	d.disk = vm.Disk{Name: name, File: filepath.Join(d.files, "disk"), Log: filepath.Join(d.files, "log")}
	err := os.WriteFile(d.disk.File, nil, 0o600)
	if err == nil {
		err = os.Truncate(d.disk.File, cutSize)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), promised.Program(t, "mkfs.ext4"), "-q", "-F",
		"-E", "lazy_itable_init=0,lazy_journal_init=0", // so that only the programs cause writes
		d.disk.File).CombinedOutput()
	if err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	if d.before, err = os.ReadFile(d.disk.File); err != nil {
		t.Fatal(err)
	}
	if d.device, err = m.Plug(t.Context(), d.disk); err != nil {
		t.Fatal(err)
	}
	d.shell(`mkdir -p "$1"
mount "$2" "$1"
rm -rf "$1/lost+found"
chown www-data:www-data "$1"`, dir, d.device)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
		defer cancel()
		if _, err := m.Shell(ctx, `umount "$1"`, dir); err != nil {
			t.Error(err)
		}
		if err := m.Unplug(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return d
}

// shell runs a script in the machine, which must succeed, and returns its standard output.
func (d *cutDisk) shell(script string, args ...string) string {
	d.t.Helper()
	return inMachine(d.t, d.m, script, args...)
}

func inMachine(t *testing.T, m *vm.Machine, script string, args ...string) string {
	t.Helper()
	out, err := m.Shell(t.Context(), script, args...)
	if err != nil {
		t.Fatal(m.Explain(err))
	}
	return out
}

func (d *cutDisk) logged() int {
	d.t.Helper()
	n, err := powercut.Logged(d.disk.Log)
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// begin syncs what was prepared. The power is cut at every write from here on.
func (d *cutDisk) begin() {
	d.t.Helper()
	d.shell("sync")
	d.from = d.logged()
}

// reported notes that a program has reported that its work is done: from now on it must be on the disk.
func (d *cutDisk) reported() {
	d.t.Helper()
	d.done = append(d.done, d.logged())
}

// end waits until the kernel writes what no program has synced, by itself and in its own order: ext4 commits its
// journal every 5 s. Then it syncs the rest.
func (d *cutDisk) end() {
	d.t.Helper()
	const most = 20 * time.Second // nothing comes if all is synced
	last := d.logged()
	_ = box.Poll(d.t.Context(), most, "a commit of the journal", func() (bool, error) {
		if d.logged() == last {
			return false, nil
		}
		log, err := powercut.ReadLog(d.disk.Log)
		if err != nil {
			return false, err
		}
		flushes := 0
		for _, w := range log[last:] {
			if w.Flush {
				flushes++
			}
		}
		return flushes >= 2, nil // before the commit record and after it
	})
	d.shell("sync")
}

// sums returns the SHA-256 of all files on the disk, by their path.
func (d *cutDisk) sums() map[string]string {
	d.t.Helper()
	return parseSums(d.shell(`cd "$1"; find . -type f -exec sha256sum {} +`, d.dir))
}

func parseSums(lines string) map[string]string {
	sums := map[string]string{}
	for line := range strings.Lines(lines) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ./"); ok {
			sums[name] = sum
		}
	}
	return sums
}

// try cuts the power in every state that the log allows, and looks at the files of each.
func (d *cutDisk) try(look func(files map[string]string, done int) (wrong []string)) powercut.Result {
	d.t.Helper()
	log, err := powercut.ReadLog(d.disk.Log)
	if err != nil {
		d.t.Fatal(err)
	}
	outcomes, err := os.Create(d.outcomes())
	if err != nil {
		d.t.Fatal(err)
	}
	defer outcomes.Close()
	start := time.Now()
	result, err := powercut.Try(d.t.Context(), powercut.Trial{
		Image: d.before, Log: log, From: d.from, Seed: 7, Done: d.done, Recover: powercut.Ext4,
		Look: func(dir string, done int) ([]string, error) {
			files, err := sumsOf(dir)
			return look(files, done), err
		},
		Keep: func(o *powercut.Outcome, image string) error {
			d.kept = append(d.kept, o)
			return copySparse(outcomes, int64(len(d.kept)-1)*cutSize, image)
		},
	})
	if err == nil {
		err = outcomes.Truncate(int64(len(d.kept)) * cutSize)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Logf("%s, %v: %s", d.name, time.Since(start).Round(time.Second), result)
	return result
}

func (d *cutDisk) outcomes() string { return filepath.Join(d.files, "outcomes") }

// check is try for programs that may leave nothing wrong.
func (d *cutDisk) check(look func(files map[string]string, done int) (wrong []string)) {
	d.t.Helper()
	const few = 100
	switch result := d.try(look); {
	case result.Wrong() > 0:
		d.keepFaults()
	case result.States < few:
		d.t.Errorf("only %d states were tried, want at least %d", result.States, few)
	}
}

// keepFaults keeps the disks of the first outcomes in which something is wrong.
func (d *cutDisk) keepFaults() {
	d.t.Helper()
	dir, err := os.MkdirTemp("", "tunnelcast-powercut-")
	if err != nil {
		d.t.Fatal(err)
	}
	shown := 0
	for i, o := range d.kept {
		if len(o.Wrong) == 0 || shown == 5 {
			continue
		}
		shown++
		file := filepath.Join(dir, fmt.Sprintf("%s-%d.img", d.name, i))
		cmd := exec.CommandContext(d.t.Context(), "dd", "status=none", "conv=sparse", "bs=1M", "if="+d.outcomes(),
			"of="+file, fmt.Sprintf("skip=%d", i*cutSize>>20), fmt.Sprintf("count=%d", cutSize>>20))
		if out, err := cmd.CombinedOutput(); err != nil {
			d.t.Fatalf("%v: %s", err, out)
		}
		d.t.Errorf("after a power cut: %s\nstate %s, as the cut left it: e2fsck -fy %s; debugfs -R 'ls -l /' %s",
			strings.Join(o.Wrong, "; "), o.State, file, file)
	}
}

// next mounts each outcome in the machine, as a boot after the power cut does, and runs the script there, which must
// succeed. Then it looks at the files. Without TUNNELCAST_LONG, it does so with a few of the outcomes.
func (d *cutDisk) next(script string, look func(files map[string]string) (wrong []string)) {
	d.t.Helper()
	disk := vm.Disk{Name: d.name + "-cut", File: d.outcomes()}
	device, err := d.m.Plug(d.t.Context(), disk)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() {
		if err := d.m.Unplug(d.t.Context(), disk.Name); err != nil {
			d.t.Error(err)
		}
	}()
	step, tried := 1, 0
	if !isLong() {
		step = max(1, len(d.kept)/4)
	}
	out := d.shell(`device=$1 size=$2 step=$3 last=$4 script=$5 dir=/srv/cut
mkdir -p $dir
modprobe loop
for i in $(seq 0 $step $last); do
	echo "== $i"
	mount -o loop,offset=$((i * size)),sizelimit=$size "$device" $dir || { echo "!! mount failed"; continue; }
	(cd $dir; sh -ec "$script") 2>&1 || echo "!! exit status $?"
	(cd $dir; find . -type f -exec sha256sum {} +)
	umount $dir
done`, device, strconv.Itoa(cutSize), strconv.Itoa(step), strconv.Itoa(len(d.kept)-1), script)
	for section := range strings.SplitSeq(strings.TrimPrefix(out, "== "), "\n== ") {
		number, rest, _ := strings.Cut(section, "\n")
		i, err := strconv.Atoi(number)
		if err != nil || i >= len(d.kept) {
			d.t.Fatalf("unexpected output of the machine: %s", out)
		}
		tried++
		wrong := look(parseSums(rest))
		if strings.Contains(rest, "!! ") {
			wrong = append(wrong, rest)
		}
		if len(wrong) > 0 {
			d.t.Errorf("after the power cut %s and the next run: %s\nbefore the run:\n%s",
				d.kept[i].State, strings.Join(wrong, "; "), d.kept[i].Files)
		}
	}
	if want := (len(d.kept) + step - 1) / step; tried != want {
		d.t.Errorf("%d outcomes were tried, want %d: %s", tried, want, out)
	}
	d.t.Logf("%s: the next run after %d of %d outcomes", d.name, tried, len(d.kept))
}

func sumsOf(dir string) (map[string]string, error) {
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		sums[name] = sumOf(content)
		return err
	})
	return sums, err
}

func sumOf(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

// copySparse writes the content of a file to to at an offset, without its blocks of zeros.
func copySparse(to *os.File, at int64, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	const size = 64 << 10
	zeros := make([]byte, size)
	for i := 0; i < len(content); i += size {
		block := content[i:min(i+size, len(content))]
		if bytes.Equal(block, zeros[:len(block)]) {
			continue
		}
		if _, err := to.WriteAt(block, at+int64(i)); err != nil {
			return err
		}
	}
	return nil
}

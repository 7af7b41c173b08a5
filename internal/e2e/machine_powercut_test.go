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

// A cutFS is a kind of file system with default options.
type cutFS struct {
	name  string
	make  []string // the command that makes it; the disk's file follows
	mount string   // the options of mount
	check string   // the command of a boot after a power cut, before the mount; the device follows
	size  int64    // of the disk, in bytes. Each state is compared with it.
	whole int      // see powercut.Trial
	// It keeps its own order in a power cut, and commits by itself, some seconds after the programs.
	commits bool
	// Only the kernel can recover it.
	mounts bool
}

var (
	ext4 = cutFS{
		name: "ext4", size: 24 << 20, mount: "defaults", check: ":", commits: true,
		// So that only the programs cause writes.
		make: []string{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"},
	}
	// For memory cards, people leave out the journal.
	ext4NoJournal = cutFS{
		name: "ext4 without a journal", size: 24 << 20, mount: "defaults", check: "e2fsck -fy",
		make: []string{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", "-O", "^has_journal"},
	}
	btrfs = cutFS{
		// Its smallest size with default options is 109 MiB. It commits every 30 s otherwise.
		name: "btrfs", size: 112 << 20, mount: "commit=5", check: ":", commits: true, mounts: true,
		make: []string{"mkfs.btrfs", "-q", "-f"},
		// A mount reads one copy of the superblock only, and relies on a disk that writes 4 KiB whole.
		whole: 4096,
	}
)

// A cutDisk is a file system in a machine. The disk logs its writes.
type cutDisk struct {
	t      *testing.T
	m      *vm.Machine
	fs     cutFS
	name   string
	dir    string // where it is mounted
	device string
	files  string // a directory of this computer for the disk and its log
	disk   vm.Disk
	before []byte // the disk, when it was plugged in
	from   int    // the first entry of the log at which the power is cut
	done   []int
	states bool                // the disk of states is plugged in
	kept   []*powercut.Outcome // with what the power cut left of each, in the file outcomes
}

// newCutDisk makes a file system on a disk, plugs it into the machine and mounts it at dir. Its root belongs to
// www-data.
func newCutDisk(t *testing.T, m *vm.Machine, fs cutFS, name, dir string) *cutDisk {
	t.Helper()
	d := &cutDisk{t: t, m: m, fs: fs, name: name, dir: dir, files: t.TempDir()}
	d.disk = vm.Disk{Name: name, File: filepath.Join(d.files, "disk"), Log: filepath.Join(d.files, "log")}
	err := makeFile(d.disk.File, fs.size)
	if err != nil {
		t.Fatal(err)
	}
	mkfs := exec.CommandContext(t.Context(), promised.Program(t, fs.make[0]), append(fs.make[1:], d.disk.File)...)
	if out, err := mkfs.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", mkfs, err, out)
	}
	if d.before, err = os.ReadFile(d.disk.File); err != nil {
		t.Fatal(err)
	}
	if d.device, err = m.Plug(t.Context(), d.disk); err != nil {
		t.Fatal(err)
	}
	d.shell(`mkdir -p "$1"
mount -o "$3" "$2" "$1"
rm -rf "$1/lost+found"
chown www-data:www-data "$1"`, dir, d.device, fs.mount)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
		defer cancel()
		if err := d.unplug(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

// unplug unmounts the disk and takes it out of the machine, once.
func (d *cutDisk) unplug(ctx context.Context) error {
	if d.device == "" {
		return nil
	}
	d.device = ""
	if _, err := d.m.Shell(ctx, `umount "$1"`, d.dir); err != nil {
		return err
	}
	return d.m.Unplug(ctx, d.name)
}

// makeFile makes a file of zeros.
func makeFile(name string, size int64) error {
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(name, size)
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
	defer d.shell("sync")
	if !d.fs.commits {
		return
	}
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
	recoverFiles := powercut.Ext4
	if d.fs.mounts {
		recoverFiles = d.mount
		if err := d.beginMounts(); err != nil {
			d.t.Fatal(err)
		}
		defer d.endMounts()
	}
	result, err := powercut.Try(d.t.Context(), powercut.Trial{
		Image: d.before, Log: log, From: d.from, Seed: 7, Whole: d.fs.whole, Done: d.done, Recover: recoverFiles,
		Look: func(dir string, done int) ([]string, error) {
			files, err := sumsOf(dir)
			return look(files, done), err
		},
		Keep: func(o *powercut.Outcome, image string) error {
			d.kept = append(d.kept, o)
			return copySparse(outcomes, d.place(len(d.kept)-1), image)
		},
	})
	if err == nil {
		err = outcomes.Truncate(d.place(len(d.kept)))
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Logf("%s on %s, %v: %s", d.name, d.fs.name, time.Since(start).Round(time.Second), result)
	return result
}

func (d *cutDisk) outcomes() string { return filepath.Join(d.files, "outcomes") }

// place returns where an outcome begins in the file outcomes. At its beginning, udev would find a btrfs and tell the
// kernel, which would then mount no older copy.
func (d *cutDisk) place(outcome int) int64 { return int64(outcome+1) * d.fs.size }

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
			"of="+file, fmt.Sprintf("skip=%d", d.place(i)>>20), fmt.Sprintf("count=%d", d.fs.size>>20))
		if out, err := cmd.CombinedOutput(); err != nil {
			d.t.Fatalf("%v: %s", err, out)
		}
		d.t.Errorf("after a power cut: %s\nstate %s, as the cut left it on %s: %s",
			strings.Join(o.Wrong, "; "), o.State, d.fs.name, file)
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
	// Always the same loop device: the kernel must not know two copies of a btrfs.
	out := d.shell(`device=$1 size=$2 step=$3 last=$4 check=$5 script=$6 dir=/srv/cut loop=/dev/loop7
mkdir -p $dir
modprobe loop
for i in $(seq 0 $step $last); do
	echo "== $i"
	losetup --offset $(((i + 1) * size)) --sizelimit $size $loop "$device"
	$check $loop >/tmp/check 2>&1 || [ $? = 1 ] || { echo "!! $check: exit status $?"; cat /tmp/check; }
	if mount $loop $dir 2>&1; then
		(cd $dir; sh -ec "$script") 2>&1 || echo "!! exit status $?"
		(cd $dir; find . -type f -exec sha256sum {} +)
		umount $dir
	else
		echo "!! mount failed"
	fi
	losetup --detach $loop
done`, device, strconv.FormatInt(d.fs.size, 10), strconv.Itoa(step), strconv.Itoa(len(d.kept)-1), d.fs.check, script)
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

// The disks that mount uses.
func (d *cutDisk) mounted() (state, files vm.Disk) {
	return vm.Disk{Name: d.name + "-state"}, vm.Disk{Name: d.name + "-files", File: filepath.Join(d.files, "files")}
}

// forget makes the kernel forget which copy of a btrfs is the newest. It would not mount another one.
const forget = "rmmod btrfs"

func (d *cutDisk) beginMounts() error {
	_, files := d.mounted()
	if err := makeFile(files.File, 32<<20); err != nil {
		return err
	}
	if err := d.unplug(d.t.Context()); err != nil {
		return err
	}
	if _, err := d.m.Shell(d.t.Context(), forget); err != nil {
		return err
	}
	_, err := d.m.Plug(d.t.Context(), files)
	return err
}

// mount recovers the file system of an image as the boot after the power cut does: it mounts it in the machine. The
// machine writes its files, as an archive of tar, to a second disk, because its serial port is slow.
func (d *cutDisk) mount(ctx context.Context, image, dir string) error {
	state, files := d.mounted()
	if !d.states { // this is the first
		d.states, state.File = true, image
		if _, err := d.m.Plug(ctx, state); err != nil {
			return err
		}
	}
	// The kernel must not use what it has read of the state before.
	if _, err := d.m.Shell(ctx, `mkdir -p /srv/cut
blockdev --flushbufs /dev/disk/by-id/virtio-$1
mount /dev/disk/by-id/virtio-$1 /srv/cut
tar -C /srv/cut -cf /dev/disk/by-id/virtio-$2 .
umount /srv/cut`, state.Name, files.Name); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "tar", "-C", dir, "-xf", files.File).CombinedOutput()
	if err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	return nil
}

func (d *cutDisk) endMounts() {
	state, files := d.mounted()
	for _, disk := range []vm.Disk{state, files} {
		if err := d.m.Unplug(d.t.Context(), disk.Name); err != nil {
			d.t.Error(err)
		}
	}
	d.shell(forget)
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

package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
	"tunnelcast/internal/promised"
)

func openTree(t *testing.T, dir string) *Tree {
	t.Helper()
	tree, err := OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// everything calls do for every file. It returns the paths of the files, and those that could not be read.
func everything(t *testing.T, tree *Tree, do func(*File) error) (seen, unread []string) {
	t.Helper()
	var mu sync.Mutex
	err := tree.Walk(context.Background(), Walk{
		Want: func(string) bool { return true },
		File: func(f *File) error {
			mu.Lock()
			seen = append(seen, f.Path())
			mu.Unlock()
			return do(f)
		},
		Unread: func(path string, err error) {
			mu.Lock()
			unread = append(unread, path)
			mu.Unlock()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(seen)
	return seen, unread
}

func look(*File) error { return nil }

func place(t *testing.T, elem ...string) string {
	t.Helper()
	name := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("recording"), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestWalkSeesEachFileOnce(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 6 * bufferSize / 256 { // more than all buffers hold
		want = append(want, place(t, dir, fmt.Sprintf("%0200d.flv", i)))
	}
	for i := range 200 {
		want = append(want, place(t, dir, fmt.Sprint("d", i), "e", "a.mp4"), place(t, dir, fmt.Sprint("d", i), "b.mp4"))
	}
	slices.Sort(want)
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.flv"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := openTree(t, dir)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := open()
	got, unread := everything(t, tree, look)
	if !slices.Equal(got, want) || unread != nil {
		t.Errorf("saw %d of %d files, unread %v", len(got), len(want), unread)
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

// TestWalkWithoutTypes walks a file system that does not say which entries of a directory are files.
func TestWalkWithoutTypes(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir, inside := archivetest.FUSE(t, archivetest.Quirks{Untyped: true})
	if !inside {
		return
	}
	want := []string{place(t, dir, "a.flv"), place(t, dir, "b.flv")}
	if got, unread := everything(t, openTree(t, dir), look); !slices.Equal(got, want) || unread != nil {
		t.Errorf("saw %q, unread %q, want %q", got, unread, want)
	}
}

// One worker does not leave a whole directory to the other.
func TestWalkSharesADirectory(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 * share {
		place(t, dir, fmt.Sprint(i, ".flv"))
	}
	var seen atomic.Int64
	other := make(chan struct{})
	err := openTree(t, dir).Walk(t.Context(), Walk{Want: func(string) bool { return true }, File: func(*File) error {
		switch seen.Add(1) {
		case 1:
			select {
			case <-other:
			case <-time.After(time.Minute):
				return errors.New("nobody came")
			}
		case 2:
			close(other)
		}
		return nil
	}})
	if err != nil || seen.Load() != 2*share {
		t.Errorf("%d files seen, %v", seen.Load(), err)
	}
}

func TestWalkFollowsNoLink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	place(t, outside, "a.mp4")
	inside := place(t, dir, "sub", "b.mp4")
	for link, target := range map[string]string{
		"l.mp4": inside, "out": outside, "in": filepath.Dir(inside), "up": "..", "sub/self": ".",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := everything(t, openTree(t, dir), look); !slices.Equal(got, []string{inside}) {
		t.Errorf("saw %v", got)
	}
}

func TestTheArchiveMayBeALink(t *testing.T) {
	dir, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	place(t, dir, "a.mp4")
	must(t, os.Symlink(dir, link))
	tree := openTree(t, link)
	// The tree is the directory that the link led to when it was opened.
	elsewhere := t.TempDir()
	kept := place(t, elsewhere, "a.mp4")
	must(t, os.Remove(link))
	must(t, os.Symlink(elsewhere, link))
	got, unread := everything(t, tree, (*File).Remove)
	if !slices.Equal(got, []string{filepath.Join(link, "a.mp4")}) || unread != nil {
		t.Errorf("saw %v, unread %v", got, unread)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("a file below the new target: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a.mp4")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file below the old target: %v", err)
	}
	for target, want := range map[string]string{
		"/":           "leads to the root directory",
		dir + "/gone": "it is a symbolic link to " + dir + "/gone: no such file or directory",
		kept:          "it is a symbolic link to " + kept + ": not a directory",
	} {
		must(t, os.Remove(link))
		must(t, os.Symlink(target, link))
		if _, err := OpenTree(link); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a link to %s: %v", target, err)
		}
	}
}

func TestWalkStaysOnItsMount(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir, outside := t.TempDir(), t.TempDir()
	inside := place(t, dir, "a.mp4")
	place(t, outside, "c.mp4")
	must(t, os.Mkdir(filepath.Join(dir, "outside"), 0o755))
	archivetest.Mount(t, filepath.Join(dir, "tmpfs"), "tmpfs", "tmpfs", 0, "")
	place(t, dir, "tmpfs", "b.mp4")
	// The same file system, by another mount.
	archivetest.Mount(t, filepath.Join(dir, "outside"), "", outside, unix.MS_BIND, "")
	archivetest.Mount(t, place(t, dir, "file.mp4"), "", filepath.Join(outside, "c.mp4"), unix.MS_BIND, "")
	got, unread := everything(t, openTree(t, dir), (*File).Remove)
	if !slices.Equal(got, []string{inside}) || unread != nil {
		t.Errorf("saw %v, unread %v", got, unread)
	}
	mounts := []string{"file.mp4 " + ErrMount.Error(), "outside " + ErrMount.Error(), "tmpfs " + ErrMount.Error()}
	if got := skippedIn(t, dir); !slices.Equal(got, mounts) {
		t.Errorf("skipped %q, want %q", got, mounts)
	}
	// The mount itself may be an archive.
	want := []string{filepath.Join(dir, "outside", "c.mp4")}
	if got, _ := everything(t, openTree(t, filepath.Join(dir, "outside")), (*File).Remove); !slices.Equal(got, want) {
		t.Errorf("saw %v, want %v", got, want)
	}
	if left := archivetest.Files(t, outside); left != "" {
		t.Errorf("left %s", left)
	}
}

// skippedIn returns what a walk does not look at, each with the reason.
func skippedIn(t *testing.T, dir string) (skipped []string) {
	t.Helper()
	var mu sync.Mutex
	must(t, openTree(t, dir).Walk(t.Context(), Walk{
		Want:   func(string) bool { return true },
		File:   look,
		Unread: func(path string, err error) { t.Error(path, err) },
		Skipped: func(path string, why error) {
			mu.Lock()
			defer mu.Unlock()
			skipped = append(skipped, strings.TrimPrefix(path, dir+"/")+" "+why.Error())
		},
	}))
	slices.Sort(skipped)
	return skipped
}

// TestRemovableForesees checks that Removable returns the error of unlinkat(2), in the same words.
func TestRemovableForesees(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir := t.TempDir()
	archivetest.Mount(t, dir, "tmpfs", "tmpfs", 0, "mode=755")
	flag := func(flag int) func(string) {
		return func(path string) {
			file := must2(t)(os.Open(path)).(*os.File)
			defer file.Close()
			if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flag); err != nil {
				promised.Lacking(t, "a file system with immutable files: ", err)
			}
			t.Cleanup(func() {
				again := must2(t)(os.Open(path)).(*os.File)
				defer again.Close()
				must(t, unix.IoctlSetPointerInt(int(again.Fd()), unix.FS_IOC_SETFLAGS, 0))
			})
		}
	}
	in := func(do func(string)) func(string) { return func(path string) { do(filepath.Dir(path)) } }
	chown := func(uid int) func(string) { return func(path string) { must(t, os.Chown(path, uid, uid)) } }
	chmod := func(mode uint32) func(string) { return func(path string) { must(t, unix.Chmod(path, mode)) } }
	all := func(does ...func(string)) func(string) {
		return func(path string) {
			for _, do := range does {
				do(path)
			}
		}
	}
	const immutable, appendOnly, www = 0x10, 0x20, archivetest.WWWData
	const protected = "operation not permitted: it is immutable or append-only (`lsattr -d`)"
	const protectedDir = "operation not permitted: DIR is immutable or append-only (`lsattr -d`)"
	const sticky = "operation not permitted: DIR is sticky, so only an owner may"
	cases := map[string]struct {
		prepare func(path string)
		want    string // empty if it is removed
	}{
		"plain":                       {all(chown(www), in(chown(www))), ""},
		"immutable":                   {all(chown(www), in(chown(www)), flag(immutable)), protected},
		"append-only":                 {all(chown(www), in(chown(www)), flag(appendOnly)), protected},
		"in an immutable directory":   {all(chown(www), in(chown(www)), in(flag(immutable))), protectedDir},
		"in an append-only directory": {all(chown(www), in(chown(www)), in(flag(appendOnly))), protectedDir},
		"another's in a sticky one":   {in(chmod(0o1777)), sticky},
		"ours in a sticky one":        {all(chown(www), in(chmod(0o1777))), ""},
		"another's in our sticky one": {in(all(chown(www), chmod(0o1777))), ""},
		"in another's directory":      {chown(www), "permission denied"},
	}
	for name, test := range cases {
		test.prepare(place(t, dir, name, "a.mp4"))
	}
	// In a sticky directory root may remove what others may not.
	for _, uid := range []int{0, www} {
		if uid != 0 {
			archivetest.As(t, uid, dir)
		}
		for name, test := range cases {
			want := test.want
			if uid == 0 && !strings.Contains(want, "append-only") {
				continue // because a file can be removed only once
			}
			at := filepath.Join(dir, name)
			want = strings.ReplaceAll(want, "DIR", at)
			everything(t, openTree(t, at), func(f *File) error {
				var got [2]string
				for i, err := range []error{f.Removable(), f.Remove()} {
					if err != nil {
						got[i] = strings.TrimPrefix(err.Error(), "remove "+filepath.Join(at, "a.mp4")+": ")
					}
				}
				if got[0] != want || got[1] != want {
					t.Errorf("%s, user %d: foreseen %q, done %q, want %q", name, uid, got[0], got[1], want)
				}
				return nil
			})
		}
	}
}

// TestALookDisturbsNobody checks that the leases and locks of Removable do not look to another run as if
// somebody used the file.
func TestALookDisturbsNobody(t *testing.T) {
	path := place(t, t.TempDir(), "a.flv")
	open := func() int {
		file := must2(t)(os.Open(path)).(*os.File)
		t.Cleanup(func() { file.Close() })
		return int(file.Fd())
	}
	everything(t, openTree(t, filepath.Dir(path)), func(f *File) error {
		look := open()
		must(t, f.idle(look))
		if err := f.alone(open()); err != nil {
			t.Errorf("a run beside a look: %v", err)
		}
		if err := f.idle(open()); err != nil {
			t.Errorf("a look beside another: %v", err)
		}
		return nil
	})
}

// TestWithoutLeases checks that on a file system without leases, such as a network file system, a file that
// nobody has written to for an hour counts as closed, unless it is locked.
func TestWithoutLeases(t *testing.T) {
	if !archivetest.Refuse(t, archivetest.With(unix.EAGAIN, archivetest.SetLease)...) {
		return
	}
	dir := t.TempDir()
	aged := func(name string, age time.Duration) string {
		path := place(t, dir, name)
		must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
		return path
	}
	aged("old.flv", Quiet+time.Minute)
	aged("new.flv", Quiet-time.Minute)
	locked := must2(t)(os.OpenFile(aged("locked.flv", 2*Quiet), os.O_RDWR, 0)).(*os.File)
	defer locked.Close()
	must(t, unix.FcntlFlock(locked.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	tree := openTree(t, dir)
	everything(t, tree, func(f *File) error {
		var want error
		if f.Name != "old.flv" {
			want = inuse.ErrInUse
		}
		if foreseen, err := f.Removable(), f.Remove(); !errors.Is(foreseen, want) || !errors.Is(err, want) {
			t.Errorf("%s: foreseen %v, done %v, want %v", f.Name, foreseen, err, want)
		}
		return nil
	})
	if !tree.NoLeases() {
		t.Error("the tree does not know")
	}
}

// TestPlaces checks that no two files have one place, and that a file keeps its place.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.mp4", "b.mp4", "a/b.mp4", "ab/b.mp4", "a/bb.mp4", "ab.mp4", "b/a.mp4"} {
		place(t, dir, name)
	}
	var mu sync.Mutex
	places := make(map[uint64]string)
	for range 2 {
		everything(t, openTree(t, dir), func(f *File) error {
			mu.Lock()
			defer mu.Unlock()
			if at := places[f.Place()]; at != "" && at != f.Path() {
				t.Errorf("%s and %s are at one place", at, f.Path())
			}
			places[f.Place()] = f.Path()
			return nil
		})
	}
	if len(places) != 7 {
		t.Errorf("%d places", len(places))
	}
}

func TestTreeHolds(t *testing.T) {
	tree := &Tree{dev: unix.Mkdev(8, 1), mount: 7}
	for name, test := range map[string]struct {
		known        bool // the kernel reports the mount
		mode         uint16
		minor, mount int
		want         bool
	}{
		"a file":                           {true, unix.S_IFREG, 1, 7, true},
		"a directory":                      {true, unix.S_IFDIR, 1, 7, true},
		"a file of an overlay":             {true, unix.S_IFREG, 2, 7, true},
		"a snapshot":                       {true, unix.S_IFDIR, 2, 7, false},
		"another mount":                    {true, unix.S_IFDIR, 1, 8, false},
		"mounted on a file":                {true, unix.S_IFREG, 1, 8, false},
		"old kernel, a file":               {false, unix.S_IFREG, 1, 0, true},
		"old kernel, mounted on a file":    {false, unix.S_IFREG, 2, 0, false},
		"old kernel, mounted on directory": {false, unix.S_IFDIR, 2, 0, false},
	} {
		stat := unix.Statx_t{
			Mode: test.mode | 0o644, Dev_major: 8, Dev_minor: uint32(test.minor), Mnt_id: uint64(test.mount),
		}
		if test.known {
			stat.Mask = unix.STATX_MNT_ID
		}
		if got := tree.holds(&stat); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestOverlay checks an overlay whose layers are on two devices: its files are on those, its directories on a
// third.
func TestOverlay(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	lower, upper, merged, other := at("lower"), at("upper"), at("merged"), place(t, dir, "other.mp4")
	archivetest.Mount(t, lower, "tmpfs", "tmpfs", 0, "")
	archivetest.Mount(t, upper, "tmpfs", "tmpfs", 0, "")
	place(t, lower, "sub", "a.mp4")
	place(t, lower, "mounted.mp4")
	data, work := at("upper/data"), at("upper/work")
	must(t, os.Mkdir(data, 0o755))
	must(t, os.Mkdir(work, 0o755))
	options := "userxattr,lowerdir=" + lower + ",upperdir=" + data + ",workdir=" + work
	archivetest.Mount(t, merged, "overlay", "overlay", 0, options)
	place(t, merged, "sub", "b.mp4")
	archivetest.Mount(t, filepath.Join(merged, "mounted.mp4"), "", other, unix.MS_BIND, "")
	written := must2(t)(os.Create(place(t, merged, "written.mp4"))).(*os.File)
	defer written.Close()

	var top, inside unix.Stat_t
	must(t, unix.Stat(merged, &top))
	must(t, unix.Stat(filepath.Join(merged, "sub", "a.mp4"), &inside))
	if top.Dev == inside.Dev {
		t.Fatal("this overlay has one device for all")
	}
	var removed []string
	var mu sync.Mutex
	_, unread := everything(t, openTree(t, merged), func(f *File) error {
		if err := f.Remove(); err == nil {
			mu.Lock()
			removed = append(removed, filepath.Base(f.Path()))
			mu.Unlock()
		} else if !errors.Is(err, inuse.ErrInUse) {
			t.Error(err)
		}
		return nil
	})
	slices.Sort(removed)
	if !slices.Equal(removed, []string{"a.mp4", "b.mp4"}) || unread != nil {
		t.Errorf("removed %v, unread %v", removed, unread)
	}
	if left := archivetest.Files(t, dir+"/merged/sub"); left != "" {
		t.Errorf("left %s", left)
	}
	must2(t)(os.Stat(filepath.Join(merged, "mounted.mp4")))
	must2(t)(os.Stat(other))
}

func TestWalkTurnsBackInTheDeep(t *testing.T) {
	dir := t.TempDir()
	deep := dir + strings.Repeat("/d", deepest+2)
	place(t, dir, "d", "a.mp4")
	place(t, deep, "b.mp4")
	got, unread := everything(t, openTree(t, dir), look)
	if len(got) != 1 || len(unread) != 1 {
		t.Errorf("saw %v, unread %v", got, unread)
	}
}

func TestWalkEndsWithTheFirstError(t *testing.T) {
	dir := t.TempDir()
	const files = 10 * share
	for i := range files {
		place(t, dir, fmt.Sprint(i%3), fmt.Sprint(i, ".mp4"))
	}
	fault := errors.New("fault")
	w := Walk{Want: func(string) bool { return true }, Unread: func(string, error) {}}
	for at := int64(0); at < files; at += 37 {
		var seen atomic.Int64
		w.File = func(*File) error {
			if seen.Add(1) > at {
				return fault
			}
			return nil
		}
		if err := openTree(t, dir).Walk(context.Background(), w); err != fault {
			t.Errorf("got %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.File = look
	if err := openTree(t, dir).Walk(ctx, w); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEmptyDirectoriesGoWhenAsked(t *testing.T) {
	dir := t.TempDir()
	place(t, dir, "a", "b", "c.mp4")
	place(t, dir, "full", "c.mp4")
	place(t, dir, "full", "d.txt")
	if err := os.Mkdir(filepath.Join(dir, "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := openTree(t, dir).Walk(context.Background(), Walk{
		Want:   func(name string) bool { return strings.HasSuffix(name, ".mp4") },
		File:   (*File).Remove,
		Unread: func(path string, err error) { t.Error(path, err) },
		Emptied: func(d *Dir) {
			if d.Removed {
				must(t, d.Remove())
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"": true, "a": false, "full": true, "new": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRemoveOnlyWhatWasSeen(t *testing.T) {
	for name, test := range map[string]struct {
		meanwhile func(t *testing.T, path string)
		want      error
	}{
		"nothing": {func(*testing.T, string) {}, nil},
		"it grew": {func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("a longer recording"), 0))
		}, file.ErrChanged},
		"it was read": {func(t *testing.T, path string) { must2(t)(os.ReadFile(path)) }, nil},
		"it is newer": {func(t *testing.T, path string) {
			must(t, os.Chtimes(path, time.Time{}, time.Unix(1, 0)))
		}, file.ErrChanged},
		"another took its place": {func(t *testing.T, path string) {
			place(t, path+"2")
			must(t, os.Chtimes(path+"2", time.Time{}, time.Unix(7, 7)))
			must(t, os.Rename(path+"2", path))
		}, file.ErrChanged},
		"a link": {func(t *testing.T, path string) {
			must(t, os.Rename(path, path+"2"))
			must(t, os.Symlink(path+"2", path))
		}, file.ErrChanged},
		"a pipe": {func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, unix.Mkfifo(path, 0o600))
		}, file.ErrChanged},
		"a directory": {func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}, file.ErrChanged},
		"it vanished": {func(t *testing.T, path string) { must(t, os.Remove(path)) }, fs.ErrNotExist},
		"it is written": {func(t *testing.T, path string) {
			file := must2(t)(os.OpenFile(path, os.O_WRONLY, 0)).(*os.File)
			t.Cleanup(func() { file.Close() })
		}, inuse.ErrInUse},
		"it is being downloaded": {func(t *testing.T, path string) {
			file := must2(t)(os.Open(path)).(*os.File)
			t.Cleanup(func() { file.Close() })
		}, nil},
		"it is written and downloaded": {func(t *testing.T, path string) {
			for _, mode := range []int{os.O_RDONLY, os.O_RDWR} {
				file := must2(t)(os.OpenFile(path, mode, 0)).(*os.File)
				t.Cleanup(func() { file.Close() })
			}
		}, inuse.ErrInUse},
		"it is being remuxed": {func(t *testing.T, path string) {
			run := must2(t)(os.Open(path)).(*os.File)
			t.Cleanup(func() { run.Close() })
			must2(t)(file.TryLock(run, file.Exclusive))
		}, inuse.ErrInUse},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := place(t, dir, "sub", "a.flv")
			must(t, os.Chtimes(path, time.Time{}, time.Unix(7, 7)))
			everything(t, openTree(t, dir), func(f *File) error {
				test.meanwhile(t, path)
				before := f.Removable()
				if err := f.Remove(); !errors.Is(err, test.want) || !errors.Is(before, test.want) {
					t.Errorf("got %v, before %v, want %v", err, before, test.want)
				}
				return nil
			})
			_, err := os.Lstat(path)
			if gone := errors.Is(err, fs.ErrNotExist); gone != (test.want == nil || test.want == fs.ErrNotExist) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestAlone checks that one lease is enough for a file that nobody has open, and that a reader does not keep
// a file from being removed.
func TestAlone(t *testing.T) {
	path := place(t, t.TempDir(), "a.flv")
	everything(t, openTree(t, filepath.Dir(path)), func(f *File) error {
		lease := func(want int) {
			t.Helper()
			ours := must2(t)(os.Open(path)).(*os.File)
			defer ours.Close()
			must(t, f.alone(int(ours.Fd())))
			if got, err := unix.FcntlInt(ours.Fd(), unix.F_GETLEASE, 0); got != want {
				t.Errorf("lease %d, %v, want %d", got, err, want)
			}
		}
		lease(unix.F_WRLCK)
		reader := must2(t)(os.Open(path)).(*os.File)
		lease(unix.F_UNLCK) // it was given back at once
		reader.Close()
		lease(unix.F_WRLCK)
		return nil
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must2(t *testing.T) func(any, error) any {
	return func(v any, err error) any {
		t.Helper()
		must(t, err)
		return v
	}
}

// TestRemoveNeverOutside walks and removes while somebody exchanges a directory in the archive with a link to
// a directory outside, which has files of the same names.
func TestRemoveNeverOutside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	const names = 50
	for i := range names {
		place(t, outside, fmt.Sprint(i, ".mp4"))
	}
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	done := make(chan struct{})
	swapped := make(chan int)
	go func() {
		n := 0
		defer func() { swapped <- n }()
		for ; ; n++ {
			select {
			case <-done:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "sub"),
					unix.AT_FDCWD, filepath.Join(dir, "link"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	removed := 0
	var mu sync.Mutex
	for round := range 15 {
		for i := range names {
			name := filepath.Join(dir, "sub", fmt.Sprint(i, ".mp4"))
			if round == 0 {
				must(t, os.MkdirAll(filepath.Dir(name), 0o755))
			}
			if root, err := os.OpenRoot(dir); err == nil { // stays inside, or fails
				if err := root.WriteFile("sub/"+fmt.Sprint(i, ".mp4"), []byte("x"), 0o644); err != nil {
					root.WriteFile("link/"+fmt.Sprint(i, ".mp4"), []byte("x"), 0o644)
				}
				root.Close()
			}
		}
		everything(t, openTree(t, dir), func(f *File) error {
			if f.Remove() == nil {
				mu.Lock()
				removed++
				mu.Unlock()
			}
			return nil
		})
	}
	close(done)
	t.Logf("%d swaps, %d removed", <-swapped, removed)
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != names {
		t.Errorf("outside %d of %d files are left, %v", len(left), names, err)
	}
	if removed == 0 {
		t.Error("nothing was removed inside either")
	}
}

package powercut

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tunnelcast/internal/promised"
)

// The tests use a file system of two files: the sectors 0 and 1 are names, each with the number of the
// sector where its content begins. A content of two sectors is whole if all its bytes are equal.
const (
	flvName = iota
	mp4Name
	flvData
	mp4Data = flvData + 2
	sectors = mp4Data + 2
)

func content(at int, b string) Write {
	return Write{Offset: int64(at * sector), Data: []byte(strings.Repeat(b, 2*sector))}
}

func name(at int, text string) Write {
	data := make([]byte, sector)
	copy(data, text)
	return Write{Offset: int64(at * sector), Data: data}
}

var (
	flush  = Write{Flush: true}
	makes  = content(mp4Data, "m")
	links  = name(mp4Name, "cam.mp4 "+strconv.Itoa(mp4Data))
	remove = name(flvName, "")
)

func recordingOnly() []byte {
	image := make([]byte, sectors*sector)
	for _, w := range []Write{content(flvData, "f"), name(flvName, "cam.flv "+strconv.Itoa(flvData))} {
		copy(image[w.Offset:], w.Data)
	}
	return image
}

func recoverTwoFiles(_ context.Context, image, dir string) error {
	disk, err := os.ReadFile(image)
	if err != nil {
		return err
	}
	for _, at := range []int{flvName, mp4Name} {
		fields := strings.Fields(string(bytes.Trim(disk[at*sector:][:sector], "\x00")))
		if len(fields) != 2 {
			continue
		}
		from, err := strconv.Atoi(fields[1])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fields[0]), disk[from*sector:][:2*sector], 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(image, make([]byte, len(disk)), 0o600) // recovery may change anything
}

func lookForOne(dir string, done int) (wrong []string, err error) {
	whole := func(name, b string) (exists, is bool) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		return err == nil, string(data) == strings.Repeat(b, 2*sector)
	}
	_, flv := whole("cam.flv", "f")
	exists, mp4 := whole("cam.mp4", "m")
	if !flv && !mp4 {
		wrong = append(wrong, "neither")
	}
	if exists && !mp4 {
		wrong = append(wrong, "half")
	}
	if done > 0 && !mp4 {
		wrong = append(wrong, "reported")
	}
	return wrong, nil
}

func TestTry(t *testing.T) {
	tests := []struct {
		name  string
		log   []Write
		done  int // entries that the log had when the MP4 was reported
		wrong []string
	}{
		{"synced", []Write{makes, flush, links, flush, remove, flush}, 4, nil},
		{"synced, and cut before the end", []Write{makes, flush, links, flush, remove}, 4, nil},
		{"content is not synced", []Write{makes, links, flush, remove, flush}, 3, []string{"half"}},
		{"nothing is synced", []Write{makes, links, remove, flush}, 3, []string{"neither", "half", "reported"}},
		{"name is not synced", []Write{makes, flush, links, remove, flush}, 5, []string{"neither"}},
		{"name before the content", []Write{links, flush, makes, flush, remove, flush}, 4, []string{"half"}},
		{"removed first", []Write{remove, flush, makes, flush, links, flush}, 6, []string{"neither"}},
		{"reported early", []Write{makes, flush, links, flush, remove, flush}, 3, []string{"reported"}},
		{"reported at last", []Write{makes, flush, links, flush, remove, flush}, 6, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			kept := 0
			result, err := Try(t.Context(), Trial{
				Image: recordingOnly(), Log: test.log, Done: []int{test.done},
				Recover: recoverTwoFiles, Look: lookForOne,
				Keep: func(o *Outcome, image string) error {
					kept++
					// The disk is as the power cut left it.
					disk, err := os.ReadFile(image)
					if err == nil && bytes.Equal(disk, make([]byte, len(disk))) {
						err = errors.New("the disk was recovered")
					}
					return err
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			var wrong []string
			for _, o := range result.Outcomes {
				for _, what := range o.Wrong {
					if !slices.Contains(wrong, what) {
						wrong = append(wrong, what)
					}
				}
			}
			slices.Sort(wrong)
			slices.Sort(test.wrong)
			if !slices.Equal(wrong, test.wrong) {
				t.Errorf("wrong: %q, want %q\n%s", wrong, test.wrong, result)
			}
			if kept != len(result.Outcomes) || result.States < kept {
				t.Errorf("%d kept; %s", kept, result)
			}
		})
	}
}

// TestTryTorn checks that a single write is cut at any sector.
func TestTryTorn(t *testing.T) {
	result, err := Try(t.Context(), Trial{
		Image: recordingOnly(), Log: slices.Concat([]Write{links, flush, makes}, slices.Repeat([]Write{remove}, 6)),
		Recover: recoverTwoFiles,
		Look: func(dir string, _ int) ([]string, error) {
			data, err := os.ReadFile(filepath.Join(dir, "cam.mp4"))
			if err != nil {
				return nil, nil
			}
			return []string{strings.Trim(string(data[:1])+string(data[sector:sector+1]), "\x00")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	first, second := false, false
	for _, o := range result.Outcomes {
		first = first || slices.Equal(o.Wrong, []string{"m"}) && strings.Contains(o.State.String(), " 2t1/2")
		second = second || slices.Equal(o.Wrong, []string{"mm"})
	}
	if !first || !second {
		t.Errorf("no torn write, or no whole one: %s", result)
	}
}

func TestStates(t *testing.T) {
	write := content(flvData, "x")
	count := func(log []Write, from int) (whole, torn int, last State) {
		names := map[string]bool{}
		for s := range States(log, from, sector, 1) {
			last = s
			if strings.Contains(s.String(), "t") {
				torn++
			} else if !names[s.String()] {
				names[s.String()] = true
				whole++
			}
		}
		return whole, torn, last
	}
	few := []Write{write, write, write, flush, write, flush}
	if whole, _, last := count(few, 0); whole != 8+2+1 || last.Begin != 6 {
		t.Errorf("%d whole states, last %s", whole, last)
	}
	if whole, _, last := count([]Write{write, flush, write}, 2); whole != 2 || last.Begin != 2 || last.End != 3 {
		t.Errorf("%d whole states from entry 2, last %s", whole, last)
	}
	many := slices.Repeat([]Write{write}, 40)
	if whole, torn, _ := count(many, 0); whole < 41+subsets/2 || whole > 41+subsets || torn < 10 {
		t.Errorf("%d whole states and %d torn ones of 40 writes", whole, torn)
	}
	again := func() []State { return slices.Collect(States(many, 0, sector, 7)) }
	if !reflect.DeepEqual(again(), again()) {
		t.Error("the same seed gives other states")
	}
}

func TestStatesWhole(t *testing.T) {
	const part = 8
	write := Write{Data: make([]byte, 20*sector)} // two parts and a half
	torn := 0
	for s := range States(slices.Repeat([]Write{write}, 6), 0, part*sector, 1) {
		for _, k := range s.Kept {
			for i, on := range k.Sectors {
				if on != k.Sectors[i/part*part] {
					t.Fatalf("a part is torn: %v", k.Sectors)
				}
			}
			if slices.Contains(k.Sectors, false) {
				torn++
			}
		}
	}
	if torn < 10 {
		t.Errorf("%d torn writes", torn)
	}
}

// TestDisk checks that a disk is what the state says, whatever happened to it before.
func TestDisk(t *testing.T) {
	random := make([]byte, 200*sector)
	for i := range random {
		random[i] = byte(crc32.ChecksumIEEE([]byte(strconv.Itoa(i))))
	}
	log := []Write{content(7, "a"), content(8, "b"), flush, content(150, "c"), content(7, "d"), flush, content(0, "e")}
	disk, err := NewDisk(filepath.Join(t.TempDir(), "disk"), random, log)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	for state := range States(log, 0, sector, 3) {
		want := slices.Clone(random)
		for i, w := range log[:min(state.Begin, len(log))] {
			if !log[i].Flush {
				copy(want[w.Offset:], w.Data)
			}
		}
		for _, k := range state.Kept {
			w := log[k.Entry]
			for i := range len(w.Data) / sector {
				if k.Sectors == nil || k.Sectors[i] {
					copy(want[w.Offset+int64(i*sector):], w.Data[i*sector:(i+1)*sector])
				}
			}
		}
		if err := disk.Set(state); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(disk.File)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("state %s is not on the disk, error %v", state, err)
		}
		clear(got)
		if err := os.WriteFile(disk.File, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.Set(State{Begin: 0}); err == nil {
		t.Error("the disk went back")
	}
	tooFar, err := NewDisk(filepath.Join(t.TempDir(), "disk"), random[:sector], log)
	if err != nil {
		t.Fatal(err)
	}
	defer tooFar.Close()
	if err := tooFar.Set(State{Begin: 1}); err == nil {
		t.Error("a write after the end")
	}
}

// TestExt4 makes a log of what debugfs writes when it adds a file, without any order: a name without its
// content is then a state.
func TestExt4(t *testing.T) {
	promised.Program(t, "e2fsck")
	dir := t.TempDir()
	image, file := filepath.Join(dir, "image"), filepath.Join(dir, "content")
	text := bytes.Repeat([]byte("recording "), 4096)
	for name, content := range map[string][]byte{image: make([]byte, 8<<20), file: text} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(program string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), promised.Program(t, program), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", program, err, out)
		}
	}
	run("mkfs.ext4", "-q", "-F", image)
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	run("debugfs", "-w", "-R", "write "+file+" cam.mp4", image)
	after, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	const block = 4096
	var log []Write
	for at := 0; at < len(after); at += block {
		if b := after[at : at+block]; !bytes.Equal(b, before[at:at+block]) {
			log = append(log, Write{Offset: int64(at), Data: b})
		}
	}
	var none, whole, half int
	result, err := Try(t.Context(), Trial{
		Image: before, Log: append(log, flush), Recover: Ext4,
		Look: func(dir string, _ int) ([]string, error) {
			switch got, err := os.ReadFile(filepath.Join(dir, "cam.mp4")); {
			case errors.Is(err, os.ErrNotExist):
				none++
			case bytes.Equal(got, text):
				whole++
			default:
				half++
			}
			return nil, nil
		},
	})
	if err != nil || none == 0 || whole == 0 || half == 0 || result.States < len(log) {
		t.Errorf("outcomes: %d without the file, %d with it, %d with a part; error %v\n%s",
			none, whole, half, err, result)
	}
}

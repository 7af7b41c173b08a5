// Package retention decides which recordings of an archive go and which stay.
//
// It takes plain values and gives plain values: a policy, recordings, the state
// of the disk and the time go in, a reason for each recording comes out. It has
// no files to remove and no clock to read.
package retention

import (
	"cmp"
	"slices"
	"time"
)

// Policy says what an archive may hold. The zero Policy removes nothing.
type Policy struct {
	MaxAge   Age   // recordings at least this old go
	MaxSize  Bytes // what the archive's recordings may take of the disk
	MinFree  Free  // what must be free on the archive's file system
	KeepLast int   // the newest so many of each stream are not too old, whatever their age
	MinAge   Age   // younger recordings stay, whatever the other limits
}

// Empty says whether nothing can make the policy remove anything.
func (p Policy) Empty() bool { return p.MaxAge == 0 && p.MaxSize == 0 && p.MinFree.zero() }

// AgeAlone says whether Expired is all there is to the policy, so that each
// recording can be judged without knowing the others.
func (p Policy) AgeAlone() bool { return p.MaxSize == 0 && p.MinFree.zero() && p.KeepLast == 0 }

// Expired says whether a recording is too old by itself.
//
// The limit belongs to it: 72h is what find calls -mtime +2, which counts whole
// days and so means 72 hours or more.
func (p Policy) Expired(modTime int64, now time.Time) bool {
	return p.MaxAge > 0 && now.Sub(time.Unix(0, modTime)) >= time.Duration(p.MaxAge)
}

func (p Policy) young(modTime int64, now time.Time) bool {
	return now.Sub(time.Unix(0, modTime)) < time.Duration(p.MinAge)
}

// Short reports whether less is free than MinFree: of the bytes, or of the inodes
// the same share.
func (p Policy) Short(disk Disk) bool { return p.shortOfBytes(disk) || p.shortOfInodes(disk) }

func (p Policy) shortOfBytes(disk Disk) bool { return disk.Free < p.MinFree.Of(disk.Size) }

func (p Policy) shortOfInodes(disk Disk) bool { return disk.FreeInodes < p.MinFree.Inodes(disk) }

// Recording is what the policy looks at. It is small and without pointers
// because an archive may hold a million.
type Recording struct {
	ModTime int64  // nanoseconds since 1970, UTC
	Bytes   int64  // what its removal frees; 0 if the file has a name outside too
	ID      uint64 // orders recordings of one instant
	Stream  uint32 // recordings of one stream have the same number
	Held    bool   // in use, or could not be removed: it stays and counts
	Linked  bool   // the file has a name outside: its removal frees no inode either
}

// Future reports whether a modification time is after now.
func Future(modTime int64, now time.Time) bool { return time.Unix(0, modTime).After(now) }

func older(a, b Recording) int {
	return cmp.Or(cmp.Compare(a.ModTime, b.ModTime), cmp.Compare(a.ID, b.ID))
}

// Disk is the state of the archive's file system.
type Disk struct {
	Free, Size         int64 // bytes; Free is what a process without privileges may still write
	FreeInodes, Inodes int64 // 0 of a file system that has no fixed number of them
}

// with returns the disk after the removal of r.
func (d Disk) with(r Recording) Disk {
	d.Free += r.Bytes
	if !r.Linked {
		d.FreeInodes++
	}
	return d
}

// Reason says why a recording stays or goes.
type Reason uint8

// The reasons to stay and, from TooOld on, those to go.
const (
	WithinLimits Reason = iota
	FromTheFuture
	AmongTheLast
	TooYoung
	InUse
	TooOld
	TooMuch
	TooLittleFree
	Leftover // of a killed run; decided by its name and age, not by a Plan
	Reasons  // how many there are
)

// Removes says whether the reason is one to go.
func (r Reason) Removes() bool { return r >= TooOld }

// String names the limit that decided.
func (r Reason) String() string {
	return [...]string{"within limits", "from the future", "keep-last", "min-age", "in use",
		"max-age", "max-size", "min-free", "leftover"}[r]
}

// Plan holds a reason for each recording, oldest first.
type Plan struct {
	Recordings []Recording
	Reasons    []Reason // of the recording of the same index
	// Hopeless says that MinFree would not be met without any recording either.
	Hopeless bool
}

// Plan gives each recording its reason: too old first, then, oldest first, as
// many as it takes until the archive holds no more than MaxSize and until MinFree
// is free. KeepLast overrides age and nothing else, MinAge everything. A recording
// that is held or from the future stays, and so does one whose removal would free
// nothing, unless it is too old. If MinFree cannot be met, none goes for it: what
// fills the disk is something else, and would fill what the archive gives up too.
//
// Plan sorts the slice it is given and keeps it.
func (p Policy) Plan(recordings []Recording, disk Disk, now time.Time) Plan {
	slices.SortFunc(recordings, older)
	reasons := make([]Reason, len(recordings))
	last := p.last(recordings)

	var total int64
	empty := disk // without any recording
	for i, r := range recordings {
		total += r.Bytes
		switch {
		case r.Held:
			reasons[i] = InUse
			continue
		case Future(r.ModTime, now):
			reasons[i] = FromTheFuture
			continue
		case p.young(r.ModTime, now):
			reasons[i] = TooYoung
		case last != nil && last[i]:
			reasons[i] = AmongTheLast
		case p.Expired(r.ModTime, now):
			reasons[i] = TooOld
			total -= r.Bytes
			disk = disk.with(r)
		}
		empty = empty.with(r)
	}

	hopeless := p.Short(empty)
	tooMuch := func() bool { return p.MaxSize > 0 && total > int64(p.MaxSize) }
	for i, r := range recordings {
		size, free := tooMuch(), !hopeless && p.Short(disk)
		if !size && !free {
			break
		}
		if reasons[i] != WithinLimits && reasons[i] != AmongTheLast {
			continue
		}
		switch {
		case size && r.Bytes > 0:
			reasons[i] = TooMuch
		case free && (r.Bytes > 0 && p.shortOfBytes(disk) || !r.Linked && p.shortOfInodes(disk)):
			reasons[i] = TooLittleFree
		default:
			continue
		}
		total -= r.Bytes
		disk = disk.with(r)
	}
	return Plan{recordings, reasons, hopeless}
}

// last marks the newest KeepLast recordings of each stream.
func (p Policy) last(recordings []Recording) []bool {
	if p.KeepLast == 0 {
		return nil
	}
	last := make([]bool, len(recordings))
	seen := make(map[uint32]int)
	for i, r := range slices.Backward(recordings) {
		if seen[r.Stream] < p.KeepLast {
			seen[r.Stream]++
			last[i] = true
		}
	}
	return last
}

// Find returns the index of a recording, or false if the plan does not have it:
// it is new or has changed since the plan was made.
func (p Plan) Find(r Recording) (int, bool) { return slices.BinarySearchFunc(p.Recordings, r, older) }

// Package retention decides which recordings of an archive are removed, and why.
//
// Its values are plain: a policy, the recordings, the state of the disk and the time go in; a reason for
// each recording comes out. It removes no files and reads no clock.
package retention

import (
	"cmp"
	"slices"
	"time"
)

// Policy limits what an archive may hold. The zero Policy removes nothing.
type Policy struct {
	MaxAge   Age   // recordings of this age or more are too old
	MaxSize  Bytes // that the archive's recordings may take of the disk
	MinFree  Free  // that must be free on the archive's file system
	KeepLast int   // the newest N recordings of each stream are exempt from MaxAge
	MinAge   Age   // younger recordings stay, whatever the other limits
}

// Empty reports whether the policy never removes anything.
func (p Policy) Empty() bool { return p.MaxAge == 0 && p.MaxSize == 0 && p.MinFree.zero() }

// AgeAlone reports whether the policy is Expired alone, so that each recording can be judged without
// knowing the others.
func (p Policy) AgeAlone() bool { return p.MaxSize == 0 && p.MinFree.zero() && p.KeepLast == 0 }

// Expired reports whether a recording that was last written to at modTime has reached MaxAge. 72h is what
// find calls -mtime +2, because find counts whole days.
func (p Policy) Expired(modTime int64, now time.Time) bool {
	return p.MaxAge > 0 && now.Sub(time.Unix(0, modTime)) >= time.Duration(p.MaxAge)
}

func (p Policy) young(modTime int64, now time.Time) bool {
	return now.Sub(time.Unix(0, modTime)) < time.Duration(p.MinAge)
}

// Short reports whether less than MinFree is free: of the bytes, or the same share of the inodes.
func (p Policy) Short(disk Disk) bool { return p.shortOfBytes(disk) || p.shortOfInodes(disk) }

func (p Policy) shortOfBytes(disk Disk) bool { return disk.Free < p.MinFree.Of(disk.Size) }

func (p Policy) shortOfInodes(disk Disk) bool { return disk.FreeInodes < p.MinFree.Inodes(disk) }

// Recording is one file of an archive. It is small and without pointers, because an archive may hold a
// million.
type Recording struct {
	ModTime int64  // nanoseconds since 1970, UTC
	Bytes   int64  // that its removal frees: 0 if the file has a name outside the archive, too
	ID      uint64 // orders recordings of one instant
	Stream  uint32 // recordings of one stream have the same number
	Held    bool   // it is in use, or could not be removed: it stays, and counts
	Linked  bool   // it has a name outside the archive: its removal frees no inode either
}

// Future reports whether a modification time is after now.
func Future(modTime int64, now time.Time) bool { return time.Unix(0, modTime).After(now) }

func older(a, b Recording) int {
	return cmp.Or(cmp.Compare(a.ModTime, b.ModTime), cmp.Compare(a.ID, b.ID))
}

// Disk is the state of the archive's file system.
type Disk struct {
	Free, Size         int64 // bytes; Free is what a process without privileges may still write
	FreeInodes, Inodes int64 // 0 if the file system has no fixed number of them
}

// with returns the disk after the removal of r.
func (d Disk) with(r Recording) Disk {
	d.Free += r.Bytes
	if !r.Linked {
		d.FreeInodes++
	}
	return d
}

// Reason says why a recording stays or is removed.
type Reason uint8

// The reasons to stay and, from TooOld on, those to be removed.
const (
	WithinLimits Reason = iota
	FromTheFuture
	AmongTheLast
	TooYoung
	InUse
	TooOld
	TooMuch
	TooLittleFree
	Leftover // unfinished work of a run that was killed; never in a Plan
	Reasons  // the number of reasons
)

// Removes reports whether a recording is removed for this reason.
func (r Reason) Removes() bool { return r >= TooOld }

// String returns the name of the limit that decided.
func (r Reason) String() string {
	return [...]string{"within limits", "from the future", "keep-last", "min-age", "in use",
		"max-age", "max-size", "min-free", "leftover"}[r]
}

// Plan holds a reason for each recording, oldest first.
type Plan struct {
	Recordings []Recording
	Reasons    []Reason // of the recording of the same index
	// Hopeless means that MinFree would not be met even without any recording.
	Hopeless bool
}

// Plan returns a reason for each recording. Recordings that are too old are removed; then others, oldest
// first, until the archive holds no more than MaxSize and MinFree is free. KeepLast overrides only age,
// MinAge everything. A recording that is held or from the future stays, and so does one whose removal
// would free nothing, unless it is too old. If MinFree cannot be met, no recording is removed for it:
// something else fills the disk, and would fill the space of the recordings, too.
//
// Plan sorts recordings, and the returned Plan uses that slice.
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

// last reports, for each recording, whether it is among the newest KeepLast of its stream.
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

// Find returns the index of a recording. It returns false for a recording that is new, or has changed since
// the plan was made.
func (p Plan) Find(r Recording) (int, bool) { return slices.BinarySearchFunc(p.Recordings, r, older) }

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
func (p Policy) Expired(modTime, now time.Time) bool {
	return p.MaxAge > 0 && now.Sub(modTime) >= time.Duration(p.MaxAge)
}

// Recording is what the policy looks at. It is small and without pointers
// because an archive may hold a million.
type Recording struct {
	ModTime int64  // nanoseconds since the epoch
	Bytes   int64  // what its removal frees; 0 if the file has another name too
	ID      uint64 // inode number: orders recordings of one instant
	Stream  uint32 // recordings of one stream have the same number
	Held    bool   // in use, or could not be removed: it stays and counts
}

// Time returns the modification time.
func (r Recording) Time() time.Time { return time.Unix(0, r.ModTime) }

func older(a, b Recording) int {
	return cmp.Or(cmp.Compare(a.ModTime, b.ModTime), cmp.Compare(a.ID, b.ID))
}

// Disk is the state of the archive's file system, in bytes.
type Disk struct {
	Free int64 // what a process without privileges may still write
	Size int64
}

// Reason says why a recording stays or goes.
type Reason uint8

// The reasons to stay and, from TooOld on, those to go.
const (
	WithinLimits Reason = iota
	FromTheFuture
	AmongTheLast
	InUse
	TooOld
	TooMuch
	TooLittleFree
	Leftover // of a killed run; decided by its name and age, not by a Plan
)

// Removes says whether the reason is one to go.
func (r Reason) Removes() bool { return r >= TooOld }

// String names the limit that decided.
func (r Reason) String() string {
	return [...]string{"within limits", "from the future", "keep-last", "in use", "max-age", "max-size", "min-free", "leftover"}[r]
}

// Plan holds a reason for each recording, oldest first.
type Plan struct {
	Recordings []Recording
	Reasons    []Reason // of the recording of the same index
}

// Plan gives each recording its reason: too old first, then, oldest first, as
// many as it takes until the archive holds no more than MaxSize and until MinFree
// is free. KeepLast overrides age and nothing else. A recording that is held or
// from the future stays, and so does one whose removal would free nothing,
// unless it is too old.
//
// Plan sorts the slice it is given and keeps it.
func (p Policy) Plan(recordings []Recording, disk Disk, now time.Time) Plan {
	slices.SortFunc(recordings, older)
	reasons := make([]Reason, len(recordings))
	last := p.last(recordings)

	var total int64
	for i, r := range recordings {
		total += r.Bytes
		switch {
		case r.Held:
			reasons[i] = InUse
		case r.Time().After(now):
			reasons[i] = FromTheFuture
		case last != nil && last[i]:
			reasons[i] = AmongTheLast
		case p.Expired(r.Time(), now):
			reasons[i] = TooOld
			total -= r.Bytes
			disk.Free += r.Bytes
		}
	}

	tooMuch := func() bool { return p.MaxSize > 0 && total > int64(p.MaxSize) }
	tooLittle := func() bool { return disk.Free < p.MinFree.Of(disk.Size) }
	for i, r := range recordings {
		reason := TooMuch
		if !tooMuch() {
			if reason = TooLittleFree; !tooLittle() {
				break
			}
		}
		if r.Bytes == 0 || reasons[i] != WithinLimits && reasons[i] != AmongTheLast {
			continue
		}
		reasons[i] = reason
		total -= r.Bytes
		disk.Free += r.Bytes
	}
	return Plan{recordings, reasons}
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

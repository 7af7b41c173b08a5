package powercut

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
)

// A State is what a power cut may leave of a log.
type State struct {
	// Begin and End limit the entries that no flush covers. All before Begin are on the disk.
	Begin, End int
	// Kept are those of them that are on the disk too, in the order of the log.
	Kept []Kept
}

// Kept is a write that is on the disk, or a part of it.
type Kept struct {
	Entry   int
	Sectors []bool // which are on the disk; nil: all
}

// String names the state: 120-125: 121 123t3/8 means that of the entries 120 to 124, which no flush
// covers, 121 is on the disk and 3 of the 8 sectors of 123 are.
func (s State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d-%d:", s.Begin, s.End)
	for _, k := range s.Kept {
		fmt.Fprintf(&b, " %d", k.Entry)
		if k.Sectors != nil {
			whole := 0
			for _, on := range k.Sectors {
				if on {
					whole++
				}
			}
			fmt.Fprintf(&b, "t%d/%d", whole, len(k.Sectors))
		}
	}
	return b.String()
}

// How many states States lists between two flushes. All subsets of more writes would be too many.
const (
	allSubsets = 5 // up to so many writes, every subset
	subsets    = 60
	torn       = 20
)

// States lists the states that a power cut may leave at or after the entry from, in the order of the
// log. Between two flushes these are all subsets of up to five writes. Of more they are the beginnings,
// which a disk leaves that works in order, and 60 random subsets. Then, up to 20 times, each write is
// there, not there, cut short, or lacks some of its parts of whole bytes, a multiple of a sector. The same log
// and seed give the same states.
func States(log []Write, from, whole int, seed uint64) iter.Seq[State] {
	return func(yield func(State) bool) {
		random := rand.New(rand.NewPCG(seed, 0))
		for begin := from; begin <= len(log); {
			end := begin
			for end < len(log) && !log[end].Flush {
				end++
			}
			for _, kept := range between(log, begin, end, whole/sector, random) {
				if !yield(State{begin, end, kept}) {
					return
				}
			}
			begin = end + 1
		}
	}
}

// between returns the states between two flushes.
func between(log []Write, begin, end, part int, random *rand.Rand) [][]Kept {
	n := end - begin
	pick := func(keep func(i int) bool) (kept []Kept) {
		for i := range n {
			if keep(i) {
				kept = append(kept, Kept{Entry: begin + i})
			}
		}
		return kept
	}
	var states [][]Kept
	if n <= allSubsets {
		for set := range 1 << n {
			states = append(states, pick(func(i int) bool { return set>>i&1 != 0 }))
		}
	} else {
		for first := range n + 1 {
			states = append(states, pick(func(i int) bool { return i < first }))
		}
		for range subsets {
			share := random.Float64()
			states = append(states, pick(func(int) bool { return random.Float64() < share }))
		}
	}
	for range min(torn, 3*n) {
		var kept []Kept
		for entry := begin; entry < end; entry++ {
			if k, any := tear(entry, len(log[entry].Data)/sector, part, random); any {
				kept = append(kept, k)
			}
		}
		states = append(states, kept)
	}
	return states
}

// tear returns what is left of a write of so many sectors, part of which go together.
func tear(entry, sectors, part int, random *rand.Rand) (k Kept, any bool) {
	k.Entry = entry
	parts := (sectors + part - 1) / part
	keep := func(i int) {
		for s := i * part; s < min((i+1)*part, sectors); s++ {
			k.Sectors[s] = true
		}
	}
	switch random.IntN(4) {
	case 0:
		return k, false
	case 1:
		return k, true
	case 2: // the beginning
		k.Sectors = make([]bool, sectors)
		for i := range random.IntN(parts + 1) {
			keep(i)
		}
	case 3:
		k.Sectors = make([]bool, sectors)
		for i := range parts {
			if random.IntN(2) == 0 {
				keep(i)
			}
		}
	}
	return k, slices.Contains(k.Sectors, true)
}

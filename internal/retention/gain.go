package retention

// Gain watches whether removals make room. They need not: the blocks of a
// removed file stay with its snapshots and reflinks, and with whoever reads it.
//
// Others write meanwhile, so the free space may fall although removals gain. It
// is looked at in steps that take a disk milliseconds, in which hardly anybody
// writes as much, and one step that does not gain is nothing yet.
type Gain struct {
	Files int   // removed since the free space was last seen to rise
	Bytes int64 // that should have come free with them

	free  int64 // at the last look
	files int   // removed since the last look
	bytes int64
	looks int // since it rose
}

// A step is both: a few large files may just be being read, and many small ones
// are less than what others write meanwhile.
const (
	stepFiles = 8
	stepBytes = 16 << 20
	vainSteps = 3
)

// NewGain begins to watch at so many bytes free.
func NewGain(free int64) Gain { return Gain{free: free} }

// Removed counts a removal and says whether to look at the disk now.
func (g *Gain) Removed(bytes int64) bool {
	g.Files++
	g.files++
	g.Bytes += bytes
	g.bytes += bytes
	return g.files >= stepFiles && g.bytes >= stepBytes
}

// Vain says, of the bytes found free at such a look, whether the removals since
// the last rise have been for nothing.
func (g *Gain) Vain(free int64) bool {
	if free > g.free {
		*g = NewGain(free)
		return false
	}
	g.free, g.files, g.bytes = free, 0, 0
	g.looks++
	return g.looks >= vainSteps
}

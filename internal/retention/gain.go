package retention

// Gain watches whether removals free space. They may not: a snapshot, a reflink or a reader keeps the
// blocks of a file that was removed.
//
// Free space is sampled after steps large enough to outweigh concurrent writes; a single step without
// gain proves nothing.
type Gain struct {
	Files int   // removed since the free space was last seen to rise
	Bytes int64 // of these files, which should have come free

	free  int64 // bytes at the last sample
	files int   // removed since the last sample
	bytes int64 // of these files
	steps int   // since the free space rose
}

// A step has both so many files and so many bytes: somebody may read a few large files, and small files
// are outweighed by what others write.
const (
	stepFiles = 8
	stepBytes = 16 << 20
	vainSteps = 3
)

// NewGain returns a Gain for a disk of which so many bytes are free.
func NewGain(free int64) Gain { return Gain{free: free} }

// Removed counts a removal, and reports whether to sample the free space now.
func (g *Gain) Removed(bytes int64) bool {
	g.Files++
	g.files++
	g.Bytes += bytes
	g.bytes += bytes
	return g.files >= stepFiles && g.bytes >= stepBytes
}

// Vain takes a sample of the free bytes. It reports whether the removals since the last rise have freed
// nothing.
func (g *Gain) Vain(free int64) bool {
	if free > g.free {
		*g = NewGain(free)
		return false
	}
	g.free, g.files, g.bytes = free, 0, 0
	g.steps++
	return g.steps >= vainSteps
}

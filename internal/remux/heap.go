//go:build cgo

package remux

// #include <malloc.h>
import "C"

// boundHeap has the C library keep its memory as one heap for all threads, for
// Go's calls into C come from many, and give back large blocks at once. Else the
// muxer's table, which grows with every packet, is copied to ever new places and
// leaves holes as large as itself (mallopt(3), M_MMAP_THRESHOLD: the default grows).
// Smaller ones, such as a key frame, are not given back: the next one is soon there.
func boundHeap() {
	C.mallopt(C.M_ARENA_MAX, 1)
	C.mallopt(C.M_MMAP_THRESHOLD, 512<<10)
	C.mallopt(C.M_TRIM_THRESHOLD, 1<<20)
}

//go:build cgo

package remux

// #define _GNU_SOURCE
// #include <malloc.h>
// #include <stdint.h>
// #include <stdlib.h>
// #include <sys/mman.h>
//
// enum { HUGE = 2 << 20, FIRST = 2 * HUGE };
//
// static void prepare_heap(void) {
//	mallopt(M_ARENA_MAX, 1);
//	mallopt(M_MMAP_THRESHOLD, 4 * FIRST);
//	mallopt(M_TRIM_THRESHOLD, 2 * FIRST);
//	char *p = malloc(FIRST + HUGE);
//	if (p) {
//		madvise((char *)(((uintptr_t)p + HUGE - 1) & -(uintptr_t)HUGE), FIRST, MADV_HUGEPAGE);
//		free(p);
//	}
// }
//
// static void bound_heap(void) { mallopt(M_MMAP_THRESHOLD, 512 << 10); }
import "C"

// prepareHeap has the C library keep its memory as one heap for all threads, for
// Go's calls into C come from many, and lets the kernel back its beginning with
// huge pages: flvdec.c alone clears 2 MiB, and to have them page by page takes a
// tenth of a short recording's time. What is freed stays for the next key frame.
func prepareHeap() { C.prepare_heap() }

// boundHeap, from then on, keeps large blocks apart and gives them back at once.
// Else the muxer's table, which grows with every packet, is copied to ever new
// places and leaves holes as large as itself (mallopt(3), M_MMAP_THRESHOLD: the
// default grows).
func boundHeap() { C.bound_heap() }

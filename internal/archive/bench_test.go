package archive

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkRemove removes files after it has made sure that nobody writes to them. To make them is not in its time.
func BenchmarkRemove(b *testing.B) {
	const count = 1000
	root := b.TempDir()
	tree, err := OpenTree(root)
	if err != nil {
		b.Fatal(err)
	}
	defer tree.Close()
	for b.Loop() {
		b.StopTimer()
		for i := range count {
			if err := os.WriteFile(filepath.Join(root, fmt.Sprint(i, ".flv")), nil, 0o644); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		err := tree.Walk(b.Context(), Walk{
			Want:   func(string) bool { return true },
			File:   (*File).Remove,
			Unread: func(path string, err error) { b.Error(path, err) },
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/file")
}

// BenchmarkWalk looks at ten thousand files. bench has the time of whole runs, beside find's.
func BenchmarkWalk(b *testing.B) {
	const count = 10_000
	for _, dirs := range []int{1, 100} {
		b.Run(fmt.Sprint(dirs, " directories"), func(b *testing.B) {
			root := b.TempDir()
			for i := range count {
				dir := filepath.Join(root, fmt.Sprint(i%dirs))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					b.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".flv")), nil, 0o644); err != nil {
					b.Fatal(err)
				}
			}
			tree, err := OpenTree(root)
			if err != nil {
				b.Fatal(err)
			}
			defer tree.Close()
			b.ReportAllocs()
			for b.Loop() {
				err := tree.Walk(b.Context(), Walk{
					Want:   func(string) bool { return true },
					File:   func(f *File) error { return nil },
					Unread: func(path string, err error) { b.Error(path, err) },
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

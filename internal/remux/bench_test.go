//go:build cgo

package remux

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"tunnelcast/internal/recording"
)

// BenchmarkRun remuxes a recording of two seconds, whose packets are small: what it costs per packet, and to begin.
func BenchmarkRun(b *testing.B) {
	content := makeFLV(b, picture, sound, avc, aac)
	path := filepath.Join(b.TempDir(), sourceName)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		b.Fatal(err)
	}
	file := bytes.NewReader(content)
	survey, err := recording.Walk(file, int64(len(content)))
	if err != nil || len(survey.Parts) != 1 {
		b.Fatal(survey.Parts, err)
	}
	part, out := survey.Parts[0], filepath.Join(b.TempDir(), "out")
	for name, plain := range map[string]bool{"as it is": true, "corrected": false} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in := Input{Path: path, File: file, Part: part, Plain: plain}
				if _, err := Run(b.Context(), in, out, true); err != nil {
					b.Fatal(err)
				}
			}
			packets := part.Video.Packets + part.Audio.Packets
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(int64(b.N)*packets), "ns/packet")
		})
	}
}

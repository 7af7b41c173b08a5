package vici_test

import (
	"bytes"
	"testing"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

const manySAs = 1000

// list is what charon sends when it lists a thousand clients.
func list(b *testing.B) []byte {
	b.Helper()
	var stream []byte
	for i := range manySAs {
		p := vici.Packet{Type: vici.Event, Name: []byte("list-sa"), Message: vicitest.SA(i)}
		var err error
		if stream, err = p.AppendTo(stream); err != nil {
			b.Fatal(err)
		}
	}
	return stream
}

func BenchmarkDecode1000SAs(b *testing.B) {
	stream := list(b)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		r := vici.NewReader(bytes.NewReader(stream))
		for range manySAs {
			p, err := r.Next()
			if err != nil {
				b.Fatal(err)
			}
			for _, err := range p.Message.Elements() {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}

func BenchmarkEncode1000SAs(b *testing.B) {
	b.SetBytes(int64(len(list(b))))
	b.ReportAllocs()
	for b.Loop() {
		list(b)
	}
}

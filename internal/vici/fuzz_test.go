package vici

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// Whatever the bytes, the elements are balanced and lie within them, and a message
// that Encode can make is the same after decoding and encoding.
func FuzzMessage(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		depth, size := 0, 0
		open := [][]Field{nil} // the fields so far, of each section that is open
		var names []string
		for e, err := range Message(b).Elements() {
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Fatal(err)
				}
				return
			}
			last := len(open) - 1
			switch e.Kind {
			case SectionStart:
				depth++
				open, names = append(open, nil), append(names, string(e.Key))
			case SectionEnd:
				depth--
				if depth < 0 {
					t.Fatal("a section ends that has not begun")
				}
				open[last-1] = append(open[last-1], Section(names[depth], open[last]...))
				open, names = open[:last], names[:depth]
			case KeyValue:
				open[last] = append(open[last], Value(string(e.Key), string(e.Value)))
			case ListStart:
				open[last] = append(open[last], List(string(e.Key)))
			case ListItem:
				list := &open[last][len(open[last])-1]
				list.values = append(list.values, string(e.Value))
			}
			size += len(e.Value)
		}
		if depth != 0 || size > len(b) {
			t.Fatalf("ends at depth %d, with %d bytes of values in %d", depth, size, len(b))
		}
		if m, err := Encode(open[0]...); err == nil && !bytes.Equal(m, b) {
			t.Fatalf("encoded again:\n%q\nwant\n%q", m, b)
		}
	})
}

// Whatever the stream, the packets of it are bounded, and those that charon would
// accept are the same after reading and writing.
func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		rest := b
		for r := NewReader(bytes.NewReader(b)); ; {
			p, err := r.Next()
			if err == io.EOF && len(rest) > 0 {
				t.Fatalf("%d bytes are left", len(rest))
			}
			if err != nil {
				return
			}
			size := 4 + 1 + len(p.Message)
			if p.Type.named() {
				size += 1 + len(p.Name)
			}
			if size > 4+maxPacket || size > len(rest) {
				t.Fatalf("a packet of %d bytes in %d", size, len(rest))
			}
			if encoded, err := p.AppendTo(nil); err == nil && !bytes.Equal(encoded, rest[:size]) {
				t.Fatalf("written again:\n%q\nwant\n%q", encoded, rest[:size])
			}
			rest = rest[size:]
		}
	})
}

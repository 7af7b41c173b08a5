package powercut

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// encode writes a log as qemu does.
func encode(size uint32, entries ...[]byte) []byte {
	var b bytes.Buffer
	for _, field := range []any{uint64(magic), uint64(version), uint64(len(entries)), size} {
		binary.Write(&b, binary.LittleEndian, field)
	}
	b.Write(make([]byte, int(size)-b.Len()))
	for _, entry := range entries {
		b.Write(entry)
	}
	return b.Bytes()
}

func entry(size uint32, at, sectors, flags uint64, data string) []byte {
	var b bytes.Buffer
	for _, field := range []uint64{at, sectors, flags, 0} {
		binary.Write(&b, binary.LittleEndian, field)
	}
	b.Write(make([]byte, int(size)-b.Len()))
	b.WriteString(data)
	return b.Bytes()
}

func TestReadLog(t *testing.T) {
	a, zeros := strings.Repeat("a", 1024), make([]byte, 512)
	tests := []struct {
		name string
		log  []byte
		want []Write
		err  string
	}{
		{"empty", encode(512), []Write{}, ""},
		{"write, flush, discard, write", encode(512, entry(512, 3, 2, 0, a), entry(512, 0, 0, flagFlush, ""),
			entry(512, 9, 1, flagDiscard, ""), entry(512, 1, 2, 0, a)),
			[]Write{{Offset: 1536, Data: []byte(a)}, {Data: []byte{}, Flush: true}, {Offset: 4608, Data: zeros},
				{Offset: 512, Data: []byte(a)}}, ""},
		{"larger sectors", encode(1024, entry(1024, 3, 1, 0, a)), []Write{{Offset: 3072, Data: []byte(a)}}, ""},
		{"cut", encode(512, entry(512, 3, 2, 0, a))[:1500], nil, "entry 0 of 1: EOF"},
		{"another file", make([]byte, 512), nil, "not a log"},
		{"another version", slices.Replace(encode(512), 8, 9, 2), nil, "version 2"},
		{"a sector of no bytes", slices.Replace(encode(512), 24, 26, 0, 0), nil, "0 bytes per sector"},
		{"a mark", encode(512, entry(512, 0, 0, flagMark, "")), nil, "which qemu does not log"},
		{"a flush with data", encode(512, entry(512, 0, 2, flagFlush, a)), nil, "which qemu does not log"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(file, test.log, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadLog(file)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want one with %q", err, test.err)
				}
				return
			}
			same := func(a, b Write) bool {
				return a.Offset == b.Offset && a.Flush == b.Flush && bytes.Equal(a.Data, b.Data)
			}
			if err != nil || !slices.EqualFunc(got, test.want, same) {
				t.Errorf("got %v, error %v", got, err)
			}
			if n, err := Logged(file); n != len(test.want) || err != nil {
				t.Errorf("%d entries, error %v", n, err)
			}
		})
	}
}

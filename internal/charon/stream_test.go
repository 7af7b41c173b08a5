package charon

import (
	"slices"
	"strings"
	"testing"
)

// What cannot be read to its end is no message.
func TestElements(t *testing.T) {
	whole := slices.Concat(value("a", "1"), nested("s", value("b", ""), list("l", "x", "y"), nested("t")), list("empty"))
	read := func(message []byte) (lines []string, err error) {
		for e, err := range elements(message) {
			if err != nil {
				return nil, err
			}
			kind := map[byte]string{sectionStart: "{", sectionEnd: "}", keyValue: "=", listItem: "+"}[e.kind]
			lines = append(lines, strings.Repeat(" ", e.depth)+string(e.key)+kind+string(e.value))
		}
		return lines, nil
	}
	lines, err := read(whole)
	if got, want := strings.Join(lines, "\n"), "a=1\ns{\n b=\n l+x\n l+y\n t{\n }\n}"; err != nil || got != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
	ends := 0
	for n := range len(whole) {
		if _, err := read(whole[:n]); err == nil {
			ends++
		}
	}
	if ends != 3 { // where nothing is begun: at the start, behind a and behind s
		t.Errorf("%d cut messages are taken for whole", ends)
	}
	for name, message := range map[string][]byte{
		"end of no section":    {sectionEnd},
		"item of no list":      {listItem, 0, 0},
		"end of no list":       {listEnd},
		"value inside a list":  slices.Concat([]byte{listStart, 1, 'l'}, value("a", "1"), []byte{listEnd}),
		"list inside a list":   slices.Concat([]byte{listStart, 1, 'l'}, list("m"), []byte{listEnd}),
		"section end in list":  {sectionStart, 1, 's', listStart, 1, 'l', sectionEnd, listEnd},
		"element of no type":   {0},
		"element of type 7":    {7, 0},
		"value of 65535 bytes": {keyValue, 1, 'a', 0xff, 0xff},
	} {
		if lines, err := read(message); err == nil {
			t.Errorf("%s: %q", name, lines)
		}
	}
}

func FuzzElements(f *testing.F) {
	f.Add(slices.Concat(value("a", "1"), nested("s", list("l", "x")), list("empty")))
	f.Fuzz(func(t *testing.T, message []byte) {
		depth, size := 0, 0
		for e, err := range elements(message) {
			if err != nil {
				return
			}
			switch e.kind {
			case sectionStart:
				depth++
			case sectionEnd:
				depth--
			}
			size += len(e.value)
			if depth < 0 || size > len(message) {
				t.Fatalf("depth %d, %d bytes in %d", depth, size, len(message))
			}
		}
		if depth != 0 {
			t.Fatalf("ends at depth %d", depth)
		}
	})
}

// A list that charon does not give is an error, not an empty one.
func TestRefusedList(t *testing.T) {
	s := (&fake{answer: map[string][]byte{"list-certs": slices.Concat(value("success", "no"), value("errmsg", "not today"))}}).start(t)
	if certs, err := s.Certificates(t.Context()); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
}

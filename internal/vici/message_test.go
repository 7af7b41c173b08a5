package vici

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// encode is Encode for fields that are valid.
func encode(t testing.TB, fields ...Field) Message {
	t.Helper()
	m, err := Encode(fields...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// outline has a line per element, indented by its depth.
func outline(m Message) (string, error) {
	marks := map[Kind]string{
		SectionStart: "{", SectionEnd: "}", KeyValue: "=", ListStart: "[", ListItem: "+", ListEnd: "]",
	}
	var lines []string
	for e, err := range m.Elements() {
		if err != nil {
			return "", err
		}
		lines = append(lines, strings.Repeat(" ", e.Depth)+string(e.Key)+marks[e.Kind]+string(e.Value))
	}
	return strings.Join(lines, "\n"), nil
}

// The example of src/libcharon/plugins/vici/README.md.
func TestExampleOfTheProtocol(t *testing.T) {
	m := encode(t, Value("key1", "value1"),
		Section("section1", Section("sub-section", Value("key2", "value2")), List("list1", "item1", "item2")))
	want := "\x03\x04key1\x00\x06value1" +
		"\x01\x08section1" +
		"\x01\x0bsub-section" + "\x03\x04key2\x00\x06value2" + "\x02" +
		"\x04\x05list1" + "\x05\x00\x05item1" + "\x05\x00\x05item2" + "\x06" +
		"\x02"
	if string(m) != want {
		t.Errorf("got  %q\nwant %q", m, want)
	}
	got, err := outline(m)
	want = `key1=value1
section1{
 sub-section{
  key2=value2
 }
 list1[
 list1+item1
 list1+item2
 ]
}`
	if err != nil || got != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
}

// A message that is cut is an error, wherever that leaves something open.
func TestCutMessages(t *testing.T) {
	whole := encode(t, Value("a", "1"), Section("s", Value("b", ""), List("l", "x", "y"), Section("t")), List("empty"))
	valid := 0
	for n := range len(whole) {
		if _, err := outline(whole[:n]); err == nil {
			valid++
		}
	}
	if valid != 3 { // where nothing has begun: at the start, after a and after s
		t.Errorf("%d cut messages are taken for whole ones", valid)
	}
}

func TestMalformedMessages(t *testing.T) {
	value, list := encode(t, Value("a", "1")), encode(t, List("m"))
	inList := func(elements []byte) Message {
		return slices.Concat([]byte{byte(ListStart), 1, 'l'}, elements, []byte{byte(ListEnd)})
	}
	for name, m := range map[string]Message{
		"end without a section":  {byte(SectionEnd)},
		"item without a list":    {byte(ListItem), 0, 0},
		"end without a list":     {byte(ListEnd)},
		"value in a list":        inList(value),
		"list in a list":         inList(list),
		"section end in a list":  slices.Concat([]byte{byte(SectionStart), 1, 's'}, inList([]byte{byte(SectionEnd)})),
		"element of type 0":      {0},
		"element of type 7":      {7, 0},
		"value of 65535 bytes":   {byte(KeyValue), 1, 'a', 0xff, 0xff},
		"length without a value": {byte(KeyValue), 1, 'a', 0},
	} {
		if lines, err := outline(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v\n%s", name, err, lines)
		}
	}
}

// charon lists a connection with an empty name if another client has loaded one.
func TestEmptyNames(t *testing.T) {
	const want = "{\n =\n [\n +\n ]\n}"
	got, err := outline(Message{byte(SectionStart), 0, byte(KeyValue), 0, 0, 0,
		byte(ListStart), 0, byte(ListItem), 0, 0, byte(ListEnd), byte(SectionEnd)})
	if err != nil || got != want {
		t.Errorf("error %v, got\n%s\nwant\n%s", err, got, want)
	}
}

func TestValueAndList(t *testing.T) {
	m := encode(t, Section("s", Value("a", "inner"), List("l", "inner")),
		Value("a", "1"), List("l", "x", "y"), List("none"))
	for key, want := range map[string]string{"a": "1", "l": "", "s": "", "b": ""} {
		if got, err := m.Value(key); err != nil || got != want {
			t.Errorf("value of %s is %q, error %v, want %q", key, got, err, want)
		}
	}
	for key, want := range map[string][]string{"l": {"x", "y"}, "none": nil, "a": nil, "b": nil} {
		if got, err := m.List(key); err != nil || !slices.Equal(got, want) {
			t.Errorf("list %s is %q, error %v, want %q", key, got, err, want)
		}
	}
	if got, err := m[:len(m)-1].Value("a"); !errors.Is(err, ErrMalformed) {
		t.Errorf("value %q of a cut message, error %v", got, err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	name, value := strings.Repeat("x", maxName), strings.Repeat("x", maxValue)
	for _, test := range []struct {
		situation string
		field     Field
		want      string // "" if it is accepted
	}{
		{"longest name", Value(name, ""), ""},
		{"name too long", Value(name+"x", ""), "VICI requires 1 to 255 printable ASCII characters"},
		{"no name", List(""), `invalid name ""`},
		{"name in UTF-8", Section("büro"), `invalid name "büro"`},
		{"name of two lines", Section("a\nb"), `invalid name "a\nb"`},
		{"name in a section", Section("s", Value("", "")), `s: invalid name ""`},
		{"any bytes as value", Value("a", "\x00\xff\n"), ""},
		{"longest value", Value("a", value), ""},
		{"value too long", Value("a", value+"x"), "a: value too long: 65536 bytes, VICI allows 65535"},
		{"item too long", List("a", value+"x"), "a: value too long: 65536 bytes, VICI allows 65535"},
		{"message too long", List("a", slices.Repeat([]string{value}, 8)...),
			"message too long: 524308 bytes, VICI allows 524288"},
	} {
		m, err := Encode(test.field)
		switch {
		case test.want == "":
			if err != nil {
				t.Errorf("%s: %v", test.situation, err)
			}
		case err == nil || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: got %v, want %s", test.situation, err, test.want)
		case m != nil:
			t.Errorf("%s: a message of %d bytes beside an error", test.situation, len(m))
		}
	}
}

package retention

import (
	"encoding"
	"fmt"
	"strings"
	"testing"
)

// FuzzLimits reads limits as a person writes them. What is accepted is not negative, and is read again
// as it is written.
func FuzzLimits(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		var age, again Age
		if age.UnmarshalText([]byte(text)) == nil {
			if err := again.UnmarshalText([]byte(age.String())); err != nil || again != age || age < 0 {
				t.Errorf("%q is %d, written %q, and read as %d, %v", text, age, age, again, err)
			}
		}
		var size Bytes
		if size.UnmarshalText([]byte(text)) == nil && size < 0 {
			t.Errorf("%q is %d bytes", text, size)
		}
		var share Share
		if share.UnmarshalText([]byte(text)) == nil && !(share >= 0 && share <= 100) {
			t.Errorf("%q is %v of a whole", text, share)
		}
		var free Free
		if free.UnmarshalText([]byte(text)) == nil {
			const disk = 30e9
			if of := free.Of(disk); of < 0 || strings.HasSuffix(text, "%") && of > disk {
				t.Errorf("%q of %v is %d", text, Bytes(disk), of)
			}
		}
		for _, limit := range []encoding.TextUnmarshaler{&age, &size, &share, &free} {
			err := limit.UnmarshalText([]byte(text))
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
				t.Errorf("the error of %q is %v", text, err)
			}
		}
	})
}

// FuzzStreams names the stream of any path that a publisher can choose: a name that is made of parts of
// the path, and the same in every run.
func FuzzStreams(f *testing.F) {
	f.Fuzz(func(t *testing.T, path string) {
		var streams Streams
		name := streams.name(path)
		if again := streams.name(path); again != name {
			t.Errorf("%q is %q, then %q", path, name, again)
		}
		rest := path
		for _, c := range []byte(name) {
			i := strings.IndexByte(rest, c)
			if i < 0 {
				t.Fatalf("%q is not made of parts of %q", name, path)
			}
			rest = rest[i+1:]
		}
	})
}

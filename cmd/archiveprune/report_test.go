package main

import (
	"encoding/json"
	"testing"
)

// TestNamesThatAreNotUTF8 checks that json has such a name a second time, in base64: two names would look the
// same otherwise.
func TestNamesThatAreNotUTF8(t *testing.T) {
	for path, want := range map[string]string{
		"/arc/録画.mp4":    `{"path":"/arc/録画.mp4"}`,
		"/arc/\xff.mp4":  `{"path":"/arc/\ufffd.mp4","path_base64":"L2FyYy//Lm1wNA=="}`,
		"/arc/\xfe.mp4":  `{"path":"/arc/\ufffd.mp4","path_base64":"L2FyYy/+Lm1wNA=="}`,
		"/arc/a\nb.flv":  `{"path":"/arc/a\nb.flv"}`,
		"/arc/\\xff.mp4": `{"path":"/arc/\\xff.mp4"}`,
	} {
		if got, err := json.Marshal(nameOf(path)); string(got) != want || err != nil {
			t.Errorf("%q: %s, error %v, want %s", path, got, err, want)
		}
	}
}

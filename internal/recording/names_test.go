package recording

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMP4Names(t *testing.T) {
	long := strings.Repeat("x", 251)
	tests := []struct {
		flv  string
		part int
		want []string
	}{
		{"cam.flv", 1, []string{"cam.mp4", "cam-1.mp4", "cam-2.mp4"}},
		{"cam.flv", 2, []string{"cam-2.mp4", "cam-3.mp4"}},
		{"cam.flv", 3, []string{"cam-3.mp4"}},
		{"-rf-2026-11-21_09-35-58.flv", 1, []string{"-rf-2026-11-21_09-35-58.mp4"}},
		{"..-1795254935.flv", 1, []string{"..-1795254935.mp4"}},
		{"a.b.flv", 1, []string{"a.b.mp4"}},
		{".flv", 1, []string{".flv.mp4"}},
		{"noext", 1, []string{"noext.mp4"}},
		{"cam.mp4", 1, []string{"cam.mp4", "cam-1.mp4"}},
		{long + ".flv", 1, []string{long + ".mp4", long[:249] + "-1.mp4"}},
		{long[:247] + "%E3.flv", 1, []string{long[:247] + "%E3.mp4", long[:247] + "-1.mp4"}},
		{long[:248] + "テ.flv", 1, []string{long[:248] + "テ.mp4", long[:248] + "-1.mp4"}},
	}
	for _, test := range tests {
		i := 0
		for got := range MP4Names(test.flv, test.part) {
			if got != test.want[i] || len(got) > maxName || !utf8.ValidString(got) {
				t.Errorf("%s part %d: name %d is %s, want %s", test.flv, test.part, i, got, test.want[i])
			}
			if i++; i == len(test.want) {
				break
			}
		}
	}
}

func TestKindOf(t *testing.T) {
	tests := map[string]Kind{
		"cam.flv":                       FLV,
		"-rf.flv":                       FLV,
		"..-1795254935.flv":             FLV,
		".flv":                          FLV,
		"cam.mp4":                       MP4,
		"cam.txt":                       Other,
		".recorddone-x.flv":             FLV, // chosen by a publisher, not ours
		HiddenName("cam.flv", 1):        Hidden,
		HiddenName("cam.flv", 2):        Hidden,
		HiddenSource("cam.flv"):         Hidden,
		strings.Repeat("x", 5) + ".MP4": Other,
	}
	for name, want := range tests {
		if got := KindOf(name); got != want {
			t.Errorf("%s is of kind %d, want %d", name, got, want)
		}
	}
	if HiddenName("a.flv", 1) == HiddenName("b.flv", 1) || HiddenName("a.flv", 1) == HiddenName("a.flv", 2) {
		t.Error("two hidden names are equal")
	}
	if !IsHiddenSource(HiddenSource("a.flv")) || IsHiddenSource(HiddenName("a.flv", 1)) {
		t.Error("a hidden recording looks like unfinished work")
	}
}

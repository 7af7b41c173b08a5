package rundir

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLinksParam checks for which interface an ipparam holds that pppd has reported.
func TestLinksParam(t *testing.T) {
	const pid = "4711"
	tests := []struct {
		name  string
		pppd  string // that called the hook
		file  string // with the process number of the link's pppd, below /run
		has   string // its content
		index int
		want  string
	}{
		{"the same interface", pid, "ppp0.pid", pid + "\n", 5, "home line"},
		{"the same interface, no file", pid, "", "", 5, "home line"},
		{"pppd has dialled again", pid, "ppp0.pid", pid + "\n", 9, "home line"},
		{"pppd 2.5 has dialled again", pid, "pppd/ppp0.pid", pid + "\n", 9, "home line"},
		{"another pppd", pid, "ppp0.pid", "815\n", 9, ""},
		{"no file", pid, "", "", 9, ""},
		{"an empty file", pid, "ppp0.pid", "", 9, ""},
		{"a caller that does not name its process", "", "ppp0.pid", "", 9, ""},
		{"another link's pppd", pid, "ppp1.pid", pid + "\n", 9, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run := t.TempDir()
			d := Links(filepath.Join(run, "tunnelcast", "links"))
			if err := d.Request("ppp0", 5, "home line", test.pppd); err != nil {
				t.Fatal(err)
			}
			if test.file != "" {
				file := filepath.Join(run, test.file)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(test.has), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := d.Param("ppp0", test.index); got != test.want {
				t.Errorf("the link with index %d has the ipparam %q, want %q", test.index, got, test.want)
			}
		})
	}
}

// A version before the process number was saved has left its file.
func TestLinksParamOfEarlierVersion(t *testing.T) {
	d := Links(filepath.Join(t.TempDir(), "links"))
	if err := os.MkdirAll(filepath.Join(string(d), "params"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(d), "params", "ppp0"), []byte("5 dsl\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := d.Param("ppp0", 5) + d.Param("ppp0", 6); got != "dsl" {
		t.Errorf("got %q", got)
	}
}

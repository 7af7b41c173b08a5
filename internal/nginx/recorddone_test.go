package nginx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecordDone(t *testing.T) {
	base := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := write("sbin/program", "exec_record_done is in this program, too", 0o755)
	other := write("sbin/other", "", 0o755)
	link := filepath.Join(base, "record_done.sh")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		line string
		err  string // none if empty
	}{
		"a link":    {"\texec_record_done " + link + " $path $filename $basename $dirname;\n", ""},
		"quoted":    {`exec_record_done "` + program + `" $path;`, ""},
		"other":     {"exec_record_done " + other + " $path;", "calls " + other},
		"missing":   {"exec_record_done " + base + "/none $path;", "/none: no such file or directory"},
		"a comment": {"# exec_record_done " + program + " $path;", "no file has the line"},
		"no line":   {"exec_publish " + program + ";", "no file has the line"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := "etc/" + name
			want := write(dir+"/rtmp.conf", test.line, 0o644)
			write(dir+"/script.sh", "exec_record_done "+program, 0o755)
			file, err := RecordDone(filepath.Join(base, dir), "program")
			switch {
			case test.err == "" && (err != nil || file != want):
				t.Errorf("%q, %v", file, err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("%v, want %s", err, test.err)
			}
		})
	}
	if _, err := RecordDone(filepath.Join(base, "none"), "program"); err == nil {
		t.Error("no error without nginx")
	}
}

package nginx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// RecordDone returns a file below dir with a line exec_record_done that calls the program with this base
// name, perhaps through symbolic links. If there is none, the error names the programs that are called
// instead. Files that this user may not read are left out.
func RecordDone(dir, program string) (file string, err error) {
	var others []string
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		// Executable files are the programs that nginx calls.
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 != 0 {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "#")
			_, call, _ := strings.Cut(line, "exec_record_done ")
			words := strings.Fields(call)
			if len(words) == 0 {
				continue
			}
			called, err := filepath.EvalSymlinks(strings.Trim(words[0], `"';`))
			switch {
			case err != nil:
				others = append(others, fmt.Sprintf("%s calls %v", path, err))
			case filepath.Base(called) != program:
				others = append(others, fmt.Sprintf("%s calls %s", path, called))
			default:
				file = path
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case file != "":
		return file, nil
	case len(others) > 0:
		return "", errors.New(strings.Join(others, ", "))
	}
	return "", errors.New("no file has the line")
}

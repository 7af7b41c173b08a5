package units

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Writable returns an error unless a service's ReadWritePaths= cover a directory;
// host is the root of the file system. The unit is read where systemd reads it, systemd.unit(5): of several of a name the
// first, and then all drop-ins in the order of their names.
func Writable(host fs.FS, service, dir string) error {
	places := []string{"etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}
	var files []string
	dropins := make(map[string]string)
	for _, place := range places {
		unit := path.Join(place, service)
		if _, err := fs.Stat(host, unit); err == nil && files == nil {
			files = []string{unit}
		}
		found, err := fs.Glob(host, unit+".d/*.conf")
		if err != nil {
			return err
		}
		for _, file := range found {
			if _, ok := dropins[path.Base(file)]; !ok {
				dropins[path.Base(file)] = file
			}
		}
	}
	if files == nil {
		return fmt.Errorf("%s is not installed", service)
	}
	names := make([]string, 0, len(dropins))
	for name := range dropins {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		files = append(files, dropins[name])
	}
	var writable []string
	for _, file := range files {
		text, err := fs.ReadFile(host, file)
		if err != nil {
			return fmt.Errorf("read unit: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			value, ok := strings.CutPrefix(strings.TrimSpace(line), "ReadWritePaths=")
			switch {
			case ok && value == "":
				writable = nil
			case ok:
				writable = append(writable, strings.Fields(value)...)
			}
		}
	}
	for _, w := range writable {
		if w = strings.TrimLeft(w, "-+"); dir == w || strings.HasPrefix(dir, strings.TrimSuffix(w, "/")+"/") {
			return nil
		}
	}
	return fmt.Errorf("its ReadWritePaths= are %s", strings.Join(writable, " "))
}

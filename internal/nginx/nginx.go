// Package nginx reads what this project needs of nginx's configuration: where nginx-rtmp records to. It does not run nginx,
// which needs root to read its certificates' keys.
package nginx

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Place is a directory that nginx-rtmp records to.
type Place struct {
	Dir  string
	From string // the file and line that says so
}

// RecordPaths returns the arguments of every record_path in the files below /etc/nginx, but for sites and modules that are
// available and not enabled. host is the root of the file system. What cannot be read is left out.
func RecordPaths(host fs.FS) []Place {
	var places []Place
	fs.WalkDir(host, "etc/nginx", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if entry.IsDir() {
			if strings.HasSuffix(name, "-available") {
				return fs.SkipDir
			}
			return nil
		}
		info, err := fs.Stat(host, name) // a link's target
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 != 0 || info.Size() > 1<<20 {
			return nil
		}
		text, err := fs.ReadFile(host, name)
		if err != nil {
			return nil
		}
		places = append(places, recordPaths("/"+name, string(text))...)
		return nil
	})
	return places
}

// recordPaths finds the directives of one file.
func recordPaths(file, text string) []Place {
	var places []Place
	words, lines := tokens(text)
	for i, word := range words {
		if word != "record_path" || i+2 >= len(words) || words[i+2] != ";" || i > 0 && !slices.Contains([]string{";", "{", "}"}, words[i-1]) {
			continue
		}
		dir := words[i+1]
		if !path.IsAbs(dir) {
			dir = path.Join("/usr/share/nginx", dir) // Debian's --prefix
		}
		places = append(places, Place{Dir: path.Clean(dir), From: file + ":" + strconv.Itoa(lines[i])})
	}
	return places
}

// tokens splits a file as ngx_conf_read_token does: words, quoted words, and ; { } by themselves; # begins a comment where a
// word could begin. lines holds the line of each.
func tokens(text string) (words []string, lines []int) {
	line := 1
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case '\n':
			line++
			i++
		case ' ', '\t', '\r':
			i++
		case '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case ';', '{', '}':
			words, lines = append(words, string(c)), append(lines, line)
			i++
		default:
			start := line
			var word strings.Builder
			quote := byte(0)
			if c == '"' || c == '\'' {
				quote = c
				i++
			}
			for ; i < len(text); i++ {
				c := text[i]
				if c == '\\' && i+1 < len(text) {
					i++
					c = text[i]
				} else if quote != 0 && c == quote {
					i++
					break
				} else if quote == 0 && strings.IndexByte(" \t\r\n;{", c) >= 0 {
					break
				}
				if c == '\n' {
					line++
				}
				word.WriteByte(c)
			}
			words, lines = append(words, word.String()), append(lines, start)
		}
	}
	return words, lines
}

// Package nginx reads from nginx's configuration where nginx-rtmp records to, and which program it calls
// after a recording. It does not run nginx, which needs root to read the keys of its certificates.
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
	From string // file and line of the directive
}

// RecordPaths returns the argument of every record_path in the files below /etc/nginx, except in the
// directories sites-available and modules-available. host is the root of the file system. Files that
// cannot be read are left out.
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
		info, err := fs.Stat(host, name) // follows links
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
		begins := i == 0 || slices.Contains([]string{";", "{", "}"}, words[i-1])
		if word != "record_path" || !begins || i+2 >= len(words) || words[i+2] != ";" {
			continue
		}
		dir := words[i+1]
		if !path.IsAbs(dir) {
			dir = path.Join("/usr/share/nginx", dir) // --prefix of Debian's nginx
		}
		places = append(places, Place{Dir: path.Clean(dir), From: file + ":" + strconv.Itoa(lines[i])})
	}
	return places
}

// tokens splits a file as ngx_conf_read_token does: into words, quoted words, and ; { }. # begins a
// comment where a word could begin. lines has the line of each word.
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

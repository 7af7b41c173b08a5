// Command copyright writes the package's copyright file in Debian's machine-readable format 1.0. The file lists the
// modules that are linked into the programs, as `go version -m` does, each with the licence and the holders that its
// source names.
//
//	go run ./packaging/copyright bin >packaging/deb/copyright
package main

import (
	"bufio"
	"debug/buildinfo"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed head.txt
var head string

//go:embed licences.txt
var licences string

var commands = []string{"updown", "recorddone", "archiveprune", "certhook"}

// A part is something that is linked into a program.
type part struct {
	name    string
	licence string   // its short name in the file
	holders []string // lines such as "2018 CoreOS, Inc."
	notice  string   // the NOTICE file, which Apache-2.0, section 4(d), requires us to pass on
}

// library lists the C libraries in recorddone, which go version does not list.
var library = []part{
	{
		name: "FFmpeg: libavformat, libavcodec, libavutil", licence: "LGPL-2.1+",
		holders: []string{"2000-2026 the FFmpeg developers"},
	},
	{name: "the GNU C library", licence: "LGPL-2.1+", holders: []string{"1991-2026 Free Software Foundation, Inc."}},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: copyright DIRECTORY-OF-THE-PROGRAMS")
		os.Exit(2)
	}
	text, err := write(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "copyright:", err)
		os.Exit(1)
	}
	fmt.Print(text)
}

func write(bin string) (string, error) {
	var b strings.Builder
	b.WriteString(head)
	for _, command := range commands {
		parts, err := linked(filepath.Join(bin, command))
		if err != nil {
			return "", err
		}
		if command == "recorddone" {
			parts = append(parts, library...)
		}
		stanza(&b, command, parts)
	}
	b.WriteString("\n" + licences)
	return b.String(), nil
}

// linked returns the modules that are linked into a program, and Go itself.
func linked(program string) ([]part, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	parts := []part{
		{name: "Go: runtime and standard library", licence: "BSD-3-clause", holders: []string{"2009 The Go Authors"}},
	}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		part, err := look(module.Path, module.Version)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", module.Path, err)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// look returns a module's licence and holders, from its source.
func look(module, version string) (part, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		return part{}, fmt.Errorf("go list -m: no source: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return part{}, err
	}
	p := part{name: module + " " + version}
	var text string
	for _, file := range files {
		switch name := strings.ToUpper(filepath.Base(file)); {
		case strings.HasPrefix(name, "LICENSE"), strings.HasPrefix(name, "LICENCE"), strings.HasPrefix(name, "COPYING"),
			name == "COPYRIGHT":
			data, err := os.ReadFile(file)
			if err != nil {
				return part{}, err
			}
			text += string(data) + "\n"
		case name == "NOTICE":
			data, err := os.ReadFile(file)
			if err != nil {
				return part{}, err
			}
			p.notice = strings.TrimSpace(string(data))
		}
	}
	if p.licence, err = kind(text); err != nil {
		return part{}, err
	}
	p.holders = holders(text + "\n" + p.notice)
	if len(p.holders) == 0 { // the text of Apache-2.0 names no holder; the source files do
		if p.holders, err = holdersInSource(dir); err != nil {
			return part{}, err
		}
	}
	return p, nil
}

// thirdCondition matches what distinguishes BSD-3-clause from BSD-2-clause.
var thirdCondition = regexp.MustCompile(`neither the name|name of any author may not|may not be used to endorse`)

// kind recognizes a licence by its text, and returns its short name.
func kind(text string) (string, error) {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	switch {
	case strings.Contains(text, "permission is hereby granted, free of charge"):
		return "Expat", nil
	case strings.Contains(text, "apache license version 2.0"):
		return "Apache-2.0", nil
	case strings.Contains(text, "redistribution and use in source and binary forms"):
		if thirdCondition.MatchString(text) {
			return "BSD-3-clause", nil
		}
		return "BSD-2-clause", nil
	}
	return "", errors.New("licences.txt does not have its licence")
}

var copyright = regexp.MustCompile(`(?i)^\W*copyright\s*(?:\(c\)|©)?\s*(\d{4}.*\w.*)$`)

func holders(text string) []string {
	// An alternative licence, whose text has a holder of its own.
	text, _, _ = strings.Cut(text, "GNU GENERAL PUBLIC LICENSE")
	var all []string
	for line := range strings.Lines(text) {
		m := copyright.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		holder := m[1]
		for _, end := range []string{". All rights", " All rights", ". Use of", ". Extensions"} {
			holder, _, _ = strings.Cut(holder, end)
		}
		holder = strings.TrimSpace(strings.TrimSuffix(holder, "Authors."))
		if strings.HasSuffix(m[1], "Authors.") {
			holder += " Authors"
		}
		if !slices.Contains(all, holder) {
			all = append(all, holder)
		}
	}
	return all
}

// holdersInSource returns the holders that the first lines of the source files name.
func holdersInSource(dir string) ([]string, error) {
	var all []string
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".go") {
			return err
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for n := 0; n < 60 && lines.Scan(); n++ {
			for _, holder := range holders(lines.Text()) {
				if !slices.Contains(all, holder) {
					all = append(all, holder)
				}
			}
		}
		return nil
	})
	if err == nil && len(all) == 0 {
		err = errors.New("its source names no copyright holder")
	}
	slices.Sort(all)
	return all, err
}

func stanza(b *strings.Builder, command string, parts []part) {
	kinds := []string{"Expat"}
	var lines []string
	fmt.Fprintf(b, "\nFiles: usr/sbin/tunnelcast-%s\nCopyright: 2026 The tunnelcast authors\n", command)
	for _, p := range parts {
		for _, holder := range p.holders {
			if line := " " + holder + "\n"; !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
		if !slices.Contains(kinds, p.licence) {
			kinds = append(kinds, p.licence)
		}
	}
	b.WriteString(strings.Join(lines, ""))
	fmt.Fprintf(b, "License: %s\nComment: Linked into it are:\n", strings.Join(kinds, " and "))
	for _, p := range parts {
		fmt.Fprintf(b, " %s, %s: %s\n", p.name, p.licence, strings.Join(p.holders, "; "))
		if p.notice != "" {
			fmt.Fprintf(b, "  with the notice: %s\n", strings.Join(strings.Fields(p.notice), " "))
		}
	}
}

package swanctl

import (
	"slices"
	"strings"
)

// section is a section of strongSwan's settings, see strongswan.conf(5).
type section struct {
	values   map[string]string
	sections map[string]*section
	order    []string // of sections
	refs     []string // absolute names of sections whose contents are inherited
}

func newSection() *section {
	return &section{values: map[string]string{}, sections: map[string]*section{}}
}

// section returns the named section, made when it is not there: a section that
// is opened twice is one.
func (s *section) section(name string) *section {
	if s.sections[name] == nil {
		s.sections[name] = newSection()
		s.order = append(s.order, name)
	}
	return s.sections[name]
}

// merged returns the section with everything that it and its subsections
// inherit in place. Its own settings win, then those of earlier references. A
// reference that leads back to one of via is left out: strongSwan refuses such
// loops.
func (s *section) merged(root *section, via ...string) *section {
	all := newSection()
	all.addMissing(s)
	for _, ref := range s.refs {
		if from := root.find(ref); from != nil && !slices.Contains(via, ref) {
			all.addMissing(from.merged(root, append(via, ref)...))
		}
	}
	for _, name := range all.order {
		all.sections[name] = all.sections[name].merged(root, via...)
	}
	return all
}

func (s *section) addMissing(from *section) {
	for key, value := range from.values {
		if _, set := s.values[key]; !set {
			s.values[key] = value
		}
	}
	for _, name := range from.order {
		sub := s.section(name)
		sub.refs = append(sub.refs, from.sections[name].refs...)
		sub.addMissing(from.sections[name])
	}
}

func (s *section) find(name string) *section {
	for part := range strings.SplitSeq(name, ".") {
		if s = s.sections[part]; s == nil {
			return nil
		}
	}
	return s
}

// keys returns the keys of a section that have a value, sorted. One without a value
// was taken back (key =).
func (s *section) keys() []string {
	var keys []string
	for key, value := range s.values {
		if value != "" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

package swanctl

import (
	"slices"
	"strings"
)

// section is a section of strongSwan's settings (strongswan.conf(5)).
type section struct {
	values   map[string]string
	sections map[string]*section
	order    []string // the names of sections, as they first occur
	refs     []string // absolute names of the sections that this one inherits from
}

func newSection() *section {
	return &section{values: map[string]string{}, sections: map[string]*section{}}
}

// section returns the named section and creates it if there is none: a section that
// is opened twice is one section.
func (s *section) section(name string) *section {
	if s.sections[name] == nil {
		s.sections[name] = newSection()
		s.order = append(s.order, name)
	}
	return s.sections[name]
}

// merged returns a copy of the section that includes all that it and the sections in
// it inherit. Its own settings win, then those of earlier references. A reference back
// to one of via is ignored: strongSwan refuses such loops.
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

// addMissing copies the settings and sections of from that s does not have.
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

// find returns the section with an absolute name, such as connections.vpn, or nil.
func (s *section) find(name string) *section {
	for part := range strings.SplitSeq(name, ".") {
		if s = s.sections[part]; s == nil {
			return nil
		}
	}
	return s
}

// keys returns the keys that have a value, sorted. A key without a value (key =)
// removes an inherited one.
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

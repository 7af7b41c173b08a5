package publish

import (
	"fmt"
	"slices"
)

// A Lack is something that a file system does not have and that a run can do without.
type Lack string

// What a file system may lack.
const (
	Leases    Lack = "leases"
	FileLocks Lack = "locks on files"
	NoReplace Lack = "renaming without replacing"
	Modes     Lack = "modes of files"
	Times     Lack = "times of files"
	Sync      Lack = "sync"
)

// Effect returns what is different in an archive because of the lack.
func (l Lack) Effect() string {
	switch l {
	case Leases:
		return fmt.Sprintf("the hook trusts nginx to have closed a recording, "+
			"and a sweep takes one that was not written to for %v", Settled)
	case FileLocks:
		return "one recording of a directory at a time"
	case NoReplace:
		return "a file that another program makes at the moment of publishing can be replaced"
	case Modes:
		return "an MP4 has the mode of the mount"
	case Times:
		return "an MP4 has the time at which it was made, and a damaged recording is done again by each sweep"
	case Sync:
		return "a power cut can lose what was just published"
	}
	return ""
}

// Lacks returns what the file system was found to lack so far.
func (s *Source) Lacks() []Lack { return s.lacks }

func (s *Source) lack(what Lack) {
	if !slices.Contains(s.lacks, what) {
		s.lacks = append(s.lacks, what)
	}
}

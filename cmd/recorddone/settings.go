//go:build cgo

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tunnelcast/internal/hook"
)

type settings struct {
	hook.Common

	Archive *string `help:"Look here in sweep and check (default: the archive of archiveprune.toml)." placeholder:"DIR"`
	Jobs    int     `help:"Work on N recordings at a time on this host; the others wait." default:"1" placeholder:"N"`

	Faststart bool `help:"Put the index first: browsers play before all is loaded." default:"true" negatable:""`
	Sandbox   bool `help:"Read recordings in a sandbox, without network or other files." default:"true" negatable:""`

	OnPublished  []string      `help:"Call this program, with arguments, for each published MP4." placeholder:"PROGRAM"`
	EventTimeout time.Duration `help:"The longest that one call of the program may take." default:"10m"`
	Queue        string        `hidden:"" default:"/run/tunnelcast-published"`
}

type cli struct {
	settings

	Done struct {
		Path string   `arg:"" help:"A finished FLV recording; becomes an MP4 beside it." placeholder:"PATH"`
		Rest []string `arg:"" optional:"" hidden:"" placeholder:"FILENAME BASENAME DIRNAME"`
	} `cmd:"" default:"withargs" hidden:""`
	Sweep struct {
		Dirs []string `arg:"" optional:"" help:"Look here and below, instead of in the archive." placeholder:"DIR"`
	} `cmd:"" help:"Convert what a crash or a restart of nginx left: every recording that nobody has open."`
	Check struct {
		TestEvent bool `help:"Only call the program of on-published once, with an invented MP4."`
	} `cmd:"" help:"Check whether this host is ready."`
	Published struct{} `cmd:"" hidden:"" help:"Have the calls made that come on standard input."`
	Calls     struct{} `cmd:"" hidden:"" help:"Make the calls that wait."`
}

// nginxArgs finds nginx's $path in the arguments: the first that is followed by one of $filename,
// $basename and $dirname (ngx_rtmp_exec_module.c). It returns the arguments up to $path, and those
// after it that are none of the three. A publisher chooses all of them, and "--help" is a valid name
// of a stream; therefore none of the three is taken for a flag. record_path, and with it $path, may be
// relative to the directory in which nginx was started.
func nginxArgs(args []string) (own []string, path string, extra []string) {
	for i := range len(args) - 1 {
		if slices.Contains([]string{"sweep", "check", "published", "calls"}, args[i]) {
			break
		}
		slash := strings.LastIndexByte(args[i], '/')
		if slash < 0 {
			continue
		}
		file := args[i][slash+1:]
		names := []string{file, strings.TrimSuffix(file, filepath.Ext(file)), args[i][:slash]}
		if file == "" || !slices.Contains(names, args[i+1]) {
			continue
		}
		isName := func(arg string) bool { return slices.Contains(names, arg) }
		extra = slices.DeleteFunc(slices.Clone(args[i+1:]), isName)
		return args[:i+1], args[i], extra
	}
	return args, "", nil
}

// checkEvents returns an error for a setting of on-published that can never work.
func (s settings) checkEvents() error {
	switch {
	case len(s.OnPublished) > 0 && !filepath.IsAbs(s.OnPublished[0]):
		return hook.Usagef("on-published %q: must be the absolute path of a program, such as /etc/tunnelcast/published",
			s.OnPublished[0])
	case s.EventTimeout <= 0:
		return hook.Usagef("event-timeout %s: must be positive", s.EventTimeout)
	}
	return nil
}

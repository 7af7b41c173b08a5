package main

import (
	"tunnelcast/internal/hook"
	"tunnelcast/internal/retention"
)

type cli struct {
	hook.Common
	Archive *string `help:"The directory of the recordings (default: /var/www/html/archive)." placeholder:"DIR"`

	MaxAge retention.Age `help:"Remove recordings of this age or more: 72h, 3d, off." placeholder:"AGE" default:"72h"`

	MaxSize retention.Bytes `help:"Remove the oldest until the archive takes at most this: 20G." placeholder:"SIZE"`

	MinFree   retention.Free  `help:"Remove the oldest until this is free on the disk: 2G, 10%." placeholder:"SIZE"`
	KeepLast  int             `help:"The newest N of each stream are never too old." placeholder:"N"`
	MinAge    retention.Age   `help:"Remove nothing that is younger, whatever the limits: 1h, 1d." placeholder:"AGE"`
	Include   []string        `help:"What is a recording, by its name." placeholder:"GLOB" default:"*.mp4,*.flv"`
	Exclude   []string        `help:"What is never removed, by the name of a file or directory." placeholder:"GLOB"`
	MaxDelete retention.Share `help:"Remove nothing if a larger share of them is too old: 50%." placeholder:"SHARE"`

	RemoveEmptyDirs bool `help:"Remove directories in which nothing is left."`
	DryRun          bool `help:"Print what a run would remove, and remove nothing."`

	Prune struct {
		Dirs   []string `arg:"" optional:"" name:"dir" help:"Directories in place of the configured one."`
		Format string   `help:"Print text or json (${default})." enum:"text,json" default:"text"`
		Force  bool     `help:"Go on where max-delete stops, this once."`

		OnlyMinFree bool `help:"Hold the archives to min-free alone; those without it are not looked at."`
	} `cmd:"" default:"withargs" help:"Remove what the limits do not allow. This is what happens without a command."`
	Check    struct{} `cmd:"" help:"Say whether this host is ready."`
	Crontabs struct{} `cmd:"" hidden:""` // for the package's installation

	Tables tables `kong:"-" toml:"archive"`
}

func (c cli) policy() retention.Policy {
	return retention.Policy{
		MaxAge: c.MaxAge, MaxSize: c.MaxSize, MinFree: c.MinFree, KeepLast: c.KeepLast, MinAge: c.MinAge,
	}
}

func (c cli) validate() error {
	switch {
	case c.KeepLast < 0:
		return hook.Usagef("keep-last %d: must not be negative", c.KeepLast)
	case len(c.Include) == 0:
		return hook.Usagef("include is empty: nothing would be a recording")
	case c.MinAge > c.MaxAge && c.MaxAge > 0:
		return hook.Usagef("min-age %s is more than max-age %s", c.MinAge, c.MaxAge)
	}
	if err := checkPatterns("include", c.Include); err != nil {
		return err
	}
	return checkExcluded(c.Exclude)
}

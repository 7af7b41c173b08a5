//go:build cgo

package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"tunnelcast/internal/hook"
)

// progress shows a person at a terminal how far a run is. In the journal and in
// nginx's /dev/null there is none: all that it does is then nothing.
type progress struct {
	bar  *progressbar.ProgressBar // nil without a terminal
	done int64                    // bytes of recordings that were dealt with
}

// newProgress is that of a run over recordings of so many bytes in all.
func newProgress(env hook.Env, bytes int64) *progress {
	file, ok := env.Stderr.(*os.File)
	if !ok || bytes == 0 || !term.IsTerminal(int(file.Fd())) {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(bytes,
		progressbar.OptionSetWriter(file),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionClearOnFinish(),
	)}
}

// reached says that so many bytes of the present recording were read.
func (p *progress) reached(bytes int64) {
	if p.bar != nil {
		p.bar.Set64(min(p.done+bytes, p.bar.GetMax64()))
	}
}

// pause makes room for a line of the log.
func (p *progress) pause() {
	if p.bar != nil {
		p.bar.Clear()
	}
}

// next says that a recording of so many bytes was dealt with.
func (p *progress) next(bytes int64) {
	p.done += bytes
	p.reached(0)
	p.pause()
}

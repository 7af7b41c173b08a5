//go:build cgo

package main

import (
	"time"

	"github.com/schollz/progressbar/v3"

	"tunnelcast/internal/hook"
)

// progress shows a person at a terminal how far a run is. Without a terminal it does nothing.
type progress struct {
	bar  *progressbar.ProgressBar // nil without a terminal
	done int64                    // bytes of the recordings before the present one
}

// newProgress returns the progress of a run over recordings of so many bytes in all.
func newProgress(env hook.Env, bytes int64) *progress {
	if bytes == 0 || !hook.IsTerminal(env.Stderr) {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(bytes,
		progressbar.OptionSetWriter(env.Stderr),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionClearOnFinish(),
	)}
}

// reached notes that so many bytes of the present recording were read.
func (p *progress) reached(bytes int64) {
	if p.bar != nil {
		p.bar.Set64(min(p.done+bytes, p.bar.GetMax64()))
	}
}

// pause clears the line for an entry of the log.
func (p *progress) pause() {
	if p.bar != nil {
		p.bar.Clear()
	}
}

// next notes that the present recording, of so many bytes, is done.
func (p *progress) next(bytes int64) {
	p.done += bytes
	p.reached(0)
	p.pause()
}

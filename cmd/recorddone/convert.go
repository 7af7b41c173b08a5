//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/inuse"
	"tunnelcast/internal/publish"
	"tunnelcast/internal/recording"
	"tunnelcast/internal/remux"
)

// convert publishes the recording, which the caller has locked, as MP4, and then removes it. At every
// moment a complete copy exists: the recording, until the MP4 is on the disk under its final name, and
// from then on the MP4.
func (w *worker) convert(ctx context.Context, source *publish.Source) error {
	defer w.reportLacks(source)
	release, err := w.slots.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%s: wait for a job slot: %w", source.Path(), err)
	}
	defer release()
	began := w.env.Now()
	defer func() { w.env.Metrics.Add(metricWorkSeconds, w.env.Now().Sub(began).Seconds()) }()

	if err := w.identify(ctx, source); err != nil {
		return w.leave(source, err)
	}
	if w.progress == nil {
		w.progress = newProgress(w.env, source.Size())
	}
	defer w.progress.pause()
	survey, err := recording.Walk(source, source.Size())
	if err == nil {
		err = survey.Err()
	}
	if err != nil {
		return w.keep(source, err)
	}
	losses := survey.Losses()
	if _, done := source.Published(recording.MP4Names(source.Name, 1)); done && w.sweeping && len(losses) > 0 {
		return nil // an earlier run did it, and the recording stays
	}
	var published []string
	for first := 0; first < len(survey.Parts); first += atOnce {
		names, err := w.publish(ctx, source, survey, first)
		if err != nil {
			return w.keep(source, err)
		}
		published = append(published, names...)
	}
	for i, name := range published {
		path, length := filepath.Join(source.Dir, name), survey.Parts[i].Duration
		w.countPublished(path, time.Duration(length)*time.Millisecond)
		w.env.Log.Info("recording published", recordingPublished, "path", path,
			"seconds", length/1000, "took", w.env.Now().Sub(began).Round(time.Millisecond))
		w.tellPublished(path, source.Path(), time.Duration(length)*time.Millisecond)
	}
	if len(losses) > 0 {
		w.countLosses(survey)
		return hook.With(fmt.Errorf("%s: %s; what can be read is %s, the FLV stays: %w", source.Path(),
			strings.Join(losses, "; "), strings.Join(published, ", "), hook.ErrSome), lossEvent(survey))
	}
	if survey.Cut > 0 {
		w.env.Log.Info("recording ended in the middle of a packet", endedInPacket,
			"path", source.Path(), "bytes", survey.Cut)
	}
	if err := source.Remove(recording.HiddenSource(source.Name)); err != nil {
		return w.leave(source, err)
	}
	return nil
}

func lossEvent(survey recording.Survey) slog.Attr {
	if len(survey.Damage) > 0 {
		return recordingDamaged
	}
	return notAll
}

func (w *worker) identify(ctx context.Context, source *publish.Source) error {
	if w.sweeping {
		return source.Identify()
	}
	return source.IdentifyClosed(ctx)
}

// writeOut is how many bytes are written before the disk begins to store them.
const writeOut = 4 << 20

// atOnce is how many parts are published together. Each is an open file until then.
const atOnce = 64

// publish publishes the parts from number first, from 0, at most atOnce of them. It returns with all of
// these or none published, unless publishing itself fails.
func (w *worker) publish(
	ctx context.Context, source *publish.Source, survey recording.Survey, first int,
) (names []string, err error) {
	works, err := w.write(ctx, source, survey, first)
	defer discard(works)
	if err != nil {
		return nil, err
	}
	for i, work := range works {
		name, err := work.Publish(recording.MP4Names(source.Name, first+i+1)) // sync, rename, sync directory
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

// write makes a hidden MP4 file of each of these parts and checks it. The caller discards what is
// returned, even with an error.
func (w *worker) write(
	ctx context.Context, source *publish.Source, survey recording.Survey, first int,
) (works []*publish.Work, err error) {
	defer w.progress.pause()
	var before int64 // bytes of packets in the parts before
	for i, part := range survey.Parts[:min(first+atOnce, len(survey.Parts))] {
		if i >= first {
			work, err := w.writePart(ctx, source, survey, i, before)
			if work != nil {
				works = append(works, work)
			}
			if err != nil {
				return works, err
			}
		}
		before += part.Video.Bytes + part.Audio.Bytes
	}
	return works, nil
}

func (w *worker) writePart(
	ctx context.Context, source *publish.Source, survey recording.Survey, n int, before int64,
) (*publish.Work, error) {
	work, err := source.NewWork(recording.HiddenName(source.Name, n+1))
	if err != nil {
		return nil, err
	}
	var out int64
	reached := func(bytes int64) {
		w.progress.reached(before + bytes)
		if bytes-out >= writeOut {
			work.WriteOut()
			out = bytes
		}
	}
	part := survey.Parts[n]
	in := remux.Input{Path: source.Path(), File: source, Part: part, Plain: survey.Plain, Reached: reached}
	wrote, err := remux.Run(ctx, in, work.Path(), w.faststart)
	if err == nil {
		work.WriteOut() // the disk works during Verify
		err = remux.Verify(work.Path(), wrote)
	}
	switch {
	case err == nil:
		return work, nil
	case len(survey.Parts) > 1:
		return work, fmt.Errorf("part %d of %d, %s: %w", n+1, len(survey.Parts), codecs(part), err)
	}
	return work, fmt.Errorf("%s: %w", codecs(part), err)
}

// codecs names the streams of a part.
func codecs(p recording.Part) string {
	var names []string
	for _, stream := range []recording.Stream{p.Video, p.Audio} {
		if stream.Codec != "" {
			names = append(names, string(stream.Codec))
		}
	}
	return strings.Join(names, " and ")
}

func discard(works []*publish.Work) {
	for _, work := range works {
		work.Discard()
	}
}

// keep returns the reason why there is no MP4. If the recording has changed meanwhile, that is the
// reason, and nginx calls again.
func (w *worker) keep(source *publish.Source, err error) error {
	if same := source.Same(); errors.Is(same, inuse.ErrInUse) || errors.Is(same, file.ErrChanged) {
		return w.leave(source, same)
	}
	if !w.sweeping || !errors.Is(err, recording.ErrNoMedia) {
		w.env.Metrics.Add(metricKept, 1)
	}
	return fmt.Errorf("%s: %w; the FLV stays", source.Path(), err)
}

// leave leaves alone a recording that is being written, or that another run has done. nginx calls again
// when it is closed. Any other error is returned.
func (w *worker) leave(source *publish.Source, err error) error {
	if errors.Is(err, inuse.ErrInUse) || errors.Is(err, file.ErrChanged) {
		w.env.Log.Info("recording is left alone", leftAlone, "path", source.Path(), "reason", err)
		return nil
	}
	return fmt.Errorf("%w; the FLV stays", err)
}

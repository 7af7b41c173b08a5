//go:build cgo

package main

import (
	"context"
	"fmt"
	"path/filepath"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/publish"
)

// done is the hook: it converts one recording. rest is what follows its path and is not nginx's.
func (h *host) done(ctx context.Context, path string, rest []string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		err = hook.Usagef("unexpected argument %q after %s, which stays; give one recording at a time, or sweep DIR",
			rest[0], path)
	} else {
		err = h.convert(ctx, path)
	}
	return hook.With(err, "path", path)
}

func (h *host) convert(ctx context.Context, path string) error {
	source, err := publish.Open(path)
	if err != nil {
		return err
	}
	defer source.Close()
	w, err := h.start(source.Dir)
	if err != nil {
		return fmt.Errorf("%s: %w; the FLV stays", path, err)
	}
	defer w.slots.Close()
	// nginx calls again after it has recorded to the same path again. That run waits for this one, and
	// then works on what it finds.
	if err := source.Lock(ctx); err != nil {
		return fmt.Errorf("%s: wait for another run: %w; the FLV stays", path, err)
	}
	return w.convert(ctx, source)
}

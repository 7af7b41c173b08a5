package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/retention"
)

// survey says what is in an archive, and whether it can be worked on.
func (c cli) survey(ctx context.Context, env hook.Env, dir string) (string, error) {
	tree, err := archive.OpenTree(dir)
	if err != nil {
		return "", err
	}
	defer tree.Close()
	if err := tree.Writable(); err != nil {
		return "", err
	}
	p := newPruner(c, dir)
	var mu sync.Mutex
	var size, n, future int64
	var unread error
	now := env.Now()
	err = tree.Walk(ctx, archive.Walk{
		Want: p.isRecording,
		File: func(f *archive.File) error {
			mu.Lock()
			defer mu.Unlock()
			n++
			size += f.Bytes
			if f.ModTime().After(now) {
				future++
			}
			return nil
		},
		Unread: func(_ string, err error) {
			mu.Lock()
			defer mu.Unlock()
			unread = err
		},
	})
	if err = errors.Join(err, unread); err == nil && future > 0 {
		err = fmt.Errorf("%d of %d recordings are from the future and will not go", future, n)
	}
	return fmt.Sprintf(": %d recordings, %s", n, retention.Bytes(size)), err
}

package rundir

import (
	"context"
	"fmt"
	"os"

	"tunnelcast/internal/file"
)

const (
	hooksLock = "hooks.lock"
	syncLock  = "sync.lock"
)

// LockHook locks hooks.lock for one hook, beside other hooks. It waits until ctx
// ends for a sync that is sending its update.
func (d Dir) LockHook(ctx context.Context) (unlock func(), err error) {
	return d.lock(ctx, hooksLock, file.Shared)
}

// LockOutHooks locks hooks.lock for sync. It waits until ctx ends for hooks that
// are at work.
func (d Dir) LockOutHooks(ctx context.Context) (unlock func(), err error) {
	return d.lock(ctx, hooksLock, file.Exclusive)
}

// LockSync locks sync.lock. It waits until ctx ends for another sync.
func (d Dir) LockSync(ctx context.Context) (unlock func(), err error) {
	return d.lock(ctx, syncLock, file.Exclusive)
}

func (d Dir) lock(ctx context.Context, name string, how file.How) (unlock func(), err error) {
	if err := d.create(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := file.Lock(ctx, f, how); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	for _, test := range []struct {
		first, second How
		want          bool
	}{{Shared, Shared, true}, {Shared, Exclusive, false}, {Exclusive, Shared, false}, {Exclusive, Exclusive, false}} {
		a, b := open(t, path), open(t, path)
		if ok, err := TryLock(a, test.first); !ok || err != nil {
			t.Fatalf("the first: %v, %v", ok, err)
		}
		if ok, err := TryLock(b, test.second); ok != test.want || err != nil {
			t.Errorf("%v beside %v: %v, %v", test.second, test.first, ok, err)
		}
		a.Close()
		if err := Lock(t.Context(), b, test.second); err != nil {
			t.Errorf("after the first has ended: %v", err)
		}
		b.Close()
	}
}

func TestLockWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder, waiter, late := open(t, path), open(t, path), open(t, path)
	if err := Lock(t.Context(), holder, Exclusive); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := Lock(ctx, waiter, Exclusive); !errors.Is(err, enough) {
		t.Fatalf("locked twice: %v", err)
	}
	waiter.Close() // and with it what the kernel still grants
	locked := make(chan error)
	go func() { locked <- Lock(t.Context(), late, Exclusive) }()
	if err := Unlock(holder); err != nil {
		t.Fatal(err)
	}
	if err := <-locked; err != nil {
		t.Error(err)
	}
}

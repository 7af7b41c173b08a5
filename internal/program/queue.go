package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tunnelcast/internal/file"
)

// A Queue is a directory with calls that are to be made.
//
//	queue/     a file for each call, named by its number; watched by a path unit
//	new        the one that is being written
//	add.lock   held while a call is added
//	lock       held by the one run that makes the calls
//	last       the number of the last call that was begun
//	running    exists while a call is made
//	counts     how many calls were made and how many of them failed
//
// The number of a call is marked as begun before the call is made, and a call with
// a number that is not higher than the mark is dropped. So no call is made twice,
// however often a caller that was killed puts it again; one that was interrupted is
// reported and not repeated.
type Queue string

// maxCalls is how many calls may wait.
const maxCalls = 10_000

// ErrFull reports that a call was dropped because too many wait.
var ErrFull error = full{}

type full struct{}

func (full) Error() string { return fmt.Sprintf("%d calls of the program wait already", maxCalls) }

// Dir is the directory that the path unit watches.
func (q Queue) Dir() string { return q.file("queue") }

func (q Queue) file(name string) string { return filepath.Join(string(q), name) }

// Put adds a call. Calls are made in the order of their numbers.
func (q Queue) Put(number uint64, call Call) error {
	text, err := json.Marshal(call)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(q.Dir(), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(q.file("new"), text, 0o600); err != nil {
		return err
	}
	return os.Rename(q.file("new"), filepath.Join(q.Dir(), fmt.Sprintf("%020d", number)))
}

// Add adds a call behind all others. Several programs may add calls at the same time.
func (q Queue) Add(call Call) error {
	if err := os.MkdirAll(q.Dir(), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(q.file("add.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := file.Lock(context.Background(), lock, file.Exclusive); err != nil {
		return err
	}
	// A call leaves the directory only after its number is the last that was begun.
	entries, err := os.ReadDir(q.Dir())
	if err != nil {
		return err
	}
	if len(entries) >= maxCalls {
		return ErrFull
	}
	number, err := q.Last()
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if n, err := strconv.ParseUint(entry.Name(), 10, 64); err == nil {
			number = max(number, n)
		}
	}
	return q.Put(number+1, call)
}

// Waiting returns how many calls are to be made.
func (q Queue) Waiting() (int, error) {
	entries, err := os.ReadDir(q.Dir())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return len(entries), err
}

// Room returns ErrFull if so many calls wait that no more should be added.
func (q Queue) Room() error {
	n, err := q.Waiting()
	if err == nil && n >= maxCalls {
		err = ErrFull
	}
	return err
}

// Last returns the number of the last call that was begun, 0 if there was none.
func (q Queue) Last() (uint64, error) {
	text, err := os.ReadFile(q.file("last"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// Counts returns how many calls were made since boot, and how many of them failed.
func (q Queue) Counts() (made, failed uint64) {
	text, err := os.ReadFile(q.file("counts"))
	if err == nil {
		_, _ = fmt.Sscan(string(text), &made, &failed)
	}
	return made, failed
}

// ErrInterrupted is the error of a call during which this program was killed.
var ErrInterrupted = errors.New("the call was interrupted; it is not repeated")

// Drain makes all calls with the function make until none are left, and reports the
// error of each to done. It returns an error if the queue itself cannot be used.
func (q Queue) Drain(ctx context.Context, make func(context.Context, Call) error, done func(Call, error)) error {
	if err := os.MkdirAll(q.Dir(), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(q.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if ok, err := file.TryLock(lock, file.Exclusive); !ok || err != nil {
		return err // none if another run makes the calls
	}
	_, err = os.Lstat(q.file("running"))
	interrupted := err == nil
	for ctx.Err() == nil {
		entries, err := os.ReadDir(q.Dir()) // sorted
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, entry := range entries {
			if ctx.Err() != nil {
				break
			}
			if err := q.take(ctx, entry.Name(), interrupted, make, done); err != nil {
				return err
			}
			interrupted = false
		}
	}
	return context.Cause(ctx)
}

func (q Queue) take(ctx context.Context, name string, interrupted bool, make func(context.Context, Call) error,
	done func(Call, error)) error {
	file := filepath.Join(q.Dir(), name)
	number, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		done(Call{}, fmt.Errorf("%s is not a call", file))
		return os.RemoveAll(file)
	}
	last, err := q.Last()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var call Call
	if err := json.Unmarshal(text, &call); err != nil {
		done(Call{}, fmt.Errorf("%s is not a call: %w", file, err))
		return os.Remove(file)
	}
	if number <= last {
		if number == last && interrupted {
			q.count(ErrInterrupted)
			done(call, ErrInterrupted)
		}
		return errors.Join(os.Remove(file), removeIfThere(q.file("running")))
	}
	if err := os.WriteFile(q.file("running"), nil, 0o600); err != nil {
		return err
	}
	if err := q.replace("last", fmt.Sprintln(number)); err != nil {
		return err
	}
	err = make(ctx, call)
	q.count(err)
	done(call, err)
	return errors.Join(os.Remove(file), removeIfThere(q.file("running")))
}

// count is for a metric; that it cannot be written stops no call.
func (q Queue) count(err error) {
	made, failed := q.Counts()
	if made++; err != nil {
		failed++
	}
	_ = q.replace("counts", fmt.Sprintln(made, failed))
}

func (q Queue) replace(name, text string) error {
	return file.Replace(q.file(name), []byte(text), 0o600, file.InMemory)
}

func removeIfThere(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/e2e/vm/wire"
)

// An agent is the connection to the agent in a machine.
type agent struct {
	port   *os.File
	hello  chan struct{} // closed when the agent has started
	ended  chan struct{} // closed when the connection has ended
	writes sync.Mutex

	mu       sync.Mutex
	last     uint32
	commands map[uint32]*command
}

// A command is one that runs in the machine.
type command struct {
	stdout, both bytes.Buffer
	to           io.Writer // if not nil, gets standard output
	exit         chan string
}

func newAgent(port *os.File) *agent {
	a := &agent{
		port: port, hello: make(chan struct{}), ended: make(chan struct{}), commands: map[uint32]*command{},
	}
	go a.read()
	return a
}

func (a *agent) read() {
	defer close(a.ended)
	for {
		f, err := wire.Read(a.port)
		if err != nil {
			return // qemu has ended
		}
		if f.Kind == wire.Hello {
			close(a.hello)
			continue
		}
		a.mu.Lock()
		c := a.commands[f.ID]
		a.mu.Unlock()
		if c == nil {
			continue // it was killed
		}
		switch f.Kind {
		case wire.Stdout:
			c.both.Write(f.Data)
			if c.to == nil {
				c.stdout.Write(f.Data)
			} else if _, err := c.to.Write(f.Data); err != nil {
				c.to = io.Discard
			}
		case wire.Stderr:
			c.both.Write(f.Data)
		case wire.Exit:
			a.forget(f.ID)
			c.exit <- string(f.Data)
		}
	}
}

func (a *agent) forget(id uint32) {
	a.mu.Lock()
	delete(a.commands, id)
	a.mu.Unlock()
}

func (a *agent) send(kind byte, id uint32, data []byte) error {
	a.writes.Lock()
	defer a.writes.Unlock()
	return wire.Write(a.port, wire.Frame{Kind: kind, ID: id, Data: data})
}

// status is the exit status of a command in the machine.
type status int

func (s status) Error() string { return "exit status " + strconv.Itoa(int(s)) }
func (s status) ExitCode() int { return int(s) }

// output runs a command in the machine and returns its standard output, unless that goes to stdout.
func (a *agent) output(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) (string, error) {
	c := &command{to: stdout, exit: make(chan string, 1)}
	a.mu.Lock()
	a.last++
	id := a.last
	a.commands[id] = c
	a.mu.Unlock()
	failed := func(err error, output string) error {
		return &box.CommandError{Command: strings.Join(args, " "), Output: output, Err: err}
	}
	if err := a.send(wire.Start, id, encode(args)); err != nil {
		a.forget(id)
		return "", failed(fmt.Errorf("the machine has ended: %w", err), "")
	}
	go a.feed(id, stdin)
	select {
	case exit := <-c.exit:
		code, err := strconv.Atoi(exit)
		switch {
		case err != nil:
			err = errors.New(exit)
		case code != 0:
			err = status(code)
		default:
			return c.stdout.String(), nil
		}
		return c.stdout.String(), failed(err, c.both.String())
	case <-ctx.Done():
		a.forget(id)
		_ = a.send(wire.Kill, id, nil) // if it fails, the machine has ended
		return "", failed(ctx.Err(), "")
	case <-a.ended:
		return "", failed(errors.New("the machine has ended"), "")
	}
}

// feed sends a command its standard input. Errors are seen elsewhere: the machine has ended.
func (a *agent) feed(id uint32, stdin io.Reader) {
	buf := make([]byte, wire.MaxData)
	for stdin != nil {
		n, err := stdin.Read(buf)
		if n > 0 && a.send(wire.Stdin, id, buf[:n]) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	_ = a.send(wire.Stdin, id, nil)
}

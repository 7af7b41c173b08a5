package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"tunnelcast/internal/e2e/vm/wire"
)

var environ = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0",
}

// A port is the serial port.
type port struct {
	file *os.File
	mu   sync.Mutex // of writes
}

// Read waits for data: while no test is connected, which is the case in a machine that was just thawed, the device
// reports end of file.
func (p *port) Read(b []byte) (int, error) {
	for {
		n, err := p.file.Read(b)
		if n > 0 || err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *port) send(kind byte, id uint32, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := wire.Write(p.file, wire.Frame{Kind: kind, ID: id, Data: data}); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
	}
}

// serve runs the commands that come from the serial port, all at the same time.
func serve(name string) error {
	// Without O_NONBLOCK: the runtime's poller would spin while nobody is connected.
	fd, err := syscall.Open(name, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	p := &port{file: os.NewFile(uintptr(fd), name)}
	p.send(wire.Hello, 0, nil)
	commands := map[uint32]*command{}
	for {
		f, err := wire.Read(p)
		if err != nil {
			return err
		}
		switch f.Kind {
		case wire.Start:
			c := &command{id: f.ID, port: p, input: make(chan []byte, 1<<16)}
			commands[f.ID] = c
			go c.run(f.Data)
		case wire.Stdin:
			if c := commands[f.ID]; c != nil {
				c.input <- f.Data
			}
		case wire.Kill:
			if c := commands[f.ID]; c != nil {
				c.kill()
			}
		}
	}
}

// A command is one that a test has started.
type command struct {
	id    uint32
	port  *port
	input chan []byte // an empty one is the end

	mu     sync.Mutex
	killed bool
	group  int // the process group, 0 before the start
}

func (c *command) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	if c.group != 0 {
		_ = syscall.Kill(-c.group, syscall.SIGKILL) // it may have ended
	}
}

// A stream sends what a command writes.
type stream struct {
	c    *command
	kind byte
}

func (s stream) Write(b []byte) (int, error) {
	for n := 0; n < len(b); n += wire.MaxData {
		s.c.port.send(s.kind, s.c.id, b[n:min(len(b), n+wire.MaxData)])
	}
	return len(b), nil
}

// run runs a command and reports its end.
func (c *command) run(words []byte) {
	status, err := c.status(words)
	if err != nil {
		c.port.send(wire.Exit, c.id, []byte(err.Error()))
		return
	}
	c.port.send(wire.Exit, c.id, []byte(strconv.Itoa(status)))
}

func (c *command) status(words []byte) (int, error) {
	var args []string
	if err := json.Unmarshal(words, &args); err != nil || len(args) == 0 {
		return 0, fmt.Errorf("read a command: %q, %w", words, err)
	}
	// exec.Command would look for the program in the PATH of this process.
	cmd := exec.Command("/usr/bin/env", append([]string{"--"}, args...)...)
	cmd.Env, cmd.Dir = environ, "/"
	cmd.Stdout, cmd.Stderr = stream{c, wire.Stdout}, stream{c, wire.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 2 * time.Second // a daemon that the command started may keep its output open
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	if c.killed {
		c.mu.Unlock()
		return 0, errors.New("killed before its start")
	}
	err = cmd.Start()
	if err == nil {
		c.group = cmd.Process.Pid
	}
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	go func() {
		for data := range c.input {
			if len(data) == 0 {
				_ = stdin.Close() // the command may have closed it
				return
			}
			_, _ = stdin.Write(data) // the command need not read all
		}
	}()
	err = cmd.Wait()
	c.mu.Lock()
	c.group = 0 // the number may be another's soon
	c.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return 0, err
}

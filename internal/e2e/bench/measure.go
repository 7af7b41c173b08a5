package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A usage is what a piece of work cost.
type usage struct {
	wall, cpu time.Duration // cpu: user and system, of the process and the children it waited for
	peak      int64         // the most memory, in bytes; 0 if it was not measured
	faults    int64         // page faults that read no disk, of the same processes as cpu
}

func (u usage) plus(v usage) usage {
	return usage{wall: u.wall + v.wall, cpu: u.cpu + v.cpu, peak: max(u.peak, v.peak), faults: u.faults + v.faults}
}

// A process is a program to run from its fork to its end, as charon, nginx or certbot runs it: its output is a pipe
// that is read to its end.
type process struct {
	args    []string
	env     []string // nothing is inherited
	stdin   string
	mayFail bool // a non-zero exit status is no error
	memory  bool // measure its memory
}

// plainEnv is the environment of every process: little more than a PATH.
var plainEnv = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}

func run(ctx context.Context, p process) (usage, error) {
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Env = append(p.env, plainEnv...)
	if p.stdin != "" {
		cmd.Stdin = strings.NewReader(p.stdin)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	peak := func() int64 { return 0 }
	if p.memory {
		peak = watch(cmd.Process.Pid)
	}
	err := cmd.Wait()
	u := usage{
		wall:   time.Since(start),
		cpu:    cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		peak:   peak(),
		faults: cmd.ProcessState.SysUsage().(*syscall.Rusage).Minflt,
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() && p.mayFail {
		err = nil
	}
	if err != nil {
		return u, fmt.Errorf("run %s: %w\n%s", strings.Join(p.args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return u, nil
}

// watch samples a process's memory until peak is called, which returns the maximum. The kernel's ru_maxrss does not
// serve: it begins with the memory of the process that forked this one.
func watch(pid int) (peak func() int64) {
	most, quit := make(chan int64), make(chan struct{})
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var seen int64
		for {
			seen = max(seen, resident(pid))
			select {
			case <-tick.C:
			case <-quit:
				most <- seen
				return
			}
		}
	}()
	return func() int64 { close(quit); return <-most }
}

// resident returns the most memory, in bytes, that a process has had so far, or 0 if it has ended.
func resident(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// summed measures a piece of work that runs many processes: the processor time is the sum of those that this process
// has waited for. Only one such piece may run at a time.
func summed(work func() (wall time.Duration, err error)) (usage, error) {
	used := func() time.Duration {
		var r syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r) // it fails only for a wrong first argument
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	wall, err := work()
	return usage{wall: wall, cpu: used() - before}, err
}

// A side is one of the alternatives that take turns. before and after are not measured.
type side struct {
	before func(round int) error
	work   func(round int) (usage, error)
	after  func(round int) error
	used   []usage
}

// measure runs the sides in turns; each round begins with another side.
func measure(ctx context.Context, rounds int, sides ...*side) error {
	for round := range rounds {
		for i := range sides {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := sides[(i+round)%len(sides)].turn(round); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *side) turn(round int) error {
	if s.before != nil {
		if err := s.before(round); err != nil {
			return err
		}
	}
	u, err := s.work(round)
	if err != nil {
		return err
	}
	s.used = append(s.used, u)
	if s.after != nil {
		return s.after(round)
	}
	return nil
}

func (s *side) wall() sample { return s.each(func(u usage) float64 { return u.wall.Seconds() }) }
func (s *side) peak() sample { return s.each(func(u usage) float64 { return float64(u.peak) }) }

func (s *side) faults() sample { return s.each(func(u usage) float64 { return float64(u.faults) }) }

// cpu returns nil if the processor time was not measured.
func (s *side) cpu() sample {
	all := s.each(func(u usage) float64 { return u.cpu.Seconds() })
	if all.median() == 0 {
		return nil
	}
	return all
}

func (s *side) each(of func(usage) float64) (all sample) {
	for _, u := range s.used {
		all = append(all, of(u))
	}
	return all
}

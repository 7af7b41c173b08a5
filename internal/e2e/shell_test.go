package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/e2e/box"
)

// A terminal is what a person sits at: the program's end of a pseudo-terminal, and what the program printed there.
type terminal struct {
	master *os.File
	mu     sync.Mutex
	output bytes.Buffer
}

// newTerminal returns a terminal and the file that a program opens as it.
func newTerminal(t *testing.T) (*terminal, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{master: master}
	go func() {
		for part := make([]byte, 4096); ; {
			n, err := master.Read(part)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.output.Write(part[:n])
			term.mu.Unlock()
		}
	}()
	return term, slave
}

// take returns the output so far, once it contains text, and forgets it.
func (term *terminal) take(t *testing.T, text string) (output string) {
	t.Helper()
	err := box.Poll(t.Context(), soon, fmt.Sprintf("%q on the terminal", text), func() (bool, error) {
		term.mu.Lock()
		defer term.mu.Unlock()
		output = term.output.String()
		if !strings.Contains(output, text) {
			return false, nil
		}
		term.output.Reset()
		return true, nil
	})
	if err != nil {
		t.Fatalf("%v; on it is:\n%s", err, output)
	}
	return output
}

// make box: a person at a terminal gets a shell on the gateway, whose job control works, and then nothing is left.
func TestShell(t *testing.T) {
	deb, err := filepath.Abs(deb(t))
	if err != nil {
		t.Fatal(err)
	}
	demo := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", demo, "./demo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	term, slave := newTerminal(t)
	cmd := exec.CommandContext(t.Context(), demo, "-shell", "-deb", deb)
	cmd.Env = append(os.Environ(), "TERM=dumb")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	t.Cleanup(func() { cmd.Process.Kill() })
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	const prompt = "root@gateway:/#"
	err = box.Poll(t.Context(), boot, "the shell's prompt", func() (bool, error) {
		select {
		case err := <-ended:
			ended <- err
			return true, fmt.Errorf("the program has ended: %w\n%s", err, term.take(t, ""))
		default:
		}
		term.mu.Lock()
		defer term.mu.Unlock()
		return strings.Contains(term.output.String(), prompt), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	term.take(t, prompt)
	enter := func(line string) {
		t.Helper()
		if _, err := term.master.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	enter("tunnelcast-updown list --format json\n")
	if out := term.take(t, "]"); !strings.Contains(out, "alice.example") {
		t.Errorf("alice is not connected:\n%s", out)
	}
	enter("echo be''gin; sleep 1000; echo \"status $?\"\n")
	term.take(t, "begin\r\n")
	enter("\x03") // Ctrl-C is for sleep, and for nobody else
	term.take(t, prompt)
	enter("false; exit\n")
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, term.take(t, ""))
	}
}

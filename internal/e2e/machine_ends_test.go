package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// held makes TestMachineEndsWithItsProcess the process that is killed.
const held = "TUNNELCAST_TEST_HELD"

// A machine ends with the process that started it, however that ends, and leaves no file.
func TestMachineEndsWithItsProcess(t *testing.T) {
	if os.Getenv(held) != "" {
		machine(t)
		fmt.Println("held")
		select {}
	}
	machine(t) // so that nothing has to be built
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			temporary := t.TempDir()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMachineEndsWithItsProcess$")
			cmd.Env = append(os.Environ(), held+"=1", "TMPDIR="+temporary)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			for lines.Scan() && lines.Text() != "held" {
				t.Log(lines.Text())
			}
			qemu := childrenOf(t, cmd.Process.Pid)
			if len(qemu) != 1 {
				t.Errorf("the process has the children %v, want one, qemu", qemu)
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was killed
			for _, pid := range qemu {
				if err := box.Poll(t.Context(), soon, "the end of qemu", func() (bool, error) {
					_, err := os.Stat("/proc/" + pid)
					return os.IsNotExist(err), nil
				}); err != nil {
					t.Error(err)
				}
			}
			if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
				t.Errorf("it left %v, %v", left, err)
			}
		})
	}
}

// childrenOf lists the children of all threads of a process.
func childrenOf(t *testing.T, pid int) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		all = append(all, strings.Fields(string(data))...)
	}
	return all
}

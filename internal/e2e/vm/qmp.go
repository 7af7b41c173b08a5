package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// A monitor is the connection to qemu's monitor, which speaks QMP: a line of JSON for each command, answer and event.
type monitor struct {
	mu    sync.Mutex
	conn  *os.File
	lines *bufio.Reader
}

// newMonitor greets qemu. It returns when qemu has opened its devices and answers.
func newMonitor(conn *os.File) (*monitor, error) {
	m := &monitor{conn: conn, lines: bufio.NewReader(conn)}
	if _, err := m.lines.ReadBytes('\n'); err != nil {
		return nil, fmt.Errorf("greet qemu: %w", err)
	}
	return m, m.do("qmp_capabilities", nil, nil)
}

// do runs a command and reads its result, unless that is nil.
func (m *monitor) do(name string, arguments, result any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	request := map[string]any{"execute": name}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if _, err := m.conn.Write(append(encode(request), '\n')); err != nil {
		return fmt.Errorf("qemu: %s: %w", name, err)
	}
	for {
		line, err := m.lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("qemu: %s: %w", name, err)
		}
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("qemu: %s: %q: %w", name, line, err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("qemu: %s: %s", name, answer.Error.Desc)
		case answer.Return == nil: // an event
		case result != nil:
			return json.Unmarshal(answer.Return, result)
		default:
			return nil
		}
	}
}

// ignoreShared makes a migration leave out memory that is a file of its own.
func (m *monitor) ignoreShared() error {
	return m.do("migrate-set-capabilities", map[string]any{
		"capabilities": []any{map[string]any{"capability": "x-ignore-shared", "state": true}},
	}, nil)
}

// migrated waits until a migration that was started has ended.
func (m *monitor) migrated() error {
	for start := time.Now(); time.Since(start) < limit; time.Sleep(10 * time.Millisecond) {
		var state struct {
			Status string
			Error  string `json:"error-desc"`
		}
		if err := m.do("query-migrate", nil, &state); err != nil {
			return err
		}
		switch state.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("qemu: the machine's state: %s %s", state.Status, state.Error)
		}
	}
	return fmt.Errorf("qemu: the machine's state: nothing after %v", limit)
}

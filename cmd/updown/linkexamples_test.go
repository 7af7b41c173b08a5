package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/program"
	"tunnelcast/internal/promised"
)

// callExample copies an example with its configuration and calls it as on-event does, for an address of the loopback.
func callExample(t *testing.T, name, config, address string) (output string, err error) {
	t.Helper()
	promised.Program(t, "curl")
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join("../../packaging/examples", name))
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, name)
	if err := os.WriteFile(script, text, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script+".conf", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	call := program.Call{Command: []string{script}, Timeout: time.Minute, Vars: []string{
		"TUNNELCAST_EVENT=address", "TUNNELCAST_NAME=home.example", "TUNNELCAST_ADDRESS=" + address,
		"TUNNELCAST_LINK=lo",
	}}
	var lines []string
	err = call.Run(t.Context(), func(line string) { lines = append(lines, line) })
	return strings.Join(lines, "\n"), err
}

func TestAddressHTTPExample(t *testing.T) {
	var asked string
	reply := "good 203.0.113.5"
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		asked = fmt.Sprintf("%s:%s %s", user, password, r.URL)
		fmt.Fprint(w, reply)
	}))
	defer service.Close()
	config := fmt.Sprintf("user = \"alice:secret\"\nurl = \"%s/nic/update\"\n", service.URL)

	out, err := callExample(t, "address-http", config, "2a00::1 203.0.113.5")
	if want := "alice:secret /nic/update?hostname=home.example&myip=203.0.113.5"; asked != want || err != nil {
		t.Errorf("asked %q, want %q; %s, error %v", asked, want, out, err)
	}
	reply = "badauth"
	out, err = callExample(t, "address-http", config, "203.0.113.5")
	if err == nil || !strings.Contains(out, "the service refused 203.0.113.5: badauth") {
		t.Errorf("a refusal: %q, error %v", out, err)
	}
	service.Close()
	if out, err = callExample(t, "address-http", config, "203.0.113.5"); err == nil {
		t.Errorf("no service: %q", out)
	}
	if out, err = callExample(t, "address-http", config, "2a00::1"); err != nil || out != "" {
		t.Errorf("no IPv4 address: %q, error %v", out, err)
	}
}

func TestAddressMailExample(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	logins := make(chan string, 10)
	go servePOP3(listener, logins)
	config := fmt.Sprintf("user = \"alice:secret\"\nurl = \"pop3://%s\"\n", listener.Addr())

	out, err := callExample(t, "address-mail", config, "203.0.113.5")
	if err != nil || out != "lo: polled for ipv4" {
		t.Fatalf("%q, error %v", out, err)
	}
	if got := <-logins; got != "alice secret" {
		t.Errorf("login %q", got)
	}
	wrong := strings.Replace(config, "secret", "wrong", 1)
	if out, err := callExample(t, "address-mail", wrong, "203.0.113.5"); err == nil {
		t.Errorf("a wrong password: %q", out)
	}
}

// servePOP3 is a mailbox without messages (RFC 1939), with the password secret.
func servePOP3(listener net.Listener, logins chan<- string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(conn, "+OK ready\r\n")
		user := ""
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			verb, argument, _ := strings.Cut(lines.Text(), " ")
			switch verb {
			case "CAPA":
				fmt.Fprint(conn, "+OK\r\nUSER\r\n.\r\n")
			case "USER":
				user = argument
				fmt.Fprint(conn, "+OK\r\n")
			case "PASS":
				if argument != "secret" {
					fmt.Fprint(conn, "-ERR wrong password\r\n")
					continue
				}
				logins <- user + " " + argument
				fmt.Fprint(conn, "+OK\r\n")
			case "LIST":
				fmt.Fprint(conn, "+OK\r\n.\r\n")
			default:
				fmt.Fprint(conn, "+OK\r\n")
			}
			if verb == "QUIT" {
				break
			}
		}
		conn.Close()
	}
}

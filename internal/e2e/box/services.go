package box

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// A Host is a computer on which commands run as root: a machine of the box, or a virtual machine.
type Host interface {
	// Run runs a command and returns its standard output. The error is a *CommandError.
	Run(ctx context.Context, args ...string) (string, error)
	// WriteFile writes a file with exactly the given mode, and creates the directories above it.
	WriteFile(name, content string, mode os.FileMode) error
	// Wait polls until ready returns true. It fails as soon as the host has ended.
	Wait(ctx context.Context, what string, ready func() (bool, error)) error
}

// Services are the guide's daemons on a host.
type Services struct{ host Host }

// NewServices returns the services of a host whose files are those of Follow.
func NewServices(host Host) Services { return Services{host} }

// WaitRunning waits until systemd has no job left, and fails if a unit has failed.
func (s Services) WaitRunning(ctx context.Context) error {
	return s.host.Wait(ctx, "the gateway to run", func() (bool, error) {
		// It waits for the end of the boot, if it can talk to systemd.
		state, err := s.host.Run(ctx, "systemctl", "is-system-running", "--wait")
		switch strings.TrimSpace(state) {
		case "running":
			return true, nil
		case "degraded":
			failed, _ := s.host.Run(ctx, "systemctl", "--failed", "--no-legend", "--plain")
			return true, fmt.Errorf("units of the gateway failed: %s", strings.TrimSpace(failed))
		}
		return false, err
	})
}

// WaitPebble waits until the ACME server answers.
func (s Services) WaitPebble(ctx context.Context) error {
	return s.host.Wait(ctx, "pebble", func() (bool, error) {
		_, err := s.Root(ctx)
		if err == nil {
			return true, nil
		}
		if _, failed := s.host.Run(ctx, "systemctl", "is-failed", "pebble.service"); failed == nil {
			return true, fmt.Errorf("pebble has failed: %w", err)
		}
		return false, err
	})
}

// Certify obtains the first certificate and loads charon's connection.
func (s Services) Certify(ctx context.Context) error {
	if err := s.WaitPebble(ctx); err != nil {
		return err
	}
	if _, err := s.host.Run(ctx, "certbot", "certonly", "--non-interactive", "--agree-tos",
		"--register-unsafely-without-email", "--server", "https://localhost:14000/dir",
		"--standalone", "--http-01-port", "5002", "--domain", Name); err != nil {
		return err
	}
	if err := s.host.WriteFile("/etc/swanctl/conf.d/vpn.conf", example("swanctl.conf"), 0o644); err != nil {
		return err
	}
	if _, err := s.host.Run(ctx, "ln", "-s", lineage+"/privkey.pem", "/etc/swanctl/private/"+Name+".pem"); err != nil {
		return err
	}
	_, err := s.host.Run(ctx, "swanctl", "--load-all", "--noprompt")
	return err
}

// Root returns the root certificate of the ACME server, the only one that clients trust, in PEM.
func (s Services) Root(ctx context.Context) (string, error) {
	return s.host.Run(ctx, "curl", "--silent", "--show-error", "--fail", "https://localhost:15000/roots/0")
}

// InstallFile installs the Debian package in a file of the host, as its administrator would, removes the file, and
// waits until systemd has done all that the installation started.
func (s Services) InstallFile(ctx context.Context, file string) error {
	if _, err := s.host.Run(ctx, "apt-get", "-qq", "--no-install-recommends", "install", file); err != nil {
		return err
	}
	if _, err := s.host.Run(ctx, "rm", file); err != nil {
		return err
	}
	return s.WaitRunning(ctx)
}

// Renew renews the gateway's certificate as certbot.timer does when it is due, deploy hooks included, and returns what
// certbot printed. certbot succeeds even if a hook failed.
func (s Services) Renew(ctx context.Context) (string, error) {
	return s.host.Run(ctx, "sh", "-c", "certbot renew --force-renewal --no-random-sleep-on-renew 2>&1")
}

// CertSerial returns the serial number, in upper case hexadecimal, of the certificate on the gateway's disk.
func (s Services) CertSerial(ctx context.Context) (string, error) {
	out, err := s.host.Run(ctx, "openssl", "x509", "-noout", "-serial", "-in", lineage+"/cert.pem")
	serial, _ := strings.CutPrefix(strings.TrimSpace(out), "serial=")
	return plainSerial(serial), err
}

// plainSerial normalizes a serial number: some tools print the zero byte that precedes a high bit in DER.
func plainSerial(s string) string {
	return strings.TrimLeft(strings.ToUpper(strings.ReplaceAll(s, ":", "")), "0")
}

// Journal returns the output of journalctl with these arguments, one line per entry.
func (s Services) Journal(ctx context.Context, args ...string) (string, error) {
	return s.host.Run(ctx, append([]string{"journalctl", "--quiet", "--no-pager", "--no-hostname"}, args...)...)
}

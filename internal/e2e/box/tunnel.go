package box

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"text/template"
)

// A Tunnel is a device's end of the VPN: a host with a charon that is no gateway's.
type Tunnel struct {
	host   Host
	device string // its name in messages
}

// NewTunnel returns the tunnel of a device, whose charon runs and trusts the gateway's root certificate.
func NewTunnel(device Host, name string) Tunnel { return Tunnel{device, name} }

// Connect establishes the tunnel as one of Users and returns the virtual IP.
func (t Tunnel) Connect(ctx context.Context, user string) (address string, err error) {
	config, err := clientConfig(user)
	if err != nil {
		return "", err
	}
	if err := t.host.WriteFile("/etc/swanctl/conf.d/vpn.conf", config, 0o600); err != nil {
		return "", err
	}
	// The cache may hold an earlier certificate of the gateway: see ServerCertSerial.
	for _, cmd := range [][]string{
		{"swanctl", "--load-all", "--clear", "--noprompt"},
		{"swanctl", "--flush-certs"},
		{"swanctl", "--initiate", "--child", "net", "--timeout", "60"},
	} {
		if _, err := t.host.Run(ctx, cmd...); err != nil {
			return "", fmt.Errorf("connect %s as %s: %w", t.device, user, err)
		}
	}
	return t.Address(ctx)
}

var virtualIP = regexp.MustCompile(`local-vips=\[([0-9.]+)`)

// Address returns the device's virtual IP.
func (t Tunnel) Address(ctx context.Context) (string, error) {
	sas, err := t.host.Run(ctx, "swanctl", "--list-sas", "--raw")
	if err != nil {
		return "", err
	}
	m := virtualIP.FindStringSubmatch(sas)
	if m == nil {
		return "", fmt.Errorf("find the virtual IP of %s: charon has %q", t.device, sas)
	}
	return m[1], nil
}

// Connected reports whether the tunnel is up, according to the device.
func (t Tunnel) Connected(ctx context.Context) (bool, error) {
	sas, err := t.host.Run(ctx, "swanctl", "--list-sas", "--raw")
	return strings.Contains(sas, "state=INSTALLED"), err
}

// Disconnect closes the tunnel and returns when the gateway has answered.
func (t Tunnel) Disconnect(ctx context.Context) error {
	_, err := t.host.Run(ctx, "swanctl", "--terminate", "--ike", "vpn", "--timeout", "60")
	return err
}

// Dig asks the gateway's name server, through the tunnel, for the addresses of a name, and returns none if the name
// does not exist. It is an error if the server does not answer.
func (t Tunnel) Dig(ctx context.Context, name string) ([]string, error) {
	out, err := t.host.Run(ctx, "dig", "@"+Inside, "+short", "+time=2", "+tries=2", name+".", "A")
	if err != nil {
		return nil, err
	}
	return strings.Fields(out), nil
}

var serial = regexp.MustCompile(`serial: +(\S+)`)

// ServerCertSerial returns the serial number, in upper case hexadecimal, of the certificate that the gateway's charon
// presented when this device last connected.
func (t Tunnel) ServerCertSerial(ctx context.Context) (string, error) {
	out, err := t.host.Run(ctx, "swanctl", "--list-certs", "--type", "x509")
	if err != nil {
		return "", err
	}
	// Newer versions of certbot request certificates without a subject.
	named := regexp.MustCompile(`altNames: .*\b` + regexp.QuoteMeta(Name) + `\b`)
	var serials []string
	for cert := range strings.SplitSeq(out, "\n\n") {
		if m := serial.FindStringSubmatch(cert); m != nil && named.MatchString(cert) {
			serials = append(serials, plainSerial(m[1]))
		}
	}
	if len(serials) != 1 {
		return "", fmt.Errorf("find the gateway's certificate: charon of %s holds %d certificates of %s:\n%s",
			t.device, len(serials), Name, out)
	}
	return serials[0], nil
}

func clientConfig(user string) (string, error) {
	t, err := template.New("client.conf").Parse(own("client.conf"))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct{ User, Secret string }{user, secret(user)})
	return b.String(), err
}

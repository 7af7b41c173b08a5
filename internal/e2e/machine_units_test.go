package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// Each unit runs on a server's kernel, in the sandbox that systemd makes there: with Landlock, which the box's
// container hides from some kernels, with the filter of system calls, and without a way to write where it must not.
func TestMachineUnits(t *testing.T) {
	m := machine(t)
	allowKey(t, m)
	units := strings.Fields(sh(t, m, `mkdir -p /var/lib/prometheus/node-exporter
touch /var/www/html/archive/empty.flv
chown www-data:www-data /var/www/html/archive/empty.flv
touch -d "2 hours ago" /var/www/html/archive/empty.flv
cd /usr/lib/systemd/system
for unit in tunnelcast-*.service; do
	systemctl start "$unit" >&2
	echo "$unit"
done`))
	if len(units) < 8 {
		t.Errorf("the package has only %v", units)
	}
	if err := m.WaitRunning(t.Context()); err != nil {
		t.Error(err)
	}
	const started = "ExecMainStartTimestampMonotonic"
	ran := sh(t, m, `for unit; do systemctl show --property=Id,`+started+` "$unit"; done`, units...)
	if strings.Contains(ran, started+"=0\n") {
		t.Errorf("a unit did not run:\n%s", ran)
	}
	if out := sh(t, m, "journalctl --quiet --no-hostname --grep 'without a sandbox|type=1326' || :"); out != "" {
		t.Errorf("a program or the kernel reports about a sandbox:\n%s", out)
	}
	if out, err := m.Run(t.Context(), "tunnelcast-recorddone", "check"); err != nil ||
		!strings.Contains(out, "ok    sandbox\n") {
		t.Errorf("recorddone has no sandbox: %v\n%s", err, out)
	}

	// In each unit's place, the same command looks around.
	const look = `#!/bin/sh
grep -E "^(Seccomp|NoNewPrivs):" /proc/self/status
unshare --user true && echo unshare
find / \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp \) -prune \
	-o -type d -writable -print -prune
for file in /sys/kernel/mm/ksm/run /proc/sys/kernel/domainname; do [ ! -w $file ] || echo $file; done
`
	if err := m.WriteFile("/usr/local/bin/look", look, 0o755); err != nil {
		t.Fatal(err)
	}
	const probe = `[Service]
ExecStartPre=
ExecStartPost=
StandardOutput=truncate:/var/tmp/probe-%p
ExecStart=
ExecStart=/usr/local/bin/look
`
	const metrics = "/var/lib/prometheus/node-exporter"
	web := []string{"/run/lock", "/run/tunnelcast-published", "/var/lib/nginx/body", "/var/lib/nginx/fastcgi",
		"/var/lib/nginx/proxy", "/var/lib/nginx/scgi", "/var/lib/nginx/uwsgi", "/var/www/html/archive"}
	want := map[string][]string{
		"tunnelcast-archiveprune": web,
		"tunnelcast-minfree":      web,
		"tunnelcast-sweep":        web,
		"tunnelcast-certcheck":    {"/etc/swanctl/x509ca", metrics},
		"tunnelcast-links":        {"/run/tunnelcast"},
		"tunnelcast-sync":         {"/run/tunnelcast", metrics, "/var/lib/tunnelcast", "/var/www/html"},
	}
	names := slices.Sorted(maps.Keys(want))
	out := sh(t, m, `probe=$1
shift
for unit; do
	mkdir -p "/etc/systemd/system/$unit.service.d"
	printf %s "$probe" >"/etc/systemd/system/$unit.service.d/probe.conf"
done
systemctl daemon-reload
for unit; do
	systemctl start "$unit.service" || :
	echo "unit $unit"
	cat "/var/tmp/probe-$unit"
done
rm -r /etc/systemd/system/tunnelcast-*.service.d
systemctl daemon-reload`, append([]string{probe}, names...)...)
	for _, section := range strings.Split(out, "unit ")[1:] {
		unit, found, _ := strings.Cut(section, "\n")
		var dirs []string
		status := map[string]string{}
		for line := range strings.Lines(found) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				status[key] = strings.TrimSpace(value)
			} else {
				dirs = append(dirs, strings.TrimSpace(line))
			}
		}
		slices.Sort(dirs)
		slices.Sort(want[unit])
		if !slices.Equal(dirs, want[unit]) {
			t.Errorf("%s may write to %q, want %q", unit, dirs, want[unit])
		}
		if status["Seccomp"] != "2" || status["NoNewPrivs"] != "1" {
			t.Errorf("%s runs with %v, want Seccomp 2 and NoNewPrivs 1", unit, status)
		}
	}
	if n := strings.Count(out, "unit tunnelcast-"); n != len(want) {
		t.Errorf("%d units were probed, want %d:\n%s", n, len(want), out)
	}
}

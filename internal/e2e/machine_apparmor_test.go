package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// check tells whether swanctl can read the key: for each state of the profile, what it reports is compared with what
// swanctl itself can do.
func TestMachineAppArmor(t *testing.T) {
	m := machine(t)
	const (
		reset = `
cp /etc/apparmor.d/usr.sbin.swanctl /root/profile
: >"$1"`
		undo = `
rm -f /etc/apparmor.d/disable/usr.sbin.swanctl
apparmor_parser -R /etc/apparmor.d/usr.sbin.swanctl 2>/dev/null || :
cp /root/profile /etc/apparmor.d/usr.sbin.swanctl
: >"$1"
apparmor_parser -r /etc/apparmor.d/usr.sbin.swanctl`
		reload = "\napparmor_parser -r /etc/apparmor.d/usr.sbin.swanctl"
		rule   = "\necho '/etc/letsencrypt/archive/*/privkey*.pem r,' >>\"$1\""
	)
	sh(t, m, reset, swanctlRules)
	type state struct {
		name, change string
		readable     bool
	}
	states := []state{
		{"as Debian ships it", "", false},
		{"the rule", rule + reload, true},
		{"the rule was added, and the profile not loaded again", rule, false},
		{"a rule for the link", `echo '/etc/letsencrypt/live/** r,' >"$1"` + reload, false},
		{"a deny rule beside the rule", rule + `
echo 'deny /etc/letsencrypt/archive/** r,' >>"$1"` + reload, false},
		{"complain mode and a deny rule", `echo 'deny /etc/letsencrypt/archive/** r,' >"$1"
apparmor_parser -r -C /etc/apparmor.d/usr.sbin.swanctl`, false},
		{"a profile of another name", `apparmor_parser -R /etc/apparmor.d/usr.sbin.swanctl
sed -i 's,^/usr/sbin/swanctl ,profile swanctl /usr/sbin/swanctl ,' /etc/apparmor.d/usr.sbin.swanctl` + reload +
			"\ngrep -q '^profile swanctl ' /etc/apparmor.d/usr.sbin.swanctl", false},
	}
	if isLong() {
		states = append(states, []state{
			{"the rule was removed, and the profile not loaded again", rule + reload + "\n: >\"$1\"", true},
			{"a rule for another lineage",
				`echo '/etc/letsencrypt/archive/other/privkey*.pem r,' >"$1"` + reload, false},
			{"a rule for writing", `echo '/etc/letsencrypt/archive/** w,' >"$1"` + reload, false},
			{"a rule in another program's file",
				`echo '/etc/letsencrypt/archive/** r,' >/etc/apparmor.d/local/usr.sbin.charon-systemd` + reload, false},
			{"a rule for the owner", `echo 'owner /etc/letsencrypt/archive/** r,' >"$1"` + reload, true},
			{"complain mode", "apparmor_parser -r -C /etc/apparmor.d/usr.sbin.swanctl", true},
			{"disabled", `ln -s /etc/apparmor.d/usr.sbin.swanctl /etc/apparmor.d/disable/
apparmor_parser -R /etc/apparmor.d/usr.sbin.swanctl`, true},
			{"a profile of another name and the rule", rule + `
apparmor_parser -R /etc/apparmor.d/usr.sbin.swanctl
sed -i 's,^/usr/sbin/swanctl ,profile swanctl /usr/sbin/swanctl ,' /etc/apparmor.d/usr.sbin.swanctl` + reload, true},
		}...)
	}
	for _, c := range states {
		t.Run(c.name, func(t *testing.T) {
			out := sh(t, m, c.change+`
swanctl --load-creds --clear --noprompt >/run/creds 2>&1 || :
tunnelcast-certhook check >/run/check 2>&1 || :
cat /run/creds
echo ----
cat /run/check
exec >/run/undo 2>&1
if grep -q '^profile ' /etc/apparmor.d/usr.sbin.swanctl; then
	apparmor_parser -R /etc/apparmor.d/usr.sbin.swanctl
fi`+undo, swanctlRules)
			real, check, _ := strings.Cut(out, "----\n")
			read := strings.Contains(real, "from '/etc/swanctl/private/vpn.example.pem'")
			failed := strings.Contains(real, "private/vpn.example.pem' failed: Permission denied")
			if read == failed || read != c.readable {
				t.Errorf("swanctl prints, want it to read the key: %v\n%s", c.readable, real)
			}
			line := regexp.MustCompile(`(?m)^.*AppArmor profile.*$`).FindString(check)
			if says := strings.HasPrefix(line, "ok"); says != read {
				t.Errorf("swanctl can read the key: %v; check says %q\n%s", read, line, check)
			}
		})
	}
}

package units

import (
	"testing"
	"testing/fstest"
)

func TestWritable(t *testing.T) {
	const service = "tunnelcast-archiveprune.service"
	const unit, dropin = "lib/systemd/system/" + service, "etc/systemd/system/" + service + ".d/"
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("[Service]\n" + text)} }
	for name, test := range map[string]struct {
		host fstest.MapFS
		want string
	}{
		"no unit":         {fstest.MapFS{}, service + " is not installed"},
		"as packaged":     {fstest.MapFS{unit: file("ReadWritePaths=-/var/www/html/archive\n")}, ""},
		"a parent":        {fstest.MapFS{unit: file("ReadWritePaths=/var/www/\n")}, ""},
		"another":         {fstest.MapFS{unit: file("ReadWritePaths=-/var/www/html/arch\n")}, "its ReadWritePaths= are -/var/www/html/arch"},
		"a drop-in adds":  {fstest.MapFS{unit: file("ReadWritePaths=/srv\n"), dropin + "a.conf": file("ReadWritePaths=/var/www/html/archive")}, ""},
		"a drop-in ends":  {fstest.MapFS{unit: file("ReadWritePaths=/var/www/html/archive\n"), dropin + "a.conf": file("ReadWritePaths=\n")}, "its ReadWritePaths= are "},
		"another unit":    {fstest.MapFS{unit: file("ReadWritePaths=/var/www/html/archive\n"), "etc/systemd/system/" + service: file("ReadWritePaths=/srv\n")}, "its ReadWritePaths= are /srv"},
		"in several ways": {fstest.MapFS{unit: file("ReadWritePaths=/srv /var/www/html/archive/..\nReadWritePaths=/var/www/html/archive")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Writable(test.host, service, "/var/www/html/archive"); (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestFault(t *testing.T) {
	for want, state := range map[string]State{
		"":                    {"loaded", "active", "enabled"},
		"it is not installed": {"not-found", "inactive", ""},
		"it is masked":        {"masked", "inactive", "masked"},
		"it is inactive":      {"loaded", "inactive", "disabled"},
		"it is failed":        {"loaded", "failed", "enabled"},
		"it is disabled and will be off after the next boot": {"loaded", "active", "disabled"},
	} {
		remedy, err := state.Fault("x.timer")
		if (err == nil) != (want == "") || err != nil && (err.Error() != want || remedy == "") {
			t.Errorf("%+v: %v (%s), want %q", state, err, remedy, want)
		}
	}
}

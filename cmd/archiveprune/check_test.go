package main

import (
	"testing"
	"testing/fstest"
)

func TestSandboxCoversTheArchive(t *testing.T) {
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
			if err := sandbox(test.host, "/var/www/html/archive"); (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestCronLineIsFound(t *testing.T) {
	const line = "0 6 * * * find /var/www/html/archive/ -type f -mtime +2 -delete"
	host := fstest.MapFS{
		"etc/crontab":                      {Data: []byte("# " + line + "\n17 * * * * root run-parts\n")},
		"var/spool/cron/crontabs/www-data": {Data: []byte("\n" + line + "\n")},
	}
	if err := cron(host, "/var/www/html/archive"); err == nil || err.Error() != "/var/spool/cron/crontabs/www-data:2: "+line {
		t.Errorf("got %v", err)
	}
	if err := cron(host, "/srv/archive"); err != nil {
		t.Errorf("another archive: %v", err)
	}
}

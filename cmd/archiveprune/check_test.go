package main

import (
	"testing"
	"testing/fstest"
)

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

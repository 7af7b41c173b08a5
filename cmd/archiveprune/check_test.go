package main

import (
	"errors"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"
)

func TestCronLinesAreFound(t *testing.T) {
	const line = "0 6 * * * find /var/www/html/archive/ -type f -mtime +2 -delete"
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	host := fstest.MapFS{
		"etc/crontab":                      file("# " + line + "\n17 * * * * root run-parts\n"),
		"var/spool/cron/crontabs/root":     file("\n" + line + "\n" + line + "\n"),
		"var/spool/cron/crontabs/www-data": file("@daily rm -rf /var/www/html/archive/*\n"),
		"etc/cron.daily/clean":             file("#!/bin/sh\nfind /var/www/html/archive -mtime +2 | xargs rm\n"),
	}
	want := []string{"/var/spool/cron/crontabs/root:2: " + line, "/var/spool/cron/crontabs/root:3: " + line,
		"/var/spool/cron/crontabs/www-data:1: @daily rm -rf /var/www/html/archive/*",
		"/etc/cron.daily/clean:2: find /var/www/html/archive -mtime +2 | xargs rm"}
	if got, blind := cronLines(host, "/var/www/html/archive"); !slices.Equal(got, want) || blind {
		t.Errorf("got %q, blind %v", got, blind)
	}
	if got, _ := cronLines(host, "/srv/archive"); got != nil {
		t.Errorf("another archive: %q", got)
	}
}

func TestRemovesFrom(t *testing.T) {
	for line, want := range map[string]bool{
		"find /var/www/html/archive -delete":                                 true,
		`find "/var/www/html/archive" -mtime +2 -exec rm {} \;`:              true,
		"find /var/www/html/archive -mtime +2 -exec /bin/rm -f {} +":         true,
		"find /var/www/html/archive/live -mtime +2 -print0 | xargs -0 rm":    true,
		"cd /var/www/html/archive && find . -mtime +2 -delete":               true,
		"cd /var/www/html/archive; ls -t | tail -n +50 | xargs unlink":       true,
		"tmpreaper 3d /var/www/html/archive":                                 true,
		"find /var/www -name '*.flv' -mtime +2 -delete":                      true,
		"find /var/www/html -type f -mtime +2 -delete":                       true,
		"DIR=/var/www/html/archive; find $DIR -mtime +2 -delete":             true,
		"find /var/www -name '*.log' -mtime +2 -delete":                      false,
		"find /var/www/html/archives -mtime +2 -delete":                      false,
		"find /var/www/html/archive -mtime +2 -print":                        false,
		"rsync -a /var/www/html/archive/ backup:/srv/":                       false,
		"find / -name core -delete":                                          false,
		"rm -f /var/www/html/index.html":                                     false,
		"ls /var/www/html/archive | mail -s alarm root":                      false,
		"/usr/sbin/tunnelcast-archiveprune /var/www/html/archive --dry-run":  false,
		"# find /var/www/html/archive -delete":                               false,
		"chmod -R o-rwx /var/www/html/archive; echo 'run rm by hand' | mail": true, // rather one too many
	} {
		if got := removesFrom(line, "/var/www/html/archive"); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// closed is a host whose users' crontabs this user may not read.
type closed struct{ fstest.MapFS }

func (c closed) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == spool {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return c.MapFS.ReadDir(name)
}

func TestCrontabsThatCannotBeRead(t *testing.T) {
	host := closed{fstest.MapFS{spool + "/root": {}}}
	if _, err := fs.ReadDir(host, spool); !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	if lines, blind := cronLines(host, "/srv"); lines != nil || !blind {
		t.Errorf("got %q, blind %v", lines, blind)
	}
	if _, blind := cronLines(fstest.MapFS{}, "/srv"); blind {
		t.Error("blind on a host without cron")
	}
}

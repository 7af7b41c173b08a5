package nginx

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestRecordPaths(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	host := fstest.MapFS{
		"etc/nginx/nginx.conf": file("user www-data;\nhttp { server { listen 80; } }\n"),
		"etc/nginx/rtmp.conf": file(`rtmp { server { application live {
	record all;
	record_path /var/www/html/archive/;
	# record_path /srv/off;
	record_path "/srv/my archive";
	recorder low { record_path
 /mnt/low; }
}}}
`),
		"etc/nginx/conf.d/more.conf":      file("application x{record_path 'a';}"),
		"etc/nginx/sites-available/x":     file("record_path /srv/available;"),
		"etc/nginx/conf.d/record_done.sh": {Data: []byte("record_path /srv/script;"), Mode: 0o755},
		"etc/nginx/other": file("log_format x 'record_path /srv/text;'; my_record_path /srv/a; " +
			"set $x record_path /srv/b;"),
		"usr/share/nginx/rtmp/record.conf": file("record_path /srv/outside;"),
	}
	var got []string
	for _, place := range RecordPaths(host) {
		got = append(got, place.Dir+" "+place.From)
	}
	want := []string{
		"/usr/share/nginx/a /etc/nginx/conf.d/more.conf:1",
		"/var/www/html/archive /etc/nginx/rtmp.conf:3",
		"/srv/my archive /etc/nginx/rtmp.conf:5",
		"/mnt/low /etc/nginx/rtmp.conf:6",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := RecordPaths(fstest.MapFS{}); got != nil {
		t.Errorf("without nginx: %v", got)
	}
}

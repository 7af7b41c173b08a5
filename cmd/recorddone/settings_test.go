//go:build cgo

package main

import (
	"strings"
	"testing"
)

func TestNginxArgs(t *testing.T) {
	tests := []struct {
		name, args string
		own, path  string
		extra      string
	}{
		{"the README's line", "/a/cam.flv cam.flv cam /a", "/a/cam.flv", "/a/cam.flv", ""},
		{"a relative record_path", "rec/cam.flv cam.flv cam rec", "rec/cam.flv", "rec/cam.flv", ""},
		{"record_path .", "./cam.flv cam.flv cam .", "./cam.flv", "./cam.flv", ""},
		{"flags in front", "--jobs 2 /a/cam.flv cam.flv cam /a", "--jobs 2 /a/cam.flv", "/a/cam.flv", ""},
		{"one", "/a/cam.flv", "/a/cam.flv", "", ""},
		{"two", "/a/cam.flv cam.flv", "/a/cam.flv", "/a/cam.flv", ""},
		{"three", "/a/cam.flv cam.flv cam", "/a/cam.flv", "/a/cam.flv", ""},
		{"$basename alone", "/a/cam.flv cam", "/a/cam.flv", "/a/cam.flv", ""},
		{"$dirname first", "/a/cam.flv /a cam.flv", "/a/cam.flv", "/a/cam.flv", ""},
		{"five", "/a/cam.flv cam.flv cam /a live", "/a/cam.flv", "/a/cam.flv", "live"},
		{"a stream named --help", "/a/--help.flv --help.flv --help /a --help", "/a/--help.flv", "/a/--help.flv", ""},
		{"$name of one", "/a/x.flv x.flv x /a --jobs=9", "/a/x.flv", "/a/x.flv", "--jobs=9"},
		{"a stream named sweep", "/a/sweep.flv sweep.flv sweep /a", "/a/sweep.flv", "/a/sweep.flv", ""},
		{"two recordings", "/a/one.flv /a/two.flv", "/a/one.flv /a/two.flv", "", ""},
		{"a sweep", "sweep /a/b /a", "sweep /a/b /a", "", ""},
		{"a sweep of this directory", "sweep .", "sweep .", "", ""},
		{"a check", "check --archive /a/b", "check --archive /a/b", "", ""},
		{"nothing", "", "", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			own, path, extra := nginxArgs(strings.Fields(test.args))
			if strings.Join(own, " ") != test.own || path != test.path || strings.Join(extra, " ") != test.extra {
				t.Errorf("got %q, path %q, extra %q", own, path, extra)
			}
		})
	}
}

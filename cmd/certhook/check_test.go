package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAppArmor(t *testing.T) {
	const (
		loaded = "sys/kernel/security/apparmor/profiles"
		local  = "etc/apparmor.d/local/usr.sbin.swanctl"
	)
	for name, test := range map[string]struct {
		files map[string]string
		well  bool
	}{
		"no AppArmor":           {nil, true},
		"no profile":            {map[string]string{loaded: "/usr/sbin/named (enforce)\n"}, true},
		"complain mode":         {map[string]string{loaded: "/usr/sbin/swanctl (complain)\n"}, true},
		"enforced":              {map[string]string{loaded: "/usr/sbin/swanctl (enforce)\n"}, false},
		"enforced, empty":       {map[string]string{loaded: "/usr/sbin/swanctl (enforce)\n", local: "# /etc/letsencrypt/ r,\n"}, false},
		"enforced, our line":    {map[string]string{loaded: "/usr/sbin/swanctl (enforce)\n", local: "\n" + appArmorRule + "\n"}, true},
		"enforced, the guide's": {map[string]string{loaded: "/usr/sbin/swanctl (enforce)\n", local: "  /etc/letsencrypt/archive/vpn.example/* r, # keys\n"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range test.files {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := appArmor(root); (err == nil) != test.well {
				t.Errorf("got %v, want well %v", err, test.well)
			}
		})
	}
}

package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// configDirs returns certbot's directories that lineages are in, /etc/letsencrypt if there
// are none. A lineage that is not in a directory live is not certbot's.
func (h *host) configDirs(lineages []string) []string {
	var dirs []string
	for _, lineage := range lineages {
		live := filepath.Dir(lineage)
		if filepath.Base(live) == "live" && !slices.Contains(dirs, filepath.Dir(live)) {
			dirs = append(dirs, filepath.Dir(live))
		}
	}
	if len(lineages) == 0 {
		dirs = []string{filepath.Join(h.root, "etc/letsencrypt")}
	}
	return dirs
}

// callsLoader matches a line that has strongSwan load its credentials anew: a call of
// swanctl or ipsec, or of what reloads or restarts its unit.
var callsLoader = regexp.MustCompile(`(?m)^[^#\n]*?(?:^|[\s;&|"'` + "`" + `(=]|bin/)` +
	`(?:(?:swanctl|ipsec)(?:["'\s]|$)|(?:systemctl|service|invoke-rc\.d)\s[^#\n]*\b(?:strongswan|ipsec))`)

// checkHooks reports whether certbot calls this program, and which other hooks load
// charon's credentials in a way that loses logins.
func (h *host) checkHooks(r report, s *hostSnapshot) {
	for _, configDir := range h.configDirs(s.dirs) {
		dir := filepath.Join(configDir, "renewal-hooks/deploy")
		installed, others := hooksIn(configDir)
		err := error(nil)
		if _, unreadable := os.ReadDir(dir); errors.Is(unreadable, fs.ErrPermission) {
			err = unreadable
		} else if !installed {
			err = errors.New("no program there is tunnelcast-certhook")
		}
		remedy := "`ln -s /usr/sbin/tunnelcast-certhook " + filepath.Join(dir, "tunnelcast") + "`"
		r.Say("certbot's hook in "+dir, err, remedy)
		for _, file := range slices.Concat(others, renewalHooks(configDir)) {
			r.Say("certbot's hook "+file,
				errors.New("it loads charon's credentials, too: at each renewal logins are lost between its steps"),
				"remove it, tunnelcast-certhook does this")
		}
	}
}

// hooksIn reports whether this program is one of certbot's deploy hooks, and returns the
// other programs among its hooks that load charon's credentials.
func hooksIn(configDir string) (installed bool, others []string) {
	deploy := filepath.Join(configDir, "renewal-hooks/deploy")
	for _, file := range filesIn(configDir, "renewal-hooks/deploy", "renewal-hooks/post", "renewal-hooks/pre") {
		program, err := filepath.EvalSymlinks(file)
		if err != nil {
			continue
		}
		if filepath.Base(program) == "tunnelcast-certhook" {
			installed = installed || filepath.Dir(file) == deploy
			continue
		}
		info, err := os.Stat(program)
		runs := err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && !strings.HasSuffix(file, "~")
		if runs && loadsCredentials(program) {
			others = append(others, file)
		}
	}
	return installed, others
}

// renewalHooks returns certbot's configuration files of lineages with a hook that loads
// charon's credentials.
func renewalHooks(configDir string) []string {
	var files []string
	for _, file := range filesIn(configDir, "renewal") {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			key, command, _ := strings.Cut(line, "=")
			isHook := strings.HasSuffix(strings.TrimSpace(key), "_hook")
			if isHook && callsLoader.MatchString(strings.TrimSpace(command)) {
				files = append(files, file)
			}
		}
	}
	return files
}

// loadsCredentials reports whether a script, outside its comments, has swanctl or ipsec
// load or restart something.
func loadsCredentials(file string) bool {
	const most = 1 << 20 // bytes; a script is shorter
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	return err == nil && !bytes.HasPrefix(text, []byte("\x7fELF")) && callsLoader.Match(text)
}

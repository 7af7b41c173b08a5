// Package internal_test checks the imports between the packages: decision packages import nothing with effects, effect
// packages may import decision packages, and each dependency is imported by few packages, its doors.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows maps every package below internal to those of our packages that it may import. The commands may import all.
var arrows = map[string][]string{
	"internal/hook":                {"internal/file"},
	"internal/lease":               {},
	"internal/session":             {"internal/lease"},
	"internal/h264":                {},
	"internal/flv":                 {},
	"internal/recording":           {"internal/flv", "internal/h264"},
	"internal/retention":           {},
	"internal/lineage":             {},
	"internal/rotation":            {"internal/lineage"},
	"internal/ddns":                {"internal/lease"},
	"internal/rundir":              {"internal/file", "internal/lease"},
	"internal/file":                {},
	"internal/inuse":               {"internal/file", "internal/recording"},
	"internal/archive":             {"internal/file", "internal/inuse"},
	"internal/publish":             {"internal/file", "internal/inuse", "internal/recording"},
	"internal/remux":               {"internal/flv", "internal/h264", "internal/recording"},
	"internal/charon":              {"internal/lease", "internal/session", "internal/vici"},
	"internal/vici":                {},
	"internal/vici/vicitest":       {"internal/vici"},
	"internal/swanctl":             {"internal/vici"},
	"internal/units":               {},
	"internal/links":               {},
	"internal/iproute":             {"internal/links"},
	"internal/program":             {"internal/file"},
	"internal/sandbox":             {},
	"internal/nginx":               {},
	"internal/lineage/lineagetest": {},
	"internal/archive/archivetest": {"internal/promised"},
	"internal/e2e/box":             {"packaging"},
	"internal/e2e/demo":            {"internal/e2e/box"},
	"internal/e2e/screenshots":     {"internal/e2e/box", "packaging"},
	"internal/e2e/bench": {
		"internal/e2e/box", "internal/ddns", "internal/lease", "internal/vici", "internal/vici/vicitest",
		"internal/flv", "internal/recording/recordingtest", "packaging",
	},
	"internal/e2e/vm":       {"internal/e2e/box", "internal/e2e/vm/wire"},
	"internal/e2e/vm/agent": {"internal/e2e/vm/wire"},
	"internal/e2e/vm/wire":  {},
	"internal/e2e":          {"internal/e2e/box", "internal/e2e/guide", "internal/e2e/vm"},
	"internal/promised":     {},

	"internal/e2e/guide":               {},
	"internal/e2e/powercut":            {},
	"internal/hook/hooktest":           {},
	"internal/recording/recordingtest": {"internal/flv", "internal/promised"},
}

// decisions are the packages that must not use files, network, clock or logger, and effects the imports that would.
var decisions = []string{
	"internal/lease", "internal/session", "internal/flv", "internal/h264", "internal/recording", "internal/retention",
	"internal/lineage", "internal/links", "internal/rotation",
}

var effects = []string{
	"os", "os/exec", "os/signal", "net", "net/http", "syscall", "log", "log/slog", "golang.org/x/sys/unix",
}

// doors maps each dependency to the only packages that may import it.
var doors = map[string][]string{
	"github.com/alecthomas/kong":               {"internal/hook"},
	"github.com/BurntSushi/toml":               {"internal/hook"},
	"github.com/coreos/go-systemd/v22/journal": {"internal/hook"},
	"github.com/coreos/go-systemd/v22/dbus":    {"internal/units"},
	"github.com/vishvananda/netlink":           {"internal/iproute"},
	"github.com/miekg/dns":                     {"internal/ddns"},
	"github.com/asticode/go-astiav":            {"internal/remux"},
	"github.com/landlock-lsm/go-landlock":      {"internal/sandbox"},
	"golang.org/x/term":                        {"internal/hook", "internal/e2e/demo"},
	"golang.org/x/sys/unix": {
		"internal/file", "internal/inuse", "internal/archive", "internal/publish", "internal/archive/archivetest",
		"internal/iproute", "internal/sandbox",
	},
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	used := map[[2]string]bool{} // arrows, also of tests
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		name = filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator)))
		pkg, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
		seen[pkg] = seen[pkg] || !test
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			used[[2]string{pkg, strings.TrimPrefix(imported, "tunnelcast/")}] = true
			if fault := fault(pkg, imported); fault != "" && !test {
				t.Errorf("%s imports %s: %s", name, imported, fault)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, product := range seen {
		if _, listed := arrows[pkg]; !listed && product && strings.HasPrefix(pkg, "internal/") {
			t.Errorf("%s is missing in arrows", pkg)
		}
	}
	for pkg, allowed := range arrows {
		for _, to := range allowed {
			if !used[[2]string{pkg, to}] {
				t.Errorf("the arrow from %s to %s is not used", pkg, to)
			}
		}
	}
	for _, command := range []string{"cmd/updown", "cmd/recorddone", "cmd/archiveprune", "cmd/certhook"} {
		if !seen[command] {
			t.Errorf("%s was not checked", command)
		}
	}
}

func fault(pkg, imported string) string {
	if ours, ok := strings.CutPrefix(imported, "tunnelcast/"); ok {
		allowed, listed := arrows[pkg]
		switch {
		case listed && !slices.Contains(allowed, ours):
			return "arrows does not allow it"
		case !listed && strings.HasPrefix(ours, "internal/e2e"):
			return "the box is for tests"
		}
		return ""
	}
	if slices.Contains(decisions, pkg) && slices.Contains(effects, imported) {
		return "a decision package has no effects"
	}
	for dependency, door := range doors {
		if (imported == dependency || strings.HasPrefix(imported, dependency+"/")) && !slices.Contains(door, pkg) {
			return "only " + strings.Join(door, ", ") + " may"
		}
	}
	return ""
}

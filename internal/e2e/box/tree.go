package box

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A kind is a kind of tree.
type kind string

const (
	bareKind    kind = "bare"    // Debian with systemd
	daemonsKind kind = "daemons" // and the guide's daemons
	vpsKind     kind = "vps"     // a virtual server as a provider delivers it
)

// recipe returns the script that builds a tree of this kind.
func (k kind) recipe() string {
	if k == vpsKind {
		return own("vps.sh")
	}
	return own("tree.sh")
}

// CacheDir returns the directory for what is built once: $TUNNELCAST_CACHE, or ~/.cache/tunnelcast.
func CacheDir() (string, error) {
	if dir := os.Getenv("TUNNELCAST_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache: %w", err)
	}
	return filepath.Join(home, ".cache", "tunnelcast"), nil
}

// Releases maps the suites of which boxes can be made to the names of these Debian releases.
var Releases = map[string]string{"bookworm": "Debian 12", "trixie": "Debian 13"}

// A tree is a Debian system in a directory of the cache, locked against removal while it is in use.
type tree struct {
	dir  string
	lock *os.File
}

// treeName returns the name, in the cache, of a tree that the current recipe builds. The tree is of this computer's
// architecture, even if the test is emulated.
func treeName(suite string, k kind) string {
	sum := sha256.Sum256([]byte(k.recipe()))
	return fmt.Sprintf("%s-%s-%x", suite, k, sum[:8])
}

// openTree returns a tree of the current recipe. If the cache has none it is built, which needs the network and takes a
// minute or two; step is called at the beginning of each part. Unused trees of older recipes are removed.
func openTree(ctx context.Context, suite string, k kind, step func(string)) (*tree, error) {
	if Releases[suite] == "" {
		return nil, fmt.Errorf("find the tree of %q: no such release", suite)
	}
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	base := filepath.Join(cache, "box")
	if k == vpsKind { // a directory of its own, because older versions of this package remove what they do not know
		base = filepath.Join(base, "vps")
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	dir := filepath.Join(base, treeName(suite, k))
	lock, err := Cached(ctx, dir, func(work string, lock *os.File) error {
		return buildTree(ctx, dir, work, lock, suite, k, step)
	})
	if err != nil {
		return nil, err
	}
	removeOldTrees(base)
	return &tree{dir, lock}, nil
}

func (t *tree) close() { t.lock.Close() }

// buildTree builds a tree in the directory work.
func buildTree(ctx context.Context, dir, work string, lock *os.File, suite string, k kind, step func(string)) error {
	mirror, security, err := mirrors(ctx)
	if err != nil {
		return err
	}
	words := []string{suite, work, mirror, security}
	if k != bareKind {
		under, err := openTree(ctx, suite, bareKind, step)
		if err != nil {
			return err
		}
		defer under.close()
		words = append(words, under.dir)
	}
	if k != vpsKind {
		words = append([]string{string(k)}, words...)
	}
	report := func(what string) { step(Releases[suite] + " tree: " + what) }
	return RunRecipe(ctx, k.recipe(), dir, lock, report, words...)
}

// RunRecipe runs the shell script recipe, which builds something for the directory dir of the cache, with its own
// mounts and processes. It calls step for each line "step: WHAT" that the script prints. The whole output is in
// dir.log. The recipe's processes hold the lock.
func RunRecipe(
	ctx context.Context, recipe, dir string, lock *os.File, step func(what string), words ...string,
) error {
	script := dir + ".sh"
	if err := os.WriteFile(script, []byte(recipe), 0o755); err != nil {
		return fmt.Errorf("write the recipe: %w", err)
	}
	defer os.Remove(script)
	log, err := os.Create(dir + ".log")
	if err != nil {
		return fmt.Errorf("write the build's log: %w", err)
	}
	defer log.Close()

	// debootstrap mounts proc and sys in the tree. In these namespaces the mounts end with the build, however it ends.
	unshare := []string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--"}
	cmd := command(ctx, unshare, append([]string{"/bin/sh", script}, words...)...)
	cmd.Stderr = log
	// If this process is killed, the lock is held until the build's last process has ended.
	cmd.ExtraFiles = []*os.File{lock}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("build %s: %w", dir, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", dir, err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if s, ok := strings.CutPrefix(lines.Text(), "step: "); ok {
			step(s)
		}
		fmt.Fprintln(log, lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("build %s: %w", dir, ctx.Err())
		}
		return fmt.Errorf("build %s: %w\n%s\nwhole log: %s", dir, err, tail(log.Name(), 20), log.Name())
	}
	return nil
}

// tail returns the last n lines of a file, or the error of reading it.
func tail(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(data), n)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

var indexURI = regexp.MustCompile(`(?m)^'([^']+)/dists/([^/' ]+)/InRelease'`)

// mirrors returns the Debian mirrors that this computer uses, from the index files that its apt would fetch. On another
// release or distribution TUNNELCAST_MIRROR names the mirror. security may be "".
func mirrors(ctx context.Context) (mirror, security string, err error) {
	if m := os.Getenv("TUNNELCAST_MIRROR"); m != "" {
		return m, "", nil
	}
	out, err := output(ctx, nil, "apt-get", "update", "--print-uris")
	if err != nil {
		return "", "", fmt.Errorf("find a Debian mirror: %w", err)
	}
	for _, m := range indexURI.FindAllStringSubmatch(out, -1) {
		uri, suite := resolveMirror(m[1]), m[2]
		switch {
		case security == "" && (suite == "bookworm-security" || suite == "trixie-security"):
			security = uri
		case mirror == "" && (suite == "bookworm" || suite == "trixie"):
			mirror = uri
		}
	}
	if mirror == "" {
		return "", "", errors.New("find a Debian mirror: " +
			"this computer's apt sources name none; set TUNNELCAST_MIRROR to the URL of one")
	}
	return mirror, security, nil
}

// resolveMirror returns the first mirror of the list that a mirror+file: URI names. Debian's cloud images use that
// scheme; debootstrap does not support it.
func resolveMirror(uri string) string {
	list, ok := strings.CutPrefix(uri, "mirror+file:")
	if !ok {
		return uri
	}
	data, err := os.ReadFile(list)
	if err != nil {
		return uri
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			return strings.TrimSuffix(f[0], "/")
		}
	}
	return uri
}

// removeOldTrees removes the trees of other recipes, unless another run uses or builds them.
func removeOldTrees(base string) {
	keep := make(map[string]bool)
	for suite := range Releases {
		for _, k := range []kind{bareKind, daemonsKind, vpsKind} {
			keep[treeName(suite, k)] = true
		}
	}
	RemoveUnused(base, func(name string) bool { return keep[name] })
}

package box

import "context"

// TreeName returns the name in the cache of the tree of a suite's boxes. It contains a hash of the recipe.
func TreeName(suite string) string { return treeName(suite, daemonsKind) }

// Tree returns the tree of a suite's boxes, for tests that need its daemons and no server. It is built if the cache
// does not have it. Nobody may write to it. After release it may be removed, once a newer one exists.
func Tree(ctx context.Context, suite string, step func(what string)) (dir string, release func(), err error) {
	t, err := openTree(ctx, suite, daemonsKind, step)
	if err != nil {
		return "", nil, err
	}
	return t.dir, t.close, nil
}

// Output runs a command of this computer, in the environment that all commands of the box get, and returns its standard
// output. The error is a *CommandError.
func Output(ctx context.Context, args ...string) (string, error) { return output(ctx, nil, args...) }

// Environ returns that environment.
func Environ() []string { return environ() }

// Found reports whether a tool is in the PATH that commands get.
func Found(tool string) bool { return found(tool) }

// Network returns the file of the machine's network namespace, for setns(2).
func (m *machine) Network() string { return m.namespaces.path(m.name, "net") }

// Script returns one of the guide's scripts that tunnelcast replaces, updown.sh or record_done.sh.
func Script(name string) string { return own(name) }

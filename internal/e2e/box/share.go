package box

import "context"

// Tree returns the tree of Debian 12's boxes, for tests that need its daemons and no server. It is built if the cache
// does not have it. Nobody may write to it. After release it may be removed, once a newer one exists.
func Tree(ctx context.Context, step func(what string)) (dir string, release func(), err error) {
	t, err := openTree(ctx, "bookworm", false, step)
	if err != nil {
		return "", nil, err
	}
	return t.dir, t.close, nil
}

// Network returns the file of the machine's network namespace, for setns(2).
func (m *machine) Network() string { return m.namespaces.path(m.name, "net") }

// Script returns one of the guide's scripts that tunnelcast replaces, updown.sh or record_done.sh.
func Script(name string) string { return own(name) }

package box

import "context"

// Tree gives the directory of the tree that boxes of Debian 12 are made of, built if the cache has none, for tests that need its
// daemons but no server around them. It must not be written to; release lets it be removed when a newer one is there.
func Tree(ctx context.Context, step func(what string)) (dir string, release func(), err error) {
	t, err := openTree(ctx, "bookworm", false, step)
	if err != nil {
		return "", nil, err
	}
	return t.dir, t.close, nil
}

// Network gives the file of the machine's network namespace, for setns(2).
func (m *machine) Network() string { return m.namespaces.path(m.name, "net") }

// Script gives a script of the guide's, updown.sh or record_done.sh, as its server has it before tunnelcast.
func Script(name string) string { return own(name) }

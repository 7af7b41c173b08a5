// Package packaging contains the files that the Debian package installs beside the programs. To Go code it offers the
// examples of host configuration, so that the test server uses the same files that are shipped.
package packaging

import "embed"

// Examples contains the directory examples, which the package installs in /usr/share/doc/tunnelcast.
//
//go:embed examples
var Examples embed.FS

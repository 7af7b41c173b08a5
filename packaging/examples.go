// Package packaging holds what goes into the Debian package beside the programs. To Go it gives the examples
// of host configuration, so that the test server runs on the very files that are shipped.
package packaging

import "embed"

// Examples holds examples/, which the package installs under /usr/share/doc/tunnelcast/examples.
//
//go:embed examples
var Examples embed.FS

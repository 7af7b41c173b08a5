// Package rotation decides how charon moves from the certificate that it serves to the
// one that certbot has renewed, so that no login fails meanwhile.
//
// Decide takes what was read of the host, one lineage and the time, and returns a plan:
// steps in their order, and the reason for them or for having none. The old pair can
// serve every client until the step Prove; only after it does a plan unload a key, and
// only one that the proof has replaced. Plan.Verify and Plan.VerifyChoice judge what
// charon holds at that step and at the end.
//
// The package knows plain values alone. It reads no files, asks charon nothing and does
// not carry out what it decides.
package rotation

import (
	"crypto/x509"
	"path"
	"slices"

	"tunnelcast/internal/lineage"
)

// Snapshot is what a run has read of its host.
type Snapshot struct {
	Dir         string // swanctl's directory: /etc/swanctl
	Unit        string // charon's unit, for messages
	Sections    []Section
	Authorities []Authority
	X509        []*File // the files in x509
	X509CA      []*File // and in x509ca
	Keys        []KeyFile
	OpaqueKeys  []string // files and sections that may hold any key: encrypted, PKCS #12, on a token
	IPsec       []*File  // certificates in ipsec.conf, which strongswan-starter reads
	IPsecConf   string   // the path of that file
	Charon      *Charon  // nil if charon does not run
}

// Section is a local section of a connection in swanctl.conf that authenticates with a
// certificate.
type Section struct {
	Connection string
	Identity   string  // local id; if it is empty, charon uses the certificate's subject
	Certs      []*File // in the order of the configuration
	NotInFiles bool    // it also has certificates that are not in files, or raw public keys
	Starts     bool    // charon itself starts a tunnel of the connection (start_action)
}

// Authority is a section of authorities in swanctl.conf.
type Authority struct {
	Name string
	File *File // of its certificate; nil if that is not in a file
}

// File is a certificate file that the configuration leads to.
type File struct {
	Path      string
	Hops      []string          // Path, and each path that its last element links to
	Text      []byte            // its contents
	First     *x509.Certificate // the only certificate in it that charon reads; nil if there is none
	ReadError error             // why it cannot be read
	Malformed error             // why First is nil although it was read
	Access    Access
}

// Access is AppArmor's answer to whether swanctl may read a file, at the next reload of
// charon's unit. The zero value is yes.
type Access struct {
	Denied string // the file that it may not read, with all links followed
	Rule   string // what the profile lacks; "" if it has a rule that denies it
	Err    error  // why AppArmor gave no answer
}

// KeyFile is a private key in one of swanctl's directories.
type KeyFile struct {
	Path   string
	Key    lineage.Key
	Loaded bool // swanctl loads keys of this kind from this directory
	Access Access
}

// Charon is what charon holds.
type Charon struct {
	Certificates Credentials
	Keys         []string        // ids of the private keys that VICI clients loaded
	Connections  []string        // names of the loaded connections
	Authorities  []string        // and of the authorities
	Up           map[string]bool // whether connections with Starts have an IKE_SA
}

// Lineage is what was read of a lineage.
type Lineage struct {
	Dir      string
	Dirs     []string            // Dir, where it really is, and the directories that its links lead to
	Required bool                // the setting lineages has it
	LeafFile string              // the file whose first certificate is the leaf
	Leaf     *x509.Certificate   // that certificate, of a faulty lineage too; nil if there is none
	Pair     *lineage.Lineage    // nil if the files do not belong together
	Fault    error               // why they do not
	Archived []*x509.Certificate // all versions that certbot keeps, the present one among them
}

// has reports whether a file is the lineage's, in its directory or through links.
func (l *Lineage) has(file *File) bool {
	return file != nil && slices.ContainsFunc(file.Hops, func(hop string) bool {
		return slices.Contains(l.Dirs, path.Dir(hop))
	})
}

// isVersion reports whether certbot has archived a certificate as a version of the lineage.
func (l *Lineage) isVersion(cert *x509.Certificate) bool {
	return slices.ContainsFunc(l.Archived, cert.Equal)
}

package rotation

import "fmt"

// Kind says what a Finding is about.
type Kind int

// Current is the kind of a lineage that charon serves as it should.
const Current Kind = 0

// For these there is nothing to do, and nothing is wrong.
const (
	Unused  Kind = 1 + iota
	Copied       // charon has the renewed certificate from a copy that something else makes
	IPsec        // in ipsec.conf
	Stopped      // charon does not run; its next start needs the issuers' files
)

// With these a plan has no steps, because a person must act first.
const (
	Invalid    Kind = 10 + iota // what is on disk cannot be served
	CopyServed                  // charon has an earlier certificate from a copy
	NotNamed                    // the lineage is required, and no connection uses it
)

// These are the reasons for a plan with steps.
const (
	NotServed     Kind = 20 + iota // charon lacks the certificate or its key
	IssuerMissing                  // in charon or among the files
	IssuersStale                   // files of a longer chain of the past
	KeyHeld                        // a key of an earlier version
	OtherShown                     // charon presents another certificate
	OtherSent                      // charon sends another chain
)

// NotProven is the kind of what Verify and VerifyChoice return.
const NotProven Kind = 30

// The next reload of charon's unit loses something.
const (
	KeyNotKept  Kind = 40 + iota // no file has the key
	KeyDenied                    // AppArmor keeps swanctl from a file
	RivalIssuer                  // a file has another certificate of an issuer
	OtherBroken                  // another connection names a file that cannot be read
)

// Stays is the kind of a connection that a plan leaves as it is for its tunnel's sake.
const Stays Kind = 50

// Finding is one thing about a lineage, with a sentence for a person. The zero value
// says that nothing is to be done.
type Finding struct {
	Kind Kind
	Err  error // nil if Kind is Current
}

func find(kind Kind, format string, args ...any) Finding {
	return Finding{kind, fmt.Errorf(format, args...)}
}

// Error implements error.
func (f Finding) Error() string {
	if f.Err == nil {
		return "charon serves what is on disk"
	}
	return f.Err.Error()
}

// Unwrap returns the cause.
func (f Finding) Unwrap() error { return f.Err }

// Is reports whether target is a Finding of the same kind without a cause.
func (f Finding) Is(target error) bool { return target == error(Finding{Kind: f.Kind}) }

package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tunnelcast/internal/lineage"
	"tunnelcast/internal/rotation"
)

// status is one lineage as check reports it.
type status struct {
	Lineage  string    `json:"lineage"` // directory
	Names    []string  `json:"names"`
	NotAfter time.Time `json:"not_after"`
	DaysLeft int       `json:"days_left"`
	OnDisk   string    `json:"on_disk"` // SHA-256 of the certificate's DER
	Charon   []string  `json:"charon"`  // the same of those that charon can serve
	Agree    bool      `json:"agree"`
	Problem  string    `json:"problem,omitempty"`
}

// status compares the disk with charon. The error is the first thing that is not as it
// should be.
func (h *host) status(s *hostSnapshot, dir string) (status, error) {
	st := status{Lineage: dir, Names: []string{}, Charon: []string{}}
	plan, err := s.decide(dir)
	if err != nil {
		return st, err
	}
	invalid := plan.Invalid()
	if invalid != nil {
		invalid = failure(rotation.Finding{Kind: rotation.Invalid, Err: invalid})
	}
	leaf := s.lineage(dir).Leaf
	if leaf == nil {
		return st, invalid
	}
	st.Names = lineage.Names(leaf)
	st.NotAfter = leaf.NotAfter.UTC()
	st.DaysLeft = int(leaf.NotAfter.Sub(h.env.Now()).Hours() / 24)
	st.OnDisk = lineage.Fingerprint(leaf)
	if s.Charon != nil {
		var shown []*x509.Certificate
		shown, st.Agree = plan.Served()
		for _, cert := range shown {
			st.Charon = append(st.Charon, lineage.Fingerprint(cert))
		}
	}
	if invalid != nil {
		return st, invalid
	}
	if s.Charon != nil {
		if err := h.unserved(plan); err != nil {
			return st, err
		}
	}
	if least := h.warnDays(leaf); st.DaysLeft < least {
		return st, fmt.Errorf("%d days left, fewer than %d: is certbot.timer running? "+
			"(`systemctl enable --now certbot.timer`; `certbot renew --dry-run`)", st.DaysLeft, least)
	}
	return st, nil
}

// unserved returns why charon does not serve a valid lineage, or not beyond the next
// reload.
func (h *host) unserved(plan *rotation.Plan) error {
	switch f := plan.Reason; {
	case len(plan.Steps) > 0:
		return fmt.Errorf("%w (`tunnelcast-certhook deploy --lineage %s`)", f, plan.Lineage.Dir)
	case f.Kind != rotation.Current:
		return failure(f)
	}
	if name := plan.NotLoaded(); name != "" {
		return fmt.Errorf("charon has not loaded connection %s (`swanctl --load-conns` says why)", name)
	}
	return h.survives(plan.Lineage.Dir, plan)
}

// warnDays returns how many days must be left. certbot renews when a third of the lifetime
// is left, of long ones 30 days before the end, and has a day for it.
func (h *host) warnDays(leaf *x509.Certificate) int {
	if h.cli.WarnDays != 0 {
		return h.cli.WarnDays
	}
	const longest = 30
	lifetime := int(leaf.NotAfter.Sub(leaf.NotBefore).Hours()/24 + 0.5)
	return max(min(lifetime/3, longest)-1, 1)
}

func printTable(w io.Writer, all []status) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LINEAGE\tNAMES\tDAYS LEFT\tON DISK\tCHARON SERVES\tAGREE")
	for _, st := range all {
		days, agree := "-", "no"
		if !st.NotAfter.IsZero() {
			days = strconv.Itoa(st.DaysLeft)
		}
		if st.Agree {
			agree = "yes"
		}
		var served []string
		for _, f := range st.Charon {
			served = append(served, short(f))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", filepath.Base(st.Lineage), strings.Join(st.Names, ","), days,
			short(st.OnDisk), short(strings.Join(served, ",")), agree)
	}
	t.Flush()
}

// short returns enough of a fingerprint to compare two at a glance.
func short(fingerprint string) string {
	if fingerprint == "" {
		return "-"
	}
	if len(fingerprint) == 64 {
		return fingerprint[:16]
	}
	return fingerprint
}

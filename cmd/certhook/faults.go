package main

import (
	"errors"
	"slices"
	"strings"

	"tunnelcast/internal/hook"
)

// faults are several errors in one line. If one of them is a failure of the whole, so are
// they.
type faults []error

// together returns the errors that are not nil as one.
func together(errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return faults(errs)
}

func (f faults) Error() string {
	var texts []string
	for _, err := range f {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (f faults) Unwrap() []error {
	whole := slices.DeleteFunc(slices.Clone(f), func(err error) bool { return errors.Is(err, hook.ErrSome) })
	if len(whole) > 0 {
		return whole
	}
	return f
}

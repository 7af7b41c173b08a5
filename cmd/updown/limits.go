package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/session"
)

// sessionSettings are about clients that are connected: how long they may be, and
// who is told of them.
type sessionSettings struct {
	MaxSession span `help:"End sessions that have lasted this long, such as 12h." placeholder:"TIME"`
	MaxIdle    span `help:"End sessions without traffic for this long, such as 30m." placeholder:"TIME"`

	SessionsPerIdentity sessionCount `help:"How many sessions one identity may have." placeholder:"N"`
	Keep                string       `help:"Which stay if it has more: newest or oldest." placeholder:"WHICH"`
	Except              []string     `help:"Identities without these limits." placeholder:"IDENTITY"`

	Limit limitTable `kong:"-" toml:"limit"`

	Page string `help:"Have sync write the clients' page to this file." placeholder:"FILE"`

	OnEvent []string `help:"Call this program, with arguments, for clients that come or go." placeholder:"PROGRAM"`

	EventTimeout time.Duration `help:"The longest that one call of the program may take." default:"30s"`
}

// span is a length of time; 0 is no limit.
type span time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	switch _, number := strconv.ParseFloat(string(text), 64); {
	case err != nil && number == nil:
		return fmt.Errorf("%q has no unit: write %[1]ss, %[1]sm or %[1]sh, for seconds, minutes or hours", text)
	case err != nil:
		return fmt.Errorf("%q is not a length of time, such as 30m or 12h", text)
	case d < 0:
		return fmt.Errorf("%q is negative", text)
	}
	*s = span(d)
	return nil
}

// sessionCount is a number of sessions; 0 is no limit.
type sessionCount int

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *sessionCount) UnmarshalText(text []byte) error {
	number, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil {
		return fmt.Errorf("%q is not a number of sessions, such as 1", text)
	}
	*n = sessionCount(number)
	return nil
}

// limitTable has the limits of certain identities.
type limitTable struct{ of map[string]session.Limits }

// UnmarshalTOML implements hook.Table.
func (t *limitTable) UnmarshalTOML(value any) error {
	table, ok := value.(map[string]any)
	if !ok {
		return errors.New(
			`limit is a table for each identity: [limit.alice] and below it lines such as max-session = "8h"`)
	}
	t.of = make(map[string]session.Limits, len(table))
	for identity, value := range table {
		keys, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf(`limit: %q is not a table: [limit.%[1]s] and below it lines such as max-session = "8h"; `+
				`an identity with a dot must be in quotes`, identity)
		}
		limits, err := readLimits(keys)
		if err != nil {
			return fmt.Errorf("[limit.%s]: %w", identity, err)
		}
		t.of[identity] = limits
	}
	return nil
}

func readLimits(keys map[string]any) (limits session.Limits, err error) {
	var most sessionCount
	var longest, idle span
	keep := ""
	for key, value := range keys {
		text := []byte(fmt.Sprint(value))
		switch key {
		case "max-session":
			err = longest.UnmarshalText(text)
		case "max-idle":
			err = idle.UnmarshalText(text)
		case "sessions-per-identity":
			err = most.UnmarshalText(text)
		case "keep":
			keep = string(text)
		default:
			err = errors.New("unknown key: the keys are keep, max-idle, max-session, sessions-per-identity; " +
				"an identity with a dot must be in quotes, and all other settings above this line")
		}
		if err != nil {
			return limits, fmt.Errorf("%s: %w", key, err)
		}
	}
	return newLimits(longest, idle, most, keep)
}

func newLimits(longest, idle span, most sessionCount, keep string) (session.Limits, error) {
	limits := session.Limits{MaxSession: time.Duration(longest), MaxIdle: time.Duration(idle), Sessions: int(most),
		Keep: session.Keep(keep)}
	switch {
	case keep != "" && keep != string(session.Newest) && keep != string(session.Oldest):
		return limits, fmt.Errorf(`keep %q: must be "newest" or "oldest"`, keep)
	case keep != "" && most == 0:
		return limits, fmt.Errorf("keep %q says which sessions stay, but sessions-per-identity is not set", keep)
	}
	return limits, nil
}

// policy returns the limits that the settings have.
func (s sessionSettings) policy() (session.Policy, error) {
	limits, err := newLimits(s.MaxSession, s.MaxIdle, s.SessionsPerIdentity, s.Keep)
	if err != nil {
		return session.Policy{}, hook.Usagef("%w", err)
	}
	if slices.Contains(s.Except, "") {
		return session.Policy{}, hook.Usagef("except has an empty identity")
	}
	return session.Policy{Limits: limits, Except: s.Except, Of: s.Limit.of}, nil
}

// checkSessionSettings returns an error for a setting that can never work.
func (s sessionSettings) checkSessionSettings() error {
	switch {
	case s.Page != "" && (!filepath.IsAbs(s.Page) || strings.HasSuffix(s.Page, "/")):
		return hook.Usagef("page %q: must be the absolute path of a file, such as /var/www/html/clients.html", s.Page)
	case len(s.OnEvent) > 0 && !filepath.IsAbs(s.OnEvent[0]):
		return hook.Usagef("on-event %q: must be the absolute path of a program, such as /etc/tunnelcast/notify",
			s.OnEvent[0])
	case s.EventTimeout <= 0:
		return hook.Usagef("event-timeout %s: must be positive", s.EventTimeout)
	}
	return nil
}

// used reports whether a setting needs the sessions to be followed.
func (s sessionSettings) used(policy session.Policy, metrics string) bool {
	return policy.Any() || s.Page != "" || len(s.OnEvent) > 0 || metrics != ""
}

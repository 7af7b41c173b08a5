package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// settings are the flags that are also keys of updown.toml.
type settings struct {
	hook.Common

	Server       string        `help:"Send updates to this DNS server, HOST or HOST:PORT." default:"127.0.0.1:53"`
	Zone         string        `help:"The zone in which clients get names." default:"example"`
	ReverseZones []string      `help:"Zones for the clients' PTRs, such as 0.0.10.in-addr.arpa." placeholder:"ZONE"`
	TTL          seconds       `name:"ttl" help:"The TTL of clients' names, in seconds or as 5m." default:"60"`
	Timeout      time.Duration `help:"The longest that one call delays charon, over all tries." default:"1s"`

	Key string `help:"Sign with the TSIG key in this file; none: do not sign." default:"/run/named/session.key"`

	Pools       []string `help:"The gateway's pools, such as 10.0.0.0/24 (default: charon's)." placeholder:"POOL"`
	Connections []string `help:"Connections whose clients get names (default: those with updown)." placeholder:"NAME"`
	Reserved    []string `help:"Names that no client gets, besides ns, wpad, isatap and localhost." placeholder:"LABEL"`
	Mend        bool     `help:"Replace characters that a name cannot have by hyphens."`

	Names        nameTable `kong:"-" toml:"names"`
	LinkSections linkTable `kong:"-" toml:"link"`

	sessionSettings

	Vici       string `help:"charon's VICI socket." default:"/run/charon.vici" placeholder:"SOCKET"`
	Unit       string `help:"charon's systemd unit." default:"strongswan.service"`
	RunDir     string `hidden:"" default:"/run/tunnelcast"`
	StateDir   string `hidden:"" default:"/var/lib/tunnelcast"`
	SwanctlDir string `hidden:"" default:"/etc/swanctl"`
}

// hookCLI is the command line in a call by charon. It has no commands, because kong,
// if it is needed, makes its whole model before it reads the first argument.
type hookCLI struct {
	settings
	Args []string `arg:"" optional:"" passthrough:""` // ignored, such as iptables
}

// cli is the command line in a call by a person or a unit.
type cli struct {
	settings

	Hook struct {
		Args []string `arg:"" optional:"" passthrough:"" help:"Ignored."`
	} `cmd:"" default:"withargs" hidden:""`
	Sync syncFlags `cmd:"" help:"Make the zones hold exactly the live clients."`
	List struct {
		Format string `help:"table, json or html." enum:"table,json,html" default:"table"`
	} `cmd:"" help:"Print who is connected, under which name, since when and from where."`
	Check  struct{}   `cmd:"" help:"Check whether this host is ready."`
	Events struct{}   `cmd:"" hidden:"" help:"Make the calls of on-event that wait; for tunnelcast-events.service."`
	Links  linksFlags `cmd:"" help:"Make routes, rules and names follow network links."`
}

type syncFlags struct {
	DryRun bool `help:"Print what would be changed, as dig prints an update, and change nothing."`
	Force  bool `help:"Also remove names inside the pools that this gateway did not add and no client has."`

	TestEvent bool `help:"Only call the program of on-event once, for an event that is made up, and print its output."`
}

// seconds is a TTL. A number without a unit is in seconds, as in a zone file.
type seconds time.Duration

func (s *seconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if n, numErr := strconv.ParseUint(string(text), 10, 31); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < time.Second || d > 7*24*time.Hour || d%time.Second != 0 {
		return fmt.Errorf("%q is not a TTL between 1 second and a week", text)
	}
	*s = seconds(d)
	return nil
}

// nameTable is the table [names]: the labels of certain identities.
type nameTable struct{ lease.Names }

// UnmarshalTOML implements hook.Table.
func (n *nameTable) UnmarshalTOML(value any) error {
	table, ok := value.(map[string]any)
	if !ok {
		return errors.New(`names must be a table: [names] and below it lines such as "first.last@corp" = "flast"`)
	}
	labels := make(map[string]string, len(table))
	for identity, value := range table {
		if labels[identity], ok = value.(string); !ok {
			return fmt.Errorf("names: %q: the name must be in quotes, and so must be an identity with a dot", identity)
		}
	}
	names, err := lease.ParseNames(labels)
	if err != nil {
		return fmt.Errorf("names: %w", err)
	}
	n.Names = names
	return nil
}

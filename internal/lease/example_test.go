package lease_test

import (
	"fmt"
	"net/netip"

	"tunnelcast/internal/lease"
)

// An identity becomes one DNS label, or has no name.
func ExampleRules_Name() {
	rules := lease.Rules{Zone: "example."}
	for _, identity := range []string{
		"alice",
		"alice@example.org",
		`DOM\Alice`,
		"C=CH, O=x, CN=alice",
		"*.evil",
		"wpad",
	} {
		name, err := rules.Name(identity)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s: %s\n", identity, name)
	}
	// Output:
	// alice: alice.example.
	// alice@example.org: alice.example.
	// DOM\Alice: alice.example.
	// C=CH, O=x, CN=alice: alice.example.
	// identity "*.evil": "*.evil" is not one DNS label ([names] in updown.toml gives an identity its name, mend = true)
	// identity "wpad": the name wpad is reserved
}

// sync compares the live clients with the zone. alice has just connected, bob has left,
// and printer is not this gateway's.
func ExampleRules_Plan() {
	pools, _ := lease.ParsePools([]string{"10.0.0.100-10.0.0.200"})
	alice := lease.Address("alice.example.", netip.MustParseAddr("10.0.0.100"))
	bob := lease.Address("bob.example.", netip.MustParseAddr("10.0.0.101"))
	printer := lease.Address("printer.example.", netip.MustParseAddr("10.0.0.150"))

	rules := lease.Rules{Zone: "example.", Pools: pools, Known: map[lease.RR]bool{bob: true}}
	live := []lease.Lease{{Identity: "alice@example.org", Addresses: []netip.Addr{alice.Addr}}}
	changes, _ := rules.Plan(live, map[string][]lease.RR{"example.": {bob, printer}}, nil)
	for _, change := range changes {
		for _, rr := range change.Remove {
			fmt.Println("remove", rr.Owner, rr.Type, rr.Addr)
		}
		for _, rr := range change.Add {
			fmt.Println("add", rr.Owner, rr.Type, rr.Addr)
		}
		for _, owner := range change.Seen {
			fmt.Println("only if", owner.Name, "is in use:", owner.InUse)
		}
	}
	// Output:
	// remove bob.example. A 10.0.0.101
	// add alice.example. A 10.0.0.100
	// only if alice.example. is in use: false
}

package main

import "tunnelcast/internal/hook"

// The kinds of entries in the journal; packaging/catalog explains each.
var (
	runFailed = hook.Event("fd704ba6d28d4897ba7527bc8c945ad9")
)

// failures are the causes that the catalogue tells apart.
var failures = hook.Failures{
	{Event: runFailed},
}

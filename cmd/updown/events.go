package main

import "tunnelcast/internal/hook"

// The kinds of entries in the journal; packaging/catalog explains each.
var (
	runFailed = hook.Event("71028d73a6414a3b901bd286dfcbfb01")
)

// failures are the causes that the catalogue tells apart.
var failures = hook.Failures{
	{Event: runFailed},
}

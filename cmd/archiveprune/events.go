package main

import "tunnelcast/internal/hook"

// The kinds of entries in the journal; packaging/catalog explains each.
var (
	runFailed = hook.Event("e94b3249ea724c33a29342ab2387e202")
)

// failures are the causes that the catalogue tells apart.
var failures = hook.Failures{
	{Event: runFailed},
}

package main

import (
	"errors"
	"log/slog"
	"syscall"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
)

// The kinds of entries in the journal; packaging/catalog explains each.
var (
	nameAdded      = hook.Event("2f1a926f08aa421ba9c67a70e2bea515")
	nameRemoved    = hook.Event("b3c60487da63434abfd2c9723ff01832")
	outsidePools   = hook.Event("be07a39c370542cfbc9c6e04d90d9cc4")
	pointerAdded   = hook.Event("1206a33bacd748c39c16ca65b9071da0")
	pointerRemoved = hook.Event("293886afc9704eea9f3b3c0ea0019edf")
	namesKept      = hook.Event("51b3455e21074d5ca3d9e0e3e92516dd")
	nameRefused    = hook.Event("1844ead3291c4e0cba4225ae5b9dd744")
	poolsUnknown   = hook.Event("46644bd5eab947958b0d015dbe2fe672")
	ttlChanged     = hook.Event("08ffb57dee8f4b50b839cbb63d4a01be")
	notRegistered  = hook.Event("18361165ece14701a9e3fe5b5fc77815")
	noPTR          = hook.Event("b3812277dcb143178bb28e8e8f2ef0aa")

	sessionEnded  = hook.Event("45223c3229334922ae0eb84b90a7f651")
	eventsDropped = hook.Event("144b210724244d4e917da4c0ec7c6016")
	eventTold     = hook.Event("37cfa6605097478799e8884152288ded")
	programOutput = hook.Event("f34774039758452785491d5b625ac074")
	programFailed = hook.Event("9c5ed12ef8894475b5cc3d77263f28e0")

	identityRefused = hook.Event("d95daa26a8014fadbc251c97246b4a1a")
	nameHeld        = hook.Event("83229d3162fa4c48879680d154c46c77")
	noPool          = hook.Event("1aabf4989c46473bbd0746465b1643a0")
	keyUnreadable   = hook.Event("fef43ef93cb54e9eacc4cd3bcb9097c3")
	keyRejected     = hook.Event("47e8ed287b2d4ab8943fcb9dbe049e27")
	clocksApart     = hook.Event("7fd3d752107c491ea7a5de8a164caf1f")
	updateRefused   = hook.Event("16a72b26d50443c699d1f4aa4ea6cb99")
	notPrimary      = hook.Event("ac14944f9a124e9c82020ebb2e2055b7")
	serverDown      = hook.Event("6e23cf1d533842b0ac7a4fcf4c866f14")
	noReply         = hook.Event("bab7e31269ee4531a75997be8937dbf9")
	badReply        = hook.Event("5a3051c1d4fe4757b9059ca0cb3160b4")
	noEvidence      = hook.Event("2d9eb59b9bc8479094301c5375232ef7")
	linkRouted      = hook.Event("1181655aa8304a7d839004136c492b99")
	linkUnrouted    = hook.Event("68fc311f5332403ea50f1558376826c1")
	linkNamed       = hook.Event("7b7d4047ecfa4812a1b2f62014b6eff7")
	linkFailed      = hook.Event("c5784cd7304c4ae188adbf8694d781a4")
	runFailed       = hook.Event("71028d73a6414a3b901bd286dfcbfb01")
)

// withDNSEvent attaches to an error of the DNS server the event that the catalogue
// has for its cause. It is called wherever such an error enters this program.
func withDNSEvent(err error) error {
	for _, known := range []struct {
		cause error
		event slog.Attr
	}{
		{ddns.ErrBadKey, keyRejected},
		{ddns.ErrBadSig, keyRejected},
		{ddns.ErrBadTime, clocksApart},
		{ddns.ErrRefused, updateRefused},
		{ddns.ErrNotAuth, notPrimary},
		{ddns.ErrNoZone, notPrimary},
		{ddns.ErrNotReady, notPrimary},
		{ddns.ErrBadReply, badReply},
		{ddns.ErrNoReply, noReply},
		{syscall.ECONNREFUSED, serverDown},
	} {
		if errors.Is(err, known.cause) {
			return hook.With(err, known.event)
		}
	}
	return err
}

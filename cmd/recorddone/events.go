//go:build cgo

package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"syscall"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/recording"
	"tunnelcast/internal/remux"
)

// The kinds of journal entries. packaging/catalog explains each.
var (
	recordingPublished = hook.Event("0a8bdaaa77034b13afb37f0a4dcef8c0")
	nothingHere        = hook.Event("9197439ab1d44f0e88e189f04d7557f4")
	leftAlone          = hook.Event("997eee628c9d4effa2680f47a671abd5")
	endedInPacket      = hook.Event("49b7d3878be442d5a6f4e89eefe3ee2d")
	emptyStay          = hook.Event("1e31abd555d84b6f9586910ad98c4312")
	leftoverRemoved    = hook.Event("d5ee152a0bc940be94da1e95051bf474")
	lostFoundSkipped   = hook.Event("e51cb37ff0bc4f8aa762674c488a5c66")
	leftoverStays      = hook.Event("c12f4eb64fc84b20b81b1ee13d754841")
	ordinaryPriority   = hook.Event("50c8ad12685f445db9eabfab2d67e024")
	noJobLocks         = hook.Event("fff29a81ee1148199d1672d1ede15448")
	fileSystemLacks    = hook.Event("a49ca98b02e04b2bbfa9dd82a3b4a7a6")
	extraArguments     = hook.Event("e1260deeb6164115964d0633637ed5b4")
	noSandbox          = hook.Event("b11495f1f0084cf782e5f5c143e9be9a")

	publishedTold    = hook.Event("459b29bd8b934ac894f950726891f27f")
	publishedOutput  = hook.Event("4f50b9ee0bcf4c36a2c1738198ce3390")
	publishedFailed  = hook.Event("64b831b88f8d4589a5574f89003be36f")
	publishedRefused = hook.Event("33827b71ebf245debfe67a19a9798051")

	notFLV           = hook.Event("1b6b216fb123431ca0d83b2e9eb3d19c")
	noMedia          = hook.Event("d05ab072064d459eb58f4cbef43523b5")
	wrongCodec       = hook.Event("5d093078178d4b3faf700172aae5fd13")
	recordingDamaged = hook.Event("cd10d7b106724c9fb4537b044991e80e")
	notAll           = hook.Event("5c3f1e0b9a4d4f0e8d2b7a6c91e3f508")
	unsupported      = hook.Event("e7b04d2a6f3c4c19b85d0e9f1a72c36d")
	diskFull         = hook.Event("d9bf4ee2ea1e46e09f72d4f38458b9a9")
	notAllowed       = hook.Event("455a9d25000840eebfb1d83221eda749")
	notFound         = hook.Event("be6eb467208a4d51ac92c0ccb701b971")
	someStay         = hook.Event("779dce49f0f04fafa50ced62ee32a317")
	runFailed        = hook.Event("be1a1365646142a0aad8e27b8b6422ec")
)

// withEvent attaches to an error the event that the catalog has for its cause, unless it has one.
func withEvent(err error) error {
	var codec *recording.CodecError
	if errors.As(err, &codec) {
		if codec.Unsupported {
			return hook.With(err, unsupported)
		}
		return hook.With(err, wrongCodec)
	}
	for _, known := range []struct {
		cause error
		event any
	}{
		{recording.ErrNotFLV, notFLV},
		{recording.ErrNoMedia, noMedia},
		{remux.ErrDiskFull, diskFull},
		{syscall.ENOSPC, diskFull},
		{fs.ErrPermission, notAllowed},
		{fs.ErrNotExist, notFound},
	} {
		if errors.Is(err, known.cause) {
			return hook.With(err, known.event)
		}
	}
	return err
}

// warn logs an error with a file or directory that does not end the run.
func (w *worker) warn(message, path string, err error) {
	event := runFailed
	for _, attr := range hook.Attrs(withEvent(err)) {
		if attr, ok := attr.(slog.Attr); ok {
			event = attr // the last one is that of the innermost error
		}
	}
	w.env.Log.Warn(message, event, "path", path, "error", err)
}

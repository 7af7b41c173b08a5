package main

import "tunnelcast/internal/hook"

// The kinds of journal entries. packaging/catalog explains each.
var (
	archivePruned = hook.Event("0f3bd23759864761868b56f0b9779656")
	noLimit       = hook.Event("0c66b359a31f410b9b14abef6512123c")
	fromTheFuture = hook.Event("f51bb6b8de8f44ba889c38405ad77798")
	notRemoved    = hook.Event("756b9716e2c24de3a188b6e3d78f0ae3")
	nothingHere   = hook.Event("a5d55cae5e4e4bb282f992e4dde16afa")
	noSandbox     = hook.Event("77d7738088eb4f4a8d441f3d035fca66")
	firstRun      = hook.Event("7b89181714af48268bc22c72e91817f8")
	onlyLooked    = hook.Event("0d946ee7b17e487cb8d43d7603cfa240")
	notLogged     = hook.Event("1789a19595cf43b3901250c42f4a456b")

	recordingRemoved  = hook.Event("57cf6f7fb5e4432fb291d27eb17358d1")
	recordingsRemoved = hook.Event("1343c4dfd966499fa5a3144ffa28a403")
	wouldBeRemoved    = hook.Event("66a415cb86a14ace8867b583ca03d781")
	wouldBeRemovedToo = hook.Event("5268aa1f02bf4f29be78c5075d6672f9")
	directoryRemoved  = hook.Event("e796d8443cc44fd4916106ee2f21ee67")
	noLeases          = hook.Event("12eab9c30f0949ae8ee53e24493ff1ff")

	tooManyOld      = hook.Event("96389ee5926945898174dbdea0750f03")
	archiveReadOnly = hook.Event("dfecf0d7db1749d2b438d593c4c9cb66")
	archiveNotOpen  = hook.Event("3698ab0170a74f45afce6ebfefccf840")
	limitHopeless   = hook.Event("e9901a4e331341cfb554dcd11dc8fa05")
	limitNotMet     = hook.Event("34f8d13779384738b6978c9e581fb228")
	nothingFreed    = hook.Event("986d5c4c802248ad8e7292aa491f9d80")
	interrupted     = hook.Event("595625485648410285e73015bab2ca55")
	someNotRemoved  = hook.Event("87f327ccbbf8481699d89631d9b0a30f")
	runFailed       = hook.Event("e94b3249ea724c33a29342ab2387e202")
)

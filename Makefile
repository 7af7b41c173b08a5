# tunnelcast. `make` alone lists the targets.

VERSION ?= 0.1.0

# The target architecture. `make deb` without ARCH= builds for both where that is
# possible: on amd64, Debian's cross compiler builds the programs for arm64.
NATIVE := $(if $(filter aarch64,$(shell uname -m)),arm64,amd64)
DEBS   := $(if $(ARCH),$(ARCH),$(if $(filter arm64,$(NATIVE)),arm64,amd64 arm64))
ARCH   ?= $(NATIVE)

# The date of all files in the package, the same in every build of a commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

# Debian 12 has no Go that is new enough; packaging/setup.sh fetches one.
GO := $(shell packaging/setup.sh --go)
export PATH := $(dir $(GO)):$(PATH)

BIN       := bin$(if $(filter-out $(NATIVE),$(ARCH)),/linux_$(ARCH))
DEB       := bin/tunnelcast_$(VERSION)_$(ARCH).deb
LDFLAGS   := -s -w -buildid= -X tunnelcast/internal/hook.version=$(VERSION)
BUILD     := GOOS=linux GOARCH=$(ARCH) $(GO) build -trimpath -buildvcs=false
STATIC    := -tags osusergo,netgo -ldflags '$(LDFLAGS) -linkmode external -extldflags "-static -Wl,--gc-sections"'

ifneq ($(NATIVE),arm64)
CROSS_arm64 := CC=aarch64-linux-gnu-gcc
endif

# Reports every 15 s that a command is still running: $(call alive,WHAT) COMMAND.
alive = packaging/alive.sh "$(1)"

# The environment for the packages that need libav. The flags name the prefix, because
# Go's build cache compares the flags, but not the output of pkg-config.
LIBAV = P=$$(packaging/libav/build.sh $(ARCH)) && export CGO_ENABLED=1 $(CROSS_$(ARCH)) \
	CGO_CFLAGS="-O2 -g0 -I$$P/include" CGO_LDFLAGS="-L$$P/lib" PKG_CONFIG_PATH="$$P/lib/pkgconfig"

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4

.PHONY: help root amd64 terminal setup build test test-vm lint bench bench-docs screenshots demo box package deb clean
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

# Checked before minutes of building, not after them.
root:
	@[ "$$(id -u)" = 0 ] || { \
		echo "this must be run as root: it boots a server with its own mounts and networks" >&2; exit 1; }

amd64:
	@[ $(NATIVE) = amd64 ] || { \
		echo "make test-vm is for amd64: its virtual machine boots Debian's kernel for that" >&2; exit 1; }

terminal:
	@[ -t 0 ] && [ -t 1 ] || { \
		echo "make box opens a shell: it needs a terminal as standard input and output" >&2; exit 1; }

setup:
	@packaging/setup.sh $(ARCH)

build: setup ## build the four static binaries in bin/
	@mkdir -p $(BIN)
	@for c in updown archiveprune certhook; do \
		CGO_ENABLED=0 $(call alive,building $$c for $(ARCH)) \
			env $(BUILD) -ldflags '$(LDFLAGS)' -o $(BIN)/$$c ./cmd/$$c || exit; done
	@$(LIBAV) && $(call alive,building recorddone for $(ARCH)) \
		env $(BUILD) $(STATIC) -o $(BIN)/recorddone ./cmd/recorddone

package: build
	@packaging/build-deb.sh $(VERSION) $(ARCH)

deb: ## build the packages in bin/, for amd64 and arm64, or for ARCH=...
	@for a in $(DEBS); do $(MAKE) --no-print-directory package ARCH=$$a || exit; done

# With TUNNELCAST_E2E=1, a missing prerequisite fails a test instead of skipping it.
# Remuxes are compared with those of FFmpeg's own program, built from the same source.
PROMISED = FFMPEG=$$(packaging/libav/build.sh --with-ffmpeg) && \
	export TUNNELCAST_E2E=1 TUNNELCAST_LIBAV_FFMPEG=$$FFMPEG/bin/ffmpeg TUNNELCAST_DEB=$(CURDIR)/$(DEB)

# The tests that also run on Debian 13, besides those of the package.
STORY := TestGuide$$|TestNames$$|TestHomeServer|TestUnits|TestRecording|TestPrune|TestRenewal|TestBadInput

# arm64 tests under qemu-user. Emulated code cannot re-execute itself, so tests that
# restart in a mount namespace are skipped.
EMULATED := $(addprefix ./internal/,archive charon ddns file flv h264 hook inuse lease lineage links publish \
	recording retention rotation rundir session swanctl vici)
RESTART := TestDirectoriesThatCannotBeRead TestFailing TestIdentifyClosed TestLacking TestOverlay TestQuirks \
	TestRemovableForesees TestReplaceSyncs TestSettled TestTryLease TestWalkStaysOnItsMount \
	TestWalkWithoutTypes TestWithoutLeases
space := $(subst ,, )

test: root deb ## run all tests, also those in the box: 23 minutes the first time, then 15
	@$(LIBAV) && $(PROMISED) && $(call alive,testing) $(GO) test -timeout 60m ./...
	@$(LIBAV) && $(PROMISED) TUNNELCAST_SUITE=trixie && $(call alive,testing on Debian 13) \
		$(GO) test -timeout 30m ./internal/e2e -run '$(STORY)'
ifeq ($(NATIVE),amd64)
	@export CGO_ENABLED=0 GOARCH=arm64 && $(PROMISED) && \
		$(call alive,testing arm64) $(GO) test -exec qemu-aarch64-static $(EMULATED) \
			-skip '^($(subst $(space),|,$(strip $(RESTART))))$$' && \
		$(call alive,testing arm64) $(GO) test -exec qemu-aarch64-static ./cmd/updown \
			-run 'TestBind(OrdinaryConnect|SaysWhatIsWrong)|TestSameMessage'
endif

# The tests in a virtual machine are a target of their own, which .ci/run calls after make test. They need qemu, which
# nobody else needs, they run on amd64 only, and without KVM they keep two cores busy: beside the box's tests, which
# measure times, both would fail. The short part takes less than ten minutes; TUNNELCAST_LONG=1 adds the rest, on both
# releases.
INVM = CGO_ENABLED=0 TUNNELCAST_E2E=1 TUNNELCAST_VM=1 TUNNELCAST_DEB=$(CURDIR)/$(DEB)
test-vm: root amd64 package ## run the tests that need a kernel of their own, in a virtual machine: 10 minutes
	@packaging/setup.sh vm
	@$(INVM) $(call alive,testing in a virtual machine) $(GO) test -timeout 120m ./internal/e2e -run '^TestMachine'
ifneq ($(TUNNELCAST_LONG),)
	@$(INVM) TUNNELCAST_SUITE=trixie $(call alive,testing in a virtual machine with Debian 13) \
		$(GO) test -timeout 120m ./internal/e2e -run '^TestMachine'
endif

lint: setup ## check with gofmt, line length, vet, staticcheck, govulncheck
	@packaging/long-lines.sh
	@test -z "$$(gofmt -l .)" || { gofmt -l . | sed 's/$$/: not gofmt'"'"'ed/'; exit 1; }
	@CGO_ENABLED=0 $(call alive,go vet) $(GO) vet ./...
	@$(LIBAV) && $(call alive,go vet) $(GO) vet ./... && $(call alive,staticcheck) $(GO) run $(STATICCHECK) ./...
	@$(LIBAV) && exec 3>&2 && \
		out=$$($(call alive,govulncheck) sh -c '"$$@" 2>&1' sh $(GO) run $(GOVULNCHECK) ./... 2>&3) || case "$$out" in \
		*"fetching vulnerabilities"*) echo "govulncheck: cannot reach its database, nothing was checked" ;; \
		*) echo "$$out"; exit 1 ;; esac

bench: root package ## measure the programs beside what they replace: half an hour
	@$(call alive,measuring) $(GO) run ./internal/e2e/bench -deb $(DEB) $(BENCH)

bench-docs: ## write the numbers and charts of bin/bench.json to the pages in docs
	@CGO_ENABLED=0 $(GO) run ./internal/e2e/bench -document bin/bench.json

screenshots: root package ## make the pictures in docs of what a viewer sees
	@packaging/setup.sh pictures
	@$(GO) run ./internal/e2e/screenshots -deb $(DEB) -out docs

demo: root package ## show the programs at work on the guide's server: 10 minutes the first time, then 1
	@$(GO) run ./internal/e2e/demo -deb $(DEB)

box: root terminal package ## open a shell on that server, with the package installed and a client connected
	@$(GO) run ./internal/e2e/demo -shell -deb $(DEB)

clean: ## remove bin/; the cache in ~/.cache/tunnelcast stays
	@rm -rf bin

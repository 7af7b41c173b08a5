#!/bin/sh
# Installs the Debian packages that building, testing and the demo need, and names them. It installs only what is
# missing, and no daemon: those of the tests are in a tree of their own.
#
#   packaging/setup.sh [ARCH]   as root; for other users, it prints the command. ARCH is the target, amd64 or arm64
#   packaging/setup.sh vm       also what the tests in a virtual machine need
#   packaging/setup.sh pictures also what make screenshots needs
#   packaging/setup.sh --go     prints the path of the go command to use; the call above may have to fetch it first
#
# Any Go that go.mod accepts is used. Otherwise Debian's Go, from backports if the release's own is too old, fetches the
# toolchain that go.mod names.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

# The oldest Go that can fetch another toolchain.
fetcher=1.21

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# find_go VERSION prints the first go command of at least that version.
find_go() {
	for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
		[ -x "$go" ] || continue
		version=$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null) || continue
		if at_least "$1" "${version#go}"; then
			echo "$go"
			return
		fi
	done
	return 1
}

required=$(sed -n 's/^go //p' go.mod)
toolchain=$(sed -n 's/^toolchain //p' go.mod)
if any=$(find_go 1.15); then
	modules=$(GOTOOLCHAIN=local "$any" env GOMODCACHE)
else
	modules=${GOMODCACHE:-${GOPATH:-${HOME:?is not set}/go}/pkg/mod}
fi
fetched=$modules/golang.org/toolchain@v0.0.1-$toolchain.linux-$(dpkg --print-architecture)/bin/go

case ${1-} in
--go)
	find_go "$required" || echo "$fetched"
	exit
	;;
"" | amd64 | arm64 | vm | pictures) ;;
*) die "unknown argument $1: --go, amd64, arm64, vm or pictures" ;;
esac

missing=
need() { # COMMAND-OR-FILE PACKAGE
	case $1 in
	/*) [ -e "$1" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac || missing="$missing $2"
}
need /etc/ssl/certs/ca-certificates.crt ca-certificates
need gcc gcc
need /usr/include/stdlib.h libc6-dev
[ "${1-}" != arm64 ] || [ "$(uname -m)" = aarch64 ] || {
	need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
	need /usr/aarch64-linux-gnu/include/stdlib.h libc6-dev-arm64-cross
	need qemu-aarch64-static qemu-user-static
}
need git git
need pkg-config pkg-config
need dpkg-source dpkg-dev
need xz xz-utils
need lintian lintian
need debootstrap debootstrap
need systemd-nspawn systemd-container
need ip iproute2
need ping iputils-ping
need mkfs.ext4 e2fsprogs
need ffmpeg ffmpeg
need nsupdate bind9-dnsutils
need logger bsdutils
need /etc/ppp/ip-up ppp
need promtool prometheus
need journalctl systemd
need /usr/share/i18n/locales/ja_JP locales
need chromium chromium
need curl curl
need rsync rsync
[ "${1-}" != pictures ] || {
	need pngquant pngquant
	need /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf fonts-dejavu-core
	need /usr/share/fonts/truetype/vlgothic/VL-Gothic-Regular.ttf fonts-vlgothic
}
[ "${1-}" != vm ] || {
	need qemu-system-x86_64 qemu-system-x86
	need qemu-img qemu-utils
	need mkfs.btrfs btrfs-progs
}

go_is=there
if [ ! -x "$fetched" ] && ! find_go "$required" >/dev/null; then
	go_is=fetchable
	find_go $fetcher >/dev/null || go_is=missing
fi

if [ -n "$missing" ] || [ $go_is = missing ]; then
	[ "$(id -u)" = 0 ] ||
		die "missing:$missing$([ $go_is = there ] || echo " go"). As root: $PWD/packaging/setup.sh ${1-}"
	export DEBIAN_FRONTEND=noninteractive
	tmp=$(mktemp -d)
	policy=
	trap 'rm -rf "$tmp" $policy' EXIT
	trap 'exit 130' INT TERM
	# If a package comes with a daemon, it must not be started here.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		policy=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
	fi
	# quietly WHAT COMMAND... prints the command's output only if it fails.
	quietly() {
		what=$1
		shift
		packaging/alive.sh "setup: $what" sh -c '"$@" >"$0" 2>&1' "$tmp/log" "$@" || {
			tail -n 20 "$tmp/log" >&2
			die "$what: failed: $*"
		}
	}

	say "installing$missing$([ $go_is = there ] || echo " go")"
	quietly "lists of packages" apt-get -q update
	[ -z "$missing" ] || quietly "installing packages" apt-get -qy --no-install-recommends install $missing
	if [ $go_is = missing ]; then
		candidate=$(apt-cache policy golang-go | sed -n 's/.*Candidate: *\([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p')
		if at_least $fetcher "${candidate:-0}"; then
			quietly "installing go" apt-get -qy --no-install-recommends install golang-go
		else
			# Backports from this machine's mirror, for this one command; apt's own sources are not changed.
			suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
			mirror=$(apt-get update --print-uris | sed -n "s|^'\([^']*\)/dists/$suite/InRelease'.*|\1|p" | head -n 1)
			[ -n "$mirror" ] ||
				die "no Go $required or newer, and no mirror of $suite in apt's sources to fetch one from: install Go"
			mkdir "$tmp/parts" "$tmp/lists"
			cp -L /etc/apt/sources.list.d/* "$tmp/parts" 2>/dev/null || true
			echo "deb $mirror $suite-backports main" >"$tmp/parts/backports.list"
			with_backports() {
				command=$1
				shift
				quietly "$command of $suite-backports" apt-get -q -o Dir::Etc::SourceParts="$tmp/parts" \
					-o Dir::State::Lists="$tmp/lists" "$command" "$@"
			}
			with_backports update
			with_backports install -y --no-install-recommends -t "$suite-backports" golang-go
		fi
		go_is=fetchable
	fi
fi

if [ $go_is = fetchable ]; then
	say "fetching $toolchain"
	# Outside of the module, the go command looks for no toolchain. Debian's Go sets GOTOOLCHAIN to local.
	GOTOOLCHAIN=$toolchain packaging/alive.sh "setup: fetching $toolchain" "$(find_go $fetcher)" version >/dev/null ||
		die "$toolchain, which go.mod requires, could not be fetched"
	[ -x "$fetched" ] || die "$toolchain was fetched, but not to $fetched"
fi

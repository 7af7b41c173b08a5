#!/bin/sh
# Prints what packages would add to a bare Debian (debootstrap's minbase with systemd), without and with recommended
# packages: how many packages, their installed size in bytes, and the bytes to download.
#
#   packaging/footprint.sh bookworm|trixie PACKAGE...
#
# The bare system is that of the box, which `make test` leaves in the cache. This installs nothing and leaves apt alone.
set -eu
export LC_ALL=C
suite=${1:?which release}
shift
cache=${TUNNELCAST_CACHE:-${HOME:?is not set and neither is TUNNELCAST_CACHE}/.cache/tunnelcast}
for tree in "$cache/box/$suite-bare-"*/; do [ ! -e "$tree/var/lib/dpkg/status" ] || break; done
[ -e "$tree/var/lib/dpkg/status" ] || { echo "footprint: no bare $suite in $cache; make test builds it" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
of_tree() { # COMMAND ARG...: runs apt as if in the tree
	command=$1
	shift
	"$command" -o Dir::Etc::SourceList="$tree/etc/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Trusted=/usr/share/keyrings/debian-archive-keyring.gpg \
		-o Dir::State::Status="$tree/var/lib/dpkg/status" -o Dir::State::Lists="$work/lists" \
		-o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
}
of_tree apt-get -qq update
for recommends in false true; do
	of_tree apt-get -s -o APT::Install-Recommends=$recommends install "$@" |
		sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1=\2/p' >"$work/names"
	# Installed-Size is in KiB.
	of_tree apt-cache show $(cat "$work/names") | awk -v recommends=$recommends '
		/^Package: / { packages++ } /^Installed-Size: / { installed += $2 * 1024 } /^Size: / { size += $2 }
		END {
			printf "recommends=%s packages=%d installed=%.0f download=%.0f\n", recommends, packages, installed, size
		}'
done

#!/bin/sh
# Builds DIR/tunnelcast_VERSION_ARCH.deb from the binaries that `make build` left in
# bin. DIR is bin by default.
#
#   packaging/build-deb.sh VERSION [amd64|arm64 [DIR]]
#
# SOURCE_DATE_EPOCH is the date of all files in the package. Two builds of the same
# binaries at the same date have the same bytes.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."

# Newer versions need modules that are not available everywhere. nfpm stays out of
# go.mod, to which it would add 67 modules.
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

native=$(dpkg --print-architecture)
export VERSION="${1:?which version}" ARCH="${2:-$native}"
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
BIN=bin
[ "$ARCH" = "$native" ] || BIN=bin/linux_$ARCH
OUT=${3:-bin}
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
trap 'exit 130' INT TERM

# The maintainer scripts name the units that can be enabled, the timers and paths
# among them, and all units.
enabled=
started=
all=
for unit in packaging/systemd/tunnelcast-*.*; do
	name=${unit##*/}
	[ -f "$unit" ] || continue
	all="$all $name"
	grep -q '^\[Install\]' "$unit" || continue
	enabled="$enabled $name"
	case $name in *.timer | *.path) started="$started $name" ;; esac
done
for script in postinst prerm postrm; do
	sed "s/@UNITS@/${enabled# }/; s/@STARTED@/${started# }/; s/@ALL@/${all# }/" packaging/deb/$script >"$STAGE/$script"
	chmod 755 "$STAGE/$script"
done

for section in 7 8; do
	mkdir -p "$STAGE/man/man$section" "$STAGE/man/ja/man$section"
	for page in packaging/man/*.$section packaging/man/ja/*.$section; do
		to=${page#packaging/man/} # NAME or ja/NAME
		gzip -9n <"$page" >"$STAGE/man/${to%"${to##*/}"}man$section/${to##*/}.gz"
	done
done

# The package has all pages in one directory, so links lose their folders. CONTRIBUTING.md is for people who have the
# source: its name remains, without a link.
mkdir "$STAGE/doc"
for page in README.md README.ja.md SECURITY.md SECURITY.ja.md docs/*.md; do
	sed 's|](docs/|](|g; s|](\.\./|](|g; s|\[\([^]]*\)\](CONTRIBUTING\.md)|\1|g' "$page" >"$STAGE/doc/${page##*/}"
done

env -u GOOS -u GOARCH CGO_ENABLED=0 go run ./packaging/copyright "$BIN" >"$STAGE/copyright"

# The Debian sources of the C libraries inside tunnelcast-recorddone. The copyright file
# lists the Go modules, which do not come from Debian.
built_using=
add_source() { # NAME VERSION
	[ -z "$2" ] || built_using="$built_using${built_using:+, }$1 (= $2)"
}
if [ -z "${LIBAV_SOURCE:-}" ]; then
	for dsc in "${TUNNELCAST_CACHE:-$HOME/.cache/tunnelcast}"/libav/source/ffmpeg_*.dsc; do
		[ ! -e "$dsc" ] || add_source ffmpeg "$(sed -n 's/^Version: //p' "$dsc")"
	done
fi
libc=libc6-dev
[ "$ARCH" = "$native" ] || libc=libc6-dev-$ARCH-cross
# The version of a cross compiler's package contains that of its source.
add_source glibc "$(dpkg-query -W -f '${Version}' $libc 2>/dev/null | sed 's/cross[0-9]*$//')"

{
	echo "tunnelcast ($VERSION) stable; urgency=medium"
	echo
	# The first section of CHANGELOG.md that has entries. The lines of an entry are joined and folded anew.
	awk '
		function entry() { if (text != "") { print "  * " text; n++ }; text = "" }
		/^## / { entry(); if (n) exit; here = 1; next }
		!here { next }
		/^- / { entry(); text = substr($0, 3); next }
		/^ +[^ ]/ && text != "" { sub(/^ +/, ""); text = text " " $0; next }
		{ entry() }
		END { entry() }' CHANGELOG.md | tr -d '`' | fold -s -w 76 | sed 's/^\([^ ]\)/    \1/; s/ *$//'
	echo
	echo " -- tunnelcast authors <authors@tunnelcast.example>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$STAGE/changelog.gz"

deb=tunnelcast_${VERSION}_$ARCH.deb
# nfpm reads most of its settings from the environment, but not these.
sed "s|\${STAGE}|$STAGE|; s|\${BIN}|$BIN|; s|\${BUILT_USING}|$built_using|" nfpm.yaml >"$STAGE/nfpm.yaml"
env -u GOOS -u GOARCH \
	go run "$nfpm" package --config "$STAGE/nfpm.yaml" --packager deb --target "$STAGE/$deb" >"$STAGE/log" || {
	cat "$STAGE/log" >&2
	exit 1
}
mkdir -p "$OUT"
mv "$STAGE/$deb" "$OUT/"

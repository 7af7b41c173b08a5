#!/bin/sh
# Builds the few parts of FFmpeg 7.1's libraries that recorddone links, as static
# libraries, and prints their prefix (the directory of the installation) on standard
# output.
#
#   packaging/libav/build.sh [--with-ffmpeg] [amd64|arm64]
#
# The default architecture is this machine's. --with-ffmpeg also builds FFmpeg's own
# program from the same source, as bin/ffmpeg in a prefix of its own. recorddone's
# tests compare with its output. It has the H.264 decoder, which recorddone does not
# need.
#
#   LIBAV_SOURCE=DIR      build this FFmpeg 7.1 source tree instead of Debian's
#   CROSS=PREFIX          the cross compiler's prefix, as in aarch64-linux-gnu-
#   TUNNELCAST_CACHE=DIR  the default is ~/.cache/tunnelcast
#
# Without LIBAV_SOURCE, the source is the ffmpeg source package of Debian trixie.
# apt-get fetches it from this machine's mirror, with lists and caches of its own: it
# does not change apt's state and needs no root. Sources and builds are kept; delete
# DIR/libav to start anew. A build is kept only after probe.c was linked against it
# and has run, in an emulator if it is for another processor.
#
# FFmpeg's configure and make see nothing else of the caller's environment: make
# passes the variables of its command line to every make below it, and our ARCH
# would replace FFmpeg's.
#
# go-astiav v0.39 compiles with FFmpeg 7.1 only.
set -eu
export LC_ALL=C

decoders=hevc,aac,mp3
[ "${1:-}" != --with-ffmpeg ] || decoders=h264,$decoders
components="--disable-everything --disable-autodetect --disable-programs --disable-doc
--disable-network --disable-x86asm --disable-debug
--enable-static --disable-shared --enable-small
--enable-protocol=file --enable-demuxer=flv,mov --enable-muxer=mp4
--enable-parser=h264,hevc,aac,mpegaudio --enable-decoder=$decoders
--enable-bsf=aac_adtstoasc,h264_mp4toannexb,hevc_mp4toannexb,extract_extradata"
# With sections, the linker can drop what recorddone does not call.
cflags='-ffunction-sections -fdata-sections'
# libav contains its configure line as a string. A placeholder as the prefix keeps
# the builder's home out of the binary; pkg-config's ${pcfiledir} then leads to the
# real prefix.
placeholder=/libav

probe=$(cd "$(dirname "$0")" && pwd)/probe.c

say() { echo "libav: $*" >&2; }
die() { say "$@"; exit 1; }

ffmpeg=
if [ "${1:-}" = --with-ffmpeg ]; then
	ffmpeg=ffmpeg
	components=$(echo $components | sed 's/--disable-programs/--disable-ffplay --disable-ffprobe/')
	shift
fi
case $(uname -m) in
aarch64) native=arm64 ;;
*) native=amd64 ;;
esac
arch=${1:-$native}
case $arch in
amd64) cpu=x86_64 ;;
arm64) cpu=aarch64 ;;
*) die "unknown architecture '$arch': amd64 or arm64" ;;
esac
# With AVX, which no C code here uses, libavutil/mem.c aligns its allocations to 64
# bytes. For recordings with very many packets, the C library's search for such
# memory took a third of the time.
[ "$arch$ffmpeg" != amd64 ] || components="$components --disable-avx"
cross= emulator=
[ "$arch" = "$native" ] || emulator=qemu-$cpu-static
if [ "$(uname -m)" != "$cpu" ] || [ -n "${CROSS:-}" ]; then
	cross=${CROSS:-$cpu-linux-gnu-}
	components="$components --enable-cross-compile --target-os=linux --arch=$cpu --cross-prefix=$cross"
fi

root=${TUNNELCAST_CACHE:-${HOME:?is not set and neither is TUNNELCAST_CACHE}/.cache/tunnelcast}/libav
case $root in /*) ;; *) root=$PWD/$root ;; esac

# A hash of the recipe is part of the prefix. Somebody's own source tree may change
# without a new version, so the sizes and times of its files belong to the recipe.
recipe() {
	echo $components "$cflags"
	cat "$probe"
	[ -z "${LIBAV_SOURCE:-}" ] ||
		(cd "$LIBAV_SOURCE" && find . -name .git -prune -o -type f -printf '%p %s %T@\n' | sort)
}
if [ -n "${LIBAV_SOURCE:-}" ]; then
	[ -r "$LIBAV_SOURCE/RELEASE" ] || die "LIBAV_SOURCE=$LIBAV_SOURCE: not an FFmpeg source tree (it has no RELEASE)"
	[ ! -e "$LIBAV_SOURCE/config.h" ] ||
		die "LIBAV_SOURCE=$LIBAV_SOURCE: was configured in place, run 'make distclean' there first"
	LIBAV_SOURCE=$(cd "$LIBAV_SOURCE" && pwd)
fi
suffix=$(recipe | sha256sum | cut -c1-12)-$arch

built() { # prints the newest prefix built from this recipe
	ls -d "$root"/7.1*-"$suffix" 2>/dev/null | sort -V | tail -n 1 | grep .
}
if built; then exit 0; fi

missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need "${cross}gcc" "$([ -z "$cross" ] && echo gcc || echo "gcc-$cpu-linux-gnu" | tr _ -)"
need make make
need pkg-config pkg-config
[ -z "$emulator" ] || need "$emulator" qemu-user-static
need flock util-linux
if [ -z "${LIBAV_SOURCE:-}" ]; then
	need apt-get apt
	need dpkg-source dpkg-dev
	need xz xz-utils
fi
[ -z "$missing" ] || die "not installed:$missing"

# One builder at a time; the others find its result. The directories below were left
# by runs that were killed.
mkdir -p "$root"
exec 9>"$root/lock"
flock -n 9 || { say "another build is running, waiting for it"; flock 9; }
if built; then exit 0; fi
rm -rf "$root"/.build.*
work=$(mktemp -d "$root/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
pid=
# Background commands of a shell ignore an interrupt from the terminal.
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; exit 1' HUP INT TERM
log=$root/build-$arch.log
: >"$log"

# run reports that the step is still running and, if it fails, prints the end of its output.
run() {
	step=$1
	shift
	say "$step"
	"$@" >>"$log" 2>&1 9>&- &
	pid=$!
	began=$(date +%s) ticks=0
	while kill -0 $pid 2>/dev/null; do
		sleep 1
		ticks=$((ticks + 1))
		[ $((ticks % 15)) -ne 0 ] || say "$step: $(($(date +%s) - began)) s, $(grep -c '^CC' "$log") files compiled"
	done
	status=0
	wait $pid || status=$?
	pid=
	if [ $status -ne 0 ]; then
		tail -n 15 "$log" >&2
		die "$step: failed (the whole output is in $log)"
	fi
}

# sources writes deb-src entries for trixie with the mirrors and keys that this
# machine uses for its own Debian release.
sources() {
	codenames='^(stable|oldstable|testing|bookworm|trixie|forky)(-security)?$'
	if [ -r /etc/apt/sources.list.d/debian.sources ]; then
		awk -v codenames="$codenames" '
		function flush(   n, i, suite, suites, wanted) {
			if (("" field["types"]) ~ /(^|[ \n])deb([ \n]|$)/ &&
			    field["components"] ~ /(^|[ \n])main([ \n]|$)/ && field["enabled"] !~ /no/) {
				n = split(field["suites"], suite)
				for (i = 1; i <= n; i++)
					if (suite[i] ~ codenames) {
						wanted = suite[i] ~ /-security$/ ? "trixie-security" : "trixie"
						if (index(suites " ", " " wanted " ") == 0) suites = suites " " wanted
					}
				if (suites != "") {
					print "Types: deb-src\nURIs:" field["uris"] "\nSuites:" suites "\nComponents: main"
					if (field["signed-by"] != "") print "Signed-By:" field["signed-by"]
					print ""
				}
			}
			split("", field)
		}
		/^#/ { next }
		/^[ \t]*$/ { flush(); next }
		/^[ \t]/ { field[name] = field[name] "\n" $0; next }
		{ at = index($0, ":"); name = tolower(substr($0, 1, at - 1)); field[name] = substr($0, at + 1) }
		END { flush() }' /etc/apt/sources.list.d/debian.sources >"$1/debian.sources"
		[ ! -s "$1/debian.sources" ] || return 0
		rm "$1/debian.sources"
	fi
	[ -r /etc/apt/sources.list ] || return 0
	awk -v codenames="$codenames" '
		$1 == "deb" {
			options = ""
			line = $0
			if (match(line, /\[[^]]*\]/)) {
				options = substr(line, RSTART, RLENGTH)
				gsub(/arch=[^] ]*/, "", options)
				sub(/\[[^]]*\]/, "", line)
			}
			split(line, word)
			if (word[3] ~ codenames && !seen[word[2], word[3] ~ /-security$/]++)
				print "deb-src", options, word[2], word[3] ~ /-security$/ ? "trixie-security" : "trixie", "main"
		}' /etc/apt/sources.list >"$1/debian.list"
}

# fetch leaves Debian's source package, as it was signed, in $root/source.
fetch() {
	mkdir -p "$work/apt/parts" "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/package"
	sources "$work/apt/parts"
	[ -s "$work/apt/parts/debian.sources" ] || [ -s "$work/apt/parts/debian.list" ] ||
		die "apt names no Debian mirror to fetch FFmpeg's source from: set LIBAV_SOURCE to an FFmpeg 7.1 source tree"
	set -- -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/apt/parts" \
		-o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" \
		-o Acquire::Languages=none -o Acquire::Retries=3
	# If root runs apt, it fetches as a user who may not enter this directory.
	[ "$(id -u)" -ne 0 ] || set -- "$@" -o APT::Sandbox::User=root
	run "fetching Debian's list of sources" apt-get "$@" update
	cd "$work/package"
	run "fetching the source of FFmpeg" apt-get "$@" source --download-only ffmpeg
	cd "$root"
	rm -rf "$root/source"
	mv "$work/package" "$root/source"
}

if [ -n "${LIBAV_SOURCE:-}" ]; then
	tree=$LIBAV_SOURCE ceiling=
else
	ls "$root"/source/*.dsc >/dev/null 2>&1 || fetch
	tree=$work/source
	run "unpacking" dpkg-source --no-check -x "$root"/source/*.dsc "$tree"
	# FFmpeg asks git for its version, and git may find a repository around the cache.
	ceiling=$work
fi
version=$(cat "$tree/RELEASE")
case $version in
7.1 | 7.1.*) ;;
*) die "FFmpeg $version in $tree: it must be 7.1, the only one that go-astiav v0.39 compiles with" ;;
esac
prefix=$root/$version-$suffix

# Called as src/configure, FFmpeg compiles with relative paths, so that assertions do
# not put this directory's name into the libraries.
mkdir "$work/objects"
cd "$work/objects"
ln -s "$tree" src
# Call plain only in a subshell: exec makes the command the process that run stops.
plain() {
	exec env -i PATH="$PATH" HOME="$work" TMPDIR="$work" LC_ALL=C \
		${ceiling:+GIT_CEILING_DIRECTORIES="$ceiling"} "$@"
}
run "configuring FFmpeg $version for $arch" \
	plain src/configure --prefix=$placeholder $components --extra-cflags="$cflags"
run "compiling FFmpeg $version for $arch" plain make -j"$(nproc)"
run "installing" plain make DESTDIR="$work/installed" install-libs install-headers ${ffmpeg:+install-progs}
sed -i "s|$placeholder|\${pcfiledir}/../..|" "$work/installed$placeholder"/lib/pkgconfig/*.pc

# Linked like recorddone: static, without unused sections.
flags=$(plain PKG_CONFIG_LIBDIR="$work/installed$placeholder/lib/pkgconfig" \
	pkg-config --static --cflags --libs libavformat libavcodec libavutil)
run "linking a probe" plain "${cross}gcc" -static -Wl,--gc-sections -o "$work/probe" "$probe" $flags
run "running the probe" plain $emulator "$work/probe" "$work/probe.mp4" $(echo $decoders | tr , ' ')
[ -z "$ffmpeg" ] || run "running ffmpeg" plain "$work/installed$placeholder/bin/ffmpeg" -version
mv "$work/installed$placeholder" "$prefix"
say "built $prefix"
echo "$prefix"

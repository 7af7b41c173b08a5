#!/bin/sh
# Prints each line of more than 120 columns, a tab counting as 4, in the code, scripts and texts that git tracks.
# The exit status is 1 if there is one.
#
#   packaging/long-lines.sh [FILE...]
#
# These may be longer, because nobody can fold them: a row of a table and a line of a fenced block in Markdown, a line
# with a URL, and test data. packaging/deb/copyright is generated.
set -eu
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- '*.go' '*.sh' '*.md' '*.toml' '*.yaml' '*.yml' '*.service' '*.timer' '*.path' \
	Makefile .ci/run packaging/deb packaging/examples packaging/completion.bash
git ls-files -- "$@" | grep -vE '/testdata/|^packaging/deb/copyright$' | {
	status=0
	while read -r file; do
		[ -f "$file" ] || continue
		text=$(expand -t 4 <"$file")
		case $file in *.md)
			text=$(printf '%s\n' "$text" | awk '/^ *```/ { block = !block } block || /^ *\|/ { $0 = "" } 1')
			;;
		esac
		long=$(printf '%s\n' "$text" | grep -nE '^.{121}' | grep -vE 'https?://') || continue
		printf '%s\n' "$long" | sed "s|^\([0-9]*\):.*|$file:\1: more than 120 columns|"
		status=1
	done
	exit $status
}

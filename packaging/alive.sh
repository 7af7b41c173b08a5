#!/bin/sh
# Runs a command and says every 15 s, on standard error, that it is still running: some steps take minutes without a line.
#
#   packaging/alive.sh WHAT COMMAND [ARGUMENT...]
#
# The exit status is the command's.
set -u
what=$1
shift
began=$(date +%s)
# sleep outlives a kill of the loop. It must not hold a pipe open that somebody reads to its end.
while sleep 15 >/dev/null 2>&1; do echo "$what: $(($(date +%s) - began)) s" >&2; done &
loop=$!
trap 'kill $loop 2>/dev/null' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$@"

#!/bin/sh
# Runs a command and reports on standard error every 15 s that it is running. Some steps print nothing for minutes.
#
#   packaging/alive.sh WHAT COMMAND [ARGUMENT...]
#
# The exit status is the command's.
set -u
what=$1
shift
began=$(date +%s)
# When the loop is killed, its sleep lives on. It must not keep a pipe open that somebody reads to the end.
while sleep 15 >/dev/null 2>&1; do echo "$what: $(($(date +%s) - began)) s" >&2; done &
loop=$!
trap 'kill $loop 2>/dev/null' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
"$@"

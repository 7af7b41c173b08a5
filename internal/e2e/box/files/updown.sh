#!/bin/sh
# The guide's script, which tunnelcast replaces.
case "$PLUTO_VERB" in
up-client)
	logger -t updown.sh "$PLUTO_VERB $PLUTO_XAUTH_ID $PLUTO_PEER_SOURCEIP"
	printf 'server 127.0.0.1\nzone example\nupdate delete %s.example. A\nupdate add %s.example. 3600 A %s\nsend\n' \
		"$PLUTO_XAUTH_ID" "$PLUTO_XAUTH_ID" "$PLUTO_PEER_SOURCEIP" | nsupdate
	;;
down-client)
	logger -t updown.sh "$PLUTO_VERB $PLUTO_XAUTH_ID $PLUTO_PEER_SOURCEIP"
	printf 'server 127.0.0.1\nzone example\nupdate delete %s.example. A\nsend\n' "$PLUTO_XAUTH_ID" | nsupdate
	;;
esac

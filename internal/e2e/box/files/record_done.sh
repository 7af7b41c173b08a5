#!/bin/sh
# The guide's script, which tunnelcast replaces. nginx starts it without an environment.
/usr/bin/logger -t record_done.sh "$2"
/usr/bin/ffmpeg -y -i "$1" -c copy "$4/$3.mp4" && /bin/rm -f "$1"

package retention

import (
	"regexp"
	"strings"
)

// stamp is what nginx-rtmp puts behind a stream's name, the seconds of
// record_unique or a date written with record_suffix, and the number that
// recorddone puts behind that.
var stamp = regexp.MustCompile(`[-_.]?(\d{10}|\d{4}-?\d\d-?\d\d([-_T.]?\d\d[-:.]?\d\d([-:.]?\d\d)?)?)(-\d{1,3})?$`)

// Stream returns the stream that a recording at path belongs to: the path
// without extension and time. The FLV and the MP4 of one recording are of the
// same stream.
func Stream(path string) string {
	if dot := strings.LastIndexByte(path, '.'); dot > strings.LastIndexByte(path, '/') {
		path = path[:dot]
	}
	return path[:len(path)-len(stamp.FindString(path))]
}

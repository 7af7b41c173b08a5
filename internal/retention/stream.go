package retention

import (
	"regexp"
	"strings"
	"sync"
)

// Streams numbers the streams that recordings belong to. The zero Streams is ready for use.
type Streams struct {
	numbers map[string]uint32
	shapes  map[string][]span // the parts of a path of this shape that name the stream
}

// span is a part of a path, in bytes.
type span struct{ from, to int }

// Number returns the number of the stream that a recording belongs to. path is inside the archive.
func (s *Streams) Number(path string) uint32 {
	name := s.name(path)
	number, ok := s.numbers[name]
	if !ok {
		if s.numbers == nil {
			s.numbers = make(map[string]uint32)
		}
		number = uint32(len(s.numbers))
		s.numbers[name] = number
	}
	return number
}

// Len returns how many streams there are.
func (s *Streams) Len() int { return len(s.numbers) }

// name returns the name of the stream: the path without its extension and without dates and times, in the
// file's name or in directories. The FLV and the MP4 of one recording belong to the same stream.
func (s *Streams) name(path string) string {
	if dot := strings.LastIndexByte(path, '.'); dot > strings.LastIndexByte(path, '/') {
		path = path[:dot]
	}
	// A regular expression takes microseconds, but a million names have few shapes.
	var buffer [256]byte
	shape := appendShape(buffer[:0], path)
	keep, ok := s.shapes[string(shape)]
	if !ok {
		const most = 10_000
		if s.shapes == nil || len(s.shapes) == most {
			s.shapes = make(map[string][]span)
		}
		keep = withoutTimes(string(shape))
		s.shapes[string(shape)] = keep
	}
	if len(keep) == 1 {
		return path[keep[0].from:keep[0].to]
	}
	var name strings.Builder
	for _, part := range keep {
		name.WriteString(path[part.from:part.to])
	}
	return name.String()
}

// appendShape appends path in lower case, with 0 in place of every digit except a 1 or 2 that begins a
// number, because a year and the seconds since 1970 begin so.
func appendShape(shape []byte, path string) []byte {
	number := false
	for _, c := range []byte(path) {
		digit := c >= '0' && c <= '9'
		switch {
		case digit && (number || c > '2'):
			c = '0'
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		shape = append(shape, c)
		number = digit
	}
	return shape
}

// The times that are recognized are those of strftime(3) with the usual formats (nginx-rtmp's own example
// is record_suffix -%d-%b-%y-%T.flv), and the seconds of record_unique and %s. nginx uses the C locale.
const (
	sep   = `[-_.,: +@]`
	month = `(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|` +
		`aug(?:ust)?|sep(?:tember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)`
	weekday = `(?:(?:mon|tue(?:s)?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?)`
	year    = `[12]\d{3}`
	zone    = `(?:z|utc|gmt|wes?t|ces?t|ees?t|[ib]st|msk|[jk]st|[ecmp][sd]t|a[ce]?[sd]t|[-+]\d\d:?\d\d)`
	clock   = `(?:\d\d` + sep + `\d\d(?:` + sep + `\d\d(?:[.,]\d{3,6})?)?|\d{4}|\d{6}|` +
		`\d\dh(?:\d\d(?:m(?:in)?)?(?:\d\ds?)?)?)` +
		`(?:` + sep + `?[ap]m)?(?:` + sep + `?` + zone + `)?`
	date = `(?:` + year + sep + `\d\d` + sep + `\d\d|\d\d` + sep + `\d\d` + sep + year + `|` +
		`\d{8}|` + year + sep + `\d{3}|` +
		`\d\d?` + sep + `?` + month + sep + `?(?:` + year + `|\d\d)|` + year + sep + `?` + month + sep + `?\d\d|` +
		month + sep + `?\d\d?` + sep + `{1,2}(?:` + year + `|\d\d))`
	between = `[-_.,: +@t]{1,3}`
	dated   = `(?:` + weekday + sep + `{0,2})?` + date + `(?:` + sep + `?` + weekday + `)?`
	stamp   = `(?:1\d{9}(?:\d{3})?|[12]\d{11}(?:\d\d)?|` +
		dated + `(?:` + between + `(?:` + clock + `|\d\d))?|` + clock + between + dated + `)`
	pairs = `\d\d` + sep + `\d\d` + sep + `\d\d` // a date or a time
	// any matches at the end and the beginning of a name, where times are likelier than in the middle.
	any = `(?:` + stamp + `|` + pairs + `(?:` + between + `(?:` + pairs + `|\d{6}|\d\d:\d\d))?|\d\d:\d\d(?::\d\d)?)`
	// again is the number that recorddone appends to a name that exists.
	again = `(?:-\d{1,3})?`
	// before matches everything before a time. If it ends with a number, a separator follows.
	before = `^(?:(|.*?)` + sep + `|(|.*?\D))`
)

// Compiling all of these takes 3 ms, and a run by age alone needs none.
var (
	atEnd    = lazily(before + any + again + `$`)
	atStart  = lazily(`^` + any + sep + `?(\D.*)$`)
	inMiddle = lazily(before + stamp + `(` + sep + `.*)$`)
	whole    = lazily(`^` + any + `$`)
	aYear    = lazily(`^` + year + `$`)
	// inDated and endDated match times below a directory with a date.
	inDated  = lazily(`^(?:\d\d|` + month + `|\d\d` + sep + `\d\d)$`)
	endDated = lazily(before + clock + again + `$`)
)

func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// withoutTimes returns the parts of a path of this shape that are not times.
func withoutTimes(shape string) (keep []span) {
	inDate := false
	for at := 0; ; {
		slash := strings.IndexByte(shape[at:], '/')
		if slash < 0 {
			return append(keep, named(shape, at, len(shape), inDate)...)
		}
		directory, next := shape[at:at+slash], at+slash+1
		switch {
		case whole().MatchString(directory), inDate && inDated().MatchString(directory),
			aYear().MatchString(directory) && beginsDated(shape[next:]):
			inDate = true
		default:
			parts := named(shape, at, at+slash, inDate)
			inDate = inDate || len(parts) != 1 || parts[0].to != at+slash || parts[0].from != at
			keep = append(append(keep, parts...), span{next - 1, next})
		}
		at = next
	}
}

// beginsDated reports whether the rest of a path, after a year, begins with a directory of a month or day.
func beginsDated(rest string) bool {
	directory, _, ok := strings.Cut(rest, "/")
	return ok && inDated().MatchString(directory)
}

// named returns the parts of shape[from:to], which is one name, that are not times. It keeps a second time
// if nothing else would be left, because the name of a stream may be a number.
func named(shape string, from, to int, inDate bool) []span {
	keep := []span{{from, to}}
	for first := true; ; first = false {
		var text string
		for _, part := range keep {
			text += shape[part.from:part.to]
		}
		var cut span // of text
		if m := atEnd().FindStringSubmatchIndex(text); m != nil {
			cut = span{max(m[3], m[5]), len(text)}
		} else if m := atStart().FindStringSubmatchIndex(text); m != nil {
			cut = span{0, m[2]}
		} else if m := inMiddle().FindStringSubmatchIndex(text); m != nil {
			cut = span{max(m[3], m[5]), m[6]}
		} else if m := endDated().FindStringSubmatchIndex(text); inDate && first && m != nil {
			cut = span{max(m[3], m[5]), len(text)}
		} else if inDate && first && inDated().MatchString(text) {
			cut = span{0, len(text)}
		}
		if cut.to == 0 || !first && cut.to-cut.from == len(text) {
			return keep
		}
		keep = without(keep, cut)
	}
}

// without returns the parts without cut. The offsets of cut are those in the parts joined together.
func without(parts []span, cut span) (left []span) {
	at := 0
	for _, part := range parts {
		length := part.to - part.from
		if before := min(part.to, part.from+max(cut.from-at, 0)); before > part.from {
			left = append(left, span{part.from, before})
		}
		if after := max(part.from, part.from+max(cut.to-at, 0)); after < part.to {
			left = append(left, span{after, part.to})
		}
		at += length
	}
	return left
}

package retention

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// off switches a limit off, and so does 0. An empty text does not: more often it is a variable that was
// not set.
const off = "off"

// Age is a duration as Go writes it, or with days: 72h, 3d, 1d12h. 0 is no limit.
type Age time.Duration

// UnmarshalText reads an age. A negative one, or one of more than 292 years, is an error.
func (a *Age) UnmarshalText(text []byte) error {
	s := string(text)
	if s == off {
		*a = 0
		return nil
	}
	var days time.Duration
	rest := s
	if n, after, ok := strings.Cut(s, "d"); ok {
		d, err := strconv.ParseUint(n, 10, 63)
		if err != nil || d > math.MaxInt64/uint64(24*time.Hour) {
			return ageError(s)
		}
		days, rest = time.Duration(d)*24*time.Hour, after
	}
	var span time.Duration
	if rest != "" || s == "" {
		var err error
		if span, err = time.ParseDuration(rest); err != nil || span < 0 || strings.ContainsAny(rest, "+-") {
			return ageError(s)
		}
	}
	if days+span < days {
		return ageError(s)
	}
	*a = Age(days + span)
	return nil
}

func ageError(s string) error {
	return fmt.Errorf("%q is not a valid age: write 72h, 3d or 1d12h, or %q for no limit", s, off)
}

// String writes an age as UnmarshalText reads it, in hours below three days.
func (a Age) String() string {
	d := time.Duration(a)
	days := d / (24 * time.Hour)
	if days <= 3 {
		return shortDuration(d)
	}
	if d %= 24 * time.Hour; d == 0 {
		return fmt.Sprintf("%dd", days)
	}
	return fmt.Sprintf("%dd%s", days, shortDuration(d))
}

// shortDuration returns a duration without the zeros of time.Duration: 72h, not 72h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Bytes is a number of bytes: 100B, with powers of 1000 500M, 20G, 1.5T, with powers of 1024 20GiB. 0 is
// no limit.
type Bytes int64

// prefixes are in the order of the powers they stand for.
const prefixes = "KMGTPE"

// UnmarshalText reads a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := string(text)
	if s == off {
		*b = 0
		return nil
	}
	number := strings.TrimRight(s, "KMGTPEkmgtpeiBb ")
	unit := strings.ToUpper(strings.TrimSpace(s[len(number):]))
	if unit == "" && number != "" && strings.Trim(number, "0123456789.") == "" && strings.Trim(number, "0.") != "" {
		return fmt.Errorf("%q has no unit: write %sG, %sGiB or %sB", s, number, number, number)
	}
	base := 1000.0
	if rest, ok := strings.CutSuffix(unit, "IB"); ok {
		unit, base = rest, 1024
		if unit == "" {
			return sizeError(s)
		}
	} else {
		unit = strings.TrimSuffix(unit, "B")
	}
	factor := 1.0
	if unit != "" {
		power := strings.Index(prefixes, unit)
		if power < 0 || len(unit) != 1 {
			return sizeError(s)
		}
		factor = math.Pow(base, float64(power+1))
	}
	value, err := strconv.ParseFloat(number, 64)
	// ParseFloat accepts "Inf", "0x1p3" and "1_000" as well.
	if err != nil || strings.Trim(number, "0123456789.") != "" || value*factor >= math.MaxInt64 {
		return sizeError(s)
	}
	*b = Bytes(value * factor)
	return nil
}

func sizeError(s string) error {
	return fmt.Errorf("%q is not a valid size: write 500M, 20G or 20GiB, or %q for no limit", s, off)
}

// String writes a size with three digits and a prefix for a power of 1000.
func (b Bytes) String() string {
	value, unit := float64(b), ""
	for _, prefix := range prefixes {
		if math.Abs(value) < 999.5 {
			break
		}
		value, unit = value/1000, string(prefix)
	}
	digits := 0
	if unit != "" && value < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + " " + unit + "B"
}

// Share is a share in percent: 50%. 0 is no limit.
type Share float64

// UnmarshalText reads a share above 0% and up to 100%.
func (s *Share) UnmarshalText(text []byte) error {
	t := string(text)
	if t == off || t == "0" {
		*s = 0
		return nil
	}
	number, ok := strings.CutSuffix(t, "%")
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || strings.Trim(number, "0123456789.") != "" || value > 100 {
		return fmt.Errorf("%q is not a valid share: write 50%%, or %q for no limit", t, off)
	}
	*s = Share(value)
	return nil
}

// String writes a share as UnmarshalText reads it.
func (s Share) String() string { return strconv.FormatFloat(float64(s), 'f', -1, 64) + "%" }

// Free is how much of a disk must be free: a size, or a share of the disk.
type Free struct {
	bytes Bytes
	share Share
}

// UnmarshalText reads what Bytes or Share reads.
func (f *Free) UnmarshalText(text []byte) error {
	*f = Free{}
	if strings.HasSuffix(string(text), "%") {
		return f.share.UnmarshalText(text)
	}
	if err := f.bytes.UnmarshalText(text); err != nil {
		return fmt.Errorf("%q is neither a size nor a share: write 2G, 10%% or %q", text, off)
	}
	return nil
}

// Of returns the limit in bytes on a disk of the given size in bytes.
func (f Free) Of(size int64) int64 { return int64(f.bytes) + int64(float64(size)*float64(f.share)/100) }

// Inodes returns how many inodes must be free: the same share as of the bytes. Without a free inode nobody
// can record, however many bytes are free.
func (f Free) Inodes(disk Disk) int64 {
	share := float64(f.share) / 100
	if f.bytes > 0 && disk.Size > 0 {
		share = float64(f.bytes) / float64(disk.Size)
	}
	return int64(share * float64(disk.Inodes))
}

func (f Free) zero() bool { return f == Free{} }

// String writes the limit as UnmarshalText reads it.
func (f Free) String() string {
	if f.share != 0 {
		return f.share.String()
	}
	return f.bytes.String()
}

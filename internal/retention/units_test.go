package retention

import (
	"encoding"
	"testing"
	"time"
)

func TestLimitsAreRead(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"72h": 72 * time.Hour, "3d": 3 * day, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute,
		"1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "0": 0, "0s": 0, "off": 0, "0d": 0,
		"106751d": 106751 * day,
	} {
		var age Age
		if err := age.UnmarshalText([]byte(text)); err != nil || time.Duration(age) != want {
			t.Errorf("age %q: %v, %v; want %v", text, time.Duration(age), err, want)
		}
	}
	for text, want := range map[string]Bytes{
		"0": 0, "off": 0, "0.0": 0, "1B": 1, "500M": 500e6, "20G": 20e9, "20GB": 20e9,
		"1.5T": 1.5e12, "2K": 2e3, "2k": 2e3, "20GiB": 20 << 30,
		"1KiB": 1024, "3 MiB": 3 << 20, "12B": 12, "1P": 1e15, "2E": 2e18,
	} {
		var size Bytes
		if err := size.UnmarshalText([]byte(text)); err != nil || size != want {
			t.Errorf("size %q: %d, %v; want %d", text, size, err, want)
		}
	}
	const disk = 30e9
	for text, want := range map[string]int64{
		"2G": 2e9, "10%": 3e9, "0.5%": 150e6, "100%": disk, "0": 0, "off": 0, "1GiB": 1 << 30,
	} {
		var free Free
		if err := free.UnmarshalText([]byte(text)); err != nil || free.Of(disk) != want {
			t.Errorf("free %q: %d, %v; want %d", text, free.Of(disk), err, want)
		}
	}
}

func TestLimitsThatMakeNoSense(t *testing.T) {
	for what, test := range map[string]struct {
		into  encoding.TextUnmarshaler
		texts []string
	}{
		"age": {new(Age), []string{
			"", " ", "72", "-72h", "-1d", "1d-1h", "d", "3 d", "3d ", "1.5d", "3D", "forever", "106752d",
			"106751d24h", "99999999999999999999d", "1h1d", "+3h",
		}},
		"size": {new(Bytes), []string{
			"", "G", "-1", "-1G", "1X", "1KM", "1iB", "1i", "1Ki", "1GBB", "1e3", "0x10", "1_000", "Inf", "NaN",
			"9E9", "10E", "1,5G", "1..5G", "+1", "1", "20", "1000000", "0.5", "20 ",
		}},
		"free":  {new(Free), []string{"", "%", "10", "101%", "-1%", "10 %", "1G%", "x", "Inf%", "NaN%", "1e1%"}},
		"share": {new(Share), []string{"", "%", "50", "0.5", "101%", "-1%"}},
	} {
		for _, text := range test.texts {
			if err := test.into.UnmarshalText([]byte(text)); err == nil {
				t.Errorf("%s %q was read as %v", what, text, test.into)
			}
		}
	}
}

func TestLimitsAreWritten(t *testing.T) {
	for want, got := range map[string]string{
		"72h":    Age(72 * time.Hour).String(),
		"4d":     Age(96 * time.Hour).String(),
		"4d1h":   Age(97 * time.Hour).String(),
		"1h30m":  Age(90 * time.Minute).String(),
		"0 B":    Bytes(0).String(),
		"999 B":  Bytes(999).String(),
		"1.0 KB": Bytes(1000).String(),
		"1.2 GB": Bytes(1234567890).String(),
		"12 GB":  Bytes(12345678901).String(),
		"10%":    Free{share: 10}.String(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

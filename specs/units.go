package specs

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// sizeUnits are the accepted units, smallest first.
var sizeUnits = [...]struct {
	name  string
	bytes int64
}{
	{"b", 1}, {"kb", 1e3}, {"kib", 1 << 10}, {"mb", 1e6}, {"mib", 1 << 20},
	{"gb", 1e9}, {"gib", 1 << 30}, {"tb", 1e12}, {"tib", 1 << 40},
}

// parseSize reads "10GiB", "1.5GB" or a whole number of bytes.
func parseSize(s string) (int64, error) {
	m := sizeRE.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, errors.New("it is not a number with a unit")
	}
	unit := int64(1)
	if m[3] != "" {
		unit = 0
		for _, u := range sizeUnits {
			if strings.EqualFold(m[3], u.name) {
				unit = u.bytes
			}
		}
		if unit == 0 {
			return 0, fmt.Errorf("the unit %q is not known; use KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024)", m[3])
		}
	}
	r, ok := new(big.Rat).SetString(m[1] + m[2])
	if !ok {
		return 0, errors.New("it is not a number with a unit")
	}
	r.Mul(r, new(big.Rat).SetInt64(unit))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, errors.New("it is not a whole number of bytes below 8 EiB")
	}
	return r.Num().Int64(), nil
}

// formatSize is the shortest exact form of a size.
func formatSize(n int64) string {
	for i := len(sizeUnits) - 1; i > 0; i-- {
		u := sizeUnits[i]
		if strings.HasSuffix(u.name, "ib") && n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d%siB", n/u.bytes, strings.ToUpper(u.name[:1]))
		}
	}
	return fmt.Sprintf("%dB", n)
}

// parseDuration reads "30d", "12h", "1w2d" and the like, units in falling order.
func parseDuration(s string) (time.Duration, error) {
	m := durationRE.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil || m[0] == "" {
		return 0, errors.New("not a duration")
	}
	units := [...]time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second}
	var d time.Duration
	for i, u := range units {
		if m[i+1] != "" {
			n, err := strconv.ParseInt(m[i+1], 10, 64)
			if err != nil || time.Duration(n) > (1<<62)/u {
				return 0, errors.New("too long")
			}
			d += time.Duration(n) * u
			if d < 0 {
				return 0, errors.New("too long")
			}
		}
	}
	return d, nil
}

// The schema counts durations in minutes.
const (
	hour = 60
	day  = 24 * hour
)

// duration reads a kindDuration.
func (a *attrSchema) duration(s string) (any, *flaw) {
	d, err := parseDuration(s)
	if a.ZeroIs != "" && (strings.TrimSpace(s) == "0" || err == nil && d == 0) {
		return time.Duration(0), nil
	}
	if err != nil {
		return nil, a.flaw(codeBadDuration, s, "is not a duration", `Write it like "30d", "12h" or "1d12h".`)
	}
	if d < time.Duration(a.Min)*time.Minute || d > time.Duration(a.Max)*time.Minute {
		return nil, a.flaw(codeBadDuration, s, "is outside the limits", fmt.Sprintf("From %s to %s is allowed.", formatMinutes(a.Min), formatMinutes(a.Max)))
	}
	return d, nil
}

func formatMinutes(m int64) string {
	switch {
	case m%day == 0:
		return fmt.Sprintf("%dd", m/day)
	case m%hour == 0:
		return fmt.Sprintf("%dh", m/hour)
	}
	return fmt.Sprintf("%dm", m)
}

// formatDuration writes a duration in the spec's units; what is below a minute is dropped.
func formatDuration(d time.Duration) string { return formatMinutes(int64(d / time.Minute)) }

// parseBandwidth gives Mbit/s.
func parseBandwidth(s string) (int64, error) {
	m := bandRE.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, errors.New("not a bandwidth")
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if strings.HasPrefix(strings.ToLower(m[2]), "g") {
		n *= 1000
	}
	return n, err
}

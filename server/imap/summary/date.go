package summary

import (
	"strings"
	"time"

	"mailform/server/imap/mimetree"
)

// ParseDate reads a Date field: that of RFC 5322 with its obsolete forms, and what
// else programs write. It returns the zero time when there is no date to be found.
func ParseDate(v string) time.Time {
	for _, layout := range []string{"Mon, 2 Jan 2006 15:04:05 -0700", "2 Jan 2006 15:04:05 -0700"} { // mostly
		if t, err := time.Parse(layout, v); err == nil {
			return t
		}
	}
	d := dateParts{day: -1, month: -1, year: -1}
	v = strings.ReplaceAll(mimetree.WithoutComments(v[:min(len(v), maxDate)]), ",", " ")
	for i, field := range strings.Fields(strings.ToLower(v)) {
		if i == 0 && isWeekday(field) {
			continue
		}
		d.take(field)
	}
	return d.time()
}

// maxDate is how much of a field is looked at, in octets.
const maxDate = 200

// dateParts is what was found of a date; -1: not yet.
type dateParts struct {
	day, month, year    int
	hour, minute, sec   int
	clock, zoned, wrong bool
	offset              int // of the zone, seconds east
}

const months = "janfebmaraprmayjunjulaugsepoctnovdec"

func isWeekday(s string) bool {
	return len(s) >= 3 && s[0] >= 'a' && s[0] <= 'z' && strings.Contains("mon tue wed thu fri sat sun", s[:3]) && !strings.ContainsAny(s, "0123456789")
}

// monthOf returns the month of a name, also of one that is written out; 0: none.
func monthOf(s string) int {
	if len(s) < 3 {
		return 0
	}
	if i := strings.Index(months, s[:3]); i >= 0 && i%3 == 0 && (len(s) == 3 || s == "sept" || s == "sept." || s == months[i:i+3]+"." ||
		s == strings.ToLower(time.Month(i/3+1).String())) {
		return i/3 + 1
	}
	return 0
}

// digits returns the number that s is; ok is false when it is none or has more
// than four digits.
func digits(s string) (n int, ok bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, s != "" && len(s) <= 4
}

// take reads one field.
func (d *dateParts) take(s string) {
	if date, clock, ok := strings.Cut(s, "t"); ok && len(date) == len("2006-01-02") && date[4] == '-' { // RFC 3339
		d.take(date)
		s = clock
	}
	n, isNumber := digits(s)
	switch {
	case s == "":
	case isNumber && d.day < 0 && len(s) <= 2:
		d.day = n
	case isNumber && d.year < 0:
		d.setYear(s, n)
	case !d.clock && s[0] >= '0' && s[0] <= '9' && (strings.Contains(s, ":") || strings.Count(s, ".") == 2):
		d.takeClock(s)
	case monthOf(s) > 0 && d.month < 0:
		d.month = monthOf(s)
	case d.year < 0 && d.day < 0 && s[0] >= '0' && s[0] <= '9' && strings.ContainsAny(s, "-/"):
		d.takeDate(s)
	case (s == "am" || s == "pm") && d.clock && d.hour <= 12:
		d.hour = d.hour%12 + map[string]int{"pm": 12}[s]
	case !d.zoned && d.clock:
		d.takeZone(s)
	}
}

// setYear takes a year; those of fewer than four digits are RFC 5322 4.3's.
func (d *dateParts) setYear(s string, n int) {
	switch {
	case len(s) == 3, len(s) == 2 && n >= 50:
		n += 1900
	case len(s) <= 2:
		n += 2000
	}
	d.year = n
}

// takeDate reads "22-Nov-2026", "22-Nov-26", "2026-11-22" or "2026/11/22".
func (d *dateParts) takeDate(s string) {
	f := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '/' })
	if len(f) != 3 {
		return
	}
	first, ok1 := digits(f[0])
	middle, ok2 := digits(f[1])
	last, ok3 := digits(f[2])
	switch {
	case ok1 && ok2 && ok3 && len(f[0]) == 4:
		d.year, d.month, d.day = first, middle, last
	case ok1 && ok3 && monthOf(f[1]) > 0:
		d.day, d.month = first, monthOf(f[1])
		d.setYear(f[2], last)
	}
}

// takeClock reads "8:30", "08:30:00", "08.30.00" or "08:30:00.123", with what may
// stand behind it without a space.
func (d *dateParts) takeClock(s string) {
	end := len(s)
	if i := strings.IndexAny(s, "apz+-"); i > 0 {
		end = i
	}
	f := strings.FieldsFunc(s[:end], func(r rune) bool { return r == ':' || r == '.' })
	d.clock = true
	for i, to := range []*int{&d.hour, &d.minute, &d.sec} {
		if i < len(f) {
			n, ok := digits(f[i])
			*to, d.wrong = n, d.wrong || !ok
		}
	}
	d.wrong = d.wrong || len(f) < 2
	if s = s[end:]; s != "" {
		d.take(s)
	}
}

// zoneHours are the names of RFC 5322 4.3; what has another is UTC.
var zoneHours = map[string]int{"edt": -4, "est": -5, "cdt": -5, "cst": -6, "mdt": -6, "mst": -7, "pdt": -7, "pst": -8}

// takeZone reads "+0800", "+08:00", "+8", "gmt+0800" or a name.
func (d *dateParts) takeZone(s string) {
	i := strings.IndexAny(s, "+-")
	if i < 0 {
		if hours, ok := zoneHours[s]; ok {
			d.offset, d.zoned = hours*3600, true
		}
		return
	}
	n, ok := digits(strings.Replace(s[i+1:], ":", "", 1))
	if !ok {
		return
	}
	if len(s)-i-1 <= 2 {
		n *= 100
	}
	if d.offset, d.zoned = (n/100*60+n%100)*60, true; s[i] == '-' {
		d.offset = -d.offset
	}
}

// time returns the time; the zero time when there is no such.
func (d *dateParts) time() time.Time {
	if d.wrong || d.year < 1 || d.month < 1 || d.month > 12 || d.day < 1 || d.hour > 23 || d.minute > 59 || d.sec > 60 {
		return time.Time{}
	}
	// A leap second is of its day.
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, min(d.sec, 59), 0, time.FixedZone("", d.offset))
	if t.Day() != d.day { // as of 31 February
		return time.Time{}
	}
	return t
}

package imap

import (
	"strings"
)

// The bounds on the patterns of one LIST. Clients send one or a few.
const (
	maxPatterns      = 100
	maxPatternOctets = 4096 // of those with wildcards, all together
)

// listPattern says whether names match one of some patterns, where "*" is anything and
// "%" anything on one level.
//
// Patterns without wildcards are looked up. All others are one automaton that reads a
// name once, whatever they are: its states are how much of a pattern was found, one bit
// each, so that an octet of a name costs an operation for each 64 octets of patterns.
type listPattern struct {
	names map[string]bool
	start []uint64
	final []uint64
	many  []uint64 // states where a "*" stands: every octet leads back to them
	level []uint64 // the same of "%", for all octets but the delimiter
	// next has, for each octet that patterns have, the states that it leads on from;
	// octets has their places in next, 0 for the others.
	next   [][]uint64
	octets [256]uint16

	now, then []uint64
}

// newListPattern returns the matcher of patterns, each behind ref.
func newListPattern(ref string, patterns []string) (*listPattern, error) {
	l := &listPattern{names: map[string]bool{}}
	if len(patterns) > maxPatterns {
		return nil, no("LIMIT", "There are too many patterns")
	}
	var wild []string
	total := 0
	for _, p := range patterns {
		p = tidyPattern(inboxed(ref + p))
		if !strings.ContainsAny(p, "*%") {
			l.names[p] = true
			continue
		}
		wild = append(wild, p)
		if total += len(p) + 1; total > maxPatternOctets {
			return nil, no("LIMIT", "The patterns are too long")
		}
	}
	words := (total + 63) / 64
	vector := func() []uint64 { return make([]uint64, words) }
	l.start, l.final, l.many, l.level, l.now, l.then = vector(), vector(), vector(), vector(), vector(), vector()
	l.next = [][]uint64{vector()}
	state := 0
	for _, p := range wild {
		set(l.start, state)
		for _, c := range []byte(p) {
			switch c {
			case '*':
				set(l.many, state)
			case '%':
				set(l.level, state)
			default:
				if l.octets[c] == 0 {
					l.octets[c] = uint16(len(l.next))
					l.next = append(l.next, vector())
				}
				set(l.next[l.octets[c]], state)
				state++
			}
		}
		set(l.final, state)
		state++
	}
	return l, nil
}

func set(v []uint64, i int) { v[i/64] |= 1 << (i % 64) }

// tidyPattern makes one of wildcards that follow each other.
func tidyPattern(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); {
		n := len(p[i:]) - len(strings.TrimLeft(p[i:], "*%"))
		switch {
		case n == 0:
			b.WriteByte(p[i])
			n = 1
		case strings.Contains(p[i:i+n], "*"):
			b.WriteByte('*')
		default:
			b.WriteByte('%')
		}
		i += n
	}
	return b.String()
}

// match says whether a name matches. It calls above, unless that is nil, with the length
// of each level above the name that does.
func (l *listPattern) match(name string, above func(length int)) bool {
	if above == nil && l.names[name] {
		return true
	}
	copy(l.now, l.start)
	for i := range len(name) {
		c := name[i]
		if c == delimiter && above != nil && (l.names[name[:i]] || meets(l.now, l.final)) {
			above(i)
		}
		next, carry := l.next[l.octets[c]], uint64(0)
		for w, at := range l.now {
			on, stay := at&next[w], l.many[w]
			if c != delimiter {
				stay |= l.level[w]
			}
			l.then[w] = on<<1 | carry | at&stay
			carry = on >> 63
		}
		l.now, l.then = l.then, l.now
	}
	return l.names[name] || meets(l.now, l.final)
}

func meets(a, b []uint64) bool {
	for i := range a {
		if a[i]&b[i] != 0 {
			return true
		}
	}
	return false
}

// inboxed writes INBOX as a first level in upper case: it has no case, RFC 9051 5.1.
func inboxed(name string) string {
	if len(name) >= 5 && strings.EqualFold(name[:5], "INBOX") && (len(name) == 5 || name[5] == delimiter || name[5] == '*' || name[5] == '%') {
		return "INBOX" + name[5:]
	}
	return name
}

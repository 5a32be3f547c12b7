// Package threads orders messages into threads, RFC 5256: by what they say they
// refer to, and by their subjects.
//
// It imports nothing of mailform.
package threads

import "strings"

// BaseSubject takes off a subject what replies and forwards put around it, RFC
// 5256 2.1. The subject's encoded words are decoded already. reply says that
// something was taken off that says so.
func BaseSubject(s string) (base string, reply bool) {
	s = strings.Join(strings.Fields(s), " ")
	for {
		// (2) what stands at the end.
		for {
			t := strings.TrimRight(s, " ")
			if n := len(t) - len("(fwd)"); n >= 0 && strings.EqualFold(t[n:], "(fwd)") {
				s, reply = t[:n], true
				continue
			}
			s = t
			break
		}
		// (3), (4) and (5) what stands at the front.
		for {
			s = strings.TrimLeft(s, " ")
			if rest, ok := leader(s); ok {
				s, reply = rest, true
				continue
			}
			if rest, ok := blob(s); ok && rest != "" {
				s = rest
				continue
			}
			break
		}
		// (6) a forward in brackets.
		if n := len("[fwd:"); len(s) > n && strings.EqualFold(s[:n], "[fwd:") && s[len(s)-1] == ']' {
			s, reply = s[n:len(s)-1], true
			continue
		}
		return s, reply
	}
}

// blob cuts "[...]" and the space behind it off.
func blob(s string) (rest string, ok bool) {
	if s == "" || s[0] != '[' {
		return s, false
	}
	i := strings.IndexAny(s[1:], "[]")
	if i < 0 || s[1+i] != ']' {
		return s, false
	}
	return strings.TrimLeft(s[i+2:], " "), true
}

// leader cuts any number of blobs and "re:", "fw:" or "fwd:" off.
func leader(s string) (rest string, ok bool) {
	rest = s
	for {
		next, more := blob(rest)
		if !more {
			break
		}
		rest = next
	}
	found := false
	for _, word := range []string{"re", "fwd", "fw"} {
		if len(rest) >= len(word) && strings.EqualFold(rest[:len(word)], word) {
			rest, found = rest[len(word):], true
			break
		}
	}
	if !found {
		return s, false
	}
	rest = strings.TrimLeft(rest, " ")
	if next, more := blob(rest); more {
		rest = next
	}
	for _, colon := range []string{":", "\uff1a"} { // programs in Chinese write the full-width one
		if after, ok := strings.CutPrefix(rest, colon); ok {
			return after, true
		}
	}
	return s, false
}

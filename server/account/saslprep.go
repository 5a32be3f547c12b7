package account

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// prepare is SASLprep, RFC 4013, for a password that is to be stored. ok is false
// when it has what the profile forbids: clients cannot log in with it by SCRAM.
func prepare(password string) (prepared string, ok bool) {
	if !utf8.ValidString(password) {
		return "", false
	}
	s := norm.NFKC.String(strings.Map(mapped, password))
	if s == "" || strings.ContainsFunc(s, forbidden) {
		return "", false
	}
	return s, oneDirection(s)
}

// mapped is RFC 4013 2.1: spaces are SPACE, and some characters are nothing.
func mapped(r rune) rune {
	switch {
	case r == 0x00A0, r == 0x1680, r >= 0x2000 && r <= 0x200B, r == 0x202F, r == 0x205F, r == 0x3000: // RFC 3454 C.1.2
		return ' '
	case r == 0x00AD, r == 0x034F, r == 0x1806, r >= 0x180B && r <= 0x180D, r == 0x200C, r == 0x200D, r == 0x2060,
		r >= 0xFE00 && r <= 0xFE0F, r == 0xFEFF: // RFC 3454 B.1
		return -1
	}
	return r
}

// forbidden is RFC 4013 2.3 and, because the string is stored, 2.5: what was not
// assigned in Unicode 3.2 is taken for what is not assigned now, which only lets
// newer characters in.
func forbidden(r rune) bool {
	switch {
	case r < 0x80:
		return r < 0x20 || r == 0x7F
	case unicode.Is(unicode.C, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r): // C.2.2, C.3, C.5, C.8
		return true
	case r >= 0xFDD0 && r <= 0xFDEF, r&0xFFFE == 0xFFFE: // C.4
		return true
	case r >= 0xFFF9 && r <= 0xFFFD, r >= 0x2FF0 && r <= 0x2FFB: // C.6, C.7
		return true
	case r == 0x0340, r == 0x0341: // C.8
		return true
	}
	return !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z)
}

// oneDirection is RFC 3454 6: with letters that go right to left there are none
// that go left to right, and such a letter is first and last.
func oneDirection(s string) bool {
	var rtl, ltr bool
	var first, last bool
	for i, r := range s {
		p, _ := bidi.LookupRune(r)
		is := p.Class() == bidi.R || p.Class() == bidi.AL
		rtl, ltr, last = rtl || is, ltr || p.Class() == bidi.L, is
		if i == 0 {
			first = is
		}
	}
	return !rtl || first && last && !ltr
}

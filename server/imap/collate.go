package imap

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// casemap brings text into the form that is compared: i;unicode-casemap, RFC
// 5051: titlecase of each character, then decomposed.
func casemap(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return norm.NFKD.String(strings.Map(unicode.ToTitle, strings.ToValidUTF8(s, "\uFFFD")))
		}
	}
	return strings.ToUpper(s)
}

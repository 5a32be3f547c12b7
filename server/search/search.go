// Package search finds messages by their words: an index for each account, which
// is a cache. Losing it costs the time to read the mail again.
//
// An index knows bodies, not messages: a body is stored once and never changes, so
// that copies, moves and flags do not concern it. It is a list of immutable
// segments (a sorted dictionary, postings, the bodies they speak of) and what has
// come since the last one, in memory. Segments are merged as they add up, which
// also drops bodies that are gone.
//
// A search in IMAP is for a part of the text (RFC 9051 6.4.4), not for words: the
// dictionary is one run of octets, so that all words with a part in them are found
// by going through it once. Where words stand is in the index, too, so that it
// decides about phrases; only where a query has punctuation, where the words are
// in other fields as well, or far down in a very long text, it says "maybe" and the
// message is read. Chinese and Japanese, which have no spaces, are indexed by pairs
// of characters.
//
// It imports server/store, server/store/seal and server/imap/mimetree.
package search

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Field is a part of a message that can be searched by itself. A set of fields
// is the sum of theirs.
type Field uint8

// The fields.
const (
	From Field = 1 << iota
	To
	Cc
	Bcc
	Subject
	Body    // the text of all parts that are shown, not that of attachments
	Headers // all other header fields, of all parts
	All     = From | To | Cc | Bcc | Subject | Body | Headers
)

// fieldOf is the field of a header field's name.
func fieldOf(name string) Field {
	switch strings.ToLower(name) {
	case "from":
		return From
	case "to":
		return To
	case "cc":
		return Cc
	case "bcc":
		return Bcc
	case "subject":
		return Subject
	}
	return Headers
}

// Fold brings text into the form that is compared, i;unicode-casemap of RFC 5051:
// each character in title case, then decomposed.
func Fold(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return norm.NFKD.String(strings.Map(unicode.ToTitle, strings.ToValidUTF8(s, "\uFFFD")))
		}
	}
	return strings.ToUpper(s)
}

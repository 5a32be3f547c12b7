// Package style is what mailform's terminal output has in common: five styles,
// and text measured in terminal columns. It knows nothing of plans and imports
// nothing of mailform; whoever creates a Sheet has decided whether the output is
// a terminal that wants colour.
package style

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Sheet gives text its style. The zero Sheet leaves text plain.
type Sheet struct{ on bool }

// New returns a Sheet that writes ANSI sequences (ECMA-48 SGR) when colour is true.
func New(colour bool) Sheet { return Sheet{on: colour} }

func (s Sheet) wrap(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold is for names and headings.
func (s Sheet) Bold(text string) string { return s.wrap("1", text) }

// Dim is for what may be skipped in reading.
func (s Sheet) Dim(text string) string { return s.wrap("2", text) }

// Red is for losses, removals and failures.
func (s Sheet) Red(text string) string { return s.wrap("31", text) }

// Green is for what comes into being or went well.
func (s Sheet) Green(text string) string { return s.wrap("32", text) }

// Yellow is for changes and what needs care.
func (s Sheet) Yellow(text string) string { return s.wrap("33", text) }

// Width returns how many terminal columns plain text takes. ANSI sequences must
// not be in it: measure first, then style.
func Width(text string) int {
	n := 0
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x7f {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Pad appends spaces until plain text takes w columns.
func Pad(text string, w int) string {
	if n := w - Width(text); n > 0 {
		return text + strings.Repeat(" ", n)
	}
	return text
}

// Elide shortens plain text to at most w columns by leaving out its middle,
// where keys and tokens differ least for a reader.
func Elide(text string, w int) string {
	if Width(text) <= w {
		return text
	}
	if w <= 1 {
		return strings.Repeat("…", max(w, 0))
	}
	head := Head(text, w-1-(w-1)/3)
	return head + "…" + Tail(text, w-1-Width(head))
}

// Head returns as much of the beginning of plain text as fits w columns.
func Head(text string, w int) string {
	for i, r := range text {
		if w -= runeWidth(r); w < 0 {
			return text[:i]
		}
	}
	return text
}

// Tail returns as much of the end of plain text as fits w columns.
func Tail(text string, w int) string {
	i := len(text)
	for i > 0 {
		r, size := utf8.DecodeLastRuneInString(text[:i])
		if w -= runeWidth(r); w < 0 {
			break
		}
		i -= size
	}
	return text[i:]
}

// Clean makes text from outside safe to print on one line: control characters,
// which could move the cursor or forge output, and bidirectional overrides
// become "�".
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return utf8.RuneError
		}
		return r
	}, text)
}

// Wrap joins words with sep into lines of at most w columns. A word wider than
// w stands alone on its line. Words are plain text.
func Wrap(words []string, sep string, w int) [][]string {
	var lines [][]string
	used := 0
	for _, word := range words {
		n := Width(word)
		if len(lines) > 0 && used+Width(sep)+n <= w {
			lines[len(lines)-1] = append(lines[len(lines)-1], word)
			used += Width(sep) + n
			continue
		}
		lines = append(lines, []string{word})
		used = n
	}
	return lines
}

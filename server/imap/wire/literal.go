package wire

import "bytes"

// Literal is the announcement of a literal, RFC 9051 4.3.
type Literal struct {
	Size    int64
	NonSync bool // {n+}: the octets follow without waiting, RFC 7888
	Binary  bool // ~{n}: may hold NUL, RFC 3516
}

// announcement reads "{n}", "{n+}", "{n-}" or one of these with "~" ahead at the
// start of b; n is its length.
func announcement(b []byte) (l Literal, n int, ok bool) {
	if n < len(b) && b[n] == '~' {
		l.Binary = true
		n++
	}
	if n >= len(b) || b[n] != '{' {
		return l, 0, false
	}
	n++
	digits := 0
	for ; n < len(b) && b[n] >= '0' && b[n] <= '9'; n++ {
		if digits++; digits > 15 {
			return l, 0, false
		}
		l.Size = l.Size*10 + int64(b[n]-'0')
	}
	if digits == 0 {
		return l, 0, false
	}
	if n < len(b) && (b[n] == '+' || b[n] == '-') {
		l.NonSync = true
		n++
	}
	if n >= len(b) || b[n] != '}' {
		return l, 0, false
	}
	return l, n + 1, true
}

// TrailingLiteral finds the announcement of a literal at the end of a line. ok
// is false when there is none; bad says that the line ends like one and has none.
//
// What stands in a quoted string is none: a string that is not closed on its
// line makes the line bad.
func TrailingLiteral(line []byte) (l Literal, ok, bad bool) {
	text := bytes.TrimRight(line, "\r\n")
	if openQuote(text) {
		return l, false, true
	}
	if len(text) == 0 || text[len(text)-1] != '}' {
		return l, false, false
	}
	open := bytes.LastIndexByte(text, '{')
	if open < 0 {
		return l, false, true
	}
	if open > 0 && text[open-1] == '~' {
		open--
	}
	l, n, ok := announcement(text[open:])
	// A literal is an argument of its own: after a space or an open list.
	if !ok || open+n != len(text) || open == 0 || text[open-1] != ' ' && text[open-1] != '(' {
		return Literal{}, false, true
	}
	return l, true, false
}

// openQuote says that a quoted string is not closed on its line.
func openQuote(line []byte) bool {
	open := false
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			if open {
				i++
			}
		case '"':
			open = !open
		}
	}
	return open
}

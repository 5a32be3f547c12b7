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

// TrailingLiteral finds the announcement of a literal at the end of a line; ok
// is false when there is none. bad says that what follows the line cannot be
// told: a literal of a size that makes no sense is on its way.
func TrailingLiteral(line []byte) (l Literal, ok, bad bool) {
	text := bytes.TrimRight(line, "\r\n")
	if len(text) == 0 || text[len(text)-1] != '}' {
		return l, false, false
	}
	open := bytes.LastIndexByte(text, '{')
	if open < 0 {
		return l, false, false // a brace that closes may stand in an atom
	}
	at := open
	if at > 0 && text[at-1] == '~' {
		at--
	}
	l, n, ok := announcement(text[at:])
	// A literal is an argument of its own: after a space or an open list.
	if ok && at+n == len(text) && at > 0 && !openQuote(text) && (text[at-1] == ' ' || text[at-1] == '(') {
		return l, true, false
	}
	size := bytes.TrimRight(text[open+1:], "+-}")
	nonSync := len(text)-open-1-len(size) > 1
	return Literal{}, false, nonSync && len(size) > 0 && len(bytes.Trim(size, "0123456789")) == 0
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

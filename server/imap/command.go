package imap

import (
	"bytes"
	"strings"
)

// command is the beginning of a command line.
type command struct {
	tag  string
	name string // upper case; "UID FETCH" and the like as two words
	args string // what follows, without the end of line
}

// parseCommand reads tag and name. ok is false when the line has no such; tag
// may be known all the same.
func parseCommand(line []byte) (c command, ok bool) {
	text := strings.TrimRight(string(line), "\r\n")
	tag, rest, _ := strings.Cut(text, " ")
	if tag == "" || len(tag) > 100 || strings.Contains(tag, "+") || !isAtom(tag) {
		return c, false
	}
	c.tag = tag
	name, args, _ := strings.Cut(rest, " ")
	if !isAtom(name) || len(name) > 100 {
		return c, false
	}
	c.name, c.args = strings.ToUpper(name), args
	if c.name == "UID" {
		sub, args, _ := strings.Cut(args, " ")
		if !isAtom(sub) {
			return c, false
		}
		c.name, c.args = "UID "+strings.ToUpper(sub), args
	}
	return c, true
}

// isAtom is RFC 9051's atom, without octets beyond ASCII.
func isAtom(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`(){%*"\]`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

// literal is the announcement of a literal at the end of a line.
type literal struct {
	size  int64
	async bool // {n+}: the octets follow without waiting
	start int  // where the announcement begins in the line
}

// trailingLiteral finds the announcement of a literal at the end of a line. ok
// is false when there is none; bad says that the line ends like one but cannot be.
func trailingLiteral(line []byte) (l literal, ok, bad bool) {
	text := bytes.TrimRight(line, "\r\n")
	if len(text) == 0 || text[len(text)-1] != '}' {
		return l, false, false
	}
	open := bytes.LastIndexByte(text, '{')
	if open < 0 {
		return l, false, true
	}
	digits := text[open+1 : len(text)-1]
	if n := len(digits); n > 0 && digits[n-1] == '+' {
		l.async = true
		digits = digits[:n-1]
	}
	if len(digits) == 0 || len(digits) > 15 {
		return l, false, true
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return l, false, true
		}
		l.size = l.size*10 + int64(d-'0')
	}
	// A literal is an argument of its own: after a space, an open list, or the
	// "~" of a literal8.
	if open == 0 || !bytes.ContainsRune([]byte(" (~"), rune(text[open-1])) {
		return l, false, true
	}
	l.start = open
	return l, true, false
}

// openQuote says that a quoted string is not closed on its line, where it must
// end, RFC 9051 9; imapserver would read on.
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

package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
)

// Parser takes the arguments of one command apart. The command is all there:
// its lines and its literals as they came. The first error stays, and what is
// read after it is zero.
type Parser struct {
	// UTF8 says that the client has enabled UTF8=ACCEPT or IMAP4rev2: mailbox
	// names are UTF-8, not modified UTF-7.
	UTF8 bool

	b     []byte
	pos   int
	depth int
	err   error
	short bool
}

// maxDepth bounds how deep lists may stand in one another.
const maxDepth = 64

// NewParser returns a parser of b, which has no end of line at its end.
func NewParser(b []byte) *Parser { return &Parser{b: b} }

// Err returns the first error, whose text is for the client.
func (p *Parser) Err() error { return p.err }

// Fail makes the command wrong, unless it is already.
func (p *Parser) Fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
	p.pos = len(p.b)
}

// Incomplete says that the octets of a literal were missing, and nothing else.
func (p *Parser) Incomplete() bool { return p.short }

// Done says whether nothing is left.
func (p *Parser) Done() bool { return p.pos >= len(p.b) }

// Pos returns how many octets were read.
func (p *Parser) Pos() int { return p.pos }

// End fails unless nothing is left, and returns the first error.
func (p *Parser) End() error {
	if p.err == nil && !p.Done() {
		p.Fail("Unexpected text after the arguments")
	}
	return p.err
}

// Peek returns the next octet; 0 at the end.
func (p *Parser) Peek() byte {
	if p.Done() {
		return 0
	}
	return p.b[p.pos]
}

// PeekAt returns the octet n behind the next; 0 beyond the end.
func (p *Parser) PeekAt(n int) byte {
	if p.pos+n >= len(p.b) {
		return 0
	}
	return p.b[p.pos+n]
}

// Skip passes over n octets that were looked at.
func (p *Parser) Skip(n int) { p.pos = min(p.pos+n, len(p.b)) }

// Text returns what was read since a position.
func (p *Parser) Text(from int) string { return string(p.b[min(from, p.pos):p.pos]) }

// Take reads c if it is next.
func (p *Parser) Take(c byte) bool {
	if p.Peek() != c || p.Done() {
		return false
	}
	p.pos++
	return true
}

// Expect reads c or fails.
func (p *Parser) Expect(c byte) {
	if !p.Take(c) {
		p.Fail("Expected %q", c)
	}
}

// SP reads the one space between arguments.
func (p *Parser) SP() {
	if !p.Take(' ') {
		p.Fail("Missing argument")
	}
}

// More reads a space if it is next, and says whether it was.
func (p *Parser) More() bool { return p.Take(' ') }

func (p *Parser) run(ok func(byte) bool) string {
	start := p.pos
	for p.pos < len(p.b) && ok(p.b[p.pos]) {
		p.pos++
	}
	return string(p.b[start:p.pos])
}

// IsAtomChar is RFC 9051's ATOM-CHAR. Octets beyond ASCII are none.
func IsAtomChar(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`(){%*"\]`, c) < 0
}

// Atom reads an atom.
func (p *Parser) Atom() string {
	s := p.run(IsAtomChar)
	if s == "" {
		p.Fail("Expected an atom")
	}
	return s
}

// Word reads an atom and brings it into upper case: a keyword.
func (p *Parser) Word() string { return strings.ToUpper(p.Atom()) }

// PeekWord returns the keyword that Word would read, "" when there is none.
func (p *Parser) PeekWord() string {
	at := p.pos
	s := p.run(IsAtomChar)
	p.pos = at
	return strings.ToUpper(s)
}

// AString reads an atom, a quoted string or a literal. In UTF-8 mode, and from
// clients that do not care, atoms may hold octets beyond ASCII.
func (p *Parser) AString() string {
	if c := p.Peek(); c == '"' || c == '{' || c == '~' && p.pos+1 < len(p.b) && p.b[p.pos+1] == '{' {
		return p.String()
	}
	s := p.run(func(c byte) bool { return IsAtomChar(c) || c == ']' || c >= 0x80 })
	if s == "" {
		p.Fail("Expected a string")
	}
	return s
}

// String reads a quoted string or a literal.
func (p *Parser) String() string {
	if p.Take('"') {
		return p.quoted()
	}
	return string(p.Literal())
}

func (p *Parser) quoted() string {
	// Mostly there is nothing to undo.
	for i := p.pos; i < len(p.b); i++ {
		if c := p.b[i]; c == '"' {
			s := string(p.b[p.pos:i])
			p.pos = i + 1
			return s
		} else if c == '\\' || c == '\r' || c == '\n' {
			break
		}
	}
	var s []byte
	for p.pos < len(p.b) {
		c := p.b[p.pos]
		p.pos++
		switch {
		case c == '"':
			return string(s)
		case c == '\\' && p.pos < len(p.b):
			c = p.b[p.pos]
			p.pos++
			if c != '"' && c != '\\' {
				p.Fail("Only a quote or a backslash can be escaped")
			}
		case c == '\r' || c == '\n' || c == 0:
			p.Fail("A quoted string ends on its line")
		}
		s = append(s, c)
	}
	p.Fail("A quoted string is not closed")
	return ""
}

// LiteralNext returns the size of the literal that is next, without reading
// it; ok is false when something else is.
func (p *Parser) LiteralNext() (l Literal, ok bool) {
	end := p.pos
	for end < len(p.b) && p.b[end] != '\n' {
		end++
	}
	l, n, ok := announcement(p.b[p.pos:end])
	return l, ok && n == len(strings.TrimRight(string(p.b[p.pos:end]), "\r"))
}

// Literal reads a literal whose octets are there.
func (p *Parser) Literal() []byte {
	l, n, ok := announcement(p.b[p.pos:])
	if !ok {
		p.Fail("Expected a string")
		return nil
	}
	p.pos += n
	p.Take('\r')
	if !p.Take('\n') || int64(len(p.b)-p.pos) < l.Size {
		p.short = p.err == nil
		p.Fail("A literal is incomplete")
		return nil
	}
	s := p.b[p.pos : p.pos+int(l.Size)]
	p.pos += int(l.Size)
	return s
}

// NString reads a string or NIL; ok is false for NIL.
func (p *Parser) NString() (s string, ok bool) {
	if c := p.Peek(); c != '"' && c != '{' && c != '~' {
		if p.Word() != "NIL" {
			p.Fail("Expected a string or NIL")
		}
		return "", false
	}
	return p.String(), true
}

// Number64 reads a number that fits into 63 bits.
func (p *Parser) Number64() uint64 {
	s := p.run(func(c byte) bool { return c >= '0' && c <= '9' })
	if s == "" || len(s) > 19 {
		p.Fail("Expected a number")
		return 0
	}
	var n uint64
	for i := range len(s) {
		n = n*10 + uint64(s[i]-'0')
	}
	if n > 1<<63-1 {
		p.Fail("The number is too large")
		return 0
	}
	return n
}

// Number reads a number that fits into 32 bits.
func (p *Parser) Number() uint32 {
	n := p.Number64()
	if n > 1<<32-1 {
		p.Fail("The number is too large")
		return 0
	}
	return uint32(n)
}

// List reads a list in parentheses, which may be empty; item reads one.
func (p *Parser) List(item func()) {
	p.Expect('(')
	if p.depth++; p.depth > maxDepth {
		p.Fail("Lists stand too deep in one another")
	}
	for first := true; p.err == nil && !p.Take(')'); first = false {
		if !first {
			p.SP()
			if p.Take(')') { // a space too many, which some clients send
				break
			}
		}
		item()
	}
	p.depth--
}

// Flag reads one flag.
func (p *Parser) Flag() string {
	if p.Take('\\') {
		if p.Take('*') {
			return `\*`
		}
		return `\` + p.Atom()
	}
	s := p.run(func(c byte) bool { return IsAtomChar(c) || c == ']' })
	if s == "" {
		p.Fail("Expected a flag")
	}
	return s
}

// Flags reads a list of flags.
func (p *Parser) Flags() []string {
	l := []string{}
	p.List(func() { l = append(l, p.Flag()) })
	return l
}

// ErrMailboxName says that a name is not valid modified UTF-7 or UTF-8. Such a
// mailbox cannot exist: the answer is NO, not BAD.
var ErrMailboxName = errors.New("the mailbox name is not encoded as it must be")

// Mailbox reads a mailbox name as UTF-8. A name that is not encoded as it must
// be comes back as one that no mailbox can have.
func (p *Parser) Mailbox() string { return p.decodeName(p.AString()) }

func (p *Parser) decodeName(s string) string {
	if strings.EqualFold(s, "INBOX") {
		return "INBOX"
	}
	if p.UTF8 {
		if !utf8.ValidString(s) {
			return invalidName
		}
		return s
	}
	d, err := DecodeName(s)
	if err != nil {
		return invalidName
	}
	return d
}

// invalidName holds a control character, which no mailbox's name does.
const invalidName = "\x00"

// Pattern reads a mailbox name that may hold the wildcards of LIST.
func (p *Parser) Pattern() string {
	if c := p.Peek(); c == '"' || c == '{' {
		return p.decodeName(p.String())
	}
	s := p.run(func(c byte) bool { return IsAtomChar(c) || c == ']' || c == '%' || c == '*' || c >= 0x80 })
	if s == "" {
		p.Fail("Expected a mailbox pattern")
	}
	return p.decodeName(s)
}

// NumSet reads a set of UIDs or of sequence numbers. "*" is 0.
func (p *Parser) NumSet(uid bool) imap.NumSet {
	if p.Take('$') {
		return imap.SearchRes()
	}
	var seqs imap.SeqSet
	var uids imap.UIDSet
	for {
		lo := p.setNumber()
		hi := lo
		if p.Take(':') {
			hi = p.setNumber()
		}
		if p.err != nil {
			break
		}
		if hi != 0 && lo > hi || lo == 0 {
			lo, hi = hi, lo
		}
		if uid {
			uids = append(uids, imap.UIDRange{Start: imap.UID(lo), Stop: imap.UID(hi)})
		} else {
			seqs = append(seqs, imap.SeqRange{Start: lo, Stop: hi})
		}
		if !p.Take(',') {
			break
		}
	}
	if uid {
		return uids
	}
	return seqs
}

// UIDSet reads a set of UIDs without "$" and, if star is false, without "*".
func (p *Parser) UIDSet(star bool) imap.UIDSet {
	set, ok := p.NumSet(true).(imap.UIDSet)
	if p.err == nil && (!ok || imap.IsSearchRes(set) || !star && set.Dynamic()) {
		p.Fail("Expected a set of UIDs")
	}
	return set
}

func (p *Parser) setNumber() uint32 {
	if p.Take('*') {
		return 0
	}
	n := p.Number()
	if n == 0 {
		p.Fail("Expected a message number")
	}
	return n
}

// Date reads RFC 9051's date: 22-Nov-2026, in quotes or not.
func (p *Parser) Date() time.Time {
	quoted := p.Take('"')
	s := p.run(func(c byte) bool {
		return c == '-' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	})
	if quoted {
		p.Expect('"')
	}
	t, err := time.Parse("2-Jan-2006", s)
	if err != nil {
		p.Fail("Expected a date such as 1-Feb-2026")
	}
	return t
}

// DateTime reads RFC 9051's date-time, and also one without the quotes' padding.
func (p *Parser) DateTime() time.Time {
	p.Expect('"')
	s := p.quoted()
	t, err := time.Parse("2-Jan-2006 15:04:05 -0700", strings.TrimLeft(s, " "))
	if err != nil || t.Year() < 1 {
		p.Fail("Expected a date and time such as \"01-Feb-2026 03:04:05 +0100\"")
		return time.Time{}
	}
	return t
}

// Base64 reads base64 up to the next space or the end; "=" is no octets at all.
func (p *Parser) Base64() []byte {
	s := p.run(func(c byte) bool { return c > ' ' && c < 0x7f })
	b, err := DecodeBase64(s)
	if err != nil {
		p.Fail("Expected base64")
	}
	return b
}

// DecodeBase64 decodes an initial response or an answer of AUTHENTICATE.
func DecodeBase64(s string) ([]byte, error) {
	if s == "=" {
		return nil, nil
	}
	return base64.StdEncoding.DecodeString(s)
}

// Package mimetree finds the parts of a message by reading it once, and says
// where each begins and ends. It survives every kind of broken mail: whatever
// is not understood is a leaf, and the octets of a part are always the octets
// of the message.
//
// It imports nothing of mailform.
package mimetree

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
)

// Bounds on what is looked at. Beyond them the rest of a message is one leaf.
const (
	maxDepth  = 60
	maxParts  = 5000
	maxHeader = 512 << 10 // octets of a header that are understood
)

// Span is a run of octets of the message.
type Span struct{ Start, End int64 }

// Len returns the number of octets.
func (s Span) Len() int64 { return s.End - s.Start }

// Part is a message or a part of one.
type Part struct {
	Header Span // with the empty line that ends it
	Body   Span
	Lines  int64 // of the body
	Fields Header

	Type, Subtype string // lower case
	Params        map[string]string

	Children []*Part // of a multipart, at least one
	Message  *Part   // of a message/rfc822 that is not encoded
}

// Multipart says that the part has children.
func (p *Part) Multipart() bool { return len(p.Children) > 0 }

// Encoding returns the content transfer encoding in lower case; "7bit" when none is said.
func (p *Part) Encoding() string {
	e := strings.ToLower(strings.Trim(firstToken(p.Fields.Get("Content-Transfer-Encoding")), `"`))
	if e == "" {
		return "7bit"
	}
	return e
}

// Walk calls f for the part and all below it, in order.
func (p *Part) Walk(f func(*Part)) {
	f(p)
	for _, c := range p.Children {
		c.Walk(f)
	}
	if p.Message != nil {
		p.Message.Walk(f)
	}
}

// Parse reads a message to its end. The error is the reader's.
func Parse(r io.Reader) (*Part, error) {
	size := int64(16 << 10)
	if known, ok := r.(interface{ Size() int64 }); ok { // of a small message
		size = min(size, known.Size()+1)
	}
	s := &scanner{r: bufio.NewReaderSize(r, int(size))}
	return s.part("text/plain", 0), s.err
}

// ParseLeaf reads the header of a message and returns its part, if that is all there
// is to its structure; nil if it may have parts. Where its body ends is not known: the
// span's end is behind all that can be, and its lines are not counted.
func ParseLeaf(r io.Reader) (*Part, error) {
	s := &scanner{r: bufio.NewReaderSize(r, 4<<10)}
	fields, ended := s.header()
	p := &Part{Fields: fields}
	p.setType("text/plain")
	if s.err != nil || p.Type == "multipart" || p.Type == "message" {
		return nil, s.err
	}
	p.Header.End = s.pos
	p.Body = Span{Start: s.pos, End: math.MaxInt64}
	if ended {
		p.Body.End = s.pos
	}
	return p, nil
}

// ParseHeader reads only the header of a message.
func ParseHeader(r io.Reader) (Header, error) {
	s := &scanner{r: bufio.NewReaderSize(r, 8<<10)}
	fields, _ := s.header()
	return fields, s.err
}

// scanner reads a message line by line and knows the open boundaries.
type scanner struct {
	r          *bufio.Reader
	boundaries []string
	parts      int
	err        error

	// The line read last.
	line  []byte // its beginning, at most what the buffer holds, with its end of line
	start int64  // where it begins
	pos   int64  // behind it
	eol   int64  // octets of its end of line
	// prevEOL is the length of the end of line before it, which belongs to a
	// boundary that follows, RFC 2046 5.1.1.
	prevEOL   int64
	prevEmpty bool  // the line before it was nothing else
	lines     int64 // read so far

	// What ended the part read last: the level of the boundary seen, -1 at the
	// end of the message.
	level  int
	closes bool
}

// next reads a line.
func (s *scanner) next() bool {
	s.prevEmpty = s.pos-s.start == s.eol
	s.prevEOL, s.eol = s.eol, 0
	s.start = s.pos
	first, cr := true, false
	for {
		b, err := s.r.ReadSlice('\n')
		s.pos += int64(len(b))
		if first {
			s.line = append(s.line[:0], b...)
			first = false
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			cr = b[len(b)-1] == '\r'
			continue
		case err != nil && !errors.Is(err, io.EOF):
			s.err = err
			return false
		}
		if n := len(b); n > 0 && b[n-1] == '\n' {
			s.eol = 1
			if n > 1 && b[n-2] == '\r' || n == 1 && cr {
				s.eol = 2
			}
		}
		if s.pos == s.start {
			return false
		}
		s.lines++
		return true
	}
}

// boundary says whether the line ends an open multipart's part: it is enough that
// it begins with the boundary, RFC 2046 5.1.1. Of several that it begins with the
// longest counts, of equal ones the innermost: inner ones are often an outer one
// and a number.
func (s *scanner) boundary() bool {
	if len(s.line) < 3 || s.line[0] != '-' || s.line[1] != '-' {
		return false
	}
	text, longest := s.line[2:], 0
	for i := len(s.boundaries) - 1; i >= 0; i-- {
		b := s.boundaries[i]
		if len(b) > longest && len(text) >= len(b) && string(text[:len(b)]) == b {
			longest, s.level, s.closes = len(b), i, bytes.HasPrefix(text[len(b):], []byte("--"))
		}
	}
	return longest > 0
}

// header reads up to and including the empty line. ended says that a boundary
// or the end of the message came first.
func (s *scanner) header() (fields Header, ended bool) {
	var raw []byte
	defer func() { fields = splitHeader(raw) }()
	for s.next() {
		if s.boundary() {
			return fields, true
		}
		if len(bytes.TrimRight(s.line, "\r\n")) == 0 {
			return fields, false
		}
		if len(raw) < maxHeader {
			raw = append(raw, s.line...)
		}
	}
	s.level = -1
	return fields, true
}

// part reads a part: header and body, up to a boundary or the end. fallback is
// its media type when it names none.
func (s *scanner) part(fallback string, depth int) *Part {
	s.parts++
	p := &Part{}
	p.Header.Start = s.pos
	fields, ended := s.header()
	p.Fields = fields
	p.setType(fallback)
	if ended {
		p.Header.End = s.bodyEnd(p.Header.Start)
		p.Body = Span{p.Header.End, p.Header.End}
		if p.Type == "multipart" {
			p.leaf()
		}
		return p
	}
	p.Header.End = s.pos
	p.Body.Start = s.pos
	s.eol = 0 // an end of line before the body is the header's
	if depth < maxDepth && s.parts < maxParts {
		switch {
		case p.Type == "multipart" && p.Params["boundary"] != "":
			s.multipart(p, depth)
			return p
		case p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global") && plain(p.Encoding()):
			before := s.lines
			p.Message = s.part("text/plain", depth+1)
			p.Body.End = p.Message.Body.End
			p.Lines = s.linesSince(before)
			return p
		}
	}
	s.rest(p)
	if p.Type == "multipart" {
		p.leaf()
	}
	return p
}

// plain says that an encoding leaves the octets as they are.
func plain(encoding string) bool {
	return encoding != "base64" && encoding != "quoted-printable"
}

// leaf makes a multipart without parts what its octets are: text.
func (p *Part) leaf() { p.Type, p.Subtype, p.Params = "text", "plain", nil }

// rest reads the body of a leaf.
func (s *scanner) rest(p *Part) {
	before := s.lines
	s.level = -1
	if len(s.boundaries) == 0 {
		s.toEnd()
	}
	for s.err == nil && s.next() {
		if s.boundary() {
			break
		}
	}
	p.Body.End = s.bodyEnd(p.Body.Start)
	p.Lines = s.linesSince(before)
}

// toEnd reads on where no line can mean anything, up to what may be the last one.
func (s *scanner) toEnd() {
	for {
		if _, err := s.r.Peek(1); err != nil {
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
			return
		}
		b, _ := s.r.Peek(s.r.Buffered())
		n := bytes.LastIndexByte(b, '\n') + 1
		if n == 0 {
			return
		}
		s.lines += int64(bytes.Count(b[:n], []byte{'\n'}))
		s.pos += int64(n)
		_, _ = s.r.Discard(n)
	}
}

// linesSince counts the lines of a body whose end was just found; the boundary
// is not one of them.
func (s *scanner) linesSince(before int64) int64 {
	n := s.lines - before
	if s.level >= 0 {
		if n--; n > 0 && s.prevEmpty {
			n-- // its end of line is the boundary's, and it has nothing else
		}
	}
	return n
}

// bodyEnd is where a body ends that a boundary, or the end, cut off.
func (s *scanner) bodyEnd(start int64) int64 {
	if s.level < 0 {
		return s.pos
	}
	return max(start, s.start-s.prevEOL)
}

func (s *scanner) multipart(p *Part, depth int) {
	own, before := len(s.boundaries), s.lines
	s.boundaries = append(s.boundaries, p.Params["boundary"])
	fallback := "text/plain"
	if p.Subtype == "digest" {
		fallback = "message/rfc822"
	}
	// The preamble.
	preamble := &Part{Body: Span{Start: s.pos}}
	s.rest(preamble)
	for s.level == own && !s.closes && s.parts < maxParts {
		s.eol = 0
		p.Children = append(p.Children, s.part(fallback, depth+1))
	}
	s.boundaries = s.boundaries[:own]
	if s.level < own {
		p.Body.End = s.bodyEnd(p.Body.Start)
	} else {
		// The epilogue, up to what ends this part.
		epilogue := &Part{Body: Span{Start: s.pos}}
		s.rest(epilogue)
		p.Body.End = max(p.Body.Start, epilogue.Body.End)
	}
	if len(p.Children) == 0 {
		p.leaf()
		p.Lines = s.linesSince(before)
	}
}

func (p *Part) setType(fallback string) {
	typ, params := ParseValue(p.Fields.Get("Content-Type"))
	major, minor, ok := strings.Cut(strings.ToLower(typ), "/")
	if !ok || !token(major) || !token(minor) {
		major, minor, _ = strings.Cut(fallback, "/")
		if typ != "" {
			// RFC 2045 5.2: what cannot be understood is plain text.
			major, minor, params = "text", "plain", nil
		}
	}
	p.Type, p.Subtype, p.Params = major, minor, params
}

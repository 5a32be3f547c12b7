package mimetree

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// ToUTF8 makes octets without a named character set UTF-8: as they are when
// they are, else as GB18030 when they can be that, else as Windows-1252.
func ToUTF8(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	if s, err := simplifiedchinese.GB18030.NewDecoder().Bytes(b); err == nil && !bytes.ContainsRune(s, utf8.RuneError) {
		return string(s)
	}
	s, err := charmap.Windows1252.NewDecoder().Bytes(b)
	if err != nil {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return string(s)
}

// CharsetReader decodes r to UTF-8. An unknown character set is taken as UTF-8.
func CharsetReader(charset string, r io.Reader) (io.Reader, error) {
	switch strings.ToLower(charset) {
	case "", "utf-8", "utf8", "us-ascii", "ascii", "unknown-8bit", "default":
		return r, nil
	case "gb2312", "gbk", "x-gbk", "cp936": // a superset decodes what is sent under these names
		return simplifiedchinese.GB18030.NewDecoder().Reader(r), nil
	}
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return r, nil
	}
	return enc.NewDecoder().Reader(r), nil
}

// Decoded reads the octets of a body behind its transfer encoding. Broken
// encoding yields what can be made of it, never an error of its own.
func Decoded(encoding string, r io.Reader) io.Reader {
	switch encoding {
	case "base64":
		return base64.NewDecoder(base64.RawStdEncoding, &base64Filter{r: r})
	case "quoted-printable":
		return &qpReader{r: newByteSource(r)}
	}
	return r
}

// base64Filter passes on the octets of base64 only, in whole groups, so that
// the decoder behind it finds no fault. They end with the first padding, RFC 2045
// 6.8: behind it stands what mailing lists put there.
type base64Filter struct {
	r    io.Reader
	buf  [4096]byte
	out  []byte
	n    int // octets passed on, counted for the last group
	done bool
}

func (f *base64Filter) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		if f.done {
			return 0, io.EOF
		}
		n, err := f.r.Read(f.buf[:])
		keep := f.buf[:0]
		for _, c := range f.buf[:n] {
			if c == '=' && (f.n+len(keep))%4 >= 2 {
				err = io.EOF
				break
			}
			switch {
			case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/':
				keep = append(keep, c)
			}
		}
		f.n += len(keep)
		if errors.Is(err, io.EOF) {
			f.done = true
			if f.n%4 == 1 { // half an octet
				if len(keep) > 0 {
					keep = keep[:len(keep)-1]
				} else {
					keep = append(keep, 'A')
				}
			}
		} else if err != nil {
			return 0, err
		}
		f.out = keep
	}
	n := copy(p, f.out)
	f.out = f.out[n:]
	return n, nil
}

// byteSource reads octets with one of lookahead for each escape.
type byteSource struct {
	r    io.Reader
	buf  []byte
	pos  int
	size int
	err  error
}

func newByteSource(r io.Reader) *byteSource { return &byteSource{r: r, buf: make([]byte, 4096)} }

// peek makes sure that n octets are there, if there are so many.
func (s *byteSource) peek(n int) []byte {
	for s.size-s.pos < n && s.err == nil {
		if s.pos > 0 {
			s.size = copy(s.buf, s.buf[s.pos:s.size])
			s.pos = 0
		}
		var k int
		k, s.err = s.r.Read(s.buf[s.size:])
		s.size += k
	}
	return s.buf[s.pos:s.size]
}

// qpReader decodes quoted-printable, RFC 2045 6.7, passing over what is broken.
type qpReader struct{ r *byteSource }

func (q *qpReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		b := q.r.peek(3)
		if len(b) == 0 {
			if n > 0 && errors.Is(q.r.err, io.EOF) {
				return n, nil
			}
			return n, q.r.err
		}
		switch b[0] {
		case ' ', '\t':
			// Space at the end of a line was added on the way.
			if run, _, ends := q.space(0); ends {
				q.r.pos += run
				continue
			}
		case '=':
			if len(b) >= 3 {
				if hi, lo := unhex(b[1]), unhex(b[2]); hi >= 0 && lo >= 0 {
					p[n] = byte(hi<<4 | lo)
					n++
					q.r.pos += 3
					continue
				}
			}
			if run, eol, ends := q.space(1); ends && eol > 0 {
				q.r.pos += 1 + run + eol // a soft line break
				continue
			}
		}
		p[n] = b[0]
		n++
		q.r.pos++
	}
	return n, nil
}

// maxRun bounds the space that is looked over.
const maxRun = 1024

// space looks at the space that begins skip octets ahead: how long it is,
// whether the line ends behind it, and how long the end of line is; 0 at the end
// of the body.
func (q *qpReader) space(skip int) (run, eol int, ends bool) {
	for ; run < maxRun; run++ {
		b := q.r.peek(skip + run + 2)
		if len(b) <= skip+run {
			return run, 0, true
		}
		switch b = b[skip+run:]; {
		case b[0] == '\n':
			return run, 1, true
		case b[0] == '\r' && len(b) > 1 && b[1] == '\n':
			return run, 2, true
		case b[0] != ' ' && b[0] != '\t':
			return run, 0, false
		}
	}
	return run, 0, false
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

package wire

import (
	"encoding/base64"
	"io"
	"strconv"
	"time"

	"github.com/emersion/go-imap/v2"
)

// flushAt is how many octets of responses are gathered.
const flushAt = 32 << 10

// Writer gathers responses. They go out when much has been gathered, or with
// Flush, which the connection calls when there is nothing more to read. The
// first error stays; what is written after it is thrown away.
type Writer struct {
	// UTF8 says that strings may be sent as UTF-8 in quotes, and that mailbox
	// names are UTF-8: RFC 9051 and RFC 6855.
	UTF8 bool

	dst  io.Writer
	lend *Buffers
	b    []byte
	err  error
	sent int
}

// NewWriter returns a writer to dst.
func NewWriter(dst io.Writer, lend *Buffers) *Writer { return &Writer{dst: dst, lend: lend} }

// Reset makes the writer write to dst.
func (w *Writer) Reset(dst io.Writer) { w.dst = dst }

// Err returns the first error of writing.
func (w *Writer) Err() error { return w.err }

// Fail makes the writer throw away everything from here on.
func (w *Writer) Fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.b = w.b[:0]
}

// grow makes sure there is a buffer.
func (w *Writer) grow() {
	if w.b == nil {
		if v, ok := w.lend.write.Get().(*[]byte); ok {
			w.b = (*v)[:0]
		} else {
			w.b = make([]byte, 0, 4<<10)
		}
	}
}

// Flush sends what was gathered and gives the buffer back.
func (w *Writer) Flush() error {
	if len(w.b) > 0 && w.err == nil {
		_, w.err = w.dst.Write(w.b)
	}
	if w.b != nil {
		if cap(w.b) <= 4*flushAt {
			b := w.b[:0]
			w.lend.write.Put(&b)
		}
		w.b = nil
	}
	return w.err
}

// Mark is a place in what was written.
type Mark struct{ at, sent int }

// Mark returns the place where the writer is.
func (w *Writer) Mark() Mark { return Mark{len(w.b), w.sent} }

// Rollback takes back what was written since m. ok is false when some of it is
// sent already: then nothing is taken back.
func (w *Writer) Rollback(m Mark) (ok bool) {
	if w.sent != m.sent {
		return false
	}
	w.b = w.b[:min(m.at, len(w.b))]
	return true
}

// Cut takes back what was written since m, of which nothing is sent yet, and returns it.
func (w *Writer) Cut(m Mark) string {
	text := string(w.b[min(m.at, len(w.b)):])
	w.Rollback(m)
	return text
}

// CRLF ends a response, and sends if much has been gathered.
func (w *Writer) CRLF() {
	w.Raw("\r\n")
	if len(w.b) >= flushAt {
		w.send()
	}
}

func (w *Writer) send() {
	if w.err == nil {
		_, w.err = w.dst.Write(w.b)
	}
	w.sent++
	w.b = w.b[:0]
}

// Raw writes s as it is.
func (w *Writer) Raw(s string) {
	w.grow()
	w.b = append(w.b, s...)
}

// Bytes writes b as it is.
func (w *Writer) Bytes(b []byte) {
	w.grow()
	w.b = append(w.b, b...)
}

// Byte writes one octet.
func (w *Writer) Byte(c byte) {
	w.grow()
	w.b = append(w.b, c)
}

// Num writes a number.
func (w *Writer) Num(n uint64) {
	w.grow()
	w.b = strconv.AppendUint(w.b, n, 10)
}

// Quoted writes s as a quoted string; it holds no CR, LF or NUL.
func (w *Writer) Quoted(s string) {
	w.grow()
	w.b = append(w.b, '"')
	from := 0
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			w.b = append(append(w.b, s[from:i]...), '\\')
			from = i
		}
	}
	w.b = append(append(w.b, s[from:]...), '"')
}

// String writes s as a quoted string where it can be one, else as a literal.
func (w *Writer) String(s string) {
	quoted := len(s) <= 4096
	for i := 0; quoted && i < len(s); i++ {
		c := s[i]
		quoted = c != '\r' && c != '\n' && c != 0 && (c < 0x80 || w.UTF8)
	}
	if quoted {
		w.Quoted(s)
		return
	}
	w.LiteralHead(int64(len(s)), false)
	w.Raw(s)
}

// NString writes s; NIL when it is empty.
func (w *Writer) NString(s string) {
	if s == "" {
		w.Raw("NIL")
		return
	}
	w.String(s)
}

// LiteralHead announces a literal, whose octets must follow.
func (w *Writer) LiteralHead(size int64, binary bool) {
	if binary {
		w.Byte('~')
	}
	w.Byte('{')
	w.Num(uint64(size))
	w.Raw("}\r\n")
}

// Literal writes a literal whose octets come from r. It returns an error when
// they do not all come: nothing can be written behind that.
func (w *Writer) Literal(r io.Reader, size int64, binary bool) error {
	w.LiteralHead(size, binary)
	for size > 0 {
		if cap(w.b)-len(w.b) < 4<<10 {
			if len(w.b) >= flushAt-4<<10 {
				w.send()
			} else {
				w.b = append(make([]byte, 0, flushAt), w.b...)
			}
		}
		n := min(int64(cap(w.b)-len(w.b)), size)
		k, err := io.ReadFull(r, w.b[len(w.b):len(w.b)+int(n)])
		w.b = w.b[:len(w.b)+k]
		size -= int64(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// Mailbox writes a mailbox name.
func (w *Writer) Mailbox(name string) {
	switch {
	case name == "INBOX":
		w.Raw(name)
	case w.UTF8:
		w.String(name)
	default:
		w.String(EncodeName(name))
	}
}

// Flags writes a list of flags.
func (w *Writer) Flags(flags []string) {
	w.Byte('(')
	for i, f := range flags {
		if i > 0 {
			w.Byte(' ')
		}
		w.Raw(f)
	}
	w.Byte(')')
}

// Date writes RFC 9051's date-time.
func (w *Writer) Date(t time.Time) {
	w.grow()
	w.b = t.AppendFormat(w.b, `"_2-Jan-2006 15:04:05 -0700"`)
}

// Base64 writes b in base64.
func (w *Writer) Base64(b []byte) {
	w.grow()
	w.b = base64.StdEncoding.AppendEncode(w.b, b)
}

// Set gathers ascending numbers as runs and writes them as a set.
type Set struct {
	w        *Writer
	any      bool
	from, to uint32
}

// Set begins a set.
func (w *Writer) Set() Set { return Set{w: w} }

// Add adds a number that is larger than those before it.
func (s *Set) Add(n uint32) {
	if s.to != 0 && n == s.to+1 {
		s.to = n
		return
	}
	s.End()
	s.from, s.to = n, n
}

// End writes what is left. It returns whether the set has anything in it.
func (s *Set) End() bool {
	if s.to == 0 {
		return s.any
	}
	if s.any {
		s.w.Byte(',')
	}
	s.any = true
	s.w.Num(uint64(s.from))
	if s.to != s.from {
		s.w.Byte(':')
		s.w.Num(uint64(s.to))
	}
	s.from, s.to = 0, 0
	return true
}

// UIDSet writes a set of UIDs that is not empty.
func (w *Writer) UIDSet(set imap.UIDSet) { w.Raw(set.String()) }

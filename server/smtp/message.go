package smtp

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/mail"
	"strings"
)

// Why a message is not taken while it arrives.
var (
	errBareCRLF   = errors.New("bare CR or LF")
	errHeaderSize = errors.New("header too large")
	errTooLarge   = errors.New("message too large")
)

// intake copies a message to w and keeps its header. Line ends other than CRLF
// are refused or, with normalise, mended: a bare LF that one server takes for a
// line's end and the next one does not is how mail is smuggled past checks.
type intake struct {
	w         io.Writer
	normalise bool
	maxHeader int
	maxSize   int64 // octets

	size     int64  // octets that have come
	header   []byte // the header with its empty line, once body is true
	body     bool
	cr       bool // the last octet was a CR, not yet written
	lineOpen bool // something was written since the last CRLF
	out      []byte
}

func (m *intake) Write(b []byte) (int, error) {
	if m.size += int64(len(b)); m.size > m.maxSize {
		return 0, errTooLarge
	}
	n := len(b)
	if n == 0 {
		return 0, nil
	}
	if !m.cr {
		rest := b
		if b[n-1] == '\r' {
			rest = b[:n-1]
		}
		if endsAreCRLF(rest) { // nearly always
			m.cr = len(rest) < n
			if len(rest) > 0 {
				m.lineOpen = rest[len(rest)-1] != '\n'
			}
			return n, m.pass(rest)
		}
	}
	m.out = m.out[:0]
	for _, c := range b {
		switch {
		case c == '\n' && (m.cr || m.normalise):
			m.endLine()
		case c == '\n' || m.cr && !m.normalise:
			return 0, errBareCRLF
		case m.cr: // a bare CR ends a line
			m.endLine()
			fallthrough
		default:
			if c != '\r' {
				m.out = append(m.out, c)
				m.lineOpen = true
			}
		}
		m.cr = c == '\r'
	}
	return n, m.pass(m.out)
}

// endsAreCRLF says whether each CR has its LF and each LF its CR.
func endsAreCRLF(b []byte) bool {
	lines := 0
	for rest := b; ; lines++ {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if i == 0 || rest[i-1] != '\r' {
			return false
		}
		rest = rest[i+1:]
	}
	return bytes.Count(b, []byte{'\r'}) == lines
}

func (m *intake) endLine() {
	m.out = append(m.out, '\r', '\n')
	m.lineOpen = false
}

// pass writes octets whose line ends are in order.
func (m *intake) pass(b []byte) error {
	for rest := b; !m.body && len(rest) > 0; {
		const step = 2 << 10 // of the body not more is looked at
		n := min(len(rest), step)
		from := max(len(m.header)-3, 0)
		m.header = append(m.header, rest[:n]...)
		rest = rest[n:]
		end := -1
		if i := bytes.Index(m.header[from:], []byte("\r\n\r\n")); i >= 0 {
			end = from + i + 4
		} else if bytes.HasPrefix(m.header, []byte("\r\n")) {
			end = 2 // no header at all
		}
		if end >= 0 {
			m.header, m.body = m.header[:end:end], true
		}
		if len(m.header) > m.maxHeader {
			return errHeaderSize
		}
	}
	_, err := m.w.Write(b)
	return err
}

// close ends the message: an open last line is ended, and a header without a
// body gets its empty line, or what is put ahead of the message would not be
// told from it.
func (m *intake) close() error {
	if m.cr && !m.normalise {
		return errBareCRLF
	}
	m.out = m.out[:0]
	if m.lineOpen || m.cr {
		m.endLine()
	}
	if !m.body {
		m.endLine()
	}
	return m.pass(m.out)
}

// field is one header field. Its value is unfolded, without outer blanks.
type field struct{ name, value string } // name in lower case

// parseHeader splits a header into fields. Lines that are none end it, as mail
// programs do that show them as the text.
func parseHeader(header []byte) []field {
	var fields []field
	for line := range strings.SplitSeq(string(header), "\r\n") {
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(fields) == 0 {
				break
			}
			f := &fields[len(fields)-1]
			f.value = strings.TrimSpace(f.value + " " + strings.TrimLeft(line, " \t"))
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			break
		}
		fields = append(fields, field{strings.ToLower(name), strings.TrimSpace(value)})
	}
	return fields
}

// get returns the values of all fields of that name.
func get(fields []field, name string) (values []string) {
	for _, f := range fields {
		if f.name == name {
			values = append(values, f.value)
		}
	}
	return values
}

// fromAddresses returns the addresses of the From field. RFC 5322 3.6 wants
// exactly one field; what is displayed of two is anybody's guess.
func fromAddresses(fields []field) ([]string, bool) {
	from := get(fields, "from")
	if len(from) != 1 {
		return nil, false
	}
	// Names in character sets that we do not know are none of our business.
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}}
	list, err := parser.ParseList(from[0])
	if err != nil || len(list) == 0 {
		return nil, false
	}
	addresses := make([]string, len(list))
	for i, a := range list {
		addresses[i] = a.Address
	}
	return addresses, true
}

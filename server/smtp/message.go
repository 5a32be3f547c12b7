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
)

// intake copies a message to w and keeps its header. Line ends other than CRLF
// are refused or, with normalise, mended: a bare LF that one server takes for a
// line's end and the next one does not is how mail is smuggled past checks.
type intake struct {
	w         io.Writer
	normalise bool
	maxHeader int

	header   []byte // the header with its empty line, once body is true
	body     bool
	cr       bool // the last octet was a CR, not yet written
	lineOpen bool // something was written since the last CRLF
	out      []byte
}

func (m *intake) Write(b []byte) (int, error) {
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
	if err := m.flush(); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (m *intake) endLine() {
	m.out = append(m.out, '\r', '\n')
	m.lineOpen = false
}

func (m *intake) flush() error {
	if !m.body {
		from := max(len(m.header)-3, 0)
		m.header = append(m.header, m.out...)
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
	_, err := m.w.Write(m.out)
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
	return m.flush()
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

package mimetree

import (
	"bytes"
	"mime"
	"strings"
)

// Field is one header field.
type Field struct {
	Name string // "" of lines that are no field, so that no octet is lost
	Raw  []byte // the whole field as it stands, ends of line included
}

// Header is the fields of a header in order.
type Header []Field

// splitHeader finds the fields of a header.
func splitHeader(raw []byte) Header {
	var h Header
	for len(raw) > 0 {
		n := bytes.IndexByte(raw, '\n') + 1
		if n == 0 {
			n = len(raw)
		}
		line := raw[:n]
		raw = raw[n:]
		name := fieldName(line)
		if last := len(h) - 1; last >= 0 && h[last].continues(name, line) {
			h[last].Raw = append(h[last].Raw, line...)
			continue
		}
		h = append(h, Field{Name: name, Raw: bytes.Clone(line)})
	}
	return h
}

// continues says whether a line belongs to the field before it: a folded one, or
// another that is no field behind such a one.
func (f *Field) continues(name string, line []byte) bool {
	return line[0] == ' ' || line[0] == '\t' || name == "" && f.Name == ""
}

// HeaderOf is ParseHeader for a message that is at hand, at least its beginning.
// The fields' octets are those of data.
func HeaderOf(data []byte) Header {
	h := make(Header, 0, 24)
	data = data[:min(len(data), maxHeader)]
	for start := 0; start < len(data); {
		end := len(data)
		if n := bytes.IndexByte(data[start:], '\n'); n >= 0 {
			end = start + n + 1
		}
		line := data[start:end]
		if line[0] == '\n' || line[0] == '\r' && len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		name := fieldName(line)
		if last := len(h) - 1; last >= 0 && h[last].continues(name, line) {
			h[last].Raw = h[last].Raw[:len(h[last].Raw)+len(line)]
		} else {
			h = append(h, Field{Name: name, Raw: data[start:end:len(data)]})
		}
		start = end
	}
	return h
}

// fieldName returns the name before the colon; "" when the line is not a field.
func fieldName(line []byte) string {
	i := bytes.IndexByte(line, ':')
	if i <= 0 || line[0] == ' ' || line[0] == '\t' {
		return ""
	}
	name := bytes.TrimRight(line[:i], " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return ""
		}
	}
	switch string(name) { // the usual ones take no memory
	case "From":
		return "From"
	case "To":
		return "To"
	case "Cc":
		return "Cc"
	case "Subject":
		return "Subject"
	case "Date":
		return "Date"
	case "Message-ID":
		return "Message-ID"
	case "Message-Id":
		return "Message-Id"
	case "In-Reply-To":
		return "In-Reply-To"
	case "References":
		return "References"
	case "Reply-To":
		return "Reply-To"
	case "Received":
		return "Received"
	case "Return-Path":
		return "Return-Path"
	case "Delivered-To":
		return "Delivered-To"
	case "DKIM-Signature":
		return "DKIM-Signature"
	case "Authentication-Results":
		return "Authentication-Results"
	case "MIME-Version":
		return "MIME-Version"
	case "Content-Type":
		return "Content-Type"
	case "Content-Transfer-Encoding":
		return "Content-Transfer-Encoding"
	}
	return string(name)
}

// Value returns the field's value, unfolded and trimmed; octets beyond ASCII
// are made UTF-8.
func (f Field) Value() string {
	if f.Name == "" {
		return Unfold(f.Raw)
	}
	_, v, _ := bytes.Cut(f.Raw, []byte(":"))
	return Unfold(v)
}

// Unfold joins the lines of a value, RFC 5322 2.2.3, leaves out control
// characters, and makes it UTF-8.
func Unfold(v []byte) string {
	out := make([]byte, 0, len(v))
	for _, c := range v {
		switch {
		case c == '\t':
			out = append(out, ' ')
		case c >= ' ' && c != 0x7f:
			out = append(out, c)
		}
	}
	return strings.TrimSpace(ToUTF8(out))
}

// Get returns the value of the first field of that name; "" when there is none.
func (h Header) Get(name string) string {
	v, _ := h.Lookup(name)
	return v
}

// Lookup is Get, and says whether there is a field of that name.
func (h Header) Lookup(name string) (value string, ok bool) {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f.Value(), true
		}
	}
	return "", false
}

// Values returns the values of all fields of that name.
func (h Header) Values(name string) []string {
	var l []string
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			l = append(l, f.Value())
		}
	}
	return l
}

// Bytes returns the fields that keep says, as they stand, and the empty line.
func (h Header) Bytes(keep func(name string) bool) []byte {
	var out []byte
	for _, f := range h {
		if keep(f.Name) {
			out = append(out, f.Raw...)
			if !bytes.HasSuffix(out, []byte("\n")) {
				out = append(out, "\r\n"...)
			}
		}
	}
	return append(out, "\r\n"...)
}

// ParseValue splits a value such as Content-Type into what it says and its
// parameters, with lower-case names. It takes what it can get: a strict parser
// first, and a lenient one for the rest of the world.
func ParseValue(v string) (string, map[string]string) {
	if v == "" {
		return "", nil
	}
	if value, params, err := mime.ParseMediaType(v); err == nil {
		return value, params
	}
	head, rest, _ := strings.Cut(v, ";")
	params := map[string]string{}
	for rest != "" {
		var item string
		item, rest = cutParam(rest)
		name, value, ok := strings.Cut(item, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || !token(name) {
			continue
		}
		if _, twice := params[name]; !twice {
			params[name] = unquote(strings.TrimSpace(value))
		}
	}
	return firstToken(head), params
}

// cutParam cuts at the next semicolon outside quotes.
func cutParam(s string) (item, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if quoted {
				i++
			}
		case '"':
			quoted = !quoted
		case ';':
			if !quoted {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

func unquote(s string) string {
	if len(s) == 0 || s[0] != '"' {
		return firstToken(s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		} else if s[i] == '"' {
			break
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// WithoutComments takes the comments out of a value, RFC 5322 3.2.2. One that is
// not closed goes to the end.
func WithoutComments(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			if depth == 0 {
				b.WriteByte(c)
				b.WriteByte(s[i+1])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func firstToken(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexAny(s, " \t;("); i >= 0 {
		s = s[:i]
	}
	return s
}

// token says whether s is a token of RFC 2045 5.1.
func token(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

package mailauth

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// IPRev is whether a client's address has a name that leads back to it, RFC 8601 2.7.3.
type IPRev struct {
	Result Result
	Addr   netip.Addr
	Name   string // lower case, without a final dot
}

// Header is the Authentication-Results field with its CRLF, RFC 8601 2.2. id is
// our host name.
func (r Results) Header(id string, rev IPRev) []byte {
	b := fmt.Appendf(nil, "Authentication-Results: %s", id)
	if rev.Result != "" {
		b = fmt.Appendf(b, ";\r\n\tiprev=%s", rev.Result)
		if rev.Name != "" {
			b = fmt.Appendf(b, " (%s)", comment(rev.Name))
		}
		b = fmt.Appendf(b, " policy.iprev=%s", value(rev.Addr.String()))
	}
	property := "smtp.mailfrom"
	if r.SPF.Helo {
		property = "smtp.helo"
	}
	b = append(method("spf", r.SPF.Result, r.SPF.Reason)(b), property+"="+value(r.SPF.Domain)...)
	if len(r.DKIM) == 0 {
		b = append(b, ";\r\n\tdkim=none"...)
	}
	for _, d := range r.DKIM {
		b = append(method("dkim", d.Result, d.Reason)(b), "header.d="+value(d.Domain)+" header.s="+value(d.Selector)...)
	}
	reason := r.DMARC.Reason
	if r.DMARC.Policy != "" {
		reason = "p=" + r.DMARC.Policy
	}
	b = append(method("dmarc", r.DMARC.Result, reason)(b), "header.from="+value(r.DMARC.Domain)...)
	return append(b, "\r\n"...)
}

// method begins a result on a line of its own.
func method(name string, r Result, reason string) func([]byte) []byte {
	return func(b []byte) []byte {
		b = fmt.Appendf(b, ";\r\n\t%s=%s ", name, r)
		if reason != "" {
			b = fmt.Appendf(b, "(%s) ", comment(reason))
		}
		return b
	}
}

// maxValue is the length of the longest value that is written.
const maxValue = 255

// value writes a string from outside as a token or, with anything odd in it, as
// a quoted string: RFC 2045 5.1, RFC 5322 3.2.4.
func value(s string) string {
	s = clean(s)
	token := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !token(r) }) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// comment writes a string from outside within parentheses.
func comment(s string) string {
	return strings.NewReplacer(`\`, "_", "(", "[", ")", "]").Replace(clean(s))
}

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s[:min(len(s), maxValue)])
}

// StripForged removes from a message's header what only we may say: fields named
// Authentication-Results with our id (RFC 8601 5), and those of the given names.
// It returns the header itself when there are none.
func StripForged(header []byte, id string, names ...string) []byte {
	var kept []byte
	from := 0
	fields(header, func(start, end int) {
		name, text, _ := bytes.Cut(header[start:end], []byte(":"))
		name = bytes.TrimRight(name, " \t")
		forged := bytes.EqualFold(name, []byte("Authentication-Results")) && strings.EqualFold(authservID(string(text)), strings.TrimSuffix(id, "."))
		for _, n := range names {
			forged = forged || bytes.EqualFold(name, []byte(n))
		}
		if forged {
			kept = append(kept, header[from:start]...)
			from = end
		}
	})
	if from == 0 {
		return header
	}
	return append(kept, header[from:]...)
}

// fields calls f with the begin and end of each header field, its continuations
// and ends of lines included.
func fields(header []byte, f func(start, end int)) {
	start := 0
	for pos := 0; pos < len(header); {
		next := len(header)
		if i := bytes.IndexByte(header[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		if c := header[pos]; pos > start && c != ' ' && c != '\t' {
			f(start, pos)
			start = pos
		}
		pos = next
	}
	if start < len(header) {
		f(start, len(header))
	}
}

// authservID is who an Authentication-Results field claims to be from: its
// first token or quoted string, behind comments.
func authservID(s string) string {
	s = skipComments(s)
	var id string
	if strings.HasPrefix(s, `"`) {
		var b strings.Builder
		for i := 1; i < len(s) && s[i] != '"'; i++ {
			if s[i] == '\\' && i+1 < len(s) {
				i++
			}
			b.WriteByte(s[i])
		}
		id = strings.TrimSpace(b.String())
	} else if i := strings.IndexAny(s, " \t\r\n;("); i >= 0 {
		id = s[:i]
	} else {
		id = s
	}
	return strings.TrimSuffix(id, ".")
}

// skipComments leaves out blanks and comments, which nest.
func skipComments(s string) string {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && depth > 0:
			i++
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n':
			return s[i:]
		}
	}
	return ""
}

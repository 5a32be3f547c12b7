package cloudflare

import (
	"strings"
)

// A TXT record is a list of character-strings of at most 255 bytes (RFC 1035
// 3.3.14), and every reader joins them. Three forms of it meet here:
//
//   - the bytes themselves, joined;
//   - the wire form of the API: quoted strings, split at 255 bytes. The API splits
//     longer ones itself, and older records come back without any quotes;
//   - the shown form, which stands in plans and is compared: the bytes as text,
//     with a backslash before backslashes and \DDD for what is not printable ASCII.

const maxCharacterString = 255

// parseTXT reads the wire form. What is not a well-formed sequence of quoted
// strings is taken as it stands, which is how the API serves it.
func parseTXT(content string) []byte {
	if !strings.HasPrefix(content, `"`) {
		return []byte(content)
	}
	raw := make([]byte, 0, len(content))
	rest := content
	for rest != "" {
		if rest[0] == ' ' || rest[0] == '\t' {
			rest = rest[1:]
			continue
		}
		if rest[0] != '"' {
			return []byte(content)
		}
		rest = rest[1:]
		closed := false
		for rest != "" && !closed {
			switch rest[0] {
			case '"':
				closed = true
				rest = rest[1:]
			case '\\':
				b, n := unescape(rest)
				if n == 0 {
					return []byte(content)
				}
				raw = append(raw, b)
				rest = rest[n:]
			default:
				raw = append(raw, rest[0])
				rest = rest[1:]
			}
		}
		if !closed {
			return []byte(content)
		}
	}
	return raw
}

// quoteTXT writes the wire form.
func quoteTXT(raw []byte) string {
	if len(raw) == 0 {
		return `""`
	}
	var b strings.Builder
	for i, c := range raw {
		if i%maxCharacterString == 0 {
			if i > 0 {
				b.WriteString(`" `)
			}
			b.WriteByte('"')
		}
		if c == '"' {
			b.WriteByte('\\')
			b.WriteByte(c)
			continue
		}
		escape(&b, c)
	}
	b.WriteByte('"')
	return b.String()
}

// showTXT writes the shown form.
func showTXT(raw []byte) string {
	var b strings.Builder
	for _, c := range raw {
		escape(&b, c)
	}
	return b.String()
}

// unshowTXT reads the shown form. A stray backslash stands for itself.
func unshowTXT(text string) []byte {
	raw := make([]byte, 0, len(text))
	for text != "" {
		if text[0] == '\\' {
			if b, n := unescape(text); n > 0 {
				raw = append(raw, b)
				text = text[n:]
				continue
			}
		}
		raw = append(raw, text[0])
		text = text[1:]
	}
	return raw
}

func escape(b *strings.Builder, c byte) {
	switch {
	case c == '\\':
		b.WriteString(`\\`)
	case c < ' ' || c > '~':
		b.WriteByte('\\')
		b.WriteByte('0' + c/100)
		b.WriteByte('0' + c/10%10)
		b.WriteByte('0' + c%10)
	default:
		b.WriteByte(c)
	}
}

// unescape reads one escape at the start of s: \DDD or a backslash before any
// other character (RFC 1035 5.1). n is 0 when there is none.
func unescape(s string) (c byte, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	if !digit(s[1]) {
		return s[1], 2
	}
	if len(s) < 4 || !digit(s[2]) || !digit(s[3]) {
		return 0, 0
	}
	v := int(s[1]-'0')*100 + int(s[2]-'0')*10 + int(s[3]-'0')
	if v > 255 {
		return 0, 0
	}
	return byte(v), 4
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

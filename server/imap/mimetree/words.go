package mimetree

import (
	"encoding/base64"
	"io"
	"strings"
)

// DecodeWords decodes the encoded words of RFC 2047 in a header value; what is
// broken stays as it is. Words of one character set that stand side by side are
// decoded together: many programs cut texts in the middle of a character.
func DecodeWords(s string) string {
	next := strings.Index(s, "=?")
	if next < 0 {
		return s
	}
	var out, octets strings.Builder
	charset := "" // of octets
	flush := func() {
		out.WriteString(inCharset(charset, octets.String()))
		octets.Reset()
	}
	for after := false; next >= 0; next = strings.Index(s, "=?") {
		between := s[:next]
		w, rest, ok := cutWord(s[next:])
		// The space between two words is none, RFC 2047 6.2.
		joined := ok && after && strings.Trim(between, " \t") == ""
		if !joined || !strings.EqualFold(w.charset, charset) {
			flush()
		}
		if !joined {
			out.WriteString(between)
		}
		if after = ok; !ok {
			out.WriteString("=?")
			s = s[next+2:]
			continue
		}
		charset = w.charset
		octets.WriteString(w.octets)
		s = rest
	}
	flush()
	out.WriteString(s)
	return out.String()
}

// maxWord bounds how long an encoded word may be, in octets: RFC 2047 2 says 75,
// and there are programs that put a whole subject into one.
const maxWord = 16 << 10

// word is an encoded word.
type word struct{ charset, octets string }

// cutWord reads the encoded word at the start of s.
func cutWord(s string) (w word, rest string, ok bool) {
	head := s[2:min(len(s), maxWord)]
	charset, head, _ := strings.Cut(head, "?")
	encoding, head, _ := strings.Cut(head, "?")
	text, _, ok := strings.Cut(head, "?=")
	if !ok || charset == "" {
		return word{}, "", false
	}
	rest = s[len("=????=")+len(charset)+len(encoding)+len(text):]
	w.charset, _, _ = strings.Cut(charset, "*") // RFC 2231 5: a language
	switch encoding {
	case "B", "b":
		text = strings.TrimRight(text, "=")
		if len(text)%4 == 1 && len(text) > 1 { // half an octet
			text = text[:len(text)-1]
		}
		b, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil {
			return word{}, "", false
		}
		w.octets = string(b)
	case "Q", "q":
		w.octets = decodeQ(text)
	default:
		return word{}, "", false
	}
	return w, rest, true
}

// decodeQ decodes the Q encoding, RFC 2047 4.2; what is broken stays as it is.
func decodeQ(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '_':
			c = ' '
		case c == '=' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			c = byte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
		}
		b = append(b, c)
	}
	return string(b)
}

// inCharset makes octets UTF-8.
func inCharset(charset, octets string) string {
	r, err := CharsetReader(charset, strings.NewReader(octets))
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(r); err == nil {
			octets = string(b)
		}
	}
	return strings.ToValidUTF8(octets, "\uFFFD")
}

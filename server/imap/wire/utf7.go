package wire

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// nameBase64 is the base64 of modified UTF-7, RFC 3501 5.1.3. It is not strict
// about the bits left over: the comparison below is.
func nameBase64() *base64.Encoding {
	return base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)
}

// DecodeName decodes modified UTF-7. Names that hold UTF-8 as it is, which
// clients send without having enabled it, are taken as they are.
func DecodeName(s string) (string, error) {
	if strings.IndexByte(s, '&') < 0 {
		if !utf8.ValidString(s) {
			return "", ErrMailboxName
		}
		return s, nil
	}
	var out strings.Builder
	enc := nameBase64()
	for rest := s; rest != ""; {
		i := strings.IndexByte(rest, '&')
		if i < 0 {
			out.WriteString(rest)
			break
		}
		out.WriteString(rest[:i])
		rest = rest[i+1:]
		j := strings.IndexByte(rest, '-')
		if j < 0 {
			return "", ErrMailboxName
		}
		shifted := rest[:j]
		rest = rest[j+1:]
		if shifted == "" {
			out.WriteByte('&')
			continue
		}
		b, err := enc.DecodeString(shifted)
		if err != nil || len(b)%2 != 0 {
			return "", ErrMailboxName
		}
		units := make([]uint16, len(b)/2)
		for k := range units {
			units[k] = uint16(b[2*k])<<8 | uint16(b[2*k+1])
		}
		runes := utf16.Decode(units)
		for _, r := range runes {
			if r == utf8.RuneError || r >= ' ' && r <= '~' {
				return "", ErrMailboxName // half a pair, or what must stand for itself
			}
			out.WriteRune(r)
		}
	}
	d := out.String()
	if !utf8.ValidString(d) {
		return "", ErrMailboxName
	}
	return d, nil
}

// EncodeName encodes a name as modified UTF-7.
func EncodeName(s string) string {
	plain := true
	for i := range len(s) {
		if s[i] == '&' || s[i] < ' ' || s[i] > '~' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	var out strings.Builder
	var shifted []rune
	enc := nameBase64()
	flush := func() {
		if len(shifted) == 0 {
			return
		}
		var b []byte
		for _, u := range utf16.Encode(shifted) {
			b = append(b, byte(u>>8), byte(u))
		}
		out.WriteByte('&')
		out.WriteString(enc.EncodeToString(b))
		out.WriteByte('-')
		shifted = shifted[:0]
	}
	for _, r := range s {
		switch {
		case r == '&':
			flush()
			out.WriteString("&-")
		case r >= ' ' && r <= '~':
			flush()
			out.WriteRune(r)
		default:
			shifted = append(shifted, r)
		}
	}
	flush()
	return out.String()
}

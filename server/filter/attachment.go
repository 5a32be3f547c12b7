package filter

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"mailform/server/imap/mimetree"
)

// Bounds on a message that is looked through, below those of mimetree, which
// takes what is beyond them for text.
const (
	maxParts   = 2000
	maxNesting = 40
)

// errComplex says that a message has more in it than can be looked through.
var errComplex = errors.New("too many parts")

// findAttachment returns the name of the first file in a message, or in a zip
// archive in it, that has one of the extensions; "" when there is none. Errors
// are errComplex and the body's.
func findAttachment(body Body, extensions []string) (name string, err error) {
	refused := func(n string) bool {
		e := extension(n)
		return e != "" && slices.Contains(extensions, e)
	}
	s := &search{body: body, refused: refused}
	root, err := mimetree.Parse(section(body))
	if err == nil {
		err = s.part(root, 0)
	}
	return s.name, err
}

// search walks a message's parts until a file is refused.
type search struct {
	body    Body // nil within a message that is encoded as a whole: only names are looked at there
	refused func(string) bool
	parts   int
	name    string
}

func (s *search) part(p *mimetree.Part, depth int) error {
	if s.parts++; s.parts > maxParts || depth > maxNesting {
		return errComplex
	}
	if truncated(p) {
		return errComplex
	}
	names := fileNames(p.Fields)
	if i := slices.IndexFunc(names, s.refused); i >= 0 {
		s.name = names[i]
		return nil
	}
	below := p.Children
	switch {
	case p.Message != nil:
		below = []*mimetree.Part{p.Message}
	case p.Multipart() || s.body == nil:
	case isZip(p, names):
		name, err := findInZip(s.content(p), s.refused)
		s.name = name
		return err
	case p.Type == "message" && p.Subtype == "rfc822": // encoded, which RFC 2046 5.2.1 forbids and programs decode
		inner, err := mimetree.Parse(s.content(p))
		if err != nil {
			return err
		}
		within := &search{refused: s.refused, parts: s.parts}
		err = within.part(inner, depth+1)
		s.name, s.parts = within.name, within.parts
		return err
	}
	for _, c := range below {
		if err := s.part(c, depth+1); err != nil || s.name != "" {
			return err
		}
	}
	return nil
}

// truncated says that mimetree has not kept the whole of a part's header: it has
// lines of more than 16 KiB.
func truncated(p *mimetree.Part) bool {
	kept := int64(len("\r\n"))
	for _, f := range p.Fields {
		kept += int64(len(f.Raw))
	}
	return p.Header.Len() > kept
}

// content reads what a part's encoding hides.
func (s *search) content(p *mimetree.Part) io.Reader {
	return mimetree.Decoded(p.Encoding(), io.NewSectionReader(s.body, p.Body.Start, p.Body.Len()))
}

// extension is what follows the last dot of a file's name, in lower case.
// Windows drops dots and blanks at the end.
func extension(name string) string {
	name = strings.TrimRight(name, ". \t\r\n\x00")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(name[i+1:]))
}

func isZip(p *mimetree.Part, names []string) bool {
	return p.Type == "application" && slices.Contains([]string{"zip", "x-zip", "x-zip-compressed"}, p.Subtype) ||
		slices.ContainsFunc(names, func(n string) bool { return extension(n) == "zip" })
}

// Bounds on the fields of one name, and the parameters of a field, that are
// looked at. Mail programs take the first or the last one of either.
const (
	maxSame   = 10
	maxParams = 200
)

// fileNames lists every name that some mail program may give a part's file:
// programs differ in whether they decode RFC 2231, RFC 2047 or both.
func fileNames(h mimetree.Header) []string {
	var names []string
	add := func(n string) {
		for _, n := range []string{n, mimetree.DecodeWords(n)} {
			if n != "" && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	for _, field := range []string{"Content-Disposition", "Content-Type"} {
		values := h.Values(field)
		if n := len(values); n > maxSame {
			values = append(values[:maxSame/2:maxSame/2], values[n-maxSame/2:]...)
		}
		for _, v := range values {
			_, strict := mimetree.ParseValue(v)
			add(strict["filename"])
			add(strict["name"])
			pieces := map[string][]piece{}
			for _, p := range params(v) {
				base, index, extended := splitParam(p.name)
				if base != "filename" && base != "name" {
					continue
				}
				pieces[base] = append(pieces[base], piece{index, p.value, extended})
			}
			for _, list := range pieces {
				slices.SortStableFunc(list, func(a, b piece) int { return a.index - b.index })
				var whole strings.Builder
				for _, p := range list {
					text := p.decode()
					add(text)
					whole.WriteString(text)
				}
				add(whole.String())
			}
		}
	}
	return names
}

// piece is one parameter of a value in several, RFC 2231 3.
type piece struct {
	index    int
	value    string
	extended bool
}

// decode undoes the percent encoding; the character set matters to no extension.
func (p piece) decode() string {
	if !p.extended {
		return p.value
	}
	text := p.value
	if parts := strings.SplitN(text, "'", 3); len(parts) == 3 {
		text = parts[2]
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if c, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// splitParam takes "filename*1*" apart.
func splitParam(name string) (base string, index int, extended bool) {
	base, rest, ok := strings.Cut(name, "*")
	if !ok {
		return base, 0, false
	}
	digits, extended := strings.CutSuffix(rest, "*")
	if rest == "" {
		extended = true
	}
	index, err := strconv.Atoi(digits)
	if err != nil || index < 0 {
		index = 0
	}
	return base, index, extended
}

type param struct{ name, value string }

// params splits a field's value at its semicolons and takes what it can get: of
// more than maxParams the first half and the last.
func params(v string) []param {
	var list []param
	for len(v) > 0 {
		end, quoted := len(v), false
	scan:
		for i := 0; i < len(v); i++ {
			switch {
			case v[i] == '\\' && quoted:
				i++
			case v[i] == '"':
				quoted = !quoted
			case v[i] == ';' && !quoted:
				end = i
				break scan
			}
		}
		item := v[:end]
		v = v[min(end+1, len(v)):]
		name, value, ok := strings.Cut(item, "=")
		if !ok {
			continue
		}
		p := param{strings.ToLower(strings.TrimSpace(name)), unquote(strings.TrimSpace(value))}
		if len(list) == maxParams {
			copy(list[maxParams/2:], list[maxParams/2+1:])
			list[maxParams-1] = p
			continue
		}
		list = append(list, p)
	}
	return list
}

func unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Bounds on a zip archive that is looked through.
const (
	maxZipEntries = 50_000
	maxZipName    = 256 // octets at a name's end that are looked at
)

// findInZip reads an archive once and looks at the name of every local file
// header and every entry of its directory (APPNOTE 4.3.7 and 4.3.12): programs
// differ in which of the two they believe, and both can be found without the
// archive being whole or at its stream's beginning.
func findInZip(r io.Reader, refused func(string) bool) (string, error) {
	br := bufio.NewReaderSize(r, 128<<10)
	for entries := 0; entries < maxZipEntries; {
		b, err := br.Peek(4)
		if len(b) < 4 {
			if err == io.EOF {
				err = nil
			}
			return "", err
		}
		fixed, length := 0, 0 // the header's own length, and where its name's length stands
		switch {
		case b[0] != 'P':
			ahead, _ := br.Peek(br.Buffered())
			skip := bytes.IndexByte(ahead, 'P')
			if skip < 0 {
				skip = len(ahead)
			}
			_, _ = br.Discard(skip)
			continue
		case string(b) == "PK\x01\x02":
			fixed, length = 46, 28
		case string(b) == "PK\x03\x04":
			fixed, length = 30, 26
		default:
			_, _ = br.Discard(1)
			continue
		}
		entries++
		if h, _ := br.Peek(fixed); len(h) == fixed {
			n := int(binary.LittleEndian.Uint16(h[length:]))
			if whole, _ := br.Peek(fixed + n); len(whole) == fixed+n {
				name := mimetree.ToUTF8(whole[fixed+max(0, n-maxZipName):])
				if refused(name) {
					return name, nil
				}
			}
		}
		_, _ = br.Discard(4)
	}
	return "", errComplex
}

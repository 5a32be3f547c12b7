package imap

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/mimetree"
)

// cut takes the partial range out of a section, RFC 9051 6.4.5.
func cut(r io.Reader, size int64, p *imap.SectionPartial) (io.Reader, int64) {
	if p == nil {
		return r, size
	}
	start := min(max(p.Offset, 0), size)
	n := min(max(p.Size, 0), size-start)
	if sk, ok := r.(io.Seeker); ok {
		if _, err := sk.Seek(start, io.SeekStart); err == nil {
			return io.LimitReader(r, n), n
		}
	}
	return io.LimitReader(&skipReader{r: r, n: start}, n), n
}

// skipReader passes over the first n octets.
type skipReader struct {
	r io.Reader
	n int64
}

func (s *skipReader) Read(p []byte) (int, error) {
	if s.n > 0 {
		k, err := io.CopyN(io.Discard, s.r, s.n)
		if s.n -= k; err != nil {
			return 0, err
		}
	}
	return s.r.Read(p)
}

// bodySection returns a section's octets, as they stand in the message. A part
// that does not exist is empty.
func (c *content) bodySection(item *imap.FetchItemBodySection) (io.Reader, int64, error) {
	span := func(s mimetree.Span) (io.Reader, int64, error) { return c.reader(s), s.Len(), nil }
	if len(item.Part) == 0 && item.Specifier == imap.PartSpecifierNone {
		return span(mimetree.Span{End: c.size})
	}
	tree, err := c.structure()
	if err != nil {
		return nil, 0, err
	}
	p := tree.Find(item.Part)
	if p == nil {
		return bytes.NewReader(nil), 0, nil
	}
	if len(item.Part) > 0 && (item.Specifier == imap.PartSpecifierHeader || item.Specifier == imap.PartSpecifierText) {
		// RFC 9051 6.4.5.1: these are of a message within.
		if p = p.Message; p == nil {
			return bytes.NewReader(nil), 0, nil
		}
	}
	switch item.Specifier {
	case imap.PartSpecifierMIME:
		return span(p.Header)
	case imap.PartSpecifierText:
		return span(p.Body)
	case imap.PartSpecifierHeader:
		fields, not := item.HeaderFields, false
		if len(item.HeaderFieldsNot) > 0 {
			fields, not = item.HeaderFieldsNot, true
		}
		if len(fields) == 0 {
			return span(p.Header)
		}
		b := p.Fields.Bytes(func(name string) bool {
			return not != slices.ContainsFunc(fields, func(f string) bool { return strings.EqualFold(f, name) })
		})
		return bytes.NewReader(b), int64(len(b)), nil
	default:
		return span(p.Body)
	}
}

// errEncoding is the answer to BINARY of a part whose encoding is not known, RFC
// 9051 6.4.5.
var errEncoding = no("UNKNOWN-CTE", "That transfer encoding is not known")

// binarySection returns a part's octets without their transfer encoding, RFC
// 9051 6.4.5.2. The empty part is the whole message as it stands.
func (c *content) binarySection(part []int) (io.Reader, int64, error) {
	if len(part) == 0 {
		s := mimetree.Span{End: c.size}
		return c.reader(s), c.size, nil
	}
	tree, err := c.structure()
	if err != nil {
		return nil, 0, err
	}
	p := tree.Find(part)
	if p == nil {
		return bytes.NewReader(nil), 0, nil
	}
	switch e := p.Encoding(); {
	case p.Multipart(), p.Message != nil, e == "7bit", e == "8bit", e == "binary":
		return c.reader(p.Body), p.Body.Len(), nil
	case e != "base64" && e != "quoted-printable":
		return nil, 0, errEncoding
	}
	// How long it is only decoding tells; a literal must say so beforehand.
	size, err := io.Copy(io.Discard, mimetree.Decoded(p.Encoding(), c.reader(p.Body)))
	if err != nil {
		return nil, 0, err
	}
	return mimetree.Decoded(p.Encoding(), c.reader(p.Body)), size, nil
}

package mimetree

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
)

// WithoutNUL encodes in base64 the parts of a message that hold a NUL, which
// IMAP can only send to clients that ask for BINARY, RFC 3516 4.3. ok is false
// when it cannot: a NUL stands in a header, or outside of the parts.
func WithoutNUL(data []byte) (out []byte, ok bool) {
	if bytes.IndexByte(data, 0) < 0 {
		return data, true
	}
	tree, err := Parse(bytes.NewReader(data))
	if err != nil {
		return nil, false
	}
	last := int64(0)
	tree.Walk(func(p *Part) {
		body := data[p.Body.Start:p.Body.End]
		if p.Multipart() || p.Message != nil || bytes.IndexByte(body, 0) < 0 {
			return
		}
		out = append(out, data[last:p.Header.Start]...)
		for _, f := range p.Fields {
			if !strings.EqualFold(f.Name, "Content-Transfer-Encoding") {
				out = append(out, f.Raw...)
			}
		}
		out = append(out, "Content-Transfer-Encoding: base64\r\n\r\n"...)
		for len(body) > 0 {
			n := min(len(body), 57)
			out = base64.StdEncoding.AppendEncode(out, body[:n])
			out = append(out, "\r\n"...)
			body = body[n:]
		}
		last = p.Body.End
	})
	out = append(out, data[last:]...)
	return out, bytes.IndexByte(out, 0) < 0
}

// HideNUL returns r with every NUL as 0x80.
func HideNUL(r io.Reader) io.Reader { return nulReader{r} }

type nulReader struct{ r io.Reader }

func (n nulReader) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	for b := p[:k]; ; {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return k, err
		}
		b[i] = 0x80
		b = b[i+1:]
	}
}

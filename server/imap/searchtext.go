package imap

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"mailform/server/imap/mimetree"
	"mailform/server/store"
)

// headerKey looks for text in the fields of a name; "" matches any field.
type headerKey struct {
	name, value string
	addresses   bool // also as they are without comments and folding
}

func (k *headerKey) match(q *query, i int, m *store.Message) (bool, error) {
	c, err := q.content(i, m)
	if err != nil {
		return false, err
	}
	h, err := c.header()
	if err != nil {
		return false, err
	}
	for _, v := range h.Values(k.name) {
		if strings.Contains(casemap(mimetree.DecodeWords(v)), k.value) {
			return true, nil
		}
		if !k.addresses {
			continue
		}
		for _, a := range mimetree.ParseAddresses(v) {
			plain := mimetree.DecodeWords(a.Name) + " <" + a.Mailbox + "@" + a.Host + ">"
			if strings.Contains(casemap(plain), k.value) {
				return true, nil
			}
		}
	}
	return false, nil
}

func (*headerKey) cost() int { return costHeader }

// textKey looks for text in the parts of a message that are text, and with
// headers in the headers of all its parts.
type textKey struct {
	needle  string
	headers bool
}

func (*textKey) cost() int { return costBody }

func (k *textKey) match(q *query, i int, m *store.Message) (bool, error) {
	if k.needle == "" {
		return true, nil
	}
	c, err := q.content(i, m)
	if err != nil {
		return false, err
	}
	tree, err := c.structure()
	if err != nil {
		return false, err
	}
	found := false
	tree.Walk(func(p *mimetree.Part) {
		if found || err != nil {
			return
		}
		if k.headers {
			for _, f := range p.Fields {
				if strings.Contains(casemap(f.Name+": "+mimetree.DecodeWords(f.Value())), k.needle) {
					found = true
					return
				}
			}
		}
		if p.Type == "text" && !p.Multipart() {
			r, _ := mimetree.CharsetReader(p.Params["charset"], mimetree.Decoded(p.Encoding(), c.reader(p.Body)))
			found, err = q.find(r, k.needle)
		}
	})
	return found, err
}

// find looks for a folded text in what r yields, without holding all of it.
func (q *query) find(r io.Reader, needle string) (bool, error) {
	if q.buf == nil {
		q.buf = make([]byte, 32<<10)
	}
	var window []byte
	rest := 0 // octets at the start of buf left of a character that was cut
	for {
		n, err := r.Read(q.buf[rest:])
		chunk := q.buf[:rest+n]
		cut := len(chunk)
		if err == nil {
			cut = wholeRunes(chunk)
		}
		window = append(window, casemap(string(chunk[:cut]))...)
		if bytes.Contains(window, []byte(needle)) {
			return true, nil
		}
		if keep := len(needle) - 1; len(window) > keep {
			window = append(window[:0], window[len(window)-keep:]...)
		}
		rest = copy(q.buf, chunk[cut:])
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			if errors.Is(err, store.ErrDamaged) {
				return false, err
			}
			return false, nil // a character set that breaks off
		}
	}
}

// wholeRunes returns how many octets of b are whole characters.
func wholeRunes(b []byte) int {
	for i := 1; i <= utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if utf8.FullRune(b[len(b)-i:]) {
				return len(b)
			}
			return len(b) - i
		}
	}
	return len(b)
}

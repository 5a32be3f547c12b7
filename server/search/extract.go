package search

import (
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/net/html"

	"mailform/server/imap/mimetree"
)

// Source is a message to be read: what store.Read returns is one.
type Source interface {
	io.Reader
	io.ReaderAt
}

// Extract calls f with the folded text of a message, piece by piece: a header
// field at once, a body in pieces that break between words where there is a
// space within 32 KiB. more says that a piece continues the last one. A false from
// f ends it. Pieces are valid until f returns. The error is the source's.
func Extract(src Source, f func(field Field, text string, more bool) bool) error {
	return extract(src, f, new([]byte))
}

// extract is Extract with memory for a piece, which it makes when there is none.
func extract(src Source, f func(field Field, text string, more bool) bool, piece *[]byte) error {
	tree, err := mimetree.ParseLeaf(io.NewSectionReader(src, 0, 1<<62))
	if err == nil && tree == nil { // it has parts, which have to be found
		tree, err = mimetree.Parse(io.NewSectionReader(src, 0, 1<<62))
	}
	if err != nil {
		return err
	}
	x := &extraction{src: src, f: f, buf: piece}
	x.part(tree, true)
	return nil
}

type extraction struct {
	src  Source
	f    func(Field, string, bool) bool
	buf  *[]byte
	more bool // the part has given a piece of its text
	done bool
}

func (x *extraction) give(field Field, text string) {
	if !x.done && text != "" {
		x.done = !x.f(field, text, field == Body && x.more)
		x.more = field == Body
	}
}

// part extracts a part; top says that its header is the message's own.
func (x *extraction) part(p *mimetree.Part, top bool) {
	for _, h := range p.Fields {
		field := Headers
		if top {
			field = fieldOf(h.Name)
		}
		x.give(Headers, Fold(h.Name))
		value := mimetree.DecodeWords(h.Value())
		x.give(field, Fold(value))
		if field&(From|To|Cc|Bcc) != 0 {
			x.addresses(field, h.Value(), value)
		}
		if x.done {
			return
		}
	}
	switch {
	case p.Multipart():
		for _, c := range p.Children {
			if !x.done {
				x.part(c, false)
			}
		}
	case p.Message != nil:
		x.part(p.Message, false)
	case p.Type == "text" && !isAttachment(p):
		x.text(p)
	}
}

// addresses gives those of a field that do not stand in it as they are shown: with
// comments between, folded, or with the name behind them.
func (x *extraction) addresses(field Field, raw, value string) {
	for _, a := range mimetree.ParseAddresses(raw) {
		plain := mimetree.DecodeWords(a.Name) + " <" + a.Mailbox + "@" + a.Host + ">"
		shown := plain
		if a.Name == "" {
			shown = plain[2 : len(plain)-1]
		}
		if a.Host != "" && !x.done && !strings.Contains(value, shown) {
			x.give(field, Fold(plain))
		}
	}
}

func isAttachment(p *mimetree.Part) bool {
	kind, _ := mimetree.ParseValue(p.Fields.Get("Content-Disposition"))
	return strings.EqualFold(kind, "attachment")
}

func (x *extraction) text(p *mimetree.Part) {
	x.more = false
	raw := mimetree.Decoded(p.Encoding(), io.NewSectionReader(x.src, p.Body.Start, p.Body.Len()))
	r, err := mimetree.CharsetReader(p.Params["charset"], raw)
	if err == nil && p.Subtype == "html" {
		x.html(r)
	} else if err == nil {
		x.pieces(r)
	}
}

const piece = 32 << 10

// pieces folds what r yields. A body whose encoding breaks off has the text that
// came until then.
func (x *extraction) pieces(r io.Reader) {
	if *x.buf == nil {
		*x.buf = make([]byte, piece)
	}
	buf := (*x.buf)[:0]
	for !x.done {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			x.folded(buf)
			return
		}
		if len(buf) < cap(buf) {
			continue
		}
		cut := lastBreak(buf)
		x.folded(buf[:cut])
		buf = buf[:copy(buf[:cap(buf)], buf[cut:])]
	}
}

// folded gives octets of a text, which it may change.
func (x *extraction) folded(b []byte) {
	if !foldASCII(b) {
		x.give(Body, Fold(mimetree.ToUTF8(b)))
	} else if len(b) > 0 {
		x.give(Body, unsafe.String(&b[0], len(b))) // for as long as nobody changes b
	}
}

// foldASCII folds text of ASCII alone, where it stands. It says whether it is that;
// of other text some of its ASCII may be folded, which does not matter to Fold.
func foldASCII(b []byte) bool {
	const (
		ones = 0x0101010101010101
		high = 0x80 * ones
	)
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		if x&high != 0 {
			return false
		}
		small := (x + (0x80-'a')*ones) &^ (x + (0x80-'z'-1)*ones) & high
		binary.LittleEndian.PutUint64(b, x^small>>2) // 0x20 each
	}
	for i, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
		if c >= 'a' && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}
	return true
}

// lastBreak is where b can be cut: behind its last white space, or else between
// two characters.
func lastBreak(b []byte) int {
	for i := len(b) - 1; i > len(b)/2; i-- {
		if b[i] == ' ' || b[i] == '\n' || b[i] == '\t' {
			return i + 1
		}
	}
	for i := 1; i <= utf8.UTFMax && i < len(b); i++ {
		if utf8.RuneStart(b[len(b)-i]) && b[len(b)-i] >= 0x80 && !utf8.FullRune(b[len(b)-i:]) {
			return len(b) - i
		}
	}
	return len(b)
}

// html gives the text of a page as it is shown. Inline elements do not separate
// words: "<b>H</b>ello" is one.
func (x *extraction) html(r io.Reader) {
	z := html.NewTokenizer(r)
	z.SetMaxBuf(1 << 20)
	var b strings.Builder
	hidden := 0
	flush := func() {
		if b.Len() > 0 {
			x.give(Body, Fold(mimetree.ToUTF8([]byte(b.String()))))
			b.Reset()
		}
	}
	for !x.done {
		switch z.Next() {
		case html.ErrorToken:
			flush()
			return
		case html.TextToken:
			if hidden == 0 {
				b.Write(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			token := z.Token()
			switch token.Data {
			case "script", "style", "head", "template":
				if token.Type == html.StartTagToken {
					hidden++
				} else if token.Type == html.EndTagToken && hidden > 0 {
					hidden--
				}
			case "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q", "s", "samp",
				"small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr":
			default:
				b.WriteByte('\n')
			}
		}
		if b.Len() >= piece {
			flush()
		}
	}
}

package imap

import (
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/summary"
	"mailform/server/imap/wire"
	"mailform/server/store"
)

// fetchKind is what a FETCH item asks for.
type fetchKind uint8

const (
	fetchUID fetchKind = iota
	fetchFlags
	fetchDate
	fetchSize
	fetchModSeq
	fetchEmailID
	fetchSaveDate
	fetchEnvelope // from here on the message is read
	fetchThreadID
	fetchStructure // BODYSTRUCTURE
	fetchBody      // BODY without a section
	fetchPreview
	fetchSection    // BODY[...]
	fetchBinary     // BINARY[...]
	fetchBinarySize // BINARY.SIZE[...]
	fetchOldHeader  // RFC822.HEADER
	fetchOldText    // RFC822.TEXT
	fetchOldMessage // RFC822
)

// fetchItem is one item of a FETCH.
type fetchItem struct {
	kind    fetchKind
	section *imap.FetchItemBodySection // also of the old and the binary ones: part and partial
	label   string                     // how the response names it
	// summed says that a summary has the answer, of these fields for a section.
	summed bool
	fields summary.FieldSet
}

// reads says that the message must be read for the item.
func (i *fetchItem) reads() bool { return i.kind >= fetchEnvelope }

// kinds is a set of kinds.
type kinds uint32

func (k kinds) has(kind fetchKind) bool { return k&(1<<kind) != 0 }

// fetchRequest is a FETCH, parsed.
type fetchRequest struct {
	items    []fetchItem
	seen     bool // sets \Seen, RFC 9051 6.4.5
	reads    bool // messages must be read, or their summaries
	summed   bool // summaries help
	kinds    kinds
	since    store.ModSeq // CHANGEDSINCE
	vanished bool
	partial  *partial // PARTIAL, RFC 9394
}

// rows says that more of the messages is asked for than view.heads knows.
func (r *fetchRequest) rows() bool {
	return r.reads || r.summed || r.kinds&(1<<fetchDate|1<<fetchSize|1<<fetchEmailID|1<<fetchSaveDate) != 0
}

func (r *fetchRequest) add(i fetchItem) {
	if i.kind < fetchSection {
		if r.kinds.has(i.kind) && slices.ContainsFunc(r.items, func(x fetchItem) bool { return x.kind == i.kind && x.label == i.label }) {
			return
		}
		r.kinds |= 1 << i.kind
	}
	switch i.kind {
	case fetchEnvelope, fetchThreadID, fetchStructure, fetchPreview:
		i.summed = true
	case fetchSection:
		if sec := i.section; len(sec.Part) == 0 && len(sec.HeaderFields) > 0 {
			i.fields, i.summed = summary.FieldsOf(sec.HeaderFields)
		}
	}
	r.items = append(r.items, i)
	r.reads = r.reads || i.reads()
	r.summed = r.summed || i.summed
}

// maxItems bounds the items of a FETCH, and the header fields of one: each costs
// something for every message.
const maxItems = 200

// parseFetch reads the items and modifiers of a FETCH.
func parseFetch(p *wire.Parser) *fetchRequest {
	r := &fetchRequest{}
	p.SP()
	if p.Peek() == '(' {
		p.List(func() { r.item(p) })
	} else {
		switch p.PeekWord() {
		case "ALL":
			r.macro(p, fetchFlags, fetchDate, fetchSize, fetchEnvelope)
		case "FAST":
			r.macro(p, fetchFlags, fetchDate, fetchSize)
		case "FULL":
			r.macro(p, fetchFlags, fetchDate, fetchSize, fetchEnvelope, fetchBody)
		default:
			r.item(p)
		}
	}
	if p.More() {
		p.List(func() {
			switch p.Word() {
			case "CHANGEDSINCE":
				p.SP()
				r.since = store.ModSeq(p.Number64())
				r.add(fetchItem{kind: fetchModSeq})
			case "PARTIAL":
				p.SP()
				r.partial = parsePartial(p)
			case "VANISHED":
				r.vanished = true
			default:
				p.Fail("Unknown modifier of FETCH")
			}
		})
	}
	if p.Err() == nil && len(r.items) == 0 {
		p.Fail("Expected FETCH items")
	}
	return r
}

// onlySummed says that a summary has, mostly, all for which messages are read.
func (r *fetchRequest) onlySummed() bool {
	for i := range r.items {
		if r.items[i].reads() && !r.items[i].summed {
			return false
		}
	}
	return true
}

func (r *fetchRequest) macro(p *wire.Parser, kinds ...fetchKind) {
	p.Word()
	for _, k := range kinds {
		r.add(fetchItem{kind: k})
	}
}

// itemName reads the name of an item, which ends at a bracket.
func itemName(p *wire.Parser) string {
	name := p.PeekWord()
	for i := range len(name) {
		if name[i] == '[' || name[i] == '<' {
			name = name[:i]
			break
		}
	}
	p.Skip(len(name))
	return name
}

func (r *fetchRequest) item(p *wire.Parser) {
	if len(r.items) >= maxItems {
		p.Fail("Too many items")
		return
	}
	name := itemName(p)
	simple := map[string]fetchKind{
		"UID": fetchUID, "FLAGS": fetchFlags, "INTERNALDATE": fetchDate, "RFC822.SIZE": fetchSize, "ENVELOPE": fetchEnvelope,
		"BODYSTRUCTURE": fetchStructure, "MODSEQ": fetchModSeq, "EMAILID": fetchEmailID, "THREADID": fetchThreadID, "SAVEDATE": fetchSaveDate,
	}
	if k, ok := simple[name]; ok {
		r.add(fetchItem{kind: k})
		return
	}
	switch name {
	case "RFC822":
		r.seen = true
		r.add(fetchItem{kind: fetchOldMessage, section: &imap.FetchItemBodySection{}, label: "RFC822"})
	case "RFC822.HEADER":
		r.add(fetchItem{kind: fetchOldHeader, section: &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader}, label: "RFC822.HEADER"})
	case "RFC822.TEXT":
		r.seen = true
		r.add(fetchItem{kind: fetchOldText, section: &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText}, label: "RFC822.TEXT"})
	case "BODY", "BODY.PEEK":
		if p.Peek() != '[' {
			if name == "BODY.PEEK" {
				p.Fail("Expected a section")
			}
			r.add(fetchItem{kind: fetchBody})
			return
		}
		r.seen = r.seen || name == "BODY"
		r.add(parseSection(p, fetchSection, "BODY"))
	case "BINARY", "BINARY.PEEK", "BINARY.SIZE":
		kind := fetchBinary
		label := "BINARY"
		if name == "BINARY.SIZE" {
			kind, label = fetchBinarySize, name
		}
		r.seen = r.seen || name == "BINARY"
		item := parseSection(p, kind, label)
		if item.section.Specifier != imap.PartSpecifierNone || kind == fetchBinarySize && item.section.Partial != nil {
			p.Fail("BINARY takes a part only")
		}
		r.add(item)
	case "PREVIEW", "SNIPPET":
		r.add(parsePreview(p, name))
	default:
		p.Fail("Unknown FETCH item")
	}
}

// parsePreview reads what may be behind PREVIEW, RFC 8970. As it was drafted
// (draft-ietf-extra-imap-fetch-preview), first as SNIPPET, the client names an
// algorithm, of which there is one, and the response does too.
func parsePreview(p *wire.Parser, name string) fetchItem {
	named := name == "SNIPPET"
	if p.Peek() == ' ' && p.PeekAt(1) == '(' {
		p.SP()
		p.List(func() {
			switch p.Word() {
			case "LAZY":
			case "FUZZY", "LAZY=FUZZY":
				named = true
			default:
				p.Fail("Unknown modifier of %s", name)
			}
		})
	}
	if named {
		name += " (FUZZY"
	}
	return fetchItem{kind: fetchPreview, label: name}
}

// closing ends what a preview's label has opened.
func (i *fetchItem) closing() string {
	if strings.Contains(i.label, "(") {
		return ")"
	}
	return ""
}

// parseSection reads "[...]" and a partial range, RFC 9051 6.4.5.
func parseSection(p *wire.Parser, kind fetchKind, label string) fetchItem {
	sec := &imap.FetchItemBodySection{}
	item := fetchItem{kind: kind, section: sec}
	p.Expect('[')
	for c := p.Peek(); c >= '0' && c <= '9'; c = p.Peek() {
		n := p.Number()
		if n == 0 || n > 1<<20 {
			p.Fail("There is no such part")
		}
		sec.Part = append(sec.Part, int(n))
		if !p.Take('.') {
			break
		}
		if len(sec.Part) > 200 {
			p.Fail("A part stands too deep")
		}
		if c := p.Peek(); c < '0' || c > '9' {
			item.specifier(p)
			break
		}
	}
	if len(sec.Part) == 0 && p.Peek() != ']' {
		item.specifier(p)
	}
	p.Expect(']')
	item.label = label + sectionLabel(sec)
	if p.Take('<') {
		partial := &imap.SectionPartial{Offset: int64(p.Number64())}
		p.Expect('.')
		partial.Size = int64(p.Number64())
		p.Expect('>')
		if partial.Size == 0 {
			p.Fail("A part of no octets")
		}
		sec.Partial = partial
	}
	return item
}

// specifier reads HEADER, TEXT and the like.
func (i *fetchItem) specifier(p *wire.Parser) {
	sec := i.section
	name := p.PeekWord()
	if j := slices.Index([]byte(name), ']'); j >= 0 {
		name = name[:j]
	}
	p.Skip(len(name))
	switch name {
	case "HEADER":
		sec.Specifier = imap.PartSpecifierHeader
	case "TEXT":
		sec.Specifier = imap.PartSpecifierText
	case "MIME":
		if sec.Specifier = imap.PartSpecifierMIME; len(sec.Part) == 0 {
			p.Fail("MIME needs a part")
		}
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		sec.Specifier = imap.PartSpecifierHeader
		p.SP()
		var fields []string
		p.List(func() { fields = append(fields, p.AString()) })
		if len(fields) == 0 || len(fields) > maxItems {
			p.Fail("Expected header fields, %d at most", maxItems)
		}
		if name == "HEADER.FIELDS" {
			sec.HeaderFields = fields
		} else {
			sec.HeaderFieldsNot = fields
		}
	default:
		p.Fail("Unknown section")
	}
}

// sectionLabel is a section as a response names it.
func sectionLabel(sec *imap.FetchItemBodySection) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, n := range sec.Part {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(strconv.Itoa(n))
	}
	if sec.Specifier != imap.PartSpecifierNone {
		if len(sec.Part) > 0 {
			b.WriteByte('.')
		}
		b.WriteString(string(sec.Specifier))
	}
	fields := sec.HeaderFields
	if len(sec.HeaderFieldsNot) > 0 {
		b.WriteString(".FIELDS.NOT")
		fields = sec.HeaderFieldsNot
	} else if len(fields) > 0 {
		b.WriteString(".FIELDS")
	}
	for i, f := range fields {
		b.WriteString([]string{" (", " "}[min(i, 1)])
		if atom := f != "" && !strings.ContainsFunc(f, func(r rune) bool { return r > 0x7e || !wire.IsAtomChar(byte(r)) }); atom {
			b.WriteString(f)
		} else {
			b.WriteString(strconv.QuoteToASCII(f))
		}
	}
	if len(fields) > 0 {
		b.WriteByte(')')
	}
	b.WriteByte(']')
	return b.String()
}

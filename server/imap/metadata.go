package imap

import (
	"errors"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/wire"
	"mailform/server/store"
)

// getMetadata implements GETMETADATA, RFC 5464 4.2.
func (s *session) getMetadata(cmd *command) error {
	p := cmd.p
	p.SP()
	maxSize, depth := int64(-1), 0
	if p.Peek() == '(' {
		p.List(func() {
			switch p.Word() {
			case "MAXSIZE":
				p.SP()
				maxSize = int64(p.Number())
			case "DEPTH":
				p.SP()
				switch p.Word() {
				case "0":
					depth = 0
				case "1":
					depth = 1
				case "INFINITY":
					depth = maxMetadataDepth
				default:
					p.Fail("Expected 0, 1 or infinity")
				}
			default:
				p.Fail("Unknown option of GETMETADATA")
			}
		})
		p.SP()
	}
	name := p.Mailbox()
	p.SP()
	asked := map[string]bool{}
	if p.Peek() == '(' {
		p.List(func() { asked[metadataAsked(p)] = true })
	} else {
		asked[metadataAsked(p)] = true
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	have, err := s.store.Metadata(s.ctx, s.account, name)
	if err != nil {
		return err
	}
	var found []store.MetadataEntry
	longest := 0
	for _, e := range have {
		if !askedFor(asked, depth, e.Name) {
			continue
		}
		if maxSize >= 0 && int64(len(e.Value)) > maxSize {
			longest = max(longest, len(e.Value))
			continue
		}
		found = append(found, e)
	}
	s.writeMetadata(name, found)
	if longest > 0 {
		cmd.code = "METADATA LONGENTRIES " + strconv.Itoa(longest)
	}
	return nil
}

// maxMetadataDepth is as deep as a name can go.
const maxMetadataDepth = 256

// metadataName reads an entry's name, RFC 5464 3.
func metadataName(p *wire.Parser) string {
	name := strings.ToLower(p.AString())
	if !strings.HasPrefix(name, "/private/") && !strings.HasPrefix(name, "/shared/") || strings.HasSuffix(name, "/") ||
		strings.Contains(name, "//") || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || r == '%' }) {
		p.Fail("That is no name of an annotation")
	}
	return name
}

// metadataAsked reads the name of an entry that is asked for, or of all that there
// are of one kind, which DEPTH is for.
func metadataAsked(p *wire.Parser) string {
	at := *p
	if name := strings.ToLower(p.AString()); name == "/private" || name == "/shared" {
		return name
	}
	*p = at
	return metadataName(p)
}

// askedFor says whether an entry is asked for, or stands at most depth levels
// below one that is.
func askedFor(asked map[string]bool, depth int, name string) bool {
	for ; depth > 0 && !asked[name]; depth-- {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return false
		}
		name = name[:i]
	}
	return asked[name]
}

// writeMetadata writes a METADATA response, if there is anything to say.
func (s *session) writeMetadata(name string, entries []store.MetadataEntry) {
	if len(entries) == 0 {
		return
	}
	w := s.out
	w.Raw("* METADATA ")
	w.Mailbox(name)
	for i, e := range entries {
		w.Raw([]string{" (", " "}[min(i, 1)])
		w.Raw(e.Name)
		w.Byte(' ')
		if strings.IndexByte(string(e.Value), 0) >= 0 {
			w.LiteralHead(int64(len(e.Value)), true)
			w.Bytes(e.Value)
		} else {
			w.String(string(e.Value))
		}
	}
	w.Byte(')')
	w.CRLF()
}

// setMetadata implements SETMETADATA, RFC 5464 4.3.
func (s *session) setMetadata(cmd *command) error {
	p := cmd.p
	p.SP()
	name := p.Mailbox()
	p.SP()
	var entries []store.MetadataEntry
	p.List(func() {
		e := store.MetadataEntry{Name: metadataName(p)}
		p.SP()
		if value, ok := p.NString(); ok {
			e.Value = []byte(value)
		}
		entries = append(entries, e)
	})
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	for _, e := range entries {
		if len(e.Value) > store.MaxMetadataValue {
			return no(imap.ResponseCode("METADATA MAXSIZE "+strconv.Itoa(store.MaxMetadataValue)), "The annotation is too large")
		}
	}
	err := s.store.SetMetadata(s.ctx, s.account, name, entries)
	if errors.Is(err, store.ErrMetadata) {
		return no("METADATA TOOMANY", "There are too many annotations")
	}
	return err
}

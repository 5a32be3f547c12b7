package mimetree

import (
	"bytes"
	"slices"
	"strings"
)

// Address is one address of a header field as IMAP's ENVELOPE shows it: names
// stay in their encoded form. The start of a group has only a Mailbox, its
// name; the end of one has nothing, RFC 9051 7.5.2.
type Address struct {
	Name, Route, Mailbox, Host string
}

// ParseAddresses reads an address list. It takes anything: what is not an
// address becomes one whose host is "" or whose name is missing.
func ParseAddresses(v string) []Address {
	p := &addressParser{s: v}
	var out []Address
	for {
		p.skip(", ")
		if p.done() {
			return out
		}
		before := p.pos
		if a, ok := p.one(&out); ok {
			out = append(out, a)
		}
		if p.pos == before {
			p.pos++ // never stand still
		}
		if len(out) > maxAddresses {
			return out
		}
	}
}

const maxAddresses = 10_000

type addressParser struct {
	s        string
	pos      int
	group    bool
	unclosed bool // from some quote on none closes it, also of those behind
}

func (p *addressParser) done() bool { return p.pos >= len(p.s) }

func (p *addressParser) skip(set string) {
	for !p.done() && strings.IndexByte(set, p.s[p.pos]) >= 0 {
		p.pos++
	}
}

// phrase is the words of an address: the name that stands ahead of angles, or the
// address itself.
type phrase struct {
	words []string
	specs [][]byte // the words, those together that belong to one address
	open  bool     // nothing stands between the last one and what comes next
	hasAt bool     // there is an address among them
}

func (w *phrase) add(word string) {
	w.words = append(w.words, word)
	w.hasAt = w.hasAt || strings.Contains(word, "@")
	last := len(w.specs) - 1
	// RFC 5322 3.4.1: there may be space around the dots and the "@".
	if last >= 0 && (w.open || bytes.HasSuffix(w.specs[last], []byte(".")) || bytes.HasSuffix(w.specs[last], []byte("@")) ||
		strings.HasPrefix(word, ".") || strings.HasPrefix(word, "@")) {
		w.specs[last] = append(w.specs[last], word...)
	} else {
		w.specs = append(w.specs, []byte(word))
	}
	w.open = true
}

func (w *phrase) String() string { return strings.Join(w.words, " ") }

// address is what the words are without angles: of several the last one with an
// "@" is the address, and the others are its name.
func (w *phrase) address(comment string) (Address, bool) {
	if len(w.specs) == 0 || len(w.specs) == 1 && len(w.specs[0]) == 0 {
		return Address{}, false
	}
	for i := len(w.specs) - 1; i >= 0; i-- {
		if a := split(strings.Trim(string(w.specs[i]), "<>")); a.Host != "" {
			if a.Name = string(bytes.Join(slices.Delete(w.specs, i, i+1), []byte(" "))); a.Name == "" {
				a.Name = comment
			}
			return a, true
		}
	}
	mailbox := w.String()
	if len(w.specs) == 1 {
		mailbox = split(string(w.specs[0])).Mailbox
	}
	a := Address{Name: comment, Mailbox: mailbox}
	if mailbox != "" {
		a.Host = "MISSING_DOMAIN"
	}
	return a, true
}

// one reads up to the next comma, or to the end of a group. A group's start
// and end go to out as they are met.
func (p *addressParser) one(out *[]Address) (Address, bool) {
	var words phrase
	var comment string
	flush := func() (Address, bool) { return words.address(comment) }
	for !p.done() {
		switch c := p.s[p.pos]; c {
		case ' ':
			p.pos++
			words.open = false
		case ',':
			p.pos++
			return flush()
		case ';':
			p.pos++
			a, ok := flush()
			if ok {
				*out = append(*out, a)
			}
			if p.group {
				p.group = false
				*out = append(*out, Address{})
			}
			return Address{}, false
		case ':':
			p.pos++
			if !p.group && !words.hasAt {
				p.group = true
				*out = append(*out, Address{Mailbox: words.String()})
				return Address{}, false
			}
			words.add(":")
		case '(':
			comment = p.comment()
			words.open = false
		case '"':
			if w, ok := p.quoted(); ok {
				words.add(w)
			}
		case '<':
			route, spec := unroute(p.angle())
			a := split(spec)
			a.Route = route
			if a.Name = words.String(); a.Name == "" {
				a.Name = comment
			}
			if a.Mailbox == "" && a.Host == "" {
				a.Host = "MISSING_DOMAIN"
				a.Mailbox = "MISSING_MAILBOX"
			} else if a.Host == "" {
				a.Host = "MISSING_DOMAIN"
			}
			p.tail()
			return a, true
		default:
			words.add(p.word())
		}
	}
	a, ok := flush()
	if p.group {
		p.group = false
		if ok {
			*out = append(*out, a)
		}
		*out = append(*out, Address{})
		return Address{}, false
	}
	return a, ok
}

// tail passes over what stands between an angle address and the comma, unless
// it ends a group.
func (p *addressParser) tail() {
	for !p.done() {
		switch p.s[p.pos] {
		case ',':
			p.pos++
			return
		case ';':
			return
		case '(':
			p.comment()
		case '"':
			_, _ = p.quoted()
		default:
			p.pos++
		}
	}
}

func (p *addressParser) word() string {
	start := p.pos
	for !p.done() && strings.IndexByte(` ,;:("<`, p.s[p.pos]) < 0 {
		p.pos++
	}
	return p.s[start:p.pos]
}

// quoted reads a quoted string. A quote that is never closed is passed over alone:
// what is behind it counts.
func (p *addressParser) quoted() (_ string, ok bool) {
	var b strings.Builder
	start := p.pos
	for p.pos++; !p.done() && !p.unclosed; p.pos++ {
		c := p.s[p.pos]
		if c == '"' {
			p.pos++
			return b.String(), true
		}
		if c == '\\' && p.pos+1 < len(p.s) {
			p.pos++
			c = p.s[p.pos]
		}
		b.WriteByte(c)
	}
	p.pos, p.unclosed = start+1, true
	return "", false
}

func (p *addressParser) comment() string {
	var b strings.Builder
	depth := 0
	for ; !p.done(); p.pos++ {
		c := p.s[p.pos]
		switch c {
		case '(':
			if depth++; depth == 1 {
				continue
			}
		case ')':
			if depth--; depth == 0 {
				p.pos++
				return strings.TrimSpace(b.String())
			}
		case '\\':
			if p.pos+1 < len(p.s) {
				p.pos++
				c = p.s[p.pos]
			}
		}
		b.WriteByte(c)
	}
	return strings.TrimSpace(b.String())
}

// angle reads what is between the angles. When they are not closed the address
// ends at a comma, which otherwise stands only in a source route.
func (p *addressParser) angle() string {
	var b strings.Builder
	for p.pos++; !p.done(); {
		switch c := p.s[p.pos]; c {
		case '>':
			p.pos++
			return b.String()
		case ',':
			if !strings.HasPrefix(b.String(), "@") {
				return b.String()
			}
			b.WriteByte(c)
			p.pos++
		case '"':
			w, _ := p.quoted()
			b.WriteString(w)
		case '<': // one too many
			p.pos++
		case '(':
			p.comment()
		case ' ':
			p.pos++
		default:
			b.WriteByte(c)
			p.pos++
		}
	}
	return b.String()
}

// unroute takes a source route off, RFC 5322 4.4.
func unroute(s string) (route, spec string) {
	if strings.HasPrefix(s, "@") {
		if i := strings.IndexByte(s, ':'); i >= 0 {
			return s[:i], s[i+1:]
		}
	}
	return "", s
}

func split(s string) Address {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return Address{Mailbox: s}
	}
	return Address{Mailbox: s[:i], Host: s[i+1:]}
}

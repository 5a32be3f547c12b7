package mimetree

import "strings"

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
	s     string
	pos   int
	group bool
}

func (p *addressParser) done() bool { return p.pos >= len(p.s) }

func (p *addressParser) skip(set string) {
	for !p.done() && strings.IndexByte(set, p.s[p.pos]) >= 0 {
		p.pos++
	}
}

// one reads up to the next comma, or to the end of a group. A group's start
// and end go to out as they are met.
func (p *addressParser) one(out *[]Address) (Address, bool) {
	var words []string // the phrase, or the address itself
	var comment string
	var joined strings.Builder // words without the spaces between them, for an address without angles
	flush := func() (Address, bool) {
		if joined.Len() == 0 {
			return Address{}, false
		}
		a := split(joined.String())
		if a.Host == "" && len(words) > 1 {
			a = Address{Mailbox: strings.Join(words, " ")}
		}
		a.Name = comment
		if a.Host == "" && a.Mailbox != "" {
			a.Host = "MISSING_DOMAIN"
		}
		return a, true
	}
	for !p.done() {
		switch c := p.s[p.pos]; c {
		case ' ':
			p.pos++
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
			if !p.group && !strings.Contains(joined.String(), "@") {
				p.group = true
				*out = append(*out, Address{Mailbox: strings.Join(words, " ")})
				return Address{}, false
			}
			joined.WriteByte(c)
		case '(':
			comment = p.comment()
		case '"':
			w := p.quoted()
			words = append(words, w)
			joined.WriteString(w)
		case '<':
			route, spec := unroute(p.angle())
			a := split(spec)
			a.Route = route
			a.Name = strings.Join(words, " ")
			if a.Name == "" {
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
			w := p.word()
			words = append(words, w)
			joined.WriteString(w)
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
			p.quoted()
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

func (p *addressParser) quoted() string {
	var b strings.Builder
	for p.pos++; !p.done(); p.pos++ {
		c := p.s[p.pos]
		if c == '"' {
			p.pos++
			break
		}
		if c == '\\' && p.pos+1 < len(p.s) {
			p.pos++
			c = p.s[p.pos]
		}
		b.WriteByte(c)
	}
	return b.String()
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

// angle reads what is between the angles.
func (p *addressParser) angle() string {
	var b strings.Builder
	for p.pos++; !p.done(); {
		switch c := p.s[p.pos]; c {
		case '>':
			p.pos++
			return b.String()
		case '"':
			b.WriteString(p.quoted())
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

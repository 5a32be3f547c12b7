package specs

import (
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// addressBook knows who receives what in all domains of the spec.
type addressBook struct {
	domains map[string]*builtDomain
	entries map[string]*entry // by full address
}

// entry is one address.
type entry struct {
	what    string // "mailbox", "alias" or "alias of mailbox …"
	at      hcl.Range
	header  hcl.Range
	mailbox string // full address of the mailbox it leads to; "" for an alias
	alias   *Alias
	node    *node // of an alias
}

// checkMail checks mailboxes, aliases and catch-alls of all domains together,
// and makes the addresses that always exist.
func (l *loader) checkMail(b *built) {
	book := &addressBook{domains: map[string]*builtDomain{}, entries: map[string]*entry{}}
	for _, d := range b.domains {
		if d.Name == "" {
			continue
		}
		if book.domains[d.Name] == nil {
			book.domains[d.Name] = d
		}
		l.enter(book, d)
	}
	for _, d := range b.domains {
		l.checkCatchAll(book, d)
	}
	for _, d := range b.domains {
		if d.Name != "" && book.domains[d.Name] == d {
			l.makePostmaster(b, book, d)
		}
	}
	l.checkContact(b, book)
	for _, d := range b.domains {
		for _, a := range d.Aliases {
			l.checkTargets(book, d, d.aliases[a])
		}
		l.checkReportTargets(book, d)
	}
	l.checkCycles(book)
}

// enter files a domain's addresses, mailboxes first so that an alias that takes
// a mailbox's name is the one reported.
func (l *loader) enter(book *addressBook, d *builtDomain) {
	add := func(local string, e *entry) {
		if local == "" {
			return
		}
		a := local + "@" + d.Name
		if f := book.entries[a]; f != nil {
			l.errorAt(codeAddressTaken, e.at, e.header, fmt.Sprintf("%s exists already", a), fmt.Sprintf("It is the %s at %s. Every address has one meaning; to give copies to several people, use an alias.", f.what, rangeOf(f.at)))
			return
		}
		book.entries[a] = e
	}
	for _, m := range d.Mailboxes {
		n := d.mailboxes[m]
		add(m.Local, &entry{what: "mailbox", at: n.labels[0].at, header: n.header, mailbox: m.Local + "@" + d.Name})
	}
	for _, m := range d.Mailboxes {
		n := d.mailboxes[m]
		for _, it := range n.values["aliases"].items {
			local, _ := it.v.(string)
			add(local, &entry{what: fmt.Sprintf("alias of mailbox %q", m.Local), at: it.at, header: n.header, mailbox: m.Local + "@" + d.Name})
		}
	}
	for _, a := range d.Aliases {
		n := d.aliases[a]
		add(a.Local, &entry{what: "alias", at: n.labels[0].at, header: n.header, alias: a, node: n})
	}
}

// checkCatchAll resolves catch_all to a mailbox of the domain.
func (l *loader) checkCatchAll(book *addressBook, d *builtDomain) {
	if d.CatchAll == "" || d.Name == "" {
		return
	}
	if e := book.entries[d.CatchAll+"@"+d.Name]; e != nil && e.mailbox != "" {
		d.CatchAll, _ = splitAddress(e.mailbox)
		return
	}
	if d.refusedNames() {
		return
	}
	var names []string
	for _, m := range d.Mailboxes {
		names = append(names, m.Local)
	}
	detail := "It must be the name of a mailbox of this domain."
	if near := spell(d.CatchAll, names); near != "" {
		detail = fmt.Sprintf("Did you mean %q?", near)
	}
	l.errorAt(codeUnknownCatchAll, d.n.at("catch_all"), d.n.header, fmt.Sprintf("no mailbox %q", d.CatchAll), detail)
}

// makePostmaster adds postmaster (RFC 5321 4.5.1) and abuse (RFC 2142 4) where
// nothing takes them.
func (l *loader) makePostmaster(b *built, book *addressBook, d *builtDomain) {
	for _, local := range [...]string{"abuse", "postmaster"} {
		a := local + "@" + d.Name
		if book.entries[a] != nil {
			continue
		}
		to := responsible(b, book, d)
		if to == "" && d.refusedNames() {
			return
		}
		if to == "" {
			l.errorAt(codeNoPostmaster, d.n.header, hcl.Range{}, fmt.Sprintf("nobody would receive mail for postmaster@%s", d.Name),
				"Every mail domain must have postmaster and abuse. Add a mailbox, an alias \"postmaster\", or a contact to the stack block.")
			return
		}
		alias := &Alias{Local: local, To: []string{to}, Implicit: true, Range: d.Range}
		d.Aliases = append(d.Aliases, alias)
		book.entries[a] = &entry{what: "address that always exists", at: d.n.header, alias: alias}
	}
}

// responsible is who receives postmaster and abuse of a domain: the stack's
// contact if it is a mailbox here, else catch_all, else the domain's first
// mailbox by name, else the first mailbox of the spec, else the contact.
func responsible(b *built, book *addressBook, d *builtDomain) string {
	contact := b.spec.Stack.Contact
	local, at := splitAddress(contact)
	if e := book.entries[baseLocal(local)+"@"+at]; e != nil && e.mailbox != "" {
		return e.mailbox
	}
	if d.CatchAll != "" {
		return d.CatchAll + "@" + d.Name
	}
	if m := firstMailbox(d); m != "" {
		return m
	}
	var all []string
	for _, o := range b.domains {
		if m := firstMailbox(o); m != "" {
			all = append(all, m)
		}
	}
	if len(all) > 0 {
		sort.Slice(all, func(i, j int) bool { return domainFirst(all[i]) < domainFirst(all[j]) })
		return all[0]
	}
	if book.domains[at] == nil {
		return contact
	}
	return ""
}

func domainFirst(a string) string {
	local, domain := splitAddress(a)
	return domain + "\x00" + local
}

func firstMailbox(d *builtDomain) string {
	best := ""
	for _, m := range d.Mailboxes {
		if m.Local != "" && (best == "" || m.Local < best) {
			best = m.Local
		}
	}
	if best == "" || d.Name == "" {
		return ""
	}
	return best + "@" + d.Name
}

// checkContact warns when the contact is one of ours and nothing receives it.
func (l *loader) checkContact(b *built, book *addressBook) {
	contact := b.spec.Stack.Contact
	if contact == "" || book.delivers(contact) {
		return
	}
	n := first(b.root, "stack")
	l.warnAt(codeContactUnreachable, n.at("contact"), n.header, fmt.Sprintf("nobody receives mail for %s", contact), "The domain is one of this spec, but it has no such mailbox or alias and no catch_all. Alerts would be lost.")
}

// delivers reports whether an address is somebody else's, or one of ours that exists.
func (book *addressBook) delivers(a string) bool {
	local, at := splitAddress(a)
	d := book.domains[at]
	if d == nil {
		return true
	}
	return book.entries[baseLocal(local)+"@"+at] != nil || d.CatchAll != "" || d.refusedNames()
}

// checkTargets finds targets in our own domains that do not exist. catch_all
// would take them, but a name that is written down is meant.
func (l *loader) checkTargets(book *addressBook, d *builtDomain, n *node) {
	if n == nil || d.Name == "" {
		return
	}
	for _, it := range n.values["to"].items {
		if t, ok := it.v.(string); ok {
			l.checkRecipient(book, d, n, it.at, t)
		}
	}
}

// checkReportTargets finds report addresses in our own domains that do not exist.
func (l *loader) checkReportTargets(book *addressBook, d *builtDomain) {
	if d.Name == "" {
		return
	}
	var blocks []*node
	if d.DMARC != nil {
		blocks = append(blocks, d.n.blocks["dmarc"]...)
	}
	for _, n := range append(blocks, d.n.blocks["tls_rpt"]...) {
		for _, it := range n.values["reports"].items {
			if t, ok := it.v.(string); ok {
				l.checkRecipient(book, d, n, it.at, t)
			}
		}
	}
}

func (l *loader) checkRecipient(book *addressBook, d *builtDomain, n *node, at hcl.Range, recipient string) {
	local, domain := splitAddress(full(recipient, d.Name))
	home := book.domains[domain]
	if home == nil || book.entries[baseLocal(local)+"@"+domain] != nil {
		return
	}
	if home.refusedNames() {
		return
	}
	prefix := local + "@" + domain
	detail := fmt.Sprintf("%s has no such mailbox or alias.", domain)
	if near := spell(local, home.locals()); near != "" {
		detail += fmt.Sprintf(" Did you mean %q?", near)
	}
	l.errorAt(codeUnknownRecipient, at, n.header, fmt.Sprintf("%s does not exist", prefix), detail)
}

// refusedNames reports whether a mailbox's or alias's name was refused: that may
// be the one that something else misses.
func (d *builtDomain) refusedNames() bool {
	for _, kind := range [...]string{"mailbox", "alias"} {
		for _, n := range d.n.blocks[kind] {
			if n.labels[0].bad {
				return true
			}
		}
	}
	return false
}

// locals lists the local parts a domain serves.
func (d *builtDomain) locals() []string {
	var out []string
	for _, m := range d.Mailboxes {
		out = append(append(out, m.Local), m.Aliases...)
	}
	for _, a := range d.Aliases {
		out = append(out, a.Local)
	}
	sort.Strings(out)
	return out
}

// checkCycles finds aliases that lead back to themselves.
func (l *loader) checkCycles(book *addressBook) {
	addresses := make([]string, 0, len(book.entries))
	for a, e := range book.entries {
		if e.alias != nil {
			addresses = append(addresses, a)
		}
	}
	sort.Strings(addresses)
	state := make(map[string]uint8, len(addresses))
	for _, a := range addresses {
		l.walkAlias(book, a, state, nil)
	}
}

func (l *loader) walkAlias(book *addressBook, a string, state map[string]uint8, path []string) {
	e := book.entries[a]
	if e == nil || e.alias == nil || state[a] == visitDone {
		return
	}
	if state[a] == visitOpen {
		for path[0] != a {
			path = path[1:]
		}
		l.errorAt(codeAliasCycle, e.at, e.header, fmt.Sprintf("alias %s leads back to itself", a), strings.Join(append(path, a), " → ")+". Mail to it would go round for ever; take one of the steps out.")
		return
	}
	state[a] = visitOpen
	path = append(path, a)
	for _, t := range e.alias.To {
		local, domain := splitAddress(t)
		l.walkAlias(book, baseLocal(local)+"@"+domain, state, path)
	}
	state[a] = visitDone
}

package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailform/server/store"
)

// listOptions is what a LIST asks for, RFC 9051 6.3.9.
type listOptions struct {
	lsub      bool
	ref       string
	patterns  []string
	selectSub bool // only what is subscribed
	recursive bool // RECURSIVEMATCH
	selectUse bool // only what has a special use
	returnSub bool
	children  bool     // of what does not exist, too; of what does they are always shown
	status    []string // items of STATUS, in order
}

// response is the name of the response that shows a mailbox.
func (o *listOptions) response() string {
	if o.lsub {
		return "LSUB"
	}
	return "LIST"
}

// list implements LIST with the options of RFC 5258, RFC 5819 and RFC 6154.
func (s *session) list(cmd *command) error {
	p := cmd.p
	o := &listOptions{}
	p.SP()
	selected := false
	if p.Peek() == '(' {
		p.List(func() {
			switch p.Word() {
			case "SUBSCRIBED":
				o.selectSub, selected = true, true
			case "SPECIAL-USE":
				o.selectUse, selected = true, true
			case "RECURSIVEMATCH":
				o.recursive = true
			case "REMOTE": // there are none
			default:
				p.Fail("Unknown selection option")
			}
		})
		p.SP()
		if o.recursive && !selected {
			p.Fail("RECURSIVEMATCH needs another option to match")
		}
	}
	o.ref = p.Mailbox()
	p.SP()
	if p.Peek() == '(' {
		p.List(func() { o.patterns = append(o.patterns, p.Pattern()) })
	} else {
		o.patterns = append(o.patterns, p.Pattern())
	}
	if p.More() {
		if p.Word() != "RETURN" {
			p.Fail("Expected RETURN")
		}
		p.SP()
		p.List(func() {
			switch p.Word() {
			case "SUBSCRIBED":
				o.returnSub = true
			case "CHILDREN":
				o.children = true
			case "SPECIAL-USE": // always shown
			case "STATUS":
				p.SP()
				o.status = statusItems(p)
			default:
				p.Fail("Unknown return option")
			}
		})
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	return s.listNames(o)
}

// lsub implements LSUB, RFC 3501 6.3.9.
func (s *session) lsub(cmd *command) error {
	p := cmd.p
	p.SP()
	o := &listOptions{lsub: true, selectSub: true, ref: p.Mailbox()}
	p.SP()
	o.patterns = []string{p.Pattern()}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	return s.listNames(o)
}

func (s *session) listNames(o *listOptions) error {
	if len(o.patterns) == 1 && o.patterns[0] == "" {
		// RFC 9051 6.3.9: an empty pattern asks for the delimiter.
		s.out.Raw("* " + o.response() + " (\\Noselect) \"/\" \"\"\r\n")
		return nil
	}
	pattern, err := newListPattern(o.ref, o.patterns)
	if err != nil {
		return err
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	switch {
	case o.selectSub && o.recursive:
		markParents(names, pattern)
	case o.lsub && strings.HasSuffix(o.patterns[0], "%"):
		markParents(names, pattern)
	}
	order := make([]string, 0, len(names))
	for name := range names {
		order = append(order, name)
	}
	slices.SortFunc(order, compareNames)
	if slices.Contains(o.status, "HIGHESTMODSEQ") {
		s.useCondStore()
	}
	for _, name := range order {
		l := names[name]
		switch {
		case !pattern.match(name, nil):
			continue
		case o.selectSub && !l.subscribed && !l.below:
			continue
		case !o.selectSub && !l.exists:
			continue
		case o.selectUse && l.info.SpecialUse == "":
			continue
		}
		s.writeList(name, l, o)
		if o.status != nil && l.exists {
			if err := s.writeStatus(l.info, o.status); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeList writes a LIST or LSUB response.
func (s *session) writeList(name string, l *listed, o *listOptions) {
	w := s.out
	w.Raw("* " + o.response() + " (")
	for i, a := range l.attributes(o) {
		if i > 0 {
			w.Raw(" ")
		}
		w.Raw(string(a))
	}
	w.Raw(") \"/\" ")
	w.Mailbox(name)
	if l.below && o.recursive {
		w.Raw(" (CHILDINFO (\"SUBSCRIBED\"))")
	}
	w.CRLF()
}

// listed is a name that LIST may show: a mailbox, a subscription to what does
// not exist, or a level above one of these.
type listed struct {
	info       store.MailboxInfo
	exists     bool
	subscribed bool
	children   bool // mailboxes below it
	// below says that something subscribed is below it that is not listed itself.
	below bool
}

func compareNames(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == "INBOX":
		return -1
	case b == "INBOX":
		return 1
	}
	return strings.Compare(a, b)
}

// names returns all mailboxes and all subscriptions.
func (s *session) names() (map[string]*listed, error) {
	boxes, err := s.store.Mailboxes(s.ctx, s.account)
	if err != nil {
		return nil, err
	}
	subs, err := s.store.Subscriptions(s.ctx, s.account)
	if err != nil {
		return nil, err
	}
	names := make(map[string]*listed, len(boxes)+len(subs))
	for _, b := range boxes {
		names[b.Name] = &listed{info: b, exists: true, subscribed: b.Subscribed}
	}
	for _, b := range boxes {
		for _, p := range levelsAbove(b.Name) {
			if l := names[p]; l != nil {
				l.children = true
			}
		}
	}
	for _, sub := range subs {
		if names[sub] == nil {
			names[sub] = &listed{subscribed: true}
		}
	}
	return names, nil
}

// levelsAbove returns the names above a name.
func levelsAbove(name string) []string {
	var l []string
	for i, r := range name {
		if r == delimiter {
			l = append(l, name[:i])
		}
	}
	return l
}

// markParents adds the levels above subscribed names that the pattern does not
// reach: RFC 9051 6.3.9.6 RECURSIVEMATCH, and LSUB's "%", RFC 3501 6.3.9.
func markParents(names map[string]*listed, pattern *listPattern) {
	var reached []string
	for name, l := range names {
		n := len(reached)
		if l.subscribed && pattern.match(name, func(length int) { reached = append(reached, name[:length]) }) {
			reached = reached[:n]
		}
	}
	for _, p := range reached {
		if names[p] == nil {
			names[p] = &listed{}
		}
		names[p].below = true
	}
}

// attributes are what a LIST says of a name.
func (l *listed) attributes(o *listOptions) (attrs []imap.MailboxAttr) {
	switch {
	case o.lsub && !l.subscribed:
		attrs = append(attrs, imap.MailboxAttrNoSelect)
	case o.lsub:
	case !l.exists && o.children: // nothing is below it: what has children exists
		attrs = append(attrs, imap.MailboxAttrNonExistent, imap.MailboxAttrHasNoChildren)
	case !l.exists:
		attrs = append(attrs, imap.MailboxAttrNonExistent)
	case l.children:
		attrs = append(attrs, imap.MailboxAttrHasChildren)
	default:
		attrs = append(attrs, imap.MailboxAttrHasNoChildren)
	}
	if l.subscribed && !o.lsub && (o.selectSub || o.returnSub) {
		attrs = append(attrs, imap.MailboxAttrSubscribed)
	}
	if l.info.SpecialUse != "" {
		attrs = append(attrs, imap.MailboxAttr(l.info.SpecialUse))
	}
	return attrs
}

package imap

import (
	"slices"
	"strings"

	"mailform/server/store"
)

// notification is what a client wants to hear of without asking, RFC 5465. With
// it a mailbox that is selected is told of as the client wants, and not at all
// when it does not name it. nil is a client that has not said anything, which
// hears of its selected mailbox with the answers to its commands and in IDLE.
type notification struct {
	groups   []eventGroup
	selected eventGroup // zero when it is not named
	watch    *store.AccountWatch
}

// notify implements NOTIFY.
func (s *session) notify(cmd *command) error {
	p := cmd.p
	p.SP()
	n := &notification{}
	status := false
	switch p.Word() {
	case "NONE":
	case "SET":
		p.SP()
		groups, first, no := parseNotify(p)
		if p.End() == nil && no != nil {
			return no
		}
		n.groups, status = groups, first
	default:
		p.Fail("Expected SET or NONE")
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	for _, g := range n.groups {
		if g.ofSelected() {
			n.selected = g
		}
	}
	if len(n.groups) > 0 {
		var err error
		if n.watch, err = s.store.WatchAccount(s.ctx, s.account); err != nil {
			return err
		}
	}
	// What the client was to hear until now it hears first.
	s.catchUp()
	s.announce(true)
	s.tellAccount()
	s.forgetNotify()
	s.noticing = n
	if status {
		if err := s.tellStatus(); err != nil {
			return err
		}
	}
	s.listen()
	return nil
}

// forgetNotify ends what NOTIFY has begun.
func (s *session) forgetNotify() {
	if s.noticing != nil && s.noticing.watch != nil {
		s.noticing.watch.Close()
	}
	s.noticing = nil
	s.listen()
}

// listen has the connection woken by what its client is to hear between commands.
func (s *session) listen() {
	n := s.noticing
	if n != nil && n.watch != nil {
		n.watch.Notify(s.c.wake)
	}
	if s.watch != nil {
		if n != nil && n.selected.events != 0 {
			s.watch.Notify(s.c.wake)
		} else {
			s.watch.Notify(nil)
		}
	}
}

// notified is called when there is news between commands.
func (s *session) notified() {
	s.c.news()
	if s.noticing == nil {
		return // what is left of an IDLE: its client hears with the next command
	}
	if s.view != nil && s.noticing.selected.events != 0 {
		s.catchUp()
		// Of selected-delayed expunges wait for a command, and everything behind
		// them with them: a client that has seen a later modification sequence
		// would not ask for them again, RFC 5465 6.2.
		if delayed := s.noticing.selected.filter == "SELECTED-DELAYED"; !delayed || s.view.gone == 0 {
			s.announce(!delayed)
		}
	}
	s.tellAccount()
	s.leaveLost()
}

// announce tells the client of its selected mailbox what it may be told now and
// wants to hear.
func (s *session) announce(expunges bool) {
	switch n := s.noticing; {
	case s.view == nil:
		return
	case n == nil:
		s.view.announce(s, expunges)
	case n.selected.events != 0:
		s.view.announceSome(s, expunges, n.selected.events&eventFlags != 0)
	default:
		return
	}
	s.tellContexts()
}

// leaveLost ends a session whose mailbox is no more.
func (s *session) leaveLost() {
	if s.view != nil && s.view.lost {
		s.c.bye("The selected mailbox was deleted")
	}
}

// describeNew tells of new messages what NOTIFY asks for, RFC 5465 5.2. They are
// those from a place on.
func (s *session) describeNew(from int) {
	if s.noticing == nil || s.noticing.selected.fetch == nil {
		return
	}
	r := *s.noticing.selected.fetch
	if !r.kinds.has(fetchUID) {
		r.items = append([]fetchItem{{kind: fetchUID}}, r.items...)
	}
	if err := s.fetchAll(&r, []span{{from, s.view.msgs.Len()}}); err != nil {
		s.log.Warn("notify of new messages", "mailbox", s.mailbox, "err", err)
	}
}

// follower looks at changes with what has to be asked of the store for that.
type follower struct {
	*session
	known map[string]*listed // asked for once
	err   error
}

func (f *follower) lookup(name string) *listed {
	if f.known == nil && f.err == nil {
		f.known, f.err = f.names()
	}
	return f.known[name]
}

// wants returns which of some events of a mailbox the client is to be told. What
// it wants to hear of the mailbox it has selected its view says.
func (f *follower) wants(name string, events notifyEvents) (wanted notifyEvents) {
	if f.view != nil && name == f.mailbox {
		events &^= eventMessages
	}
	for i := range f.noticing.groups {
		g := &f.noticing.groups[i]
		if g.ofSelected() || !f.matches(g, name) {
			continue
		}
		if g.events == 0 {
			break // NONE: whatever comes behind it
		}
		wanted |= g.events & events
	}
	return wanted
}

func (f *follower) matches(g *eventGroup, name string) bool {
	switch g.filter {
	case "PERSONAL":
		return true
	case "INBOXES": // where new mail is put
		l := f.lookup(name)
		return name == "INBOX" || strings.HasPrefix(name, "INBOX/") || l != nil && l.info.SpecialUse == `\Junk`
	case "SUBSCRIBED":
		l := f.lookup(name)
		return l != nil && l.subscribed
	case "SUBTREE":
		return slices.ContainsFunc(g.names, func(top string) bool { return name == top || strings.HasPrefix(name, top+"/") })
	case "MAILBOXES":
		return slices.Contains(g.names, name)
	}
	return false
}

// statusOf are the items that tell of events, RFC 5465 5.1 to 5.3, and how many
// messages are unseen, which clients show beside.
func (s *session) statusOf(events notifyEvents) []string {
	var items []string
	if events&(eventNew|eventExpunge) != 0 {
		items = append(items, "MESSAGES", "UIDNEXT")
	}
	items = append(items, "UIDVALIDITY", "UNSEEN")
	if events&eventFlags != 0 || s.enabled.condstore {
		items = append(items, "HIGHESTMODSEQ")
	}
	return items
}

// tellStatus tells of all mailboxes whose messages the client wants to follow.
func (s *session) tellStatus() error {
	boxes, err := s.store.Mailboxes(s.ctx, s.account)
	if err != nil {
		return err
	}
	f := &follower{session: s}
	for _, b := range boxes {
		if wanted := f.wants(b.Name, eventMessages); wanted != 0 {
			if err := s.writeStatus(b, s.statusOf(wanted)); err != nil {
				return err
			}
		}
	}
	return f.err
}

// tellAccount tells what has happened in the account's other mailboxes.
func (s *session) tellAccount() {
	if s.noticing == nil || s.noticing.watch == nil {
		return
	}
	changes, overflow := s.noticing.watch.Take()
	if overflow { // RFC 5465 5.8: from here on the client hears nothing
		s.forgetNotify()
		s.noticing = &notification{}
		s.listen()
		s.untaggedOK(string(codeNotifyOverflow), "Too much has happened at once; say NOTIFY again")
		return
	}
	f := &follower{session: s}
	for _, c := range changes {
		f.tell(c)
	}
	if f.err != nil {
		s.log.Warn("notify", "err", f.err)
	}
}

func (f *follower) tell(c store.Change) {
	switch {
	case c.What&(store.ChangedNew|store.ChangedGone|store.ChangedFlags) != 0:
		f.tellMessages(c)
	case c.What == store.ChangedMetadata && c.Mailbox == "":
		if slices.ContainsFunc(f.noticing.groups, func(g eventGroup) bool { return g.events&eventServerMetadata != 0 }) {
			f.writeMetadataNames(c)
		}
	case c.What == store.ChangedMetadata:
		if f.wants(c.Mailbox, eventMetadata) != 0 {
			f.writeMetadataNames(c)
		}
	case c.What == store.ChangedSubscription:
		if f.wants(c.Mailbox, eventSubscription) != 0 {
			f.writeName(c, true)
		}
	default:
		if f.wants(c.Mailbox, eventName) != 0 || c.From != "" && f.wants(c.From, eventName) != 0 {
			f.writeName(c, false)
		}
		if c.What == store.ChangedRenamed {
			// What happened to its messages under its old name is asked for by the new one.
			f.tellMessages(store.Change{Mailbox: c.Mailbox, What: store.ChangedNew | store.ChangedGone | store.ChangedFlags})
		}
	}
}

// tellMessages writes a STATUS for what happened to a mailbox's messages.
func (f *follower) tellMessages(c store.Change) {
	var events notifyEvents
	for _, e := range []struct {
		what  store.Changes
		event notifyEvents
	}{{store.ChangedNew, eventNew}, {store.ChangedGone, eventExpunge}, {store.ChangedFlags, eventFlags}} {
		if c.What&e.what != 0 {
			events |= e.event
		}
	}
	wanted := f.wants(c.Mailbox, events)
	if wanted == 0 {
		return
	}
	info, err := f.store.Mailbox(f.ctx, f.account, c.Mailbox)
	if err != nil {
		return // it went meanwhile, which is told next
	}
	if err := f.writeStatus(info, f.statusOf(wanted)); err != nil && f.err == nil {
		f.err = err
	}
}

// writeName writes what LIST says of a name now, RFC 5465 5.4 and 5.5.
func (f *follower) writeName(c store.Change, subscription bool) {
	l := f.lookup(c.Mailbox)
	if l == nil || c.What == store.ChangedDeleted { // another may have its name already
		l = &listed{}
	}
	w := f.out
	w.Raw("* LIST (")
	for i, a := range l.attributes(&listOptions{returnSub: subscription}) {
		if i > 0 {
			w.Raw(" ")
		}
		w.Raw(string(a))
	}
	w.Raw(") \"/\" ")
	w.Mailbox(c.Mailbox)
	if c.From != "" {
		w.Raw(" (\"OLDNAME\" (")
		w.Mailbox(c.From)
		w.Raw("))")
	}
	w.CRLF()
}

// writeMetadataNames says which annotations changed, RFC 5464 4.4.2.
func (f *follower) writeMetadataNames(c store.Change) {
	w := f.out
	w.Raw("* METADATA ")
	w.Mailbox(c.Mailbox)
	for _, name := range c.Entries {
		w.Raw(" ")
		w.Raw(name)
	}
	w.CRLF()
}

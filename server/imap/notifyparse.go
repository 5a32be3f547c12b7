package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/wire"
)

// notifyEvents are what a client can be told of, RFC 5465 5.
type notifyEvents uint8

const (
	eventNew notifyEvents = 1 << iota
	eventExpunge
	eventFlags
	eventName
	eventSubscription
	eventMetadata
	eventServerMetadata

	eventMessages = eventNew | eventExpunge | eventFlags
)

// eventNames are the events by their names. AnnotationChange is none of them:
// there are no annotations of messages, RFC 5257.
var eventNames = map[string]notifyEvents{
	"MESSAGENEW": eventNew, "MESSAGEEXPUNGE": eventExpunge, "FLAGCHANGE": eventFlags, "MAILBOXNAME": eventName,
	"SUBSCRIPTIONCHANGE": eventSubscription, "MAILBOXMETADATACHANGE": eventMetadata, "SERVERMETADATACHANGE": eventServerMetadata,
}

const codeBadEvent imap.ResponseCode = "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)"

const codeNotifyOverflow imap.ResponseCode = "NOTIFICATIONOVERFLOW"

// eventGroup says of some mailboxes what a client wants to hear, RFC 5465 6.
type eventGroup struct {
	filter string   // "SELECTED", "INBOXES" …
	names  []string // of SUBTREE and MAILBOXES
	events notifyEvents
	fetch  *fetchRequest // what to tell of a new message; nil when nothing
}

func (g *eventGroup) ofSelected() bool { return strings.HasPrefix(g.filter, "SELECTED") }

// Bounds of what one client may want.
const (
	maxEventGroups = 50
	maxEventNames  = 100
)

// parseNotify reads what stands behind NOTIFY SET. ok is false when it is right,
// but more than there may be or an event that is not known; no says so.
func parseNotify(p *wire.Parser) (groups []eventGroup, status bool, no *imap.Error) {
	if p.PeekWord() == "STATUS" {
		p.Word()
		p.SP()
		status = true
	}
	names, selected := 0, false
	for first := true; p.Err() == nil && (first || p.More()); first = false {
		g, unknown := parseEventGroup(p)
		if unknown && no == nil {
			no = &imap.Error{Type: imap.StatusResponseTypeNo, Code: codeBadEvent, Text: "There is no such event here"}
		}
		if g.ofSelected() {
			if selected {
				p.Fail("The selected mailbox can be named once only")
			}
			selected = true
		}
		names += len(g.names)
		if len(groups) < maxEventGroups && names <= maxEventNames {
			groups = append(groups, g)
		} else if no == nil {
			no = &imap.Error{Type: imap.StatusResponseTypeNo, Code: codeNotifyOverflow, Text: "These are too many mailboxes to follow"}
		}
	}
	return groups, status, no
}

func parseEventGroup(p *wire.Parser) (g eventGroup, unknown bool) {
	p.Expect('(')
	g.filter = p.Word()
	switch g.filter {
	case "SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED":
	case "SUBTREE", "MAILBOXES":
		p.SP()
		if p.Peek() == '(' {
			p.List(func() { g.names = append(g.names, p.Mailbox()) })
		} else {
			g.names = []string{p.Mailbox()}
		}
		if len(g.names) == 0 {
			p.Fail("Expected mailboxes")
		}
	default:
		p.Fail("Unknown kind of mailboxes")
	}
	p.SP()
	if p.Peek() != '(' {
		if p.Word() != "NONE" {
			p.Fail("Expected events")
		}
		p.Expect(')')
		return g, false
	}
	// A MessageNew may be followed by items of FETCH, which List would take for another event.
	var last notifyEvents
	p.List(func() {
		if p.Peek() == '(' && last == eventNew && g.fetch == nil {
			g.fetch = &fetchRequest{}
			p.List(func() { g.fetch.item(p) })
			if len(g.fetch.items) == 0 || !g.ofSelected() {
				p.Fail("Items of new messages are for the selected mailbox")
			}
			last = 0
			return
		}
		name := p.Word()
		last = eventNames[name]
		unknown = unknown || last == 0 && name != ""
		g.events |= last
	})
	p.Expect(')')
	if unknown {
		return g, true // also of what makes sense only with it
	}
	switch messages := g.events & eventMessages; {
	case g.events == 0:
		p.Fail("Expected events")
	case g.ofSelected() && g.events != messages:
		p.Fail("Of the selected mailbox there are events of messages only")
	case g.ofSelected() && messages&(eventNew|eventExpunge) != eventNew|eventExpunge:
		// RFC 5465 5 says so of all mailboxes. Of others Dovecot takes each event by
		// itself, as ImapTest demands: a STATUS tells of any of them.
		p.Fail("MessageNew and MessageExpunge go together, and FlagChange with both")
	}
	return g, false
}

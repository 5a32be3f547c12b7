// Package summary keeps what mail programs ask of all messages of a mailbox at
// once: envelope, body structure, the usual header fields, preview, and what
// messages are sorted and threaded by. It is a cache, filled behind deliveries:
// losing it costs the time to read the messages again.
//
// What stands in it is made here too, so that a message that is not in the cache
// is answered by the same code. A Keeper has a folder for each mailbox; in it are
// runs, files of messages in the order of their UIDs that never change. Within a
// run each kind of value has its own blocks, so that a SORT by date reads dates
// and nothing else. A Reader goes through them beside a command; what it does not
// find, or finds damaged, the caller reads from the message.
//
// It imports server/search (to fold text), server/store, and of server/imap
// mimetree, threads and wire.
package summary

import (
	"time"

	"mailform/server/imap/mimetree"
	"mailform/server/imap/threads"
	"mailform/server/search"
	"mailform/server/store"
)

// Version is raised whenever a value comes out otherwise than before: what an
// older version has written is thrown away and made anew.
const Version = 3

// Text is a kind of text that messages are sorted by.
type Text uint8

// The texts, RFC 5256 and RFC 5957.
const (
	BySubject Text = iota
	ByFrom
	ByTo
	ByCc
	ByDisplayFrom
	ByDisplayTo
	texts
)

// TextOf returns what a message is sorted by, in the form that is compared.
func TextOf(h mimetree.Header, by Text) string {
	switch by {
	case BySubject:
		base, _ := subjectOf(h)
		return base
	case ByFrom, ByDisplayFrom:
		return shownAs(mimetree.ParseAddresses(h.Get("From")), by)
	case ByCc:
		return shownAs(mimetree.ParseAddresses(h.Get("Cc")), by)
	default:
		return shownAs(mimetree.ParseAddresses(h.Get("To")), by)
	}
}

// textsOf returns all of them.
func textsOf(h mimetree.Header, base string) [texts]string {
	from, to := mimetree.ParseAddresses(h.Get("From")), mimetree.ParseAddresses(h.Get("To"))
	return [texts]string{BySubject: base, ByCc: TextOf(h, ByCc),
		ByFrom: shownAs(from, ByFrom), ByDisplayFrom: shownAs(from, ByDisplayFrom), ByTo: shownAs(to, ByTo), ByDisplayTo: shownAs(to, ByDisplayTo)}
}

// subjectOf returns the base subject in the form that is compared.
func subjectOf(h mimetree.Header) (base string, reply bool) {
	base, reply = threads.BaseSubject(mimetree.DecodeWords(h.Get("Subject")))
	return search.Fold(base), reply
}

// shownAs is what is compared of the first address: its local part, RFC 5256, or
// what a person sees of it, RFC 5957.
func shownAs(list []mimetree.Address, by Text) string {
	if len(list) == 0 {
		return ""
	}
	first := list[0]
	if by != ByDisplayFrom && by != ByDisplayTo {
		return search.Fold(first.Mailbox) // or a group's name
	}
	switch {
	case first.Name != "":
		return search.Fold(mimetree.DecodeWords(first.Name))
	case first.Host != "":
		return search.Fold(first.Mailbox + "@" + first.Host)
	}
	return search.Fold(mimetree.DecodeWords(first.Mailbox)) // a group's name
}

// Thread is what decides to which thread a message belongs.
type Thread struct {
	ID      uint64   // of its message identifier, see threads.Key; 0: none
	Subject uint64   // of its base subject; 0: it is empty
	Reply   bool     // the subject says that it is a reply or a forward
	Refs    []uint64 // of the messages it refers to, in their order
}

// ThreadOf returns where a message belongs.
func ThreadOf(h mimetree.Header) Thread {
	base, reply := subjectOf(h)
	return threadOf(h, base, reply)
}

func threadOf(h mimetree.Header, base string, reply bool) (t Thread) {
	t.Subject, t.Reply = threads.Key(base), reply
	if ids := threads.MessageIDs(h.Get("Message-Id")); len(ids) > 0 {
		t.ID = threads.Key(ids[0])
	}
	refs := threads.MessageIDs(h.Get("References"))
	if len(refs) == 0 {
		// Of In-Reply-To only the first is taken.
		if refs = threads.MessageIDs(h.Get("In-Reply-To")); len(refs) > 1 {
			refs = refs[:1]
		}
	}
	for _, r := range refs {
		t.Refs = append(t.Refs, threads.Key(r))
	}
	return t
}

// Sent is when a message was sent, in the zone that its Date field names.
type Sent struct {
	Unix   int64 // seconds; undated when there is no date that can be read
	Offset int32 // of the zone, seconds east
}

const undated = -1 << 63

// SentOf reads the Date field.
func SentOf(h mimetree.Header) Sent {
	t := ParseDate(h.Get("Date"))
	if t.IsZero() {
		return Sent{Unix: undated}
	}
	_, offset := t.Zone()
	return Sent{t.Unix(), int32(offset)}
}

// Time returns the time; the zero time when there is none.
func (s Sent) Time() time.Time {
	if s.Unix == undated {
		return time.Time{}
	}
	return time.Unix(s.Unix, 0).In(time.FixedZone("", int(s.Offset)))
}

// Or is when the message was sent, or else when it arrived, RFC 5256 2.2, in seconds.
func (s Sent) Or(m *store.Message) int64 {
	if s.Unix == undated {
		return m.InternalDate.Unix()
	}
	return s.Unix
}

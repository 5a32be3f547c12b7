package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// IMAP is another server's account. Client is connected and logged in; Host and
// User name the account.
type IMAP struct {
	Client     *imapclient.Client
	Host, User string
	Warn       func(text string) // told of what is left out; may be nil

	known map[[20]byte]struct{} // what messages look like, where one mailbox shows those of all; else nil
	rest  bool                  // only what is not among them
	bySeq *bool                 // messages are asked for by number: the server tells UIDs behind bodies
}

// Name implements Source.
func (s IMAP) Name() string {
	return "imap\x00" + strings.ToLower(s.Host) + "\x00" + s.User
}

// atOnce is how many messages are asked for in one command.
const atOnce = 200

// Walk implements Source. A message's id is its mailbox, that one's UIDVALIDITY
// and its UID. Nothing is changed over there: mailboxes are opened read-only.
func (s IMAP) Walk(ctx context.Context, want func(string) bool, visit func(*Message) error) error {
	s.bySeq = new(bool)
	stop := context.AfterFunc(ctx, func() { s.Client.Close() })
	defer stop()
	options := &imap.ListOptions{}
	if s.Client.Caps().Has(imap.CapSpecialUse) {
		options.ReturnSpecialUse = true
	}
	list, err := s.Client.List("", "*", options).Collect()
	if err != nil {
		return s.why(ctx, fmt.Errorf("list the mailboxes: %w", err))
	}
	prefix := s.prefix()
	if slices.ContainsFunc(list, func(b *imap.ListData) bool { return slices.Contains(b.Attrs, imap.MailboxAttrAll) }) {
		s.known = map[[20]byte]struct{}{}
	}
	var all *imap.ListData
	slices.SortFunc(list, func(a, b *imap.ListData) int { return strings.Compare(a.Mailbox, b.Mailbox) })
	for _, box := range list {
		name := imapName(box.Mailbox, box.Delim, prefix)
		if slices.Contains(box.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(box.Attrs, imap.MailboxAttrNonExistent) {
			continue
		}
		if slices.Contains(box.Attrs, imap.MailboxAttrAll) {
			all = box
			continue
		}
		if slices.Contains(box.Attrs, imap.MailboxAttrFlagged) || slices.Contains(box.Attrs, imap.MailboxAttrImportant) {
			// Gmail's "Starred" and "Important" show what other mailboxes hold.
			s.warn("%s is left out: it shows messages of other mailboxes", box.Mailbox)
			continue
		}
		var use string
		for _, a := range box.Attrs {
			switch a {
			case imap.MailboxAttrSent, imap.MailboxAttrDrafts, imap.MailboxAttrTrash, imap.MailboxAttrJunk, imap.MailboxAttrArchive:
				use = string(a)
			}
		}
		if err := s.mailbox(ctx, box.Mailbox, name, use, want, visit); err != nil {
			return s.why(ctx, fmt.Errorf("mailbox %s: %w", box.Mailbox, err))
		}
	}
	if all != nil {
		// What is in no other mailbox was archived, at Gmail.
		s.rest = true
		if err := s.mailbox(ctx, all.Mailbox, "Archive", string(imap.MailboxAttrArchive), want, visit); err != nil {
			return s.why(ctx, fmt.Errorf("mailbox %s: %w", all.Mailbox, err))
		}
		s.warn("of %s, which shows all messages, those came that are in no other mailbox", all.Mailbox)
	}
	return nil
}

// BrokenError says that the connection to the source broke: with another one the
// import goes on.
type BrokenError struct{ Err error }

func (e *BrokenError) Error() string { return e.Err.Error() }

func (e *BrokenError) Unwrap() error { return e.Err }

// why prefers the reason for a stop to what it did to the connection, and tells a
// connection that broke from a server that said no.
func (s IMAP) why(ctx context.Context, err error) error {
	var no *imap.Error
	var read *readError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &no):
		return err
	case errors.As(err, &read) || s.Client.State() == imap.ConnStateLogout:
		return &BrokenError{fmt.Errorf("the connection to %s broke: %w", s.Host, err)}
	}
	return err
}

// prefix is what the personal mailboxes' names begin with, RFC 2342: "INBOX." at
// Courier and Cyrus.
func (s IMAP) prefix() string {
	if !s.Client.Caps().Has(imap.CapNamespace) {
		return ""
	}
	ns, err := s.Client.Namespace().Wait()
	if err != nil || len(ns.Personal) == 0 {
		return ""
	}
	return ns.Personal[0].Prefix
}

// imapName is our name of another server's mailbox.
func imapName(name string, delim rune, prefix string) string {
	if prefix != "" && len(name) > len(prefix) {
		name = strings.TrimPrefix(name, prefix)
	}
	levels := []string{name}
	if delim != 0 {
		levels = strings.Split(name, string(delim))
	}
	for i, l := range levels {
		levels[i] = strings.NewReplacer("/", "_", "%", "_", "*", "_").Replace(l)
	}
	if levels[0] == "[Gmail]" || levels[0] == "[Google Mail]" {
		levels = levels[1:]
	}
	return strings.Join(slices.DeleteFunc(levels, func(l string) bool { return l == "" }), "/")
}

func (s IMAP) mailbox(ctx context.Context, theirs, ours, use string, want func(string) bool, visit func(*Message) error) error {
	if err := visit(&Message{Mailbox: ours, SpecialUse: use}); err != nil {
		return err
	}
	box, err := s.Client.Select(theirs, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return err
	}
	if box.NumMessages == 0 {
		return nil
	}
	found, err := s.Client.UIDSearch(&imap.SearchCriteria{}, nil).Wait()
	if err != nil {
		return err
	}
	var uids []imap.UID
	id := func(uid imap.UID) string { return fmt.Sprintf("%s\x00%d\x00%d", theirs, box.UIDValidity, uid) }
	for _, uid := range found.AllUIDs() {
		if want(id(uid)) {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	if s.known != nil {
		all := found.AllUIDs()
		if s.rest {
			all = uids
		}
		if uids, err = s.looks(ctx, all, uids); err != nil {
			return err
		}
	}
	give := func(m *Message, uid imap.UID) error {
		m.Mailbox, m.SpecialUse, m.ID = ours, use, id(uid)
		return visit(m)
	}
	for part := range slices.Chunk(uids, atOnce) {
		missing, err := s.fetch(ctx, part, give)
		if err != nil {
			return err
		}
		if err := s.oneByOne(ctx, theirs, missing, give); err != nil {
			return err
		}
	}
	return nil
}

// oneByOne asks again for messages that did not come with others: a server that
// cannot read one of them may give none.
func (s IMAP) oneByOne(ctx context.Context, theirs string, uids []imap.UID, visit func(*Message, imap.UID) error) error {
	for _, uid := range uids {
		missing, err := s.fetch(ctx, []imap.UID{uid}, visit)
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			continue
		}
		before := *s.bySeq
		*s.bySeq = true
		there, err := s.numbers(missing)
		if err == nil && len(there) == 0 {
			*s.bySeq = before
			continue // expunged meanwhile
		}
		var no *imap.Error
		if err == nil && !before {
			if missing, err = s.fetch(ctx, []imap.UID{uid}, visit); err == nil && len(missing) == 0 {
				continue
			}
		}
		if *s.bySeq = before; err != nil && !errors.As(err, &no) {
			return err
		}
		s.warn("%s, UID %d is left out: the server does not give it", theirs, uid)
		if err := visit(&Message{Body: failing{&LeftOut{"the server does not give it"}}}, uid); err != nil {
			return err
		}
	}
	return nil
}

// looks remembers what all messages look like, or returns those of uids that look
// like none before: a message has one size and one header in all mailboxes that show it.
func (s IMAP) looks(ctx context.Context, all, uids []imap.UID) ([]imap.UID, error) {
	fields := &imap.FetchItemBodySection{Peek: true, Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Message-ID", "Date", "From", "To", "Subject"}}
	var rest []imap.UID
	for part := range slices.Chunk(all, 5*atOnce) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		messages, err := s.Client.Fetch(imap.UIDSetNum(part...), &imap.FetchOptions{UID: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{fields}}).Collect()
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if len(m.BodySection) == 0 {
				continue // flags that changed meanwhile
			}
			sum := sha256.Sum256(fmt.Appendf(m.BodySection[0].Bytes, "\x00%d", m.RFC822Size))
			key := [20]byte(sum[:20])
			if _, has := s.known[key]; !s.rest {
				s.known[key] = struct{}{}
			} else if !has {
				rest = append(rest, m.UID)
			}
		}
	}
	if s.rest {
		uids = rest
	}
	return uids, nil
}

// numbers are the sequence numbers of those messages that are still there.
func (s IMAP) numbers(uids []imap.UID) ([]uint32, error) {
	list, err := s.Client.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{UID: true, Flags: true}).Collect()
	var numbers []uint32
	for _, m := range list {
		if slices.Contains(uids, m.UID) {
			numbers = append(numbers, m.SeqNum)
		}
	}
	return numbers, err
}

// fetch takes messages as they come, and says which did not. UID, flags and date may
// come behind the body, so that the body is kept aside until they are known.
func (s IMAP) fetch(ctx context.Context, uids []imap.UID, visit func(*Message, imap.UID) error) (missing []imap.UID, err error) {
	came := make(map[imap.UID]bool, len(uids))
	var set imap.NumSet = imap.UIDSetNum(uids...)
	if *s.bySeq {
		// Nothing is expunged for us while the mailbox is read by number, RFC 9051 7.5.1.
		numbers, err := s.numbers(uids)
		if err != nil || len(numbers) == 0 {
			return uids, err
		}
		set = imap.SeqSetNum(numbers...)
	}
	section := &imap.FetchItemBodySection{Peek: true}
	cmd := s.Client.Fetch(set, &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, BodySection: []*imap.FetchItemBodySection{section}})
	k := newTaker("")
	var text heard
	err = func() error {
		for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			var m Message
			var uid imap.UID
			var body *taken
			for item := msg.Next(); item != nil; item = msg.Next() {
				switch item := item.(type) {
				case imapclient.FetchItemDataUID:
					uid = item.UID
				case imapclient.FetchItemDataFlags:
					for _, f := range item.Flags {
						m.Flags = append(m.Flags, string(f))
					}
				case imapclient.FetchItemDataInternalDate:
					m.Date = item.Time
				case imapclient.FetchItemDataBodySection:
					if item.Literal == nil || body != nil {
						continue
					}
					var err error
					text.r, text.left = item.Literal, item.Literal.Size()
					if body, _, err = k.take(&text, false); err != nil {
						return err
					}
				}
			}
			if body == nil {
				continue // flags that changed meanwhile
			}
			if uid == 0 || came[uid] || !slices.Contains(uids, uid) { // nothing that was asked for
				if err := body.Close(); err != nil {
					return err
				}
				continue
			}
			came[uid] = true
			m.Body = body.reader()
			err := visit(&m, uid)
			if err := errors.Join(err, body.Close()); err != nil {
				return err
			}
		}
		return nil
	}()
	if text.broken {
		// The client's own goroutine reads on after a failure; to close the command now
		// would read beside it.
		return nil, &readError{err}
	}
	cerr := cmd.Close()
	var no *imap.Error
	if errors.As(cerr, &no) && err == nil {
		cerr = nil // of what is missing
	}
	for _, uid := range uids {
		if !came[uid] {
			missing = append(missing, uid)
		}
	}
	return missing, errors.Join(err, cerr)
}

// readError is of a message that broke off.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

func (e *readError) Unwrap() error { return e.err }

// heard remembers whether reading failed, and makes a failure of an end that comes too
// early.
type heard struct {
	r      io.Reader
	left   int64
	broken bool
}

func (h *heard) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	if h.left -= int64(n); err == io.EOF && h.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	h.broken = h.broken || err != nil && err != io.EOF
	return n, err
}

func (s IMAP) warn(format string, args ...any) {
	if s.Warn != nil {
		s.Warn(fmt.Sprintf(format, args...))
	}
}

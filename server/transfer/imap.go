package transfer

import (
	"context"
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
	slices.SortFunc(list, func(a, b *imap.ListData) int { return strings.Compare(a.Mailbox, b.Mailbox) })
	for _, box := range list {
		name := imapName(box.Mailbox, box.Delim, prefix)
		if slices.Contains(box.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(box.Attrs, imap.MailboxAttrNonExistent) {
			continue
		}
		if slices.Contains(box.Attrs, imap.MailboxAttrAll) || slices.Contains(box.Attrs, imap.MailboxAttrFlagged) {
			// Gmail's "All Mail" and "Starred" show what other mailboxes hold.
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
	return nil
}

// why prefers the reason for a stop to what it did to the connection.
func (s IMAP) why(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
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
	for part := range slices.Chunk(uids, atOnce) {
		if err := s.fetch(ctx, part, func(m *Message, uid imap.UID) error {
			m.Mailbox, m.SpecialUse, m.ID = ours, use, id(uid)
			return visit(m)
		}); err != nil {
			return err
		}
	}
	return nil
}

// fetch takes messages as they come. UID, flags and date may come behind the
// body, so that the body is kept aside until they are known.
func (s IMAP) fetch(ctx context.Context, uids []imap.UID, visit func(*Message, imap.UID) error) error {
	section := &imap.FetchItemBodySection{Peek: true}
	cmd := s.Client.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{UID: true, Flags: true, InternalDate: true, BodySection: []*imap.FetchItemBodySection{section}})
	k := newTaker("")
	var text heard
	err := func() error {
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
					text.r = item.Literal
					if body, _, err = k.take(&text, false); err != nil {
						return err
					}
				}
			}
			if body == nil || uid == 0 {
				continue // flags that changed meanwhile
			}
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
		return err
	}
	return errors.Join(err, cmd.Close())
}

// heard remembers whether reading failed.
type heard struct {
	r      io.Reader
	broken bool
}

func (h *heard) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	h.broken = h.broken || err != nil && err != io.EOF
	return n, err
}

func (s IMAP) warn(format string, args ...any) {
	if s.Warn != nil {
		s.Warn(fmt.Sprintf(format, args...))
	}
}

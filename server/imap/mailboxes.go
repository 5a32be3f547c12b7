package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/wire"
	"mailform/server/store"
)

const delimiter = '/'

// specialUses are the attributes a client may give a mailbox it makes, RFC 6154.
var specialUses = []imap.MailboxAttr{
	imap.MailboxAttrAll, imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrFlagged,
	imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash,
}

// named reads the one argument of a command, a mailbox name.
func named(cmd *command) (string, error) {
	cmd.p.SP()
	name := cmd.p.Mailbox()
	if err := cmd.p.End(); err != nil {
		return "", bad(err.Error())
	}
	return name, nil
}

// create implements CREATE, RFC 9051 6.3.4 and RFC 6154 3.
func (s *session) create(cmd *command) error {
	p := cmd.p
	p.SP()
	name := p.Mailbox()
	var uses []string
	if p.More() {
		p.List(func() {
			if p.Word() != "USE" {
				p.Fail("Unknown parameter of CREATE")
			}
			p.SP()
			uses = p.Flags()
		})
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	var use string
	if len(uses) > 0 {
		i := slices.IndexFunc(specialUses, func(a imap.MailboxAttr) bool { return strings.EqualFold(string(a), uses[0]) })
		if i < 0 || len(uses) > 1 {
			return no("USEATTR", "The mailbox cannot have that use")
		}
		use = string(specialUses[i])
	}
	// A trailing delimiter says that others will be made below.
	info, err := s.store.CreateMailbox(s.ctx, s.account, strings.TrimSuffix(name, string(delimiter)), use)
	if err != nil {
		return err
	}
	cmd.code = "MAILBOXID (" + info.ObjectID + ")"
	return nil
}

// delete implements DELETE, RFC 9051 6.3.5.
func (s *session) delete(cmd *command) error {
	name, err := named(cmd)
	if err != nil {
		return err
	}
	if err := s.store.DeleteMailbox(s.ctx, s.account, name); err != nil {
		return err
	}
	// Who deletes the mailbox that is selected has none after; other sessions that
	// have it selected are sent away.
	if s.catchUp(); s.view != nil && s.view.lost {
		s.unselect()
		s.out.Raw("* OK [CLOSED] The mailbox is deleted\r\n")
	}
	return nil
}

// rename implements RENAME, RFC 9051 6.3.6.
func (s *session) rename(cmd *command) error {
	p := cmd.p
	p.SP()
	from := p.Mailbox()
	p.SP()
	to := p.Mailbox()
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	return s.store.RenameMailbox(s.ctx, s.account, from, strings.TrimSuffix(to, string(delimiter)))
}

// subscribe implements SUBSCRIBE, RFC 9051 6.3.7.
func (s *session) subscribe(cmd *command) error {
	name, err := named(cmd)
	if err != nil {
		return err
	}
	return s.store.Subscribe(s.ctx, s.account, name, true)
}

// unsubscribe implements UNSUBSCRIBE, RFC 9051 6.3.8.
func (s *session) unsubscribe(cmd *command) error {
	name, err := named(cmd)
	if err != nil {
		return err
	}
	return s.store.Subscribe(s.ctx, s.account, name, false)
}

// statusItems reads a list of STATUS items, RFC 9051 6.3.11.
func statusItems(p *wire.Parser) []string {
	l := []string{}
	p.List(func() {
		item := p.Word()
		switch item {
		case "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "APPENDLIMIT", "DELETED-STORAGE", "HIGHESTMODSEQ", "MAILBOXID":
		default:
			p.Fail("Unknown STATUS item")
		}
		if !slices.Contains(l, item) {
			l = append(l, item)
		}
	})
	if len(l) == 0 {
		p.Fail("Expected STATUS items")
	}
	return l
}

// statusCommand implements STATUS.
func (s *session) statusCommand(cmd *command) error {
	p := cmd.p
	p.SP()
	name := p.Mailbox()
	p.SP()
	items := statusItems(p)
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	info, err := s.store.Mailbox(s.ctx, s.account, name)
	if err != nil {
		return err
	}
	if slices.Contains(items, "HIGHESTMODSEQ") {
		s.useCondStore()
	}
	return s.writeStatus(info, items)
}

// writeStatus writes a STATUS response.
func (s *session) writeStatus(info store.MailboxInfo, items []string) error {
	w := s.out
	mark := w.Mark()
	w.Raw("* STATUS ")
	w.Mailbox(info.Name)
	w.Raw(" (")
	for i, item := range items {
		if i > 0 {
			w.Raw(" ")
		}
		w.Raw(item)
		w.Raw(" ")
		switch item {
		case "MESSAGES":
			w.Num(uint64(info.Messages))
		case "RECENT":
			n, err := s.countRecent(info)
			if err != nil {
				w.Rollback(mark)
				return err
			}
			w.Num(n)
		case "UIDNEXT":
			w.Num(uint64(info.UIDNext))
		case "UIDVALIDITY":
			w.Num(uint64(info.UIDValidity))
		case "UNSEEN":
			w.Num(uint64(info.Unseen))
		case "DELETED":
			w.Num(uint64(info.Deleted))
		case "SIZE":
			w.Num(uint64(info.Bytes))
		case "APPENDLIMIT":
			w.Num(uint64(s.c.st.MaxMessageBytes))
		case "DELETED-STORAGE":
			n, err := s.deletedBytes(info)
			if err != nil {
				w.Rollback(mark)
				return err
			}
			w.Num(uint64(n))
		case "HIGHESTMODSEQ":
			w.Num(uint64(info.HighestModSeq))
		case "MAILBOXID":
			w.Raw("(" + info.ObjectID + ")")
		}
	}
	w.Raw(")")
	w.CRLF()
	return nil
}

// deletedBytes adds up the messages that have \Deleted.
func (s *session) deletedBytes(info store.MailboxInfo) (n int64, err error) {
	if info.Deleted == 0 {
		return 0, nil
	}
	snap, watch, err := s.store.Open(s.ctx, s.account, info.Name)
	if err != nil {
		return 0, err
	}
	watch.Close()
	var m store.Message
	for row := range snap.Messages.Rows(0, snap.Messages.Len()) {
		if row.Head(&m); hasFlag(&m, `\Deleted`) {
			row.Read(&m)
			n += m.Size
		}
	}
	return n, nil
}

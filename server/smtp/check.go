package smtp

import (
	"bytes"
	"errors"
	"strings"

	"github.com/emersion/go-smtp"

	"mailform/server/filter"
	"mailform/server/store"
)

// filter asks for the verdict about a message from outside.
func (s *session) filter(tx *transaction, sp *spool, header []byte, fields []field) (filter.Verdict, *smtp.SMTPError) {
	v, err := tx.check.Message(s.srv.ctx, filter.Message{
		Hostname: tx.settings.Hostname, Authors: authors(fields), FromSeen: countFrom(header), Body: sp.reader(),
	})
	if err != nil {
		s.log.Error("filter", "tx", tx.id, "err", err)
		return v, replyLocal
	}
	action := "accept"
	switch {
	case v.Refuse != nil:
		action = "refuse"
	case v.Junk:
		action = "junk"
	}
	s.log.Info("verdict", "tx", tx.id, "from", tx.from, "action", action, "score", v.Facts.Score(), "facts", v.Facts.Strings())
	if v.Refuse != nil {
		return v, reply(v.Refuse.Code, v.Refuse.Enhanced, "%s", v.Refuse.Text)
	}
	return v, nil
}

// countFrom counts the From fields in a header, also those behind a line that is
// no field: programs differ in whether the header ends there.
func countFrom(header []byte) int {
	n := 0
	for line := range bytes.Lines(header) {
		name, _, ok := bytes.Cut(line, []byte(":"))
		if ok && bytes.EqualFold(bytes.TrimRight(name, " \t"), []byte("From")) {
			n++
		}
	}
	return n
}

// authors are the addresses of the From field. Where it does not follow the
// rules, an unquoted comma in a name for instance, what stands in its angle
// brackets is what mail programs take; nil when even that is not clear.
func authors(fields []field) []string {
	if list, ok := fromAddresses(fields); ok {
		return list
	}
	from := get(fields, "from")
	if len(from) != 1 {
		return nil
	}
	_, address, ok := strings.Cut(from[0], "<")
	address, _, closed := strings.Cut(address, ">")
	if !ok || !closed || strings.Count(from[0], "<") != 1 || strings.Count(from[0], "@") != 1 || !strings.Contains(address, "@") {
		return nil
	}
	return []string{strings.TrimSpace(address)}
}

const (
	inbox    = "INBOX"
	junkName = "Junk"
	junkUse  = `\Junk` // RFC 6154 2
)

// junkMailbox is the name of the account's mailbox for junk, which is made when
// its owner has deleted it. Mail is not lost for want of one.
func (s *session) junkMailbox(account string) string {
	list, err := s.srv.cfg.Store.Mailboxes(s.srv.ctx, account)
	for _, m := range list {
		if m.SpecialUse == junkUse {
			return m.Name
		}
	}
	if err == nil {
		_, err = s.srv.cfg.Store.CreateMailbox(s.srv.ctx, account, junkName, junkUse)
		if err == nil || errors.Is(err, store.ErrMailboxExists) {
			return junkName
		}
	}
	s.log.Error("no mailbox for junk", "account", account, "err", err)
	return inbox
}

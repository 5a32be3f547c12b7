package imap

import (
	"slices"
	"strconv"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/wire"
	"mailform/server/store"
)

// systemFlags are the flags of RFC 9051 2.3.2.
var systemFlags = []string{`\Answered`, `\Flagged`, `\Deleted`, `\Seen`, `\Draft`}

// maxKeywords bounds the keywords that a client is told of.
const maxKeywords = store.MaxKeywords

// selectCommand implements SELECT and EXAMINE, RFC 9051 6.3.2, with the
// parameters of RFC 7162.
func (s *session) selectCommand(cmd *command) error {
	p := cmd.p
	p.SP()
	name := p.Mailbox()
	condstore := false
	var resync *resync
	if p.More() {
		p.List(func() {
			switch p.Word() {
			case "CONDSTORE":
				condstore = true
			case "QRESYNC":
				p.SP()
				resync = parseResync(p)
			default:
				p.Fail("Unknown parameter of SELECT")
			}
		})
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	if resync != nil && !s.enabled.qresync {
		return bad("QRESYNC is not enabled")
	}
	if s.view != nil {
		s.unselect()
		s.out.Raw("* OK [CLOSED] The mailbox before is closed\r\n")
	}
	snap, watch, err := s.store.Open(s.ctx, s.account, name)
	if err != nil {
		return err
	}
	if condstore {
		s.useCondStore()
	}
	s.mailbox, s.readOnly, s.watch, s.view = snap.Info.Name, cmd.name == "EXAMINE", watch, newView(snap)
	s.keywords = slices.Clone(snap.Keywords[:min(len(snap.Keywords), maxKeywords)])
	s.recentKey = recentKey{s.account, snap.Info.UIDValidity}
	s.claimRecent(0, snap.Info.UIDNext)
	s.describe(snap.Info)
	s.listen()
	cmd.code, cmd.text = "READ-WRITE", "Mailbox is selected"
	if s.readOnly {
		cmd.code = "READ-ONLY"
	}
	if resync != nil {
		if err := s.resynchronise(snap.Info, resync); err != nil {
			s.unselect()
			return err
		}
	}
	s.log.Debug("selected", "mailbox", snap.Info.Name, "messages", s.view.msgs.Len(), "read_only", s.readOnly)
	return nil
}

// describe writes what SELECT says of a mailbox.
func (s *session) describe(info store.MailboxInfo) {
	w := s.out
	s.tellFlags()
	s.tellExists()
	s.tellRecent()
	if !s.enabled.rev2 {
		if info.Unseen > 0 {
			s.untaggedOK("UNSEEN "+strconv.Itoa(s.view.msgs.FirstWithout(`\Seen`)+1), "The first unseen message")
		}
	}
	s.untaggedOK("UIDVALIDITY "+strconv.FormatUint(uint64(info.UIDValidity), 10), "UIDs are valid")
	s.untaggedOK("UIDNEXT "+strconv.FormatUint(uint64(info.UIDNext), 10), "The next UID")
	s.tellModSeq()
	s.untaggedOK("MAILBOXID ("+info.ObjectID+")", "The mailbox's id")
	if s.enabled.rev2 {
		// RFC 9051 6.3.2 asks for it; what is below is not looked for here.
		w.Raw("* LIST () \"/\" ")
		w.Mailbox(info.Name)
		w.CRLF()
	}
}

// box is the selected mailbox and no other that may have its name by now.
func (s *session) box() store.Box {
	return store.Box{Name: s.mailbox, UIDValidity: s.recentKey.validity}
}

// tellModSeq writes the mailbox's highest modification sequence.
func (s *session) tellModSeq() {
	s.untaggedOK(modSeqCode(s.view.modseq), "The highest modification sequence")
}

func modSeqCode(n store.ModSeq) string {
	return "HIGHESTMODSEQ " + strconv.FormatUint(uint64(max(n, 1)), 10)
}

// unselect lets go of the selected mailbox.
func (s *session) unselect() {
	if s.watch != nil {
		s.watch.Close()
	}
	s.selection = selection{}
}

// unselectCommand implements UNSELECT, RFC 9051 6.4.2.
func (s *session) unselectCommand(cmd *command) error {
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	s.unselect()
	return nil
}

// closeCommand implements CLOSE, RFC 9051 6.4.1: what is deleted goes without a
// word, and in a mailbox that is open for reading only nothing does.
func (s *session) closeCommand(cmd *command) error {
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	if !s.readOnly {
		s.catchUp()
		if err := s.removeDeleted(s.deleted(nil)); err != nil {
			return err
		}
	}
	s.unselect()
	return nil
}

// The session is where its view's news goes.

func (s *session) exists(from int) {
	s.claimRecent(from, s.view.msgs.UID(s.view.msgs.Len()-1)+1)
	s.tellExists()
	s.tellRecent()
	s.describeNew(from)
}

func (s *session) tellExists() {
	w := s.out
	w.Raw("* ")
	w.Num(uint64(s.view.msgs.Len()))
	w.Raw(" EXISTS")
	w.CRLF()
}

func (s *session) expunged(places []int, uids []store.UID) {
	w := s.out
	if s.enabled.qresync { // RFC 7162 3.2.10
		w.Raw("* VANISHED ")
		set := w.Set()
		for _, uid := range uids {
			set.Add(uint32(uid))
		}
		set.End()
		w.CRLF()
		return
	}
	for k, place := range places {
		w.Raw("* ")
		w.Num(uint64(place - k + 1))
		w.Raw(" EXPUNGE")
		w.CRLF()
	}
}

func (s *session) changed(place int, m *store.Message, flags bool) {
	if flags {
		s.writeFlags(place, m, true)
		return
	}
	w := s.out
	w.Raw("* ")
	w.Num(uint64(place) + 1)
	w.Raw(" FETCH (UID ")
	w.Num(uint64(m.UID))
	s.writeModSeq(m)
	w.Raw(")")
	w.CRLF()
}

// writeFlags tells a message's flags.
func (s *session) writeFlags(place int, m *store.Message, uid bool) {
	s.introduce(m)
	w := s.out
	w.Raw("* ")
	w.Num(uint64(place) + 1)
	w.Raw(" FETCH (")
	if uid || s.enabled.qresync {
		w.Raw("UID ")
		w.Num(uint64(m.UID))
		w.Raw(" ")
	}
	w.Raw("FLAGS ")
	s.writeFlagList(m)
	if s.enabled.condstore {
		s.writeModSeq(m)
	}
	w.Raw(")")
	w.CRLF()
}

func (s *session) writeModSeq(m *store.Message) {
	s.out.Raw(" MODSEQ (")
	s.out.Num(uint64(m.ModSeq))
	s.out.Raw(")")
}

var errRange = bad("There is no message with that number")

// number reads a set of messages and finds them.
func (s *session) number(p *wire.Parser, uid bool) imap.NumSet {
	p.SP()
	set := p.NumSet(uid)
	if p.Err() == nil && !imap.IsSearchRes(set) && uidSetEmpty(set) {
		p.Fail("Expected message numbers")
	}
	return set
}

func uidSetEmpty(set imap.NumSet) bool {
	switch set := set.(type) {
	case imap.UIDSet:
		return len(set) == 0
	case imap.SeqSet:
		return len(set) == 0
	}
	return true
}

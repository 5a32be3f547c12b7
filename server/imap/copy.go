package imap

import (
	"strconv"

	"github.com/emersion/go-imap/v2"

	"mailform/server/store"
)

// target reads the messages and the mailbox of a COPY or MOVE.
func (s *session) target(cmd *command) (spans []span, dest string, err error) {
	set := s.number(cmd.p, cmd.uid)
	cmd.p.SP()
	dest = cmd.p.Mailbox()
	if err := cmd.p.End(); err != nil {
		return nil, "", bad(err.Error())
	}
	s.catchUp()
	spans, ok := s.view.resolve(set, s.saved)
	if !ok {
		return nil, "", errRange
	}
	return spans, dest, nil
}

// destination finds the mailbox that messages are to come to. From then on it is meant,
// and no other that may get its name.
func (s *session) destination(name string) (store.Box, error) {
	info, err := s.store.Mailbox(s.ctx, s.account, name)
	if err != nil {
		return store.Box{}, s.tryCreate(err)
	}
	return info.Box(), nil
}

// copyCommand implements COPY, RFC 9051 6.4.7.
func (s *session) copyCommand(cmd *command) error {
	spans, dest, err := s.target(cmd)
	if err != nil {
		return err
	}
	to, err := s.destination(dest)
	if err != nil {
		return err
	}
	src, dst, validity, err := s.store.Copy(s.ctx, s.account, s.box(), s.view.uids(spans), to)
	if err != nil {
		return s.tryCreate(err)
	}
	cmd.code, cmd.text = s.copyCode(src, dst, validity), "COPY completed"
	return nil
}

// copyCode is COPYUID; "" when nothing was copied: there is no empty set to
// say so with.
func (s *session) copyCode(src, dst []store.UID, validity uint32) string {
	if len(src) == 0 {
		return ""
	}
	w := s.out
	mark := w.Mark()
	w.Raw("COPYUID ")
	w.Num(uint64(validity))
	for _, uids := range [][]store.UID{src, dst} {
		w.Raw(" ")
		set := w.Set()
		for _, u := range uids {
			set.Add(uint32(u))
		}
		set.End()
	}
	return w.Cut(mark)
}

// move implements MOVE, RFC 9051 6.4.8.
func (s *session) move(cmd *command) error {
	spans, dest, err := s.target(cmd)
	if err != nil {
		return err
	}
	if s.readOnly {
		return errReadOnly
	}
	to, err := s.destination(dest)
	if err != nil {
		return err
	}
	src, dst, validity, err := s.store.Move(s.ctx, s.account, s.box(), s.view.uids(spans), to)
	if err != nil {
		return s.tryCreate(err)
	}
	if code := s.copyCode(src, dst, validity); code != "" {
		s.untaggedOK(code, "Messages are moved")
	}
	cmd.text = "MOVE completed"
	s.removed(cmd, len(src) > 0)
	return nil
}

// removed announces what a command has removed, and to a client that will come
// back with it the sequence that this brought about, RFC 7162 3.2.7.
func (s *session) removed(cmd *command, some bool) {
	s.catchUp()
	s.view.announce(s, true)
	if some && s.enabled.condstore {
		cmd.code = modSeqCode(s.view.modseq)
	}
}

// expunge implements EXPUNGE and UID EXPUNGE, RFC 9051 6.4.3 and 6.4.9. Only
// messages that the client knows of are removed.
func (s *session) expunge(cmd *command) error {
	var within imap.NumSet
	if cmd.uid {
		within = s.number(cmd.p, true)
	}
	if err := cmd.p.End(); err != nil {
		return bad(err.Error())
	}
	if s.readOnly {
		return errReadOnly
	}
	s.catchUp()
	uids := s.deleted(within)
	if err := s.removeDeleted(uids); err != nil {
		return err
	}
	cmd.text = "EXPUNGE completed"
	s.removed(cmd, len(uids) > 0)
	return nil
}

// deleted returns the UIDs of the messages that have \Deleted, of those in
// within; nil is all.
func (s *session) deleted(within imap.NumSet) (uids []store.UID) {
	spans := []span{{0, s.view.msgs.Len()}}
	if within != nil {
		spans, _ = s.view.resolve(within, s.saved)
	}
	for _, m := range s.view.heads(spans) {
		if hasFlag(m, `\Deleted`) {
			uids = append(uids, m.UID)
		}
	}
	return uids
}

func (s *session) removeDeleted(uids []store.UID) error {
	if len(uids) == 0 {
		return nil
	}
	_, err := s.store.Expunge(s.ctx, s.account, s.box(), uids)
	return err
}

// appendCode is APPENDUID.
func appendCode(msgs []store.Message, validity uint32) string {
	var set imap.UIDSet
	for _, m := range msgs {
		set.AddNum(imap.UID(m.UID))
	}
	return "APPENDUID " + strconv.FormatUint(uint64(validity), 10) + " " + set.String()
}

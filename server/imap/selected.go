package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"mailform/server/store"
)

// systemFlags are the flags of RFC 9051 2.3.2.
var systemFlags = []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}

// maxKeywords bounds the keywords that SELECT lists.
const maxKeywords = 200

// Select implements imapserver.Session, for SELECT and EXAMINE.
func (s *session) Select(name string, o *imap.SelectOptions) (*imap.SelectData, error) {
	snap, watch, err := s.store.Open(s.ctx, s.account, name)
	if err != nil {
		return nil, s.answer(err, imap.ResponseCodeNonExistent)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mailbox, s.readOnly, s.watch = snap.Info.Name, o.ReadOnly, watch
	s.view, s.saved = newView(snap.Messages), nil

	data := &imap.SelectData{
		Flags: slices.Clone(systemFlags), NumMessages: uint32(len(snap.Messages)),
		UIDNext: imap.UID(snap.Info.UIDNext), UIDValidity: snap.Info.UIDValidity, HighestModSeq: uint64(snap.Info.HighestModSeq),
	}
	data.Flags = append(data.Flags, keywords(snap.Messages)...)
	if !o.ReadOnly {
		data.PermanentFlags = append(slices.Clone(data.Flags), imap.FlagWildcard)
	}
	for i, m := range snap.Messages {
		if !hasFlag(m, imap.FlagSeen) {
			data.FirstUnseenSeqNum = uint32(i) + 1
			break
		}
	}
	if s.ic.EnabledCaps().Has(imap.CapIMAP4rev2) {
		// RFC 9051 6.3.2 asks for it; what is below is not looked for here.
		data.List = &imap.ListData{Delim: delimiter, Mailbox: snap.Info.Name}
	}
	s.log.Debug("selected", "mailbox", snap.Info.Name, "messages", len(snap.Messages), "read_only", o.ReadOnly)
	return data, nil
}

// keywords returns the keywords in use, sorted.
func keywords(msgs []*store.Message) []imap.Flag {
	seen := map[string]bool{}
	var last []string
	for _, m := range msgs {
		if len(m.Flags) == 0 || len(last) == len(m.Flags) && &last[0] == &m.Flags[0] {
			continue // lists are shared: mostly the one just looked at
		}
		last = m.Flags
		for _, f := range m.Flags {
			if f[0] != '\\' {
				seen[f] = true
			}
		}
	}
	l := make([]imap.Flag, 0, len(seen))
	for f := range seen {
		l = append(l, imap.Flag(f))
	}
	slices.Sort(l)
	return l[:min(len(l), maxKeywords)]
}

// Unselect implements imapserver.Session.
func (s *session) Unselect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch != nil {
		s.watch.Close()
	}
	s.mailbox, s.readOnly, s.watch, s.view, s.saved = "", false, nil, nil, nil
	return s.forget()
}

// begin prepares a command on the selected mailbox; the caller unlocks s.mu.
func (s *session) begin() {
	s.mu.Lock()
	s.catchUp()
}

var errReadOnly = no(imap.ResponseCodeNoPerm, "The mailbox is open for reading only")

func errRange() error { return bad("There is no message with that number") }

func uidsOf(l []numbered) []store.UID {
	uids := make([]store.UID, len(l))
	for i, n := range l {
		uids[i] = n.msg.UID
	}
	return uids
}

func hasFlag(m *store.Message, f imap.Flag) bool {
	for _, v := range m.Flags {
		if strings.EqualFold(v, string(f)) {
			return true
		}
	}
	return false
}

// Store implements imapserver.Session.
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, change *imap.StoreFlags, _ *imap.StoreOptions) error {
	s.begin()
	defer s.mu.Unlock()
	if s.readOnly {
		return errReadOnly
	}
	msgs, ok := s.view.resolve(set, s.saved)
	if !ok {
		return errRange()
	}
	flags, ok := flagStrings(change.Flags)
	if !ok {
		return bad("A system flag that does not exist")
	}
	ops := map[imap.StoreFlagsOp]store.FlagOp{imap.StoreFlagsSet: store.FlagsSet, imap.StoreFlagsAdd: store.FlagsAdd, imap.StoreFlagsDel: store.FlagsRemove}
	if err := s.updateFlags(msgs, ops[change.Op], flags, change.Silent); err != nil {
		return s.answer(err, imap.ResponseCodeNonExistent)
	}
	if change.Silent {
		return nil
	}
	_, byUID := set.(imap.UIDSet)
	for _, n := range msgs {
		if n.gone {
			continue
		}
		delete(s.view.dirty, n.entry)
		n.tell()
		r := w.CreateMessage(n.seq)
		if byUID {
			r.WriteUID(imap.UID(n.msg.UID))
		}
		r.WriteFlags(flagsOf(n.msg))
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// updateFlags changes flags in the store and then in the view. Messages whose
// flags turn out as the client must expect them count as told; others, changed
// by somebody else meanwhile, are announced.
func (s *session) updateFlags(msgs []numbered, op store.FlagOp, flags []string, expected bool) error {
	if len(msgs) == 0 {
		return nil
	}
	before := make(map[store.UID]*store.Message, len(msgs))
	for _, n := range msgs {
		before[n.msg.UID] = n.msg
	}
	after, err := s.store.UpdateFlags(s.ctx, s.account, s.mailbox, uidsOf(msgs), op, flags)
	if err != nil {
		return err
	}
	for _, m := range after {
		e := s.view.find(m.UID)
		if e == nil || m.ModSeq <= e.msg.ModSeq {
			continue
		}
		known := before[m.UID].Flags
		e.msg = m
		if expected && (!e.knew || equalFlags(e.told, known)) && equalFlags(m.Flags, expect(known, op, flags)) {
			e.tell()
			delete(s.view.dirty, e)
		} else {
			s.view.dirty[e] = true
		}
	}
	s.catchUp()
	return nil
}

// expect is what a client that knew flags believes them to be after its change.
func expect(known []string, op store.FlagOp, flags []string) []string {
	var l []string
	if op != store.FlagsSet {
		l = append(l, known...)
	}
	for _, f := range flags {
		i := slices.IndexFunc(l, func(v string) bool { return strings.EqualFold(v, f) })
		switch {
		case op == store.FlagsRemove && i >= 0:
			l = slices.Delete(l, i, i+1)
		case op != store.FlagsRemove && i < 0:
			l = append(l, canonical(f))
		}
	}
	slices.Sort(l)
	return l
}

// canonical gives a system flag the case the store keeps it in.
func canonical(f string) string {
	for _, s := range systemFlags {
		if strings.EqualFold(f, string(s)) {
			return string(s)
		}
	}
	return f
}

// flagStrings is the store's form of flags; ok is false when one cannot be set.
func flagStrings(flags []imap.Flag) (l []string, ok bool) {
	l = []string{}
	for _, f := range flags {
		switch {
		case strings.EqualFold(string(f), `\Recent`) || f == imap.FlagWildcard:
			continue
		case f != "" && f[0] == '\\' && canonical(string(f)) == string(f) && !slices.Contains(systemFlags, f):
			return nil, false
		}
		l = append(l, string(f))
	}
	return l, true
}

// Copy implements imapserver.Session.
func (s *session) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	s.begin()
	defer s.mu.Unlock()
	msgs, ok := s.view.resolve(set, s.saved)
	if !ok {
		return nil, errRange()
	}
	src, dst, validity, err := s.store.Copy(s.ctx, s.account, s.mailbox, uidsOf(msgs), dest)
	if err != nil {
		return nil, s.answer(err, imap.ResponseCodeTryCreate)
	}
	return copyData(src, dst, validity), nil
}

// copyData is nil when nothing was copied: there is no empty set to say so with.
func copyData(src, dst []store.UID, validity uint32) *imap.CopyData {
	if len(src) == 0 {
		return nil
	}
	d := &imap.CopyData{UIDValidity: validity}
	for i := range src {
		d.SourceUIDs.AddNum(imap.UID(src[i]))
		d.DestUIDs.AddNum(imap.UID(dst[i]))
	}
	return d
}

// Move implements imapserver.SessionMove.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	s.begin()
	defer s.mu.Unlock()
	if s.readOnly {
		return errReadOnly
	}
	msgs, ok := s.view.resolve(set, s.saved)
	if !ok {
		return errRange()
	}
	src, dst, validity, err := s.store.Move(s.ctx, s.account, s.mailbox, uidsOf(msgs), dest)
	if err != nil {
		return s.answer(err, imap.ResponseCodeTryCreate)
	}
	if d := copyData(src, dst, validity); d != nil {
		if err := w.WriteCopyData(d); err != nil {
			return err
		}
	}
	s.catchUp()
	return s.view.announceExpunges(w)
}

// Expunge implements imapserver.Session, for EXPUNGE, UID EXPUNGE and CLOSE.
// Only messages that the client knows of are removed.
func (s *session) Expunge(w *imapserver.ExpungeWriter, only *imap.UIDSet) error {
	s.begin()
	defer s.mu.Unlock()
	if s.readOnly {
		if s.command() == "CLOSE" { // RFC 9051 6.4.1: nothing is removed, and that is no error
			return nil
		}
		return errReadOnly
	}
	uids := []store.UID{}
	if only != nil {
		msgs, _ := s.view.resolve(*only, s.saved)
		uids = uidsOf(msgs)
	} else {
		for _, e := range s.view.entries {
			if !e.gone && hasFlag(e.msg, imap.FlagDeleted) {
				uids = append(uids, e.msg.UID)
			}
		}
	}
	if len(uids) > 0 {
		if _, err := s.store.Expunge(s.ctx, s.account, s.mailbox, uids); err != nil {
			return s.answer(err, imap.ResponseCodeNonExistent)
		}
	}
	s.catchUp()
	return s.view.announceExpunges(w)
}

// Append implements imapserver.Session.
func (s *session) Append(name string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	if r.Size() == 0 {
		return nil, no(imap.ResponseCodeCannot, "A message must not be empty")
	}
	flags, ok := flagStrings(o.Flags)
	if !ok {
		return nil, bad("A system flag that does not exist")
	}
	m, validity, err := s.store.Append(s.ctx, s.account, name, r, r.Size(), flags, o.Time)
	if err != nil {
		return nil, s.answer(err, imap.ResponseCodeTryCreate)
	}
	return &imap.AppendData{UID: imap.UID(m.UID), UIDValidity: validity}, nil
}

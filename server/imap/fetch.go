package imap

import (
	"errors"
	"io"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/mimetree"
	"mailform/server/imap/summary"
	"mailform/server/store"
)

// fetchChunk is how many messages are marked as seen with one commit.
const fetchChunk = 100

// fetch implements FETCH, RFC 9051 6.4.5, with the modifiers of RFC 7162.
func (s *session) fetch(cmd *command) error {
	cmd.keepNumbers = !cmd.uid
	p := cmd.p
	set := s.number(p, cmd.uid)
	r := parseFetch(p)
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	if r.vanished && (!cmd.uid || r.since == 0 || !s.enabled.qresync) {
		return bad("VANISHED needs UID FETCH, CHANGEDSINCE and QRESYNC")
	}
	if r.partial != nil && !cmd.uid {
		return bad("PARTIAL needs UID FETCH")
	}
	if cmd.uid && !r.kinds.has(fetchUID) {
		r.items = append([]fetchItem{{kind: fetchUID}}, r.items...)
	}
	s.catchUp()
	spans, ok := s.view.resolve(set, s.saved)
	if !ok {
		return errRange
	}
	if r.kinds.has(fetchModSeq) {
		s.useCondStore()
	}
	if r.vanished {
		within := set.(imap.UIDSet)
		if imap.IsSearchRes(set) {
			within = s.saved
		}
		if err := s.vanishedSince(r.since, s.concrete(within)); err != nil {
			return err
		}
	}
	if r.since > 0 { // found before any of them changes, because it is marked as seen
		spans = s.view.changedSince(spans, r.since)
	}
	if r.partial != nil {
		spans = s.view.part(spans, r.partial)
	}
	cmd.text = cmd.name + " completed"
	err := s.fetchAll(r, spans)
	if err == nil && s.view.anyGone(spans) && !cmd.uid {
		cmd.code = string(codeExpunged)
	}
	return err
}

// fetchAll answers for all messages. One that cannot be read is passed over,
// and the first such error returned.
func (s *session) fetchAll(r *fetchRequest, spans []span) (failed error) {
	f := &fetcher{session: s, r: r}
	if r.summed && s.worthSummaries(spans) {
		f.sums = s.summaries()
		defer f.sums.Close()
	}
	marks := r.seen && !s.readOnly
	done := 0 // places before it have been marked
	messages := s.view.facts(spans)
	if !r.rows() {
		messages = s.view.heads(spans)
	}
	for i, m := range messages {
		if marks && i >= done {
			done = s.markSeen(spans, i)
			if s.view.isGone(i) {
				continue
			}
			s.view.msgs.Head(i, m)
		}
		f.place = i
		mark := s.out.Mark()
		err := f.one(m)
		switch {
		case err == nil:
		case s.out.Err() != nil:
			return nil // the client has gone
		case isBroken(err) || !s.out.Rollback(mark):
			// A literal was begun that cannot be ended: the client must not take
			// what follows for its octets.
			s.log.Error("fetch broke off", "mailbox", s.mailbox, "uid", m.UID, "err", err)
			s.c.abort(err)
			return err
		default:
			s.log.Warn("fetch", "mailbox", s.mailbox, "uid", m.UID, "err", err)
			if failed == nil {
				failed = err
			}
			if !errors.Is(err, store.ErrNoMessage) && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, errEncoding) {
				return err
			}
		}
	}
	return failed
}

// markSeen sets \Seen where it is missing in the next messages of spans. That
// it cannot be set is no reason not to show a message. It returns the place up
// to which it went.
func (s *session) markSeen(spans []span, from int) int {
	var unseen []span
	n, last := 0, from
	for i, m := range s.view.heads(spans) {
		if i < from {
			continue
		}
		if n++; n > fetchChunk {
			break
		}
		last = i
		if !hasFlag(m, `\Seen`) {
			unseen = append(unseen, span{i, i + 1})
		}
	}
	if _, err := s.updateFlags(unseen, store.FlagsAdd, []string{`\Seen`}, false, maxModSeq); err != nil {
		s.log.Warn("mark as seen", "mailbox", s.mailbox, "err", err)
	}
	return last + 1
}

// brokenError is an error behind which the connection cannot go on.
type brokenError struct{ err error }

func isBroken(err error) bool {
	var broken *brokenError
	return errors.As(err, &broken)
}

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// fetcher carries out a FETCH.
type fetcher struct {
	*session
	r    *fetchRequest
	sums *summary.Reader // nil: the messages are read
	buf  []byte
	refs []uint64

	place   int
	m       *store.Message // it is not known where its octets are, until it is read
	content *content       // of m, once it was needed
}

// summaries returns what is kept of the selected mailbox; nil when that is nothing.
func (s *session) summaries() *summary.Reader {
	if s.srv.cfg.Summaries == nil {
		return nil
	}
	return s.srv.cfg.Summaries(s.account, s.recentKey.validity)
}

// worthSummaries says whether it is worth while to open the summaries of some
// messages: of many, or of large ones.
func (s *session) worthSummaries(spans []span) bool {
	n := 0
	for _, m := range s.view.facts(spans) {
		if n++; n >= s.srv.cfg.few || m.Size > smallMessage {
			return true
		}
	}
	return false
}

// read opens the message, unless it is open.
func (f *fetcher) read() (_ *content, err error) {
	if f.content == nil {
		f.view.msgs.Read(f.place, f.m)
		f.content, err = f.load(f.m)
	}
	return f.content, err
}

// one answers for one message.
func (f *fetcher) one(m *store.Message) (err error) {
	s, r, w, place := f.session, f.r, f.out, f.place
	f.m = m
	defer func() {
		if f.content != nil {
			f.content.release()
			f.content = nil
		}
	}()
	known := r.summed && f.sums.Seek(m)
	if r.reads && !(known && r.onlySummed()) {
		if _, err := f.read(); err != nil {
			return err
		}
	}
	news := s.view.isDirty(place)
	if r.kinds.has(fetchFlags) || news {
		s.introduce(m)
	}
	w.Raw("* ")
	w.Num(uint64(place) + 1)
	w.Raw(" FETCH (")
	flags, modseq := false, false
	for i := range r.items {
		if i > 0 {
			w.Byte(' ')
		}
		item := &r.items[i]
		switch item.kind {
		case fetchUID:
			w.Raw("UID ")
			w.Num(uint64(m.UID))
		case fetchFlags:
			flags = true
			s.view.told(place)
			w.Raw("FLAGS ")
			s.writeFlagList(m)
		case fetchDate:
			w.Raw("INTERNALDATE ")
			w.Date(m.InternalDate)
		case fetchSize:
			w.Raw("RFC822.SIZE ")
			w.Num(uint64(m.Size))
		case fetchModSeq:
			modseq = true
			w.Raw("MODSEQ (")
			w.Num(uint64(m.ModSeq))
			w.Byte(')')
		case fetchEmailID:
			w.Raw("EMAILID (")
			w.Raw(m.ObjectID)
			w.Byte(')')
		case fetchSaveDate:
			w.Raw("SAVEDATE ")
			w.Date(m.SaveDate)
		default:
			if err := f.item(item); err != nil {
				return err
			}
		}
	}
	// A change that the client was not told yet comes along.
	if news && !flags {
		s.view.told(place)
		w.Raw(" FLAGS ")
		s.writeFlagList(m)
	}
	if news && s.enabled.qresync && !r.kinds.has(fetchUID) { // RFC 7162 3.2
		w.Raw(" UID ")
		w.Num(uint64(m.UID))
	}
	if news && s.enabled.condstore && !modseq { // RFC 7162 3.1
		s.writeModSeq(m)
	}
	w.Byte(')')
	w.CRLF()
	return nil
}

// item answers an item for which the message is read, or its summary. What may
// fail is done before a literal is begun.
func (f *fetcher) item(item *fetchItem) error {
	if item.summed && f.fromSummary(item) {
		return nil
	}
	c, err := f.read()
	if err != nil {
		return err
	}
	w := f.out
	switch item.kind {
	case fetchEnvelope:
		h, err := c.header()
		if err != nil {
			return err
		}
		w.Raw("ENVELOPE ")
		summary.WriteEnvelope(w, h)
	case fetchThreadID:
		h, err := c.header()
		if err != nil {
			return err
		}
		f.writeThreadID(summary.ThreadOf(h))
	case fetchStructure, fetchBody:
		tree, err := c.structure()
		if err != nil {
			return err
		}
		if item.kind == fetchBody {
			w.Raw("BODY ")
		} else {
			w.Raw("BODYSTRUCTURE ")
		}
		summary.WriteStructure(w, tree, item.kind == fetchStructure)
	case fetchPreview:
		tree, err := c.structure()
		if err != nil {
			return err
		}
		w.Raw(item.label)
		w.Byte(' ')
		w.String(summary.Preview(tree, c.at))
		w.Raw(item.closing())
	case fetchBinarySize:
		_, size, err := c.binarySection(item.section.Part)
		if err != nil {
			return err
		}
		w.Raw(item.label)
		w.Byte(' ')
		w.Num(uint64(size))
	case fetchBinary:
		r, size, err := c.binarySection(item.section.Part)
		if err != nil {
			return err
		}
		return f.writeSection(item, r, size, true)
	default:
		r, size, err := c.bodySection(item.section)
		if err != nil {
			return err
		}
		return f.writeSection(item, r, size, false)
	}
	return nil
}

func (f *fetcher) writeThreadID(t summary.Thread) {
	f.out.Raw("THREADID (" + threadID(threadKeyOf(t, f.m)) + ")")
}

// fromSummary answers an item from the message's summary, if it is kept.
func (f *fetcher) fromSummary(item *fetchItem) bool {
	w := f.out
	var v []byte
	ok := false
	switch item.kind {
	case fetchEnvelope:
		if v, ok = f.sums.Envelope(w.UTF8); ok {
			w.Raw("ENVELOPE ")
			w.Bytes(v)
		}
	case fetchThreadID:
		var t summary.Thread
		if t, ok = f.sums.Thread(f.refs[:0]); ok {
			f.refs = t.Refs[:0]
			f.writeThreadID(t)
		}
	case fetchStructure:
		if v, ok = f.sums.Structure(w.UTF8); ok {
			w.Raw("BODYSTRUCTURE ")
			w.Bytes(v)
		}
	case fetchPreview:
		if v, ok = f.sums.Preview(w.UTF8); ok {
			w.Raw(item.label)
			w.Byte(' ')
			w.Bytes(v)
			w.Raw(item.closing())
		}
	case fetchSection:
		if v, ok = f.sums.Fields(f.buf[:0], &item.fields); ok {
			f.buf = v
			w.Raw(item.label)
			if p := item.section.Partial; p != nil {
				start := min(max(p.Offset, 0), int64(len(v)))
				v = v[start : start+min(p.Size, int64(len(v))-start)]
				w.Byte('<')
				w.Num(uint64(p.Offset))
				w.Byte('>')
			}
			w.Byte(' ')
			w.LiteralHead(int64(len(v)), false)
			w.Bytes(v)
		}
	}
	return ok
}

// writeSection writes a section's octets.
func (s *session) writeSection(item *fetchItem, r io.Reader, size int64, binary bool) error {
	w := s.out
	w.Raw(item.label)
	if p := item.section.Partial; p != nil {
		r, size = cut(r, size, p)
		w.Byte('<')
		w.Num(uint64(p.Offset))
		w.Byte('>')
	}
	w.Byte(' ')
	if !binary {
		r = mimetree.HideNUL(r) // RFC 9051 4.3: only a literal8 may hold one
	}
	if err := w.Literal(r, size, binary); err != nil {
		return &brokenError{err}
	}
	return nil
}

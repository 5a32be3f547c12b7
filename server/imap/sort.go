package imap

import (
	"mailform/server/imap/mimetree"
	"mailform/server/imap/summary"
	"mailform/server/imap/threads"
	"mailform/server/imap/wire"
	"mailform/server/store"
)

// sortKey is one criterion of SORT, RFC 5256 and RFC 5957.
type sortKey struct {
	name    string
	reverse bool
}

// parseSortKeys reads the criteria.
func parseSortKeys(p *wire.Parser) (keys []sortKey) {
	reverse := false
	p.List(func() {
		name := p.Word()
		switch name {
		case "REVERSE":
			reverse = true
			return
		case "ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO":
		default:
			p.Fail("Unknown sort key")
		}
		keys = append(keys, sortKey{name, reverse})
		reverse = false
	})
	if len(keys) == 0 || reverse || len(keys) > 20 {
		p.Fail("Expected sort keys")
	}
	return keys
}

// sort implements SORT.
func (s *session) sort(cmd *command) error {
	cmd.keepNumbers = !cmd.uid
	p := cmd.p
	p.SP()
	ret := parseReturn(p)
	keys := parseSortKeys(p)
	p.SP()
	if ret.update {
		if err := s.usedTag(cmd); err != nil {
			return err
		}
	}
	dec, err := decoderOf(p)
	if err != nil {
		return s.unsaved(ret, err)
	}
	s.catchUp()
	q := s.newQuery(cmd.tag, p, dec)
	key := q.keys()
	if err := q.err(); err != nil {
		return err
	}
	if ret.save {
		s.saved = nil
	}
	found, err := q.run(key)
	if err != nil {
		return err
	}
	if found, err = q.sort(found, keys); err != nil {
		return err
	}
	q.sorted = true
	if ret.update {
		s.noUpdate(cmd.tag, "Sorted results are not followed") // CONTEXT=SORT is not offered
	}
	if ret.save {
		s.saved = s.savedSet(found, ret)
	}
	if ret.given {
		s.writeESearch(cmd, ret, found, q)
	} else {
		s.writeSearch(cmd, "SORT", found, q)
	}
	cmd.text = cmd.name + " completed"
	return nil
}

// sort puts places in order.
func (q *query) sort(found []int, keys []sortKey) ([]int, error) {
	defer q.release()
	columns := make([]sortColumn, len(keys))
	for i, k := range keys {
		columns[i].reverse = k.reverse
		if k.numeric() {
			columns[i].nums = make([]int64, len(found))
		} else {
			columns[i].ends = make([]int, len(found))
			columns[i].text = make([]byte, 0, 24*len(found)) // about
		}
	}
	var m store.Message
	for n, i := range found {
		if err := q.progress(n, len(found)); err != nil {
			return nil, err
		}
		q.s.view.msgs.Read(i, &m)
		for c, k := range keys {
			if err := q.sortValue(&columns[c], n, k, i, &m); err != nil {
				return nil, err
			}
		}
	}
	sorter := newSorter(columns, len(found))
	sorted := make([]int, len(found))
	for i, x := range sorter.list {
		sorted[i] = found[x.n]
	}
	return sorted, nil
}

func (k sortKey) numeric() bool { return k.name == "ARRIVAL" || k.name == "DATE" || k.name == "SIZE" }

// sortTexts are the keys that are texts.
var sortTexts = map[string]summary.Text{
	"SUBJECT": summary.BySubject, "FROM": summary.ByFrom, "TO": summary.ByTo, "CC": summary.ByCc, "DISPLAYFROM": summary.ByDisplayFrom, "DISPLAYTO": summary.ByDisplayTo,
}

// sortValue finds what the message at a place, the n-th that was found, is
// sorted by. One that cannot be read sorts like one without a header.
func (q *query) sortValue(c *sortColumn, n int, k sortKey, place int, m *store.Message) error {
	switch k.name {
	case "ARRIVAL":
		c.nums[n] = m.InternalDate.Unix()
	case "SIZE":
		c.nums[n] = m.Size
	case "DATE":
		sent, err := q.sent(place, m)
		if err != nil {
			return err
		}
		c.nums[n] = sent.Or(m)
	default:
		by := sortTexts[k.name]
		if text, ok := q.summary(m).Text(by); ok {
			c.text = append(c.text, text...)
		} else {
			h, err := q.header(place, m)
			if err != nil {
				return err
			}
			c.text = append(c.text, summary.TextOf(h, by)...)
		}
		c.ends[n] = len(c.text)
	}
	return nil
}

// sent is when a message was sent.
func (q *query) sent(place int, m *store.Message) (summary.Sent, error) {
	if sent, ok := q.summary(m).Sent(); ok {
		return sent, nil
	}
	h, err := q.header(place, m)
	return summary.SentOf(h), err
}

// summary returns the summaries, at a message; nil when nothing is kept of it.
func (q *query) summary(m *store.Message) *summary.Reader {
	if !q.summed {
		q.summed, q.sums = true, q.s.summaries()
	}
	if q.sumOf != m.UID {
		q.sumOf, q.sumKnown = m.UID, q.sums.Seek(m)
	}
	if !q.sumKnown {
		return nil
	}
	return q.sums
}

// header is the header of a message; an empty one when it cannot be read.
func (q *query) header(i int, m *store.Message) (mimetree.Header, error) {
	if err := q.s.ctx.Err(); err != nil {
		return nil, err
	}
	c, err := q.content(i, m)
	if err == nil {
		var h mimetree.Header
		if h, err = c.header(); err == nil {
			return h, nil
		}
	}
	q.s.log.Warn("sort", "mailbox", q.s.mailbox, "uid", m.UID, "err", err)
	return nil, nil
}

// thread implements THREAD.
func (s *session) thread(cmd *command) error {
	cmd.keepNumbers = !cmd.uid
	p := cmd.p
	p.SP()
	algorithm := p.Word()
	p.SP()
	dec, err := decoderOf(p)
	if err != nil {
		return err
	}
	s.catchUp()
	q := s.newQuery(cmd.tag, p, dec)
	key := q.keys()
	if err := q.err(); err != nil {
		return err
	}
	arrange := threads.References
	switch algorithm {
	case "REFERENCES":
	case "REFS":
		arrange = threads.Refs
	case "ORDEREDSUBJECT":
		arrange = threads.OrderedSubject
	default:
		return bad("That threading algorithm is not known")
	}
	found, err := q.run(key)
	if err != nil {
		return err
	}
	msgs, err := q.threadable(cmd, found)
	if err != nil {
		return err
	}
	s.out.Raw("* THREAD")
	if len(msgs) > 0 {
		s.out.Byte(' ')
	}
	for _, n := range arrange(msgs) {
		writeThread(s.out, n)
	}
	s.out.CRLF()
	cmd.text = cmd.name + " completed"
	return nil
}

// threadable finds what decides where messages belong.
func (q *query) threadable(cmd *command, found []int) ([]threads.Message, error) {
	defer q.release()
	msgs := make([]threads.Message, 0, len(found))
	var refs []uint64 // of all, in pieces
	var m store.Message
	for n, i := range found {
		if err := q.progress(n, len(found)); err != nil {
			return nil, err
		}
		q.s.view.msgs.Read(i, &m)
		sent, err := q.sent(i, &m)
		if err != nil {
			return nil, err
		}
		if cap(refs)-len(refs) < 64 {
			refs = make([]uint64, 0, 4096)
		}
		t, ok := q.summary(&m).Thread(refs[len(refs):])
		if ok {
			refs = refs[:min(len(refs)+len(t.Refs), cap(refs))]
		} else {
			h, err := q.header(i, &m)
			if err != nil {
				return nil, err
			}
			t = summary.ThreadOf(h)
		}
		msgs = append(msgs, threads.Message{Num: q.s.numberOf(cmd.uid, i), Sent: sent.Or(&m), ID: t.ID, Refs: t.Refs, Subject: t.Subject, Reply: t.Reply})
	}
	return msgs, nil
}

// writeThread writes a thread in parentheses.
func writeThread(w *wire.Writer, n *threads.Node) {
	w.Byte('(')
	for first := true; ; first = false {
		if n.Message != nil {
			if !first {
				w.Byte(' ')
			}
			w.Num(uint64(n.Message.Num))
		}
		if len(n.Children) != 1 {
			break
		}
		n = n.Children[0]
	}
	if len(n.Children) > 0 && n.Message != nil {
		w.Byte(' ')
	}
	for _, c := range n.Children {
		writeThread(w, c)
	}
	w.Byte(')')
}

package imap

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"mailform/server/imap/mimetree"
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
	dec, err := decoderOf(p)
	if err != nil {
		return err
	}
	s.catchUp()
	q := s.newQuery(cmd, dec)
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

// sortable is a message with what it is sorted by.
type sortable struct {
	place int
	nums  []int64  // of the numeric keys, in order
	texts []string // of the others
}

// sort puts places in order.
func (q *query) sort(found []int, keys []sortKey) ([]int, error) {
	defer q.release()
	list := make([]sortable, 0, len(found))
	for n, i := range found {
		q.progress(n, len(found))
		x := sortable{place: i}
		for _, k := range keys {
			if err := q.sortValue(&x, k, q.s.view.msgs[i]); err != nil {
				return nil, err
			}
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b sortable) int {
		num, text := 0, 0
		for _, k := range keys {
			c := 0
			if k.numeric() {
				c = cmp.Compare(a.nums[num], b.nums[num])
				num++
			} else {
				c = strings.Compare(a.texts[text], b.texts[text])
				text++
			}
			if k.reverse {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return a.place - b.place
	})
	for i, x := range list {
		found[i] = x.place
	}
	return found, nil
}

func (k sortKey) numeric() bool { return k.name == "ARRIVAL" || k.name == "DATE" || k.name == "SIZE" }

// sortValue finds what a message is sorted by. One that cannot be read sorts
// like one without a header.
func (q *query) sortValue(x *sortable, k sortKey, m *store.Message) error {
	switch k.name {
	case "ARRIVAL":
		x.nums = append(x.nums, m.InternalDate.Unix())
		return nil
	case "SIZE":
		x.nums = append(x.nums, m.Size)
		return nil
	}
	h, err := q.header(x.place, m)
	if err != nil {
		return err
	}
	switch k.name {
	case "DATE":
		x.nums = append(x.nums, sentDate(h, m).Unix())
	case "SUBJECT":
		base, _ := threads.BaseSubject(mimetree.DecodeWords(h.Get("Subject")))
		x.texts = append(x.texts, casemap(base))
	case "DISPLAYFROM":
		x.texts = append(x.texts, casemap(display(h.Get("From"))))
	case "DISPLAYTO":
		x.texts = append(x.texts, casemap(display(h.Get("To"))))
	default:
		x.texts = append(x.texts, casemap(firstMailbox(h.Get(k.name))))
	}
	return nil
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

// sentDate is the Date field, or else the internal date, RFC 5256 2.2.
func sentDate(h mimetree.Header, m *store.Message) time.Time {
	if t := parseDate(h.Get("Date")); !t.IsZero() {
		return t.UTC()
	}
	return m.InternalDate.UTC()
}

// firstMailbox is the local part of the first address.
func firstMailbox(v string) string {
	if list := mimetree.ParseAddresses(v); len(list) > 0 {
		return list[0].Mailbox // or a group's name
	}
	return ""
}

// display is how a person sees the first address, RFC 5957.
func display(v string) string {
	list := mimetree.ParseAddresses(v)
	switch {
	case len(list) == 0:
		return ""
	case list[0].Name != "":
		return mimetree.DecodeWords(list[0].Name)
	case list[0].Host != "":
		return list[0].Mailbox + "@" + list[0].Host
	}
	return mimetree.DecodeWords(list[0].Mailbox) // a group's name
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
	q := s.newQuery(cmd, dec)
	key := q.keys()
	if err := q.err(); err != nil {
		return err
	}
	arrange := threads.References
	switch algorithm {
	case "REFERENCES":
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
	for n, i := range found {
		q.progress(n, len(found))
		m := q.s.view.msgs[i]
		h, err := q.header(i, m)
		if err != nil {
			return nil, err
		}
		t := threads.Message{Num: q.s.numberOf(cmd, i), Date: sentDate(h, m)}
		base, reply := threads.BaseSubject(mimetree.DecodeWords(h.Get("Subject")))
		t.Subject, t.Reply = casemap(base), reply
		if ids := threads.MessageIDs(h.Get("Message-Id")); len(ids) > 0 {
			t.ID = ids[0]
		}
		if t.Refs = threads.MessageIDs(h.Get("References")); len(t.Refs) == 0 {
			// Of In-Reply-To only the first is taken.
			if ids := threads.MessageIDs(h.Get("In-Reply-To")); len(ids) > 0 {
				t.Refs = ids[:1]
			}
		}
		msgs = append(msgs, t)
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

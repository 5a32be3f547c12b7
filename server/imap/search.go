package imap

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"mailform/server/imap/mimetree"
	"mailform/server/store"
)

// Search implements imapserver.Session.
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, o *imap.SearchOptions) (*imap.SearchData, error) {
	s.begin()
	defer s.mu.Unlock()
	q := &query{s: s}
	top, err := q.compile(criteria)
	if err != nil {
		return nil, err
	}
	data := &imap.SearchData{}
	var seqs imap.SeqSet
	var uids imap.UIDSet
	for i, e := range s.view.entries {
		if e.gone {
			continue
		}
		n := numbered{uint32(i) + 1, e}
		ok, err := top.match(q, n)
		if err != nil {
			if errors.Is(err, store.ErrNoMessage) || errors.Is(err, store.ErrDamaged) {
				s.log.Warn("search", "mailbox", s.mailbox, "uid", e.msg.UID, "err", err)
				continue // what cannot be read cannot be found
			}
			return nil, s.answer(err, imap.ResponseCodeNonExistent)
		}
		if !ok {
			continue
		}
		num := n.seq
		if kind == imapserver.NumKindUID {
			num = uint32(e.msg.UID)
		}
		if data.Count++; data.Min == 0 {
			data.Min = num
		}
		data.Max = num
		seqs.AddNum(n.seq)
		uids.AddNum(imap.UID(e.msg.UID))
	}
	data.All = seqs
	if kind == imapserver.NumKindUID {
		data.All = uids
	}
	if o.ReturnSave {
		s.saved = savedSet(s, uids, o, data, kind)
	}
	return data, nil
}

// savedSet is what "$" means afterwards. With MIN or MAX alone it is these
// only, RFC 9051 6.4.4.1.
func savedSet(s *session, all imap.UIDSet, o *imap.SearchOptions, data *imap.SearchData, kind imapserver.NumKind) imap.UIDSet {
	if o.ReturnAll || o.ReturnCount || !o.ReturnMin && !o.ReturnMax {
		return all
	}
	var set imap.UIDSet
	add := func(num uint32) {
		if num == 0 {
			return
		}
		if kind == imapserver.NumKindSeq {
			num = uint32(s.view.entries[num-1].msg.UID)
		}
		set.AddNum(imap.UID(num))
	}
	if o.ReturnMin {
		add(data.Min)
	}
	if o.ReturnMax {
		add(data.Max)
	}
	return set
}

// query is a search being carried out.
type query struct {
	s   *session
	buf []byte
}

// matcher is criteria got ready: number sets resolved, texts in lower case.
type matcher struct {
	c       *imap.SearchCriteria
	sets    []map[store.UID]bool
	headers []headerMatcher
	body    []string
	text    []string
	not     []*matcher
	or      [][2]*matcher
}

type headerMatcher struct{ key, value string }

func (q *query) compile(c *imap.SearchCriteria) (*matcher, error) {
	m := &matcher{c: c}
	if c.ModSeq != nil {
		return nil, bad("CONDSTORE is not supported")
	}
	for _, set := range c.SeqNum {
		l, ok := q.s.view.resolve(set, nil)
		if !ok {
			return nil, errRange()
		}
		m.sets = append(m.sets, uidMap(l))
	}
	for _, set := range c.UID {
		l, _ := q.s.view.resolve(set, q.s.saved)
		m.sets = append(m.sets, uidMap(l))
	}
	for _, h := range c.Header {
		m.headers = append(m.headers, headerMatcher{h.Key, fold(h.Value)})
	}
	for _, t := range c.Body {
		m.body = append(m.body, fold(t))
	}
	for _, t := range c.Text {
		m.text = append(m.text, fold(t))
	}
	for i := range c.Not {
		n, err := q.compile(&c.Not[i])
		if err != nil {
			return nil, err
		}
		m.not = append(m.not, n)
	}
	for i := range c.Or {
		a, err := q.compile(&c.Or[i][0])
		if err != nil {
			return nil, err
		}
		b, err := q.compile(&c.Or[i][1])
		if err != nil {
			return nil, err
		}
		m.or = append(m.or, [2]*matcher{a, b})
	}
	return m, nil
}

func uidMap(l []numbered) map[store.UID]bool {
	m := make(map[store.UID]bool, len(l))
	for _, n := range l {
		m[n.msg.UID] = true
	}
	return m
}

// fold brings text into the form that is compared: lower case. RFC 5051 would
// decompose too; clients compare what people type.
func fold(s string) string { return strings.ToLower(s) }

// match says whether a message meets the criteria. What is at hand is looked
// at before what must be read.
func (m *matcher) match(q *query, n numbered) (bool, error) {
	c, msg := m.c, n.msg
	for _, set := range m.sets {
		if !set[msg.UID] {
			return false, nil
		}
	}
	for _, f := range c.Flag {
		if !hasFlag(msg, f) {
			return false, nil
		}
	}
	for _, f := range c.NotFlag {
		if hasFlag(msg, f) {
			return false, nil
		}
	}
	if c.Larger != 0 && msg.Size <= c.Larger || c.Smaller != 0 && msg.Size >= c.Smaller {
		return false, nil
	}
	if !between(msg.InternalDate, c.Since, c.Before) {
		return false, nil
	}
	if ok, err := m.matchHeader(q, n); !ok || err != nil {
		return false, err
	}
	for _, x := range m.not {
		if ok, err := x.match(q, n); ok || err != nil {
			return false, err
		}
	}
	for _, pair := range m.or {
		ok, err := pair[0].match(q, n)
		if err == nil && !ok {
			ok, err = pair[1].match(q, n)
		}
		if !ok || err != nil {
			return false, err
		}
	}
	for _, needle := range m.body {
		if ok, err := q.contains(n, needle, false); !ok || err != nil {
			return false, err
		}
	}
	for _, needle := range m.text {
		if ok, err := q.contains(n, needle, true); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// between compares days only, in the date's own zone, RFC 9051 6.4.4.
func between(t, since, before time.Time) bool {
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	if !since.IsZero() && day.Before(midnight(since)) {
		return false
	}
	return before.IsZero() || day.Before(midnight(before))
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
}

func (m *matcher) matchHeader(q *query, n numbered) (bool, error) {
	if len(m.headers) == 0 && m.c.SentSince.IsZero() && m.c.SentBefore.IsZero() {
		return true, nil
	}
	c, err := q.s.load(n.msg)
	if err != nil {
		return false, err
	}
	h, err := c.header()
	if err != nil {
		return false, err
	}
	if !m.c.SentSince.IsZero() || !m.c.SentBefore.IsZero() {
		t := parseDate(h.Get("Date"))
		if t.IsZero() || !between(t, m.c.SentSince, m.c.SentBefore) {
			return false, nil
		}
	}
	for _, want := range m.headers {
		found := false
		for _, v := range h.Values(want.key) {
			if strings.Contains(fold(mimetree.DecodeWords(v)), want.value) {
				found = true
				break
			}
		}
		if !found {
			return false, nil
		}
	}
	return true, nil
}

// contains looks for text in the parts of a message that are text, and with
// headers in the headers of all its parts.
func (q *query) contains(n numbered, needle string, headers bool) (bool, error) {
	if needle == "" {
		return true, nil
	}
	c, err := q.s.load(n.msg)
	if err != nil {
		return false, err
	}
	tree, err := c.structure()
	if err != nil {
		return false, err
	}
	found := false
	tree.Walk(func(p *mimetree.Part) {
		if found || err != nil {
			return
		}
		if headers {
			for _, f := range p.Fields {
				line := f.Name + ": " + mimetree.DecodeWords(f.Value())
				if strings.Contains(fold(line), needle) {
					found = true
					return
				}
			}
		}
		if p.Type == "text" && !p.Multipart() {
			r, _ := mimetree.CharsetReader(p.Params["charset"], mimetree.Decoded(p.Encoding(), c.reader(p.Body)))
			found, err = q.find(r, needle)
		}
	})
	return found, err
}

// find looks for a folded text in what r yields, without holding all of it.
func (q *query) find(r io.Reader, needle string) (bool, error) {
	if q.buf == nil {
		q.buf = make([]byte, 32<<10)
	}
	var window []byte
	rest := 0 // octets at the start of buf left of a character that was cut
	for {
		n, err := r.Read(q.buf[rest:])
		chunk := q.buf[:rest+n]
		cut := len(chunk)
		if err == nil {
			cut = wholeRunes(chunk)
		}
		window = append(window, bytes.ToLower(bytes.ToValidUTF8(chunk[:cut], []byte("\uFFFD")))...)
		if bytes.Contains(window, []byte(needle)) {
			return true, nil
		}
		if keep := len(needle) - 1; len(window) > keep {
			window = append(window[:0], window[len(window)-keep:]...)
		}
		rest = copy(q.buf, chunk[cut:])
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			if errors.Is(err, store.ErrDamaged) {
				return false, err
			}
			return false, nil // a character set that breaks off
		}
	}
}

// wholeRunes returns how many octets of b are whole characters.
func wholeRunes(b []byte) int {
	for i := 1; i <= utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if utf8.FullRune(b[len(b)-i:]) {
				return len(b)
			}
			return len(b) - i
		}
	}
	return len(b)
}

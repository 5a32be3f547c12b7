package imap

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"

	"mailform/server/imap/summary"
	"mailform/server/imap/wire"
	"mailform/server/search"
	"mailform/server/store"
)

// searchReturn is what SEARCH is to return, RFC 4731, RFC 5182, RFC 5267 and RFC 9394.
type searchReturn struct {
	given                      bool // RETURN was there
	min, max, all, count, save bool
	update                     bool // the result is to be followed
	partial                    *partial
}

// partial is a range of results; from the end when it is negative.
type partial struct {
	from, to int // 1 is the first
	end      bool
}

// String is the range as it is answered: 4:2 is 2:4, RFC 5267 4.4.
func (r *partial) String() string {
	if r.end {
		return fmt.Sprintf("-%d:-%d", r.from, r.to)
	}
	return fmt.Sprintf("%d:%d", r.from, r.to)
}

// parsePartial reads "1:100" or "-1:-100", RFC 9394 3.1.
func parsePartial(p *wire.Parser) *partial {
	r := &partial{end: p.Peek() == '-'}
	number := func() int {
		if p.Take('-') != r.end {
			p.Fail("A range of results begins and ends on one side")
		}
		n := p.Number()
		if n == 0 {
			p.Fail("Expected a range of results")
		}
		return int(n)
	}
	r.from = number()
	p.Expect(':')
	r.to = number()
	r.from, r.to = min(r.from, r.to), max(r.from, r.to)
	return r
}

// of returns which of n results are in the range: from i up to j, not included.
func (r *partial) of(n int) (i, j int) {
	from, to := min(r.from, n+1), min(r.to, n)
	if r.end {
		return max(n-to, 0), max(n-from+1, 0)
	}
	return from - 1, max(to, from-1)
}

// parseReturn reads RETURN (...) if it is next.
func parseReturn(p *wire.Parser) searchReturn {
	var r searchReturn
	if p.PeekWord() != "RETURN" {
		return r
	}
	p.Word()
	p.SP()
	r.given = true
	p.List(func() {
		switch p.Word() {
		case "MIN":
			r.min = true
		case "MAX":
			r.max = true
		case "ALL":
			r.all = true
		case "COUNT":
			r.count = true
		case "SAVE":
			r.save = true
		case "UPDATE":
			r.update = true
		case "CONTEXT": // a hint that the same will be asked for again
		case "PARTIAL":
			p.SP()
			r.partial = parsePartial(p)
		default:
			p.Fail("Unknown return option")
		}
	})
	p.SP()
	if !r.min && !r.max && !r.count && !r.save && r.partial == nil {
		r.all = true
	}
	if r.partial != nil && r.all {
		p.Fail("PARTIAL and ALL exclude one another")
	}
	return r
}

// search implements SEARCH, RFC 9051 6.4.4.
func (s *session) search(cmd *command) error {
	cmd.keepNumbers = !cmd.uid
	p := cmd.p
	p.SP()
	ret := parseReturn(p)
	dec, err := parseCharset(p)
	if err != nil {
		return s.unsaved(ret, err)
	}
	if ret.update {
		if err := s.usedTag(cmd); err != nil {
			return err
		}
	}
	s.catchUp()
	q := s.newQuery(cmd.tag, p, dec)
	start := p.Pos()
	key := q.keys()
	if err := q.err(); err != nil {
		return err
	}
	q.needs.weight += p.Pos() - start
	if ret.save {
		s.saved = nil // and so it stays if the search fails
	}
	found, err := q.run(key)
	if err != nil {
		return err
	}
	if ret.update {
		s.follow(cmd, key, q.needs, found)
	}
	if ret.save {
		s.saved = s.savedSet(found, ret)
	}
	if ret.given || s.enabled.rev2 {
		s.writeESearch(cmd, ret, found, q)
	} else {
		s.writeSearch(cmd, "SEARCH", found, q)
	}
	cmd.text = cmd.name + " completed"
	return nil
}

// unsaved is the error of a search that was to save its result: one that is
// answered with NO leaves an empty result, RFC 9051 6.4.4.4.
func (s *session) unsaved(r searchReturn, err error) error {
	var e *imap.Error
	if r.save && errors.As(err, &e) && e.Type == imap.StatusResponseTypeNo {
		s.saved = nil
	}
	return err
}

// parseCharset reads CHARSET if it is next. The decoder is nil for UTF-8.
func parseCharset(p *wire.Parser) (*encoding.Decoder, error) {
	if p.PeekWord() != "CHARSET" {
		return nil, nil
	}
	p.Word()
	p.SP()
	return decoderOf(p)
}

// decoderOf reads the name of a character set and the space behind it.
func decoderOf(p *wire.Parser) (*encoding.Decoder, error) {
	name := p.AString()
	p.SP()
	if err := p.Err(); err != nil {
		return nil, bad(err.Error())
	}
	switch strings.ToUpper(name) {
	case "UTF-8", "US-ASCII":
		return nil, nil
	}
	enc, err := htmlindex.Get(name)
	if err != nil {
		return nil, no("BADCHARSET (UTF-8 US-ASCII GB18030 BIG5 ISO-2022-JP)", "That character set is not known")
	}
	return enc.NewDecoder(), nil
}

// numberOf returns how a command names a message.
func (s *session) numberOf(uid bool, place int) uint32 {
	if uid {
		return uint32(s.view.msgs.UID(place))
	}
	return uint32(place) + 1
}

// writeSearch writes a SEARCH or SORT response, RFC 3501 7.2.5.
func (s *session) writeSearch(cmd *command, name string, found []int, q *query) {
	w := s.out
	w.Raw("* ")
	w.Raw(name)
	for _, i := range found {
		w.Byte(' ')
		w.Num(uint64(s.numberOf(cmd.uid, i)))
	}
	if q.modseq && len(found) > 0 {
		w.Raw(" (MODSEQ ")
		w.Num(uint64(s.highest(found)))
		w.Byte(')')
	}
	w.CRLF()
}

func (s *session) highest(found []int) (n store.ModSeq) {
	var m store.Message
	for _, i := range found {
		s.view.msgs.Head(i, &m)
		n = max(n, m.ModSeq)
	}
	return n
}

// writeESearch writes an ESEARCH response, RFC 9051 7.3.4.
func (s *session) writeESearch(cmd *command, r searchReturn, found []int, q *query) {
	if r.save && !r.min && !r.max && !r.all && !r.count && r.partial == nil {
		return
	}
	w := s.out
	w.Raw("* ESEARCH (TAG ")
	w.Quoted(cmd.tag)
	w.Byte(')')
	if cmd.uid {
		w.Raw(" UID")
	}
	one := func(name string, n uint32) {
		w.Byte(' ')
		w.Raw(name)
		w.Byte(' ')
		w.Num(uint64(n))
	}
	lo, hi := 0, 0
	if len(found) > 0 {
		lo, hi = found[0], found[0]
		for _, i := range found {
			lo, hi = min(lo, i), max(hi, i)
		}
		if q.sorted { // RFC 5267 3.1: the first and the last in the order asked for
			lo, hi = found[0], found[len(found)-1]
		}
		if r.min {
			one("MIN", s.numberOf(cmd.uid, lo))
		}
		if r.max {
			one("MAX", s.numberOf(cmd.uid, hi))
		}
	}
	if r.count {
		one("COUNT", uint32(len(found)))
	}
	if (r.all || !r.given) && len(found) > 0 {
		w.Raw(" ALL ")
		s.writeNumbers(cmd.uid, found)
	}
	if r.partial != nil {
		i, j := r.partial.of(len(found))
		w.Raw(" PARTIAL (" + r.partial.String() + " ")
		if i < j {
			s.writeNumbers(cmd.uid, found[i:j])
		} else {
			w.Raw("NIL")
		}
		w.Byte(')')
	}
	if q.modseq && len(found) > 0 {
		// RFC 4731 3.2: of the messages that are named.
		named := found
		if !r.all && !r.count && r.partial == nil && r.given {
			named = nil
			if r.min {
				named = append(named, lo)
			}
			if r.max {
				named = append(named, hi)
			}
		}
		w.Raw(" MODSEQ ")
		w.Num(uint64(s.highest(named)))
	}
	w.CRLF()
}

// writeNumbers writes messages as a set, in their order.
func (s *session) writeNumbers(uid bool, found []int) {
	set := s.out.Set()
	for _, i := range found {
		set.Add(s.numberOf(uid, i))
	}
	set.End()
}

// savedSet is what "$" means afterwards. With MIN or MAX alone it is these
// only, RFC 9051 6.4.4.1.
func (s *session) savedSet(found []int, r searchReturn) (set imap.UIDSet) {
	if len(found) > 0 && !r.all && !r.count && (r.min || r.max) {
		first, last := found[0], found[len(found)-1]
		switch {
		case !r.max:
			found = []int{first}
		case !r.min:
			found = []int{last}
		default:
			found = []int{first, last}
		}
	}
	if r.partial != nil && !r.all && !r.count && !r.min && !r.max {
		i, j := r.partial.of(len(found))
		found = found[i:max(i, j)]
	}
	for _, i := range found {
		set.AddNum(imap.UID(s.view.msgs.UID(i)))
	}
	return set
}

// query is a search being carried out.
type query struct {
	s       *session
	id      uint64 // among the session's queries, from 1 on
	p       *wire.Parser
	dec     *encoding.Decoder
	tag     string
	now     time.Time
	told    time.Time // when the client was last told how far it is
	depth   int
	count   int  // keys
	reading int  // those for which messages may have to be read
	modseq  bool // MODSEQ was asked for
	sorted  bool // the results are in an order of their own
	failed  error
	needs   dependence

	at   int // the message whose content is open
	open *content
	hits []*search.Hits // of the index, open until the query has run
	held int            // octets that hits take
	// reads is how many messages were opened.
	reads int

	summed   bool // sums was asked for
	sums     *summary.Reader
	sumOf    store.UID // at which it stands; 0: none
	sumKnown bool
}

// newQuery returns a query of the command with a tag, whose keys p reads.
func (s *session) newQuery(tag string, p *wire.Parser, dec *encoding.Decoder) *query {
	now := time.Now()
	s.queries++
	return &query{s: s, id: s.queries, p: p, tag: tag, dec: dec, now: now, told: now}
}

// err is why the query cannot be carried out.
func (q *query) err() error {
	if q.failed != nil {
		return q.failed
	}
	if err := q.p.End(); err != nil {
		return bad(err.Error())
	}
	return nil
}

// run returns the places of the messages that match.
func (q *query) run(key searchKey) (found []int, err error) {
	defer q.end()
	if q.modseq {
		q.s.useCondStore()
	}
	n := q.s.view.msgs.Len()
	messages := q.s.view.each([]span{{0, n}})
	if key.cost() < costRow {
		messages = q.s.view.heads([]span{{0, n}})
	}
	if key == constKey(true) {
		found = make([]int, 0, n)
	}
	for i, m := range messages {
		if err := q.progress(i, n); err != nil {
			return nil, err
		}
		ok, err := q.matches(key, i, m)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, i)
		}
		if i%64 == 0 && q.s.ctx.Err() != nil {
			return nil, q.s.ctx.Err()
		}
	}
	return found, nil
}

// matches says whether a message is found.
func (q *query) matches(key searchKey, i int, m *store.Message) (bool, error) {
	ok, err := key.match(q, i, m)
	if err == nil {
		err = q.failed
	}
	if errors.Is(err, store.ErrNoMessage) || errors.Is(err, store.ErrDamaged) {
		q.s.log.Warn("search", "mailbox", q.s.mailbox, "uid", m.UID, "err", err)
		return false, nil // what cannot be read cannot be found
	}
	return ok && err == nil, err
}

// end lets go of everything that is open.
func (q *query) end() {
	for _, h := range q.hits {
		h.Close()
	}
	q.hits = nil
	q.release()
}

// progress tells a client that waits long how far the command is, RFC 9585. The
// error is that the client has gone: nobody waits for the answer.
func (q *query) progress(done, total int) error {
	if done%64 != 63 || time.Since(q.told) < q.s.srv.cfg.Timeouts.Progress {
		return nil
	}
	q.told = time.Now()
	w := q.s.out
	w.Raw("* OK [INPROGRESS (")
	w.Quoted(q.tag)
	w.Byte(' ')
	w.Num(uint64(done))
	w.Byte(' ')
	w.Num(uint64(total))
	w.Raw(")] Still at work\r\n")
	return q.s.c.flush()
}

// content returns the content of a message, which stays open until the next.
func (q *query) content(i int, m *store.Message) (*content, error) {
	if q.open != nil && q.at == i {
		return q.open, nil
	}
	q.close()
	q.reads++
	c, err := q.s.load(m)
	if err != nil {
		return nil, err
	}
	q.open, q.at = c, i
	return c, nil
}

// release lets go of what is open.
func (q *query) release() {
	q.sums.Close()
	q.summed, q.sums, q.sumOf = false, nil, 0
	q.close()
}

func (q *query) close() {
	if q.open != nil {
		q.open.release()
		q.open = nil
	}
}

// text reads a string of the query as it is compared.
func (q *query) text() string {
	q.p.SP()
	t := q.p.AString()
	if q.dec != nil {
		if u, err := q.dec.String(t); err == nil {
			t = u
		}
	}
	return casemap(t)
}

// seconds reads the interval of OLDER and YOUNGER, RFC 5032.
func (q *query) seconds() time.Duration {
	q.p.SP()
	n := q.p.Number()
	if n == 0 {
		q.p.Fail("Expected a number of seconds")
	}
	return time.Duration(n) * time.Second
}

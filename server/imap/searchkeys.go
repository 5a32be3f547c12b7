package imap

import (
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/summary"
	"mailform/server/store"
)

// searchKey is one key of SEARCH, RFC 9051 6.4.4.
type searchKey interface {
	// match looks at a message. Of what costs less than costRow it only knows what
	// view.heads does.
	match(q *query, place int, m *store.Message) (bool, error)
	// cost orders the keys that must all match: what is at hand is looked at
	// before what must be read.
	cost() int
}

const (
	costNothing = iota
	costRow     // what the store knows of it
	costHeader
	costBody
)

// The bounds on the keys of one search: each is held against every message.
const (
	maxKeyDepth    = 60 // in one another
	maxKeys        = 1000
	maxReadingKeys = 100 // of those for which messages may have to be read
)

var errManyKeys = no(imap.ResponseCodeLimit, "These are too many keys for one search")

// keys reads keys up to the end, or to a closing parenthesis: all must match.
func (q *query) keys() searchKey {
	var all andKey
	for {
		all = append(all, q.key())
		if q.p.Err() != nil || q.failed != nil || !q.p.More() {
			break
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	slices.SortStableFunc(all, func(a, b searchKey) int { return a.cost() - b.cost() })
	return all
}

// key reads one key.
func (q *query) key() searchKey {
	p := q.p
	if q.depth++; q.depth > maxKeyDepth {
		p.Fail("The search is too deep")
	}
	defer func() { q.depth-- }()
	if q.count++; q.count > maxKeys {
		q.failed = errManyKeys
	}
	k := q.oneKey()
	switch k.(type) {
	case andKey, orKey, notKey: // what they are made of has been counted
	default:
		if k.cost() >= costHeader {
			if q.reading++; q.reading > maxReadingKeys {
				q.failed = errManyKeys
			}
		}
	}
	return k
}

// oneKey reads a key of any kind.
func (q *query) oneKey() searchKey {
	p := q.p
	switch c := p.Peek(); {
	case c == '(':
		p.Expect('(')
		k := q.keys()
		p.Expect(')')
		return k
	case c == '*' || c == '$' || c >= '0' && c <= '9':
		return q.set(false)
	}
	name := p.Word()
	if k, ok := q.flagKey(name); ok {
		return k
	}
	if k, ok := q.dateKey(name); ok {
		return k
	}
	switch name {
	case "ALL":
		return constKey(true)
	case "UID":
		p.SP()
		return q.set(true)
	case "NOT":
		p.SP()
		return notKey{q.key()}
	case "OR":
		p.SP()
		a := q.key()
		p.SP()
		b := q.key()
		if a != nil && b != nil && b.cost() < a.cost() {
			a, b = b, a
		}
		return orKey{a, b}
	case "LARGER":
		p.SP()
		return sizeKey{int64(p.Number64()), true}
	case "SMALLER":
		p.SP()
		return sizeKey{int64(p.Number64()), false}
	case "HEADER":
		p.SP()
		return newHeaderKey(p.AString(), q.text())
	case "FROM", "TO", "CC", "BCC", "SUBJECT":
		k := newHeaderKey(name, q.text())
		k.addresses = name != "SUBJECT"
		return k
	case "BODY":
		return &textKey{needle: q.text()}
	case "TEXT":
		return &textKey{needle: q.text(), headers: true}
	case "MODSEQ": // RFC 7162 3.1.5
		q.modseq, q.needs.flags = true, true
		p.SP()
		if p.Peek() == '"' {
			_ = p.String()
			p.SP()
			switch p.Word() {
			case "PRIV", "SHARED", "ALL":
			default:
				p.Fail("Expected all, priv or shared")
			}
			p.SP()
		}
		return modSeqKey(p.Number64())
	case "EMAILID", "THREADID": // RFC 8474 4.3
		p.SP()
		id := p.AString()
		if name == "THREADID" {
			if key, ok := parseThreadID(id); ok {
				return &threadKey{key: key}
			}
			return constKey(false)
		}
		return emailKey(id)
	}
	p.Fail("Unknown search key")
	return constKey(false)
}

func (q *query) set(uid bool) searchKey {
	set := q.p.NumSet(uid)
	if q.p.Err() != nil {
		return constKey(false)
	}
	if seqs, ok := set.(imap.SeqSet); ok {
		if slices.Contains(seqs, imap.SeqRange{Start: 1}) || slices.Contains(seqs, imap.SeqRange{Stop: 1}) {
			return constKey(true) // 1:*
		}
		q.needs.numbers = true
		spans, _ := q.s.view.resolve(q.within(seqs), nil)
		return spansKey(spans)
	}
	uids, _ := set.(imap.UIDSet)
	if imap.IsSearchRes(set) {
		uids = q.s.saved // as it is now, whatever is saved later
		q.needs.weight += 8 * len(uids)
	}
	q.needs.star = q.needs.star || uids.Dynamic()
	return &uidKey{uids: uids}
}

// within leaves out of a set the sequence numbers that no message has: a
// search does not find them, and that is no mistake.
func (q *query) within(set imap.SeqSet) (out imap.SeqSet) {
	n := uint32(q.s.view.msgs.Len())
	for _, r := range set {
		if r.Stop == 0 || r.Stop > n {
			r.Stop = n
		}
		if r.Start == 0 {
			r.Start = n
		}
		if r.Start <= n && n > 0 {
			out = append(out, imap.SeqRange{Start: min(r.Start, r.Stop), Stop: max(r.Start, r.Stop)})
		}
	}
	return out
}

// flagKey reads the keys about flags.
func (q *query) flagKey(name string) (searchKey, bool) {
	switch name {
	case "KEYWORD", "UNKEYWORD":
		q.p.SP()
		q.needs.flags = true
		return &flagKey{flag: q.p.Flag(), want: name == "KEYWORD"}, true
	case "NEW":
		q.needs.flags = true
		return andKey{&flagKey{flag: `\Seen`}, newKey{}}, true
	case "RECENT":
		return newKey{}, true
	case "OLD":
		return notKey{newKey{}}, true
	}
	bare, un := strings.CutPrefix(name, "UN")
	switch bare {
	case "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN":
		q.needs.flags = true
		return &flagKey{flag: `\` + bare[:1] + strings.ToLower(bare[1:]), want: !un}, true
	}
	return nil, false
}

// dateKey reads the keys about dates.
func (q *query) dateKey(name string) (searchKey, bool) {
	k := &dateKey{}
	bare := name
	switch {
	case name == "SAVEDATESUPPORTED":
		return constKey(true), true
	case name == "OLDER" || name == "YOUNGER":
		q.needs.ages = true
		return withinKey{q.now.Add(-q.seconds()), name == "OLDER"}, true
	case strings.HasPrefix(name, "SENT"):
		k.of, bare = ofHeader, name[4:]
	case strings.HasPrefix(name, "SAVED"):
		k.of, bare = ofSave, name[5:]
	}
	if bare != "BEFORE" && bare != "ON" && bare != "SINCE" {
		return nil, false
	}
	q.p.SP()
	day := q.p.Date()
	if bare != "BEFORE" {
		k.since = day
	}
	if bare == "BEFORE" {
		k.before = day
	} else if bare == "ON" {
		k.before = day.AddDate(0, 0, 1)
	}
	return k, true
}

type constKey bool

func (k constKey) match(*query, int, *store.Message) (bool, error) { return bool(k), nil }
func (constKey) cost() int                                         { return costNothing }

type andKey []searchKey

func (k andKey) match(q *query, i int, m *store.Message) (bool, error) {
	for _, x := range k {
		if ok, err := x.match(q, i, m); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (k andKey) cost() int { return k[len(k)-1].cost() }

type orKey struct{ a, b searchKey }

func (k orKey) match(q *query, i int, m *store.Message) (bool, error) {
	ok, err := k.a.match(q, i, m)
	if err == nil && !ok {
		ok, err = k.b.match(q, i, m)
	}
	return ok && err == nil, err
}

func (k orKey) cost() int { return max(k.a.cost(), k.b.cost()) }

type notKey struct{ not searchKey }

func (k notKey) match(q *query, i int, m *store.Message) (bool, error) {
	ok, err := k.not.match(q, i, m)
	return !ok && err == nil, err
}

func (k notKey) cost() int { return k.not.cost() }

// uidKey is a set of UIDs.
type uidKey struct {
	uids  imap.UIDSet
	asked uint64 // the query whose mailbox places is of
	spansKey
}

func (k *uidKey) match(q *query, i int, m *store.Message) (bool, error) {
	if k.asked != q.id {
		k.asked, k.spansKey = q.id, tidy(q.s.view.uidSpans(k.uids))
	}
	return k.spansKey.match(q, i, m)
}

// spansKey is a set of places.
type spansKey []span

func (k spansKey) match(_ *query, i int, _ *store.Message) (bool, error) {
	j := sort.Search(len(k), func(j int) bool { return k[j].to > i })
	return j < len(k) && k[j].from <= i, nil
}

func (spansKey) cost() int { return costNothing }

// flagKey asks for a flag or its absence. Lists of flags are shared: the answer
// for the last one is mostly that for the next.
type flagKey struct {
	flag string
	want bool
	last *string
	n    int
	has  bool
}

func (k *flagKey) match(_ *query, _ int, m *store.Message) (bool, error) {
	if len(m.Flags) == 0 {
		return !k.want, nil
	}
	if first := &m.Flags[0]; k.last != first || k.n != len(m.Flags) {
		k.last, k.n, k.has = first, len(m.Flags), hasFlag(m, k.flag)
	}
	return k.has == k.want, nil
}

func (*flagKey) cost() int { return costNothing }

// newKey is RECENT.
type newKey struct{}

func (newKey) match(q *query, _ int, m *store.Message) (bool, error) { return q.s.isRecent(m), nil }
func (newKey) cost() int                                             { return costNothing }

type sizeKey struct {
	size   int64
	larger bool
}

func (k sizeKey) match(_ *query, _ int, m *store.Message) (bool, error) {
	if k.larger {
		return m.Size > k.size, nil
	}
	return m.Size < k.size, nil
}

func (sizeKey) cost() int { return costRow }

type modSeqKey store.ModSeq

func (k modSeqKey) match(_ *query, _ int, m *store.Message) (bool, error) {
	return m.ModSeq >= store.ModSeq(k), nil
}

func (modSeqKey) cost() int { return costNothing }

type emailKey string

func (k emailKey) match(_ *query, _ int, m *store.Message) (bool, error) {
	return m.ObjectID == string(k), nil
}

func (emailKey) cost() int { return costRow }

type withinKey struct {
	at    time.Time
	older bool
}

func (k withinKey) match(_ *query, _ int, m *store.Message) (bool, error) {
	if k.older {
		return !m.InternalDate.After(k.at), nil
	}
	return !m.InternalDate.Before(k.at), nil
}

func (withinKey) cost() int { return costRow }

// dateKey compares days only, in the date's own zone.
type dateKey struct {
	of            dateOf
	since, before time.Time // midnights; zero: no bound
}

type dateOf uint8

const (
	ofArrival dateOf = iota
	ofHeader
	ofSave
)

func (k *dateKey) match(q *query, i int, m *store.Message) (bool, error) {
	t := m.InternalDate
	switch k.of {
	case ofSave:
		t = m.SaveDate
	case ofHeader:
		sent, ok := q.summary(m).Sent()
		if !ok {
			c, err := q.content(i, m)
			if err != nil {
				return false, err
			}
			h, err := c.header()
			if err != nil {
				return false, err
			}
			sent = summary.SentOf(h)
		}
		if t = sent.Time(); t.IsZero() {
			return false, nil
		}
	}
	year, month, date := t.Date()
	day := time.Date(year, month, date, 0, 0, 0, 0, time.UTC)
	return !day.Before(k.since) && (k.before.IsZero() || day.Before(k.before)), nil
}

func (k *dateKey) cost() int {
	if k.of == ofHeader {
		return costHeader
	}
	return costRow
}

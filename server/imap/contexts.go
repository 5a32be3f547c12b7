package imap

import (
	"errors"
	"math/bits"
	"slices"

	"mailform/server/store"
)

// A searchContext is the result of a SEARCH that is kept true, RFC 5267: its client
// hears what comes into it and what leaves it. The results of a SORT are not
// followed, and what else is not is told by NOUPDATE at once.
type searchContext struct {
	tag    string // of the command
	uid    bool   // it was UID SEARCH
	key    searchKey
	needs  dependence
	places placeSet // that were told
}

// dependence is what the answer of a search depends on besides the messages that
// it asks about.
type dependence struct {
	flags bool // and modification sequences
	star  bool // which message is the last
	// What is not followed: the numbers of other messages, and the time.
	numbers, ages bool
	weight        int // about how many octets of memory what is asked for takes
}

const (
	// maxContexts bounds them, and so the memory of a client: one octet for eight
	// messages in each.
	maxContexts = 10
	// maxContextWeight bounds what all contexts of a client ask for.
	maxContextWeight = 32 << 10
	// maxContextReads bounds how many messages are read at once to find out whether
	// they belong to a context. Those that the search index knows are not read.
	maxContextReads = 1000
)

// contexts are those of the selected mailbox.
type contexts struct {
	list  []*searchContext
	known int // how many places were looked at
	// modseq is the highest sequence, and last the last message, that was looked at.
	modseq store.ModSeq
	last   store.UID
	again  bool // every message is to be looked at
}

// follow keeps the result of a search true from here on, or says that it will not.
func (s *session) follow(cmd *command, key searchKey, needs dependence, found []int) {
	weight := needs.weight
	for _, c := range s.contexts.list {
		weight += c.needs.weight
	}
	switch {
	case len(s.contexts.list) >= maxContexts:
		s.noUpdate(cmd.tag, "Too many results are followed already")
		return
	case weight > maxContextWeight:
		s.noUpdate(cmd.tag, "The search is too long to be followed")
		return
	case needs.numbers:
		s.noUpdate(cmd.tag, "A search by sequence numbers is not followed; name UIDs")
		return
	case needs.ages:
		s.noUpdate(cmd.tag, "A search by the age of messages is not followed")
		return
	}
	if n := s.view.msgs.Len(); len(s.contexts.list) == 0 {
		s.contexts = contexts{known: n, modseq: s.view.modseq, last: s.lastUID()}
		s.view.following, s.view.touched, s.view.many = true, nil, false
	}
	c := &searchContext{tag: cmd.tag, uid: cmd.uid, key: key, needs: needs}
	for _, i := range found {
		c.places.add(i)
	}
	s.contexts.list = append(s.contexts.list, c)
}

// noUpdate says that a result is not followed, or no longer, RFC 5267 4.3.1.
func (s *session) noUpdate(tag, text string) {
	w := s.out
	w.Raw("* NO [NOUPDATE ")
	w.Quoted(tag)
	w.Raw("] ")
	w.Raw(text)
	w.CRLF()
}

// usedTag refuses a tag by which a result is followed already, RFC 5267 4.3.
func (s *session) usedTag(cmd *command) error {
	if slices.ContainsFunc(s.contexts.list, func(c *searchContext) bool { return c.tag == cmd.tag }) {
		return bad("A result is followed by that tag already")
	}
	return nil
}

// cancelUpdate implements CANCELUPDATE, RFC 5267 4.3.5.
func (s *session) cancelUpdate(cmd *command) error {
	p := cmd.p
	p.SP()
	tags := []string{p.String()}
	for p.More() {
		tags = append(tags, p.String())
	}
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	unknown := false
	for _, tag := range tags {
		i := slices.IndexFunc(s.contexts.list, func(c *searchContext) bool { return c.tag == tag })
		if i < 0 {
			unknown = true
			continue
		}
		s.contexts.list = slices.Delete(s.contexts.list, i, i+1)
	}
	if unknown {
		return no("", "No result is followed by that tag")
	}
	return nil
}

// lastUID is what "*" means; 0 in an empty mailbox.
func (s *session) lastUID() store.UID {
	if n := s.view.msgs.Len(); n > 0 {
		return s.view.msgs.UID(n - 1)
	}
	return 0
}

// touchedPlaces returns the first places whose messages' flags changed, which they
// did after since.
func (v *view) touchedPlaces(first int, since store.ModSeq) (out []span) {
	if v.many {
		return v.changedSince([]span{{0, first}}, since)
	}
	for _, uid := range v.touched {
		if i, ok := v.msgs.Find(uid); ok && i < first {
			out = append(out, span{i, i + 1})
		}
	}
	return tidy(out)
}

// leaving says that the messages at these places are expunged. Their numbers are
// good for the last time, RFC 5267 4.3.4.
func (s *session) leaving(places []int) {
	for _, c := range s.contexts.list {
		var gone []int
		for _, i := range places {
			if c.places.has(i) {
				gone = append(gone, i)
			}
		}
		s.tellContext(c, nil, gone)
		c.places.cut(places)
	}
	below, _ := slices.BinarySearch(places, s.contexts.known)
	s.contexts.known -= below
}

// tellContexts tells what has come into the results that are followed and what no
// longer belongs to them. The client knows of all messages in the view.
func (s *session) tellContexts() {
	all := &s.contexts
	if len(all.list) == 0 {
		s.view.following, s.view.touched = false, nil
		return
	}
	n, last, modseq := s.view.msgs.Len(), s.lastUID(), s.view.modseq
	if n == all.known && last == all.last && len(s.view.touched) == 0 && !all.again {
		return
	}
	fresh := span{all.known, n}
	var changed, ends []span
	if slices.ContainsFunc(all.list, func(c *searchContext) bool { return c.needs.flags }) {
		changed = s.view.touchedPlaces(all.known, all.modseq)
	}
	s.view.touched, s.view.many = s.view.touched[:0], false
	if last != all.last { // "*" was one message and is another
		for _, uid := range []store.UID{all.last, last} {
			if i, ok := s.view.msgs.Find(uid); ok {
				ends = append(ends, span{i, i + 1})
			}
		}
	}
	again := all.again
	all.known, all.last, all.modseq, all.again = n, last, modseq, false
	all.list = slices.DeleteFunc(all.list, func(c *searchContext) bool {
		look := []span{fresh}
		if c.needs.flags {
			look = append(look, changed...)
		}
		if c.needs.star {
			look = append(look, ends...)
		}
		if again {
			look = []span{{0, n}}
		}
		come, gone, err := s.look(c, tidy(look))
		if err != nil {
			if !errors.Is(err, errManyReads) {
				s.log.Warn("search context", "mailbox", s.mailbox, "err", err)
			}
			s.noUpdate(c.tag, "The result is no longer followed: search again")
			return true
		}
		s.tellContext(c, come, gone)
		for _, i := range come {
			c.places.add(i)
		}
		for _, i := range gone {
			c.places.remove(i)
		}
		return false
	})
}

var errManyReads = errors.New("too many messages are to be read at once")

// look returns which messages of spans belong to a context and did not, and the
// other way round.
func (s *session) look(c *searchContext, spans []span) (come, gone []int, err error) {
	q := s.newQuery(c.tag, nil, nil)
	defer q.end()
	messages := s.view.each(spans)
	if c.key.cost() < costRow {
		messages = s.view.heads(spans)
	}
	for i, m := range messages {
		ok, err := q.matches(c.key, i, m)
		switch {
		case err != nil:
			return nil, nil, err
		case q.reads > maxContextReads:
			return nil, nil, errManyReads
		case ok && !c.places.has(i):
			come = append(come, i)
		case !ok && c.places.has(i):
			gone = append(gone, i)
		}
	}
	return come, gone, nil
}

// tellContext writes what has changed in a context. Of SEARCH the positions are 0:
// its results are in the order of the mailbox, RFC 5267 4.3.3.
func (s *session) tellContext(c *searchContext, come, gone []int) {
	if len(come) == 0 && len(gone) == 0 {
		return
	}
	w := s.out
	w.Raw("* ESEARCH (TAG ")
	w.Quoted(c.tag)
	w.Byte(')')
	if c.uid {
		w.Raw(" UID")
	}
	for _, part := range []struct {
		name   string
		places []int
	}{{"REMOVEFROM", gone}, {"ADDTO", come}} {
		if len(part.places) == 0 {
			continue
		}
		w.Raw(" " + part.name + " (0 ")
		s.writeNumbers(c.uid, part.places)
		w.Byte(')')
	}
	w.CRLF()
}

// placeSet is a set of places in the mailbox.
type placeSet []uint64

func (p placeSet) has(i int) bool { return i/64 < len(p) && p[i/64]&(1<<(i%64)) != 0 }

func (p *placeSet) add(i int) {
	if missing := i/64 + 1 - len(*p); missing > 0 {
		*p = append(*p, make([]uint64, missing)...)
	}
	(*p)[i/64] |= 1 << (i % 64)
}

func (p placeSet) remove(i int) {
	if i/64 < len(p) {
		p[i/64] &^= 1 << (i % 64)
	}
}

// cut takes some places, which ascend, out of the mailbox: those behind move up.
func (p *placeSet) cut(places []int) {
	if len(places) == 0 || places[0]/64 >= len(*p) {
		return
	}
	old := slices.Clone(*p)
	first := places[0]
	*p = (*p)[:first/64+1]
	(*p)[first/64] &= 1<<(first%64) - 1
	moved := 0
	for k := first / 64; k < len(old); k++ {
		for word := old[k]; word != 0; word &= word - 1 {
			i := k*64 + bits.TrailingZeros64(word)
			for moved < len(places) && places[moved] < i {
				moved++
			}
			if i < first || moved < len(places) && places[moved] == i {
				continue
			}
			p.add(i - moved)
		}
	}
}

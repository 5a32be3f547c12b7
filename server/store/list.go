package store

import (
	"iter"
	"slices"
	"sort"
)

// List is the messages of a mailbox at one moment, in the order of their UIDs. It
// takes about 45 octets for each, which it shares with other Lists of the mailbox;
// what one of them changes the others do not see. To copy a List use Clone. Its
// methods that only read may be called from many goroutines.
type List struct {
	blocks []*block
	starts []int  // the place of the first message of each block
	mine   []bool // the blocks that no other List has
	n      int
}

// ListOf returns a List of messages whose UIDs ascend.
func ListOf(msgs ...*Message) List {
	var l List
	l.Append(msgs...)
	return l
}

// Len is the number of messages.
func (l *List) Len() int { return l.n }

// Clone returns the List, to be changed apart from this one from now on.
func (l *List) Clone() List {
	clear(l.mine)
	return List{blocks: slices.Clone(l.blocks), starts: slices.Clone(l.starts), mine: make([]bool, len(l.blocks)), n: l.n}
}

// locate returns the block of the message at a place, and its place in there.
func (l *List) locate(place int) (k, i int) {
	k = sort.SearchInts(l.starts, place+1) - 1
	return k, place - l.starts[k]
}

// UID returns the UID of the message at a place.
func (l *List) UID(place int) UID {
	k, i := l.locate(place)
	return l.blocks[k].uid(i)
}

// Head sets the UID, ModSeq and Flags of m to those of the message at a place.
func (l *List) Head(place int, m *Message) {
	k, i := l.locate(place)
	l.blocks[k].head(i, m)
}

// Read sets m to the message at a place.
func (l *List) Read(place int, m *Message) {
	k, i := l.locate(place)
	l.blocks[k].read(i, m)
}

// At returns the message at a place.
func (l *List) At(place int) *Message {
	m := new(Message)
	l.Read(place, m)
	return m
}

// Index returns the place of the first message whose UID is uid or higher.
func (l *List) Index(uid UID) int {
	n := blockOf(uid)
	k := sort.Search(len(l.blocks), func(k int) bool { return l.blocks[k].number >= n })
	if k == len(l.blocks) {
		return l.n
	}
	if l.blocks[k].number > n {
		return l.starts[k]
	}
	return l.starts[k] + l.blocks[k].index(byte(uid))
}

// Find returns the place of a message.
func (l *List) Find(uid UID) (place int, ok bool) {
	k, i, ok := l.find(uid)
	if !ok {
		return 0, false
	}
	return l.starts[k] + i, true
}

func (l *List) find(uid UID) (k, i int, ok bool) {
	n := blockOf(uid)
	k = sort.Search(len(l.blocks), func(k int) bool { return l.blocks[k].number >= n })
	if k == len(l.blocks) || l.blocks[k].number != n {
		return 0, 0, false
	}
	i = l.blocks[k].index(byte(uid))
	return k, i, i < len(l.blocks[k].uids) && l.blocks[k].uids[i] == byte(uid)
}

// get returns a message; nil when it is not there.
func (l *List) get(uid UID) *Message {
	k, i, ok := l.find(uid)
	if !ok {
		return nil
	}
	m := new(Message)
	l.blocks[k].read(i, m)
	return m
}

// All yields the messages with their places. Each is the caller's.
func (l *List) All() iter.Seq2[int, *Message] {
	return func(yield func(int, *Message) bool) {
		for row := range l.Rows(0, l.n) {
			m := new(Message)
			row.Read(m)
			if !yield(row.Place, m) {
				return
			}
		}
	}
}

// Row is a message of a List, which is read as far as it is of interest.
type Row struct {
	Place int
	b     *block
	i     int
}

// UID is the message's.
func (r Row) UID() UID { return r.b.uid(r.i) }

// Head sets the UID, ModSeq and Flags of m to the message's.
func (r Row) Head(m *Message) { r.b.head(r.i, m) }

// Facts sets m to the message, but for Head and Body.
func (r Row) Facts(m *Message) { r.b.facts(r.i, m) }

// Read sets m to the message.
func (r Row) Read(m *Message) { r.b.read(r.i, m) }

// Rows yields the messages from one place up to another, not included. Changes of
// flags that are made meanwhile are in what comes.
func (l *List) Rows(from, to int) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		if from >= to {
			return
		}
		k, i := l.locate(from)
		for place := from; place < to; place++ {
			if i == len(l.blocks[k].uids) {
				k, i = k+1, 0
			}
			if !yield(Row{place, l.blocks[k], i}) {
				return
			}
			i++
		}
	}
}

// FirstWithout returns the place of the first message that does not have a flag; -1
// when all have it.
func (l *List) FirstWithout(flag string) int {
	for k, b := range l.blocks {
		var without [maxBlock]bool
		some := false
		for n, list := range b.lists {
			without[n] = !hasFlag(list, flag)
			some = some || without[n]
		}
		for i, n := range b.flags {
			if some && without[n] {
				return l.starts[k] + i
			}
		}
	}
	return -1
}

// edit returns a block, which may be changed from then on.
func (l *List) edit(k int) *block {
	if !l.mine[k] {
		l.blocks[k], l.mine[k] = l.blocks[k].own(), true
	}
	return l.blocks[k]
}

// SetFlags gives the message at a place other flags.
func (l *List) SetFlags(place int, flags []string, modseq ModSeq) {
	k, i := l.locate(place)
	l.edit(k).setFlags(i, flags, modseq)
}

// Update gives the message at a place other flags, unless it has later ones.
func (l *List) Update(place int, f FlagState) bool {
	k, i := l.locate(place)
	if f.ModSeq <= l.blocks[k].modseqs[i] {
		return false
	}
	l.edit(k).setFlags(i, f.Flags, f.ModSeq)
	return true
}

// Append puts messages behind the others, with higher UIDs than theirs.
func (l *List) Append(msgs ...*Message) {
	for _, m := range msgs {
		n := blockOf(m.UID)
		if k := len(l.blocks) - 1; k < 0 || l.blocks[k].number != n {
			if k >= 0 {
				l.blocks[k] = l.blocks[k].pack()
			}
			l.push(&block{number: n, rows: &rows{}})
		}
		l.edit(len(l.blocks) - 1).push(m)
		l.n++
	}
}

// push puts a block of the List's own behind the others.
func (l *List) push(b *block) {
	l.blocks, l.starts, l.mine = append(l.blocks, b), append(l.starts, l.n), append(l.mine, true)
	l.n += len(b.uids)
}

// Remove takes the messages at some places out, which ascend.
func (l *List) Remove(places []int) {
	if len(places) == 0 {
		return
	}
	first, _ := l.locate(places[0])
	kept := first
	n := l.starts[first]
	var within []int
	for k := first; k < len(l.blocks); k++ {
		b, mine, from := l.blocks[k], l.mine[k], l.starts[k]
		within = within[:0]
		for len(places) > 0 && places[0] < from+len(b.uids) {
			within, places = append(within, places[0]-from), places[1:]
		}
		if len(within) > 0 {
			b, mine = b.without(within), true
		}
		if b != nil {
			l.blocks[kept], l.starts[kept], l.mine[kept] = b, n, mine
			n += len(b.uids)
			kept++
		}
	}
	clear(l.blocks[kept:])
	l.blocks, l.starts, l.mine, l.n = l.blocks[:kept], l.starts[:kept], l.mine[:kept], n
}

// join puts those messages of another List behind these that have higher UIDs.
func (l *List) join(other *List) {
	from := 0
	if l.n > 0 {
		from = other.Index(l.UID(l.n-1) + 1)
	}
	l.appendFrom(other, from)
}

// appendFrom puts the messages of another List from a place on behind these.
func (l *List) appendFrom(other *List, from int) {
	for row := range other.Rows(from, other.n) {
		m := new(Message)
		row.Read(m)
		l.Append(m)
	}
}

// drop takes the first n messages out, and nothing is kept of them.
func (l *List) drop(n int) {
	var rest List
	rest.appendFrom(l, n)
	*l = rest
}

// replace puts other messages in the places of those with their UIDs, which ascend.
func (l *List) replace(msgs []*Message) {
	for len(msgs) > 0 {
		k, _, ok := l.find(msgs[0].UID)
		if !ok {
			msgs = msgs[1:]
			continue
		}
		list := l.blocks[k].messages()
		for i, m := range list {
			if len(msgs) > 0 && msgs[0].UID == m.UID {
				list[i], msgs = msgs[0], msgs[1:]
			}
		}
		l.blocks[k], l.mine[k] = newBlock(list), true
	}
}

// block returns the block of a number; nil when there is none. Who has it shares it.
func (l *List) block(number uint32) *block {
	k := sort.Search(len(l.blocks), func(k int) bool { return l.blocks[k].number >= number })
	if k == len(l.blocks) || l.blocks[k].number != number {
		return nil
	}
	l.mine[k] = false
	return l.blocks[k]
}

package store

import (
	"bytes"
	"slices"
	"sort"
)

// Messages are kept in blocks: those whose UIDs have all but the last octet in
// common. In the index file a block is one value, and a change of one message
// writes it anew; in memory it is shared by all who know it.
const blockShift = 8

func blockOf(uid UID) uint32 { return uint32(uid >> blockShift) }

// maxBlock is how many messages a block can have.
const maxBlock = 1 << blockShift

const blockVersion = 2

// block is messages whose UIDs begin with its number, at least one. It is changed
// only by a List that alone has it. Its slices have no room behind them but in that
// List, so that to append to one is to copy it.
type block struct {
	number  uint32
	uids    []byte // their last octets, ascending; not changed in place
	flags   []byte // which of the lists each has
	lists   [][]string
	modseqs []ModSeq
	rows    *rows
}

// rows are what does not change of messages that came together into a block; some
// of them may have been expunged since. They are never changed.
type rows struct {
	uids   []byte // ascending
	packed *columns
	late   []*Message // those that have come since the others were packed
}

func (b *block) uid(i int) UID { return UID(b.number)<<blockShift | UID(b.uids[i]) }

// row is where the i-th message is among the rows.
func (b *block) row(i int) int {
	if len(b.uids) == len(b.rows.uids) {
		return i
	}
	return sort.Search(len(b.rows.uids), func(k int) bool { return b.rows.uids[k] >= b.uids[i] })
}

// head fills in what is known without the rows.
func (b *block) head(i int, m *Message) {
	m.UID, m.ModSeq, m.Flags = b.uid(i), b.modseqs[i], b.lists[b.flags[i]]
}

// facts fills in all of the i-th message but where its octets are.
func (b *block) facts(i int, m *Message) {
	row := b.row(i)
	if packed := len(b.rows.uids) - len(b.rows.late); row >= packed {
		*m = *b.rows.late[row-packed]
	} else {
		b.rows.packed.facts(row, m)
	}
	b.head(i, m)
}

// read fills in all of the i-th message.
func (b *block) read(i int, m *Message) {
	row := b.row(i)
	if packed := len(b.rows.uids) - len(b.rows.late); row >= packed {
		*m = *b.rows.late[row-packed]
	} else {
		b.rows.packed.read(row, m)
	}
	b.head(i, m)
}

// messages returns all of them.
func (b *block) messages() []*Message {
	slab := make([]Message, len(b.uids))
	list := make([]*Message, len(b.uids))
	for i := range slab {
		b.read(i, &slab[i])
		list[i] = &slab[i]
	}
	return list
}

// index returns where the first message is whose UID's last octet is at least low.
func (b *block) index(low byte) int {
	return sort.Search(len(b.uids), func(i int) bool { return b.uids[i] >= low })
}

// own returns a copy that may be changed.
func (b *block) own() *block {
	c := *b
	c.uids, c.lists, c.rows = slices.Clip(b.uids), slices.Clip(b.lists), b.rows.own()
	c.flags, c.modseqs = bytes.Clone(b.flags), slices.Clone(b.modseqs)
	return &c
}

func (r *rows) own() *rows { return &rows{slices.Clip(r.uids), r.packed, slices.Clip(r.late)} }

// setFlags changes a message of a block that is the caller's own.
func (b *block) setFlags(i int, flags []string, modseq ModSeq) {
	b.flags[i], b.modseqs[i] = b.list(flags, i), modseq
}

// list returns the number of a list of flags for the i-th message.
func (b *block) list(flags []string, i int) byte {
	for n, l := range b.lists {
		if sameList(l, flags) {
			return byte(n)
		}
	}
	if len(b.lists) == maxBlock { // without this message's there is one in no use
		b.flags[i] = b.flags[(i+1)%len(b.flags)]
		b.prune()
	}
	b.lists = append(b.lists, flags)
	return byte(len(b.lists) - 1)
}

// prune forgets lists that no message has.
func (b *block) prune() {
	to := make([]int, len(b.lists)) // and 1
	var lists [][]string
	flags := make([]byte, len(b.flags))
	for i, n := range b.flags {
		if to[n] == 0 {
			lists = append(lists, b.lists[n])
			to[n] = len(lists)
		}
		flags[i] = byte(to[n] - 1)
	}
	b.lists, b.flags = lists, flags
}

// sameList compares lists of flags, which are mostly shared.
func sameList(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// push puts a message behind the others of a block that is the caller's own.
func (b *block) push(m *Message) {
	low, r := byte(m.UID), b.rows
	whole := len(b.uids) == len(r.uids)
	r.uids, r.late = append(r.uids, low), append(r.late, m)
	if whole {
		b.uids = r.uids
	} else {
		b.uids = append(b.uids, low)
	}
	b.flags, b.modseqs = append(b.flags, 0), append(b.modseqs, m.ModSeq)
	last := len(b.flags) - 1
	b.flags[last] = b.list(m.Flags, last)
}

// without returns the block without the messages at some places, which ascend; nil
// when none is left.
func (b *block) without(places []int) *block {
	n := len(b.uids) - len(places)
	if n == 0 {
		return nil
	}
	c := &block{number: b.number, lists: slices.Clip(b.lists), rows: b.rows.own(), uids: make([]byte, 0, n), flags: make([]byte, 0, n), modseqs: make([]ModSeq, 0, n)}
	for i := range b.uids {
		if len(places) > 0 && places[0] == i {
			places = places[1:]
			continue
		}
		c.uids, c.flags, c.modseqs = append(c.uids, b.uids[i]), append(c.flags, b.flags[i]), append(c.modseqs, b.modseqs[i])
	}
	return c
}

// whole says that the rows are those of the block's messages, all packed.
func (b *block) whole() bool { return len(b.uids) == len(b.rows.uids) && len(b.rows.late) == 0 }

// pack returns the block with rows of its messages only, as they are in the file.
func (b *block) pack() *block {
	if b.whole() {
		return b
	}
	c := *b
	e := &encoder{}
	appendColumns(e, b.messages())
	c.rows = &rows{uids: slices.Clip(b.uids), packed: (&decoder{b: e.b}).columns(len(b.uids))}
	return &c
}

// newBlock returns a block of messages.
func newBlock(msgs []*Message) *block {
	b := &block{number: blockOf(msgs[0].UID), rows: &rows{}}
	for _, m := range msgs {
		b.push(m)
	}
	return b.pack()
}

// encode writes the block as it is in the file.
func (b *block) encode(e *encoder) {
	c := *b.pack()
	b = &c
	b.prune()
	e.byte(blockVersion)
	e.uint(uint64(len(b.uids)))
	e.b = append(e.b, b.uids...)
	e.uint(uint64(len(b.lists)))
	for _, l := range b.lists {
		e.strings(l)
	}
	e.b = append(e.b, b.flags...)
	modseqs := make([]uint64, len(b.modseqs))
	for i, v := range b.modseqs {
		modseqs[i] = uint64(v)
	}
	e.numbers(modseqs)
	p := b.rows.packed
	e.b = append(append(e.b, p.data[:len(p.data)-spare]...), p.ids...)
}

// decodeBlock reads a block, which has that number. Nothing of what is read stays
// in use.
func decodeBlock(number uint32, data []byte, intern func([]string) []string) (*block, error) {
	d := &decoder{b: data, intern: intern}
	if d.byte() != blockVersion {
		d.fail()
	}
	n := d.count()
	if n == 0 || n > maxBlock {
		d.fail()
		return nil, d.err
	}
	b := &block{number: number, uids: bytes.Clone(d.take(n))}
	lists := d.count()
	if lists > maxBlock {
		d.fail()
		return nil, d.err
	}
	b.lists = make([][]string, lists)
	for i := range b.lists {
		b.lists[i] = d.flags()
	}
	b.flags = bytes.Clone(d.take(n))
	modseqs := columns{data: d.b}
	modseqs.at[0] = d.numbers(n, modseqs.data)
	if len(d.b) < spare { // the columns are more
		d.fail()
		return nil, d.err
	}
	b.modseqs = make([]ModSeq, n)
	for i := range b.modseqs {
		b.modseqs[i] = ModSeq(modseqs.num(0, i))
		if i > 0 && b.uids[i] <= b.uids[i-1] || int(b.flags[i]) >= lists {
			d.fail()
		}
	}
	b.rows = &rows{uids: b.uids, packed: d.columns(n)}
	return b, d.err
}

package summary

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"sort"

	"mailform/server/store"
)

// cursor stands at one message of an open run.
type cursor struct {
	run  *run
	blk  int // -1: none yet
	pos  int
	cols [columns]block
	held [columns]int // the block that is in cols, and 1; 0 is none
}

// open puts the cursor before a run, and closes the one before.
func (c *cursor) open(r *run) {
	if c.run != nil {
		c.run.close()
	}
	c.run, c.blk, c.pos, c.held = r, -1, -1, [columns]int{}
}

// load returns a column's values of the block in which the cursor is.
func (c *cursor) load(col column) (*block, error) {
	b := &c.cols[col]
	if c.held[col] != c.blk+1 {
		c.held[col] = 0
		if err := c.run.read(col, c.blk, b); err != nil {
			return nil, err
		}
		c.held[col] = c.blk + 1
	}
	return b, nil
}

// seek goes to a message whose UID is within the run. found is false when the
// run does not have it.
func (c *cursor) seek(m *store.Message) (found bool, err error) {
	if c.blk < 0 || c.blk+1 < c.run.n && m.UID >= c.nextBlock() || m.UID < c.firstOfBlock() {
		c.blk, c.pos = c.run.find(m.UID), -1
		if c.blk < 0 {
			return false, nil
		}
	}
	keys, err := c.load(colKeys)
	if err != nil {
		return false, err
	}
	i := c.pos + 1 // mostly
	uid, guard := store.UID(0), uint64(0)
	if i < keys.n {
		uid, guard = keys.key(i)
	}
	if uid != m.UID {
		i = sort.Search(keys.n, func(i int) bool { uid, _ := keys.key(i); return uid >= m.UID })
		if i == keys.n {
			return false, nil
		}
		if uid, guard = keys.key(i); uid != m.UID {
			return false, nil
		}
	}
	c.pos = i
	return guard == guardOf(m), nil
}

func (c *cursor) firstOfBlock() store.UID {
	uid, _ := c.run.blockAt(c.blk)
	return uid
}

func (c *cursor) nextBlock() store.UID {
	uid, _ := c.run.blockAt(c.blk + 1)
	return uid
}

// value returns a value of the message at which the cursor stands. It is good
// until the cursor moves.
func (c *cursor) value(col column) ([]byte, error) {
	b, err := c.load(col)
	if err != nil {
		return nil, err
	}
	return b.value(c.pos), nil
}

// entry returns all that is kept of the message.
func (c *cursor) entry() (e entry, err error) {
	for col := range columns {
		v, err := c.value(col)
		if err != nil {
			return e, err
		}
		switch col {
		case colKeys:
			e.uid, e.guard = c.cols[col].key(c.pos)
		case colSent:
			e.sent = sentIn(v)
		default:
			e.values[col] = v
		}
	}
	return e, nil
}

func sentIn(v []byte) Sent {
	return Sent{int64(binary.LittleEndian.Uint64(v)), int32(binary.LittleEndian.Uint32(v[8:]))}
}

// Reader goes through the summaries of one mailbox, best in the order of UIDs. A
// nil Reader has none. It is for one goroutine.
type Reader struct {
	k      *Keeper
	box    boxKey
	runs   []runName
	at     int // the run that is open, when one is
	on     bool
	missed int
	cur    cursor
}

// keepBuffer is the largest buffer that is kept for the next reader.
const keepBuffer = 512 << 10

// Close ends the reading. What was missed is made, if it was much.
func (r *Reader) Close() {
	if r == nil {
		return
	}
	r.cur.open(nil)
	if r.missed >= r.k.cfg.Least {
		r.k.Check(r.box.account)
	}
	for i := range r.cur.cols {
		if b := &r.cur.cols[i]; cap(b.buf) > keepBuffer {
			b.buf = nil
		}
		r.cur.cols[i].data = nil
	}
	k, cols := r.k, r.cur.cols
	*r = Reader{}
	r.cur.cols = cols
	k.readers.Put(r)
}

// Seek goes to a message. found is false when nothing is known of it; the
// methods below then have nothing either.
func (r *Reader) Seek(m *store.Message) (found bool) {
	if r == nil {
		return false
	}
	r.on = r.seek(m)
	if !r.on {
		r.missed++
	}
	return r.on
}

func (r *Reader) seek(m *store.Message) bool {
	if run := r.cur.run; run == nil || m.UID < run.first || m.UID > run.last {
		i := sort.Search(len(r.runs), func(i int) bool { return r.runs[i].last >= m.UID })
		if i == len(r.runs) || r.runs[i].first > m.UID {
			return false
		}
		r.at = i
		next, err := r.k.openRun(r.box, r.runs[i])
		if err != nil {
			r.failed(err)
			return false
		}
		r.cur.open(next)
	}
	found, err := r.cur.seek(m)
	if err != nil {
		r.failed(err)
	}
	return found && err == nil
}

// failed gives up a run. One that is damaged is made anew; one that is not there
// any more was replaced meanwhile.
func (r *Reader) failed(err error) {
	name := r.runs[r.at]
	r.runs = append(append([]runName(nil), r.runs[:r.at]...), r.runs[r.at+1:]...)
	r.cur.open(nil)
	r.on = false
	switch {
	case errors.Is(err, errRun):
		r.k.drop(r.box, name, err)
	case !errors.Is(err, fs.ErrNotExist):
		r.k.cfg.Logger.Warn("summary: read; the messages are read instead", "account", r.box.account, "err", err)
	}
}

func (r *Reader) value(c column) []byte {
	if r == nil || !r.on {
		return nil
	}
	v, err := r.cur.value(c)
	if err != nil {
		r.failed(err)
		return nil
	}
	return v
}

// Sent returns when the message was sent.
func (r *Reader) Sent() (Sent, bool) {
	v := r.value(colSent)
	if len(v) != sentSize {
		return Sent{}, false
	}
	s := sentIn(v)
	return s, s.Unix != unknownDate
}

// Text returns what the message is sorted by; like all values it is good until
// the next Seek.
func (r *Reader) Text(by Text) ([]byte, bool) { return plain(r.value(colTexts + column(by))) }

func plain(v []byte) ([]byte, bool) {
	if len(v) == 0 || v[0] != isKept {
		return nil, false
	}
	return v[1:], true
}

// Envelope returns what ENVELOPE shows to a client that has, or has not, enabled UTF-8.
func (r *Reader) Envelope(utf8 bool) ([]byte, bool) { return formOf(r.value(colEnvelope), utf8) }

// Structure returns what BODYSTRUCTURE shows.
func (r *Reader) Structure(utf8 bool) ([]byte, bool) { return formOf(r.value(colStructure), utf8) }

// Preview returns what PREVIEW shows.
func (r *Reader) Preview(utf8 bool) ([]byte, bool) { return formOf(r.value(colPreview), utf8) }

// Fields appends to dst what BODY[HEADER.FIELDS (...)] shows.
func (r *Reader) Fields(dst []byte, want *FieldSet) ([]byte, bool) {
	v, ok := plain(r.value(colFields))
	if !ok {
		return dst, false
	}
	return pick(dst, v, want)
}

// Thread returns where the message belongs. Its references are appended to refs.
func (r *Reader) Thread(refs []uint64) (Thread, bool) {
	v := r.value(colThread)
	if len(v) < 17 || len(v)%8 != 1 || v[0]&^threadReply != isKept {
		return Thread{}, false
	}
	le := binary.LittleEndian
	t := Thread{ID: le.Uint64(v[1:]), Subject: le.Uint64(v[9:]), Reply: v[0]&threadReply != 0}
	start := len(refs)
	for v = v[17:]; len(v) > 0; v = v[8:] {
		refs = append(refs, le.Uint64(v))
	}
	t.Refs = refs[start:len(refs):len(refs)]
	return t, true
}

package store

import "fmt"

// An op is one change of the index. Ops say what is so afterwards, not how to
// get there: UIDs, modseqs and references are final. The log is a sequence of
// transactions, lists of ops; live commits and replay run the same apply.
type op interface {
	code() opCode
	// owner is the account the op changes; "" for the queue.
	owner() string
	encode(*encoder)
	decode(*decoder)
}

type opCode uint8

const (
	codeAccount  opCode = 1
	codeBox      opCode = 2
	codeBoxGone  opCode = 3
	codeSub      opCode = 4
	codeAdd      opCode = 5
	codeFlags    opCode = 6
	codeExpunge  opCode = 7
	codeQueue    opCode = 8
	codeQueueTry opCode = 9
	codeUnqueue  opCode = 10
	codeMeta     opCode = 11
	codeMoved    opCode = 12
)

func newOp(c opCode) op {
	switch c {
	case codeAccount:
		return new(opAccount)
	case codeBox:
		return new(opBox)
	case codeBoxGone:
		return new(opBoxGone)
	case codeSub:
		return new(opSub)
	case codeAdd:
		return new(opAdd)
	case codeFlags:
		return new(opFlags)
	case codeExpunge:
		return new(opExpunge)
	case codeQueue:
		return new(opQueue)
	case codeQueueTry:
		return new(opQueueTry)
	case codeUnqueue:
		return new(opUnqueue)
	case codeMeta:
		return new(opMeta)
	case codeMoved:
		return new(opMoved)
	}
	return nil
}

// opAccount makes an account or sets its quota.
type opAccount struct {
	Account string
	Quota   int64
}

// opBox makes a mailbox or gives it another name or use. ID is also its UIDVALIDITY.
type opBox struct {
	Account    string
	ID         uint32
	Name       string
	SpecialUse string
	ModSeq     ModSeq
}

// opBoxGone removes a mailbox and all in it.
type opBoxGone struct {
	Account string
	ID      uint32
}

// opSub sets or clears a subscription.
type opSub struct {
	Account string
	Name    string
	On      bool
}

// opAdd puts messages at the end of a mailbox.
type opAdd struct {
	Account  string
	Box      uint32
	Messages []*Message // ascending UIDs
}

// opFlags gives the messages of each group its flags.
type opFlags struct {
	Account string
	Box     uint32
	ModSeq  ModSeq
	Groups  []flagGroup
}

type flagGroup struct {
	Flags []string
	UIDs  []UID // ascending
}

// opExpunge removes messages.
type opExpunge struct {
	Account string
	Box     uint32
	ModSeq  ModSeq
	UIDs    []UID // ascending
}

// opQueue puts an entry into the queue.
type opQueue struct{ Entry QueueEntry }

// opQueueTry changes an entry, all but its prefix, body and size.
type opQueueTry struct{ Entry QueueEntry }

// opUnqueue removes an entry.
type opUnqueue struct{ ID string }

// opMoved says that octets which messages of an account, or queue entries, refer
// to have been stored anew.
type opMoved struct {
	Account string // "": the queue
	Moves   []refMove
	Boxes   []movedBox
	IDs     []string // of queue entries

	messages []*Message // as they are afterwards; set when it is applied
}

// refMove leads from one reference to another to the same octets.
type refMove struct{ From, To BodyRef }

// movedBox is the messages of one mailbox that are concerned.
type movedBox struct {
	Box  uint32
	UIDs []UID // ascending
}

func (*opAccount) code() opCode  { return codeAccount }
func (*opBox) code() opCode      { return codeBox }
func (*opBoxGone) code() opCode  { return codeBoxGone }
func (*opSub) code() opCode      { return codeSub }
func (*opAdd) code() opCode      { return codeAdd }
func (*opFlags) code() opCode    { return codeFlags }
func (*opExpunge) code() opCode  { return codeExpunge }
func (*opQueue) code() opCode    { return codeQueue }
func (*opQueueTry) code() opCode { return codeQueueTry }
func (*opUnqueue) code() opCode  { return codeUnqueue }
func (*opMoved) code() opCode    { return codeMoved }

func (o *opAccount) owner() string  { return o.Account }
func (o *opBox) owner() string      { return o.Account }
func (o *opBoxGone) owner() string  { return o.Account }
func (o *opSub) owner() string      { return o.Account }
func (o *opAdd) owner() string      { return o.Account }
func (o *opFlags) owner() string    { return o.Account }
func (o *opExpunge) owner() string  { return o.Account }
func (o *opQueue) owner() string    { return "" }
func (o *opQueueTry) owner() string { return "" }
func (o *opUnqueue) owner() string  { return "" }
func (o *opMoved) owner() string    { return o.Account }

func (o *opAccount) encode(e *encoder) {
	e.string(o.Account)
	e.int(o.Quota)
}

func (o *opAccount) decode(d *decoder) {
	o.Account = d.string()
	o.Quota = d.int()
}

func (o *opBox) encode(e *encoder) {
	e.string(o.Account)
	e.uint(uint64(o.ID))
	e.string(o.Name)
	e.string(o.SpecialUse)
	e.uint(uint64(o.ModSeq))
}

func (o *opBox) decode(d *decoder) {
	o.Account = d.string()
	o.ID = d.uint32()
	o.Name = d.string()
	o.SpecialUse = d.string()
	o.ModSeq = ModSeq(d.uint())
}

func (o *opBoxGone) encode(e *encoder) {
	e.string(o.Account)
	e.uint(uint64(o.ID))
}

func (o *opBoxGone) decode(d *decoder) {
	o.Account = d.string()
	o.ID = d.uint32()
}

func (o *opSub) encode(e *encoder) {
	e.string(o.Account)
	e.string(o.Name)
	e.bool(o.On)
}

func (o *opSub) decode(d *decoder) {
	o.Account = d.string()
	o.Name = d.string()
	o.On = d.bool()
}

func (o *opAdd) encode(e *encoder) {
	e.string(o.Account)
	e.uint(uint64(o.Box))
	encodeMessages(e, o.Messages)
}

func (o *opAdd) decode(d *decoder) {
	o.Account = d.string()
	o.Box = d.uint32()
	o.Messages = decodeMessages(d)
}

func encodeMessages(e *encoder, msgs []*Message) {
	e.uint(uint64(len(msgs)))
	for _, m := range msgs {
		e.uint(uint64(m.UID))
		e.uint(uint64(m.ModSeq))
		e.strings(m.Flags)
		e.time(m.InternalDate)
		e.time(m.SaveDate)
		e.ref(m.Head)
		e.ref(m.Body)
		e.string(m.ObjectID)
	}
}

func decodeMessages(d *decoder) []*Message {
	n := d.count()
	msgs := make([]*Message, 0, n)
	last := UID(0)
	for range n {
		m := &Message{
			UID:          UID(d.uint32()),
			ModSeq:       ModSeq(d.uint()),
			Flags:        d.flags(),
			InternalDate: d.time(),
			SaveDate:     d.time(),
			Head:         d.ref(),
			Body:         d.ref(),
			ObjectID:     d.string(),
		}
		m.Size = m.Head.Size + m.Body.Size
		if m.UID <= last || m.Size < 0 {
			d.fail()
		}
		if d.err != nil {
			return nil
		}
		last = m.UID
		msgs = append(msgs, m)
	}
	return msgs
}

func (o *opFlags) encode(e *encoder) {
	e.string(o.Account)
	e.uint(uint64(o.Box))
	e.uint(uint64(o.ModSeq))
	e.uint(uint64(len(o.Groups)))
	for _, g := range o.Groups {
		e.strings(g.Flags)
		e.uids(g.UIDs)
	}
}

func (o *opFlags) decode(d *decoder) {
	o.Account = d.string()
	o.Box = d.uint32()
	o.ModSeq = ModSeq(d.uint())
	for range d.count() {
		o.Groups = append(o.Groups, flagGroup{Flags: d.flags(), UIDs: d.uids()})
	}
}

func (o *opExpunge) encode(e *encoder) {
	e.string(o.Account)
	e.uint(uint64(o.Box))
	e.uint(uint64(o.ModSeq))
	e.uids(o.UIDs)
}

func (o *opExpunge) decode(d *decoder) {
	o.Account = d.string()
	o.Box = d.uint32()
	o.ModSeq = ModSeq(d.uint())
	o.UIDs = d.uids()
}

func (o *opQueue) encode(e *encoder) {
	encodeAttempt(e, &o.Entry)
	e.bytes(o.Entry.Prefix)
	e.ref(o.Entry.Body)
}

func (o *opQueue) decode(d *decoder) {
	decodeAttempt(d, &o.Entry)
	o.Entry.Prefix = append([]byte(nil), d.bytes()...)
	o.Entry.Body = d.ref()
	o.Entry.Size = int64(len(o.Entry.Prefix)) + o.Entry.Body.Size
}

func (o *opQueueTry) encode(e *encoder) { encodeAttempt(e, &o.Entry) }
func (o *opQueueTry) decode(d *decoder) { decodeAttempt(d, &o.Entry) }

func encodeAttempt(e *encoder, q *QueueEntry) {
	e.string(q.ID)
	e.string(q.From)
	e.strings(q.Recipients)
	e.string(q.Domain)
	e.string(q.Account)
	e.instant(q.Queued)
	e.uint(uint64(q.Attempts))
	e.instant(q.NextTry)
	e.string(q.LastError)
	e.bool(q.Hold)
}

func decodeAttempt(d *decoder, q *QueueEntry) {
	q.ID = d.string()
	q.From = d.string()
	q.Recipients = d.strings()
	q.Domain = d.string()
	q.Account = d.string()
	q.Queued = d.instant()
	q.Attempts = int(d.uint32())
	q.NextTry = d.instant()
	q.LastError = d.string()
	q.Hold = d.bool()
}

func (o *opUnqueue) encode(e *encoder) { e.string(o.ID) }
func (o *opUnqueue) decode(d *decoder) { o.ID = d.string() }

func (o *opMoved) encode(e *encoder) {
	e.string(o.Account)
	e.uint(uint64(len(o.Moves)))
	for _, m := range o.Moves {
		e.ref(m.From)
		e.ref(m.To)
	}
	e.uint(uint64(len(o.Boxes)))
	for _, b := range o.Boxes {
		e.uint(uint64(b.Box))
		e.uids(b.UIDs)
	}
	e.strings(o.IDs)
}

func (o *opMoved) decode(d *decoder) {
	o.Account = d.string()
	for range d.count() {
		m := refMove{d.ref(), d.ref()}
		if m.From.Size != m.To.Size || m.From.Size == 0 || m.From.Segment >= m.To.Segment {
			d.fail()
		}
		if d.err != nil {
			return
		}
		o.Moves = append(o.Moves, m)
	}
	for range d.count() {
		b := movedBox{d.uint32(), d.uids()}
		if d.err != nil {
			return
		}
		o.Boxes = append(o.Boxes, b)
	}
	o.IDs = d.strings()
}

// to returns where a reference leads.
func (o *opMoved) to() map[BodyRef]BodyRef {
	to := make(map[BodyRef]BodyRef, len(o.Moves))
	for _, m := range o.Moves {
		to[m.From] = m.To
	}
	return to
}

// transaction is what one caller's request changes, all or none.
type transaction struct {
	LSN uint64 // log sequence number, ascending by one
	Ops []op
}

func (t *transaction) encode(e *encoder) {
	e.uint(t.LSN)
	e.uint(uint64(len(t.Ops)))
	for _, o := range t.Ops {
		e.byte(byte(o.code()))
		o.encode(e)
	}
}

func decodeTransaction(b []byte, intern func([]string) []string) (*transaction, error) {
	d := &decoder{b: b, intern: intern}
	t := &transaction{LSN: d.uint()}
	for range d.count() {
		c := opCode(d.byte())
		o := newOp(c)
		if o == nil {
			if d.err == nil {
				d.err = fmt.Errorf("unknown operation %d", c)
			}
			break
		}
		o.decode(d)
		if d.err != nil {
			break
		}
		t.Ops = append(t.Ops, o)
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = errMalformed
	}
	if d.err != nil {
		return nil, d.err
	}
	return t, nil
}

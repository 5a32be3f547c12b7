package store

import (
	"errors"
	"slices"
	"sort"
)

// stage is the index as it will be once the batch being built is durable: an
// overlay over the index that the transactions of one batch see and change one
// after the other. Readers never see it. It is thrown away after the batch,
// whether that succeeded or not.
//
// A transaction first checks all it needs and only then changes the stage, so
// that one that is refused leaves nothing behind.
type stage struct {
	ix       *index
	accounts map[string]*stagedAccount
	queue    map[string]*QueueEntry // nil: removed
	quotas   *quotas
	domains  map[string]*Quota // what is held of them
}

type stagedAccount struct {
	base   *account // nil: made in this batch
	name   string
	quota  int64
	bytes  int64
	count  int64
	domain *Quota // what is held of its domain, shared with the others
	modseq ModSeq
	lastID uint32
	names  map[string]*stagedBox // nil: no such mailbox
	boxes  map[uint32]*stagedBox
	subs   map[string]bool
	// metaAdded counts the annotations of this batch, metaGrown their octets.
	metaAdded int
	metaGrown int
}

type stagedBox struct {
	base       *mailbox // nil: made in this batch
	id         uint32
	name       string
	specialUse string
	uidNext    UID
	pinned     bool             // base is in memory until the batch has ended
	changed    map[UID]*Message // nil: expunged
	flagged    map[UID]FlagState
	added      []UID
	keywords   map[string]bool // that base does not know
}

func newStage(ix *index, q *quotas) *stage {
	return &stage{ix: ix, accounts: map[string]*stagedAccount{}, queue: map[string]*QueueEntry{}, quotas: q, domains: map[string]*Quota{}}
}

// account returns the account, or nil when there is none.
func (s *stage) account(name string) *stagedAccount {
	if a := s.accounts[name]; a != nil {
		return a
	}
	base := s.ix.lookup(name)
	if base == nil {
		return nil
	}
	a := &stagedAccount{
		base: base, name: name, quota: base.quota, bytes: base.bytes, count: base.count, domain: s.domain(domainOf(name)), modseq: base.modseq, lastID: base.lastID,
		names: map[string]*stagedBox{}, boxes: map[uint32]*stagedBox{}, subs: map[string]bool{},
	}
	s.accounts[name] = a
	return a
}

func (s *stage) newAccount(name string, quota int64) *stagedAccount {
	a := &stagedAccount{name: name, quota: quota, domain: s.domain(domainOf(name)),
		names: map[string]*stagedBox{}, boxes: map[uint32]*stagedBox{}, subs: map[string]bool{}}
	s.accounts[name] = a
	return a
}

// entry returns the queue entry, or nil.
func (s *stage) entry(id string) *QueueEntry {
	if e, ok := s.queue[id]; ok {
		return e
	}
	return s.ix.queue[id]
}

// box returns the mailbox of that name, or nil.
func (a *stagedAccount) box(name string) *stagedBox {
	if b, ok := a.names[name]; ok {
		return b
	}
	if a.base == nil {
		return nil
	}
	base := a.base.names[name]
	if base == nil {
		return nil
	}
	b := a.boxes[base.id]
	if b == nil {
		b = &stagedBox{base: base, id: base.id, name: base.name, specialUse: base.specialUse, uidNext: base.uidNext, changed: map[UID]*Message{}}
		a.boxes[b.id] = b
	}
	a.names[name] = b
	return b
}

// all returns the names of all mailboxes, sorted.
func (a *stagedAccount) all() []string {
	seen := map[string]bool{}
	if a.base != nil {
		for n := range a.base.names {
			seen[n] = true
		}
	}
	for n, b := range a.names {
		seen[n] = b != nil
	}
	var l []string
	for n, there := range seen {
		if there {
			l = append(l, n)
		}
	}
	sort.Strings(l)
	return l
}

// subscriptions are all subscribed names, sorted.
func (a *stagedAccount) subscriptions() []string {
	var out []string
	if a.base != nil {
		for n := range a.base.subs {
			if a.subscribed(n) {
				out = append(out, n)
			}
		}
	}
	for n, on := range a.subs {
		if on && (a.base == nil || !a.base.subs[n]) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

func (a *stagedAccount) subscribed(name string) bool {
	if on, ok := a.subs[name]; ok {
		return on
	}
	return a.base != nil && a.base.subs[name]
}

// loaded has the mailbox's messages in memory until the batch has ended. Who asks
// for one that was there before the batch, or for all, asks for this first.
func (t *txn) loaded(a *stagedAccount, b *stagedBox) error {
	if b.pinned || b.base == nil {
		return nil
	}
	a.base.mu.Lock()
	t.log.hold(b.base)
	a.base.mu.Unlock()
	release := func() { t.log.letGo(a.base, b.base) }
	err := t.log.load(a.base, b.base)
	if errors.Is(err, ErrDamaged) {
		if err = t.log.mend(); err == nil {
			err = t.log.load(a.base, b.base)
		}
	}
	if err != nil {
		release()
		return err
	}
	b.pinned = true
	t.batch.pinned = append(t.batch.pinned, release)
	return nil
}

// lose takes all messages of a mailbox out of what the account holds.
func (a *stagedAccount) lose(b *stagedBox) {
	var bytes, count int64
	if b.base != nil {
		bytes, count = b.base.bytes, int64(b.base.count)
	}
	for uid, m := range b.changed {
		if b.pinned {
			if was := b.base.msgs.get(uid); was != nil {
				bytes, count = bytes-was.Size, count-1
			}
		}
		if m != nil {
			bytes, count = bytes+m.Size, count+1
		}
	}
	a.add(-bytes, -count)
}

// message returns the message, or nil when it does not exist.
func (b *stagedBox) message(uid UID) *Message {
	if m, ok := b.changed[uid]; ok {
		return m
	}
	if !b.pinned {
		return nil
	}
	m := b.base.msgs.get(uid)
	if s, ok := b.flagged[uid]; ok && m != nil {
		m.Flags, m.ModSeq = s.Flags, s.ModSeq
	}
	return m
}

// flags returns the flags of a message; ok is false when it does not exist.
func (b *stagedBox) flags(uid UID) (s FlagState, ok bool) {
	if m, ok := b.changed[uid]; ok {
		if m == nil {
			return s, false
		}
		return FlagState{uid, m.ModSeq, m.Flags}, true
	}
	if s, ok := b.flagged[uid]; ok {
		return s, true
	}
	if !b.pinned {
		return s, false
	}
	k, i, ok := b.base.msgs.find(uid)
	if !ok {
		return s, false
	}
	block := b.base.msgs.blocks[k]
	return FlagState{uid, block.modseqs[i], block.lists[block.flags[i]]}, true
}

// flag gives a message that exists other flags.
func (b *stagedBox) flag(s FlagState) {
	if m := b.changed[s.UID]; m != nil {
		changed := *m
		changed.Flags, changed.ModSeq = s.Flags, s.ModSeq
		b.changed[s.UID] = &changed
		return
	}
	if b.flagged == nil {
		b.flagged = map[UID]FlagState{}
	}
	b.flagged[s.UID] = s
}

// uids returns all messages' UIDs, ascending.
func (b *stagedBox) uids() []UID {
	var l []UID
	if b.pinned {
		for row := range b.base.msgs.Rows(0, b.base.msgs.Len()) {
			uid := row.UID()
			if c, ok := b.changed[uid]; !ok || c != nil {
				l = append(l, uid)
			}
		}
	}
	for _, uid := range b.added {
		if b.changed[uid] != nil {
			l = append(l, uid)
		}
	}
	return l
}

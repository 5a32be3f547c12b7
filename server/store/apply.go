package store

import (
	"cmp"
	"fmt"
	"slices"
)

// apply makes a transaction part of the index and tells the watches. Replay
// calls it with accounts that a checkpoint may already hold in a later state:
// what an account has seen is not applied again.
//
// The mailboxes whose messages it changes are loaded.
//
// It must cope with the gaps that damage leaves: an operation on a mailbox
// whose making was lost makes one, so that its messages can be found.
func (ix *index) apply(t *transaction) {
	for i, o := range t.Ops {
		name := o.owner()
		if seenBefore(t.Ops[:i], name) {
			continue // applied with the account's first operation
		}
		if name == "" {
			ix.applyQueue(t)
			continue
		}
		a := ix.lookup(name)
		if a == nil {
			a = newAccount(name)
			ix.mu.Lock()
			ix.accounts[name] = a
			ix.mu.Unlock()
		}
		a.mu.Lock()
		if a.lsn < t.LSN {
			for _, o := range t.Ops[i:] {
				if o.owner() == name {
					a.apply(o, &ix.refs)
				}
			}
			a.lsn, a.dirty = t.LSN, true
		}
		a.mu.Unlock()
	}
}

func seenBefore(ops []op, owner string) bool {
	for _, o := range ops {
		if o.owner() == owner {
			return true
		}
	}
	return false
}

func (ix *index) applyQueue(t *transaction) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.queueLSN >= t.LSN {
		return
	}
	ix.queueLSN = t.LSN
	for _, o := range t.Ops {
		switch o := o.(type) {
		case *opQueue:
			e := o.Entry
			if old := ix.queue[e.ID]; old != nil {
				ix.refs.add(old.Body, -1)
			}
			ix.queue[e.ID] = &e
			ix.tried[e.ID] = true
			ix.refs.add(e.Body, 1)
		case *opQueueTry:
			if old := ix.queue[o.Entry.ID]; old != nil {
				e := o.Entry
				e.Prefix, e.Body, e.Size = old.Prefix, old.Body, old.Size
				ix.queue[e.ID] = &e
				ix.tried[e.ID] = true
			}
		case *opUnqueue:
			if old := ix.queue[o.ID]; old != nil {
				ix.refs.add(old.Body, -1)
				delete(ix.queue, o.ID)
				ix.tried[o.ID] = true
			}
		case *opMoved:
			if o.Account != "" {
				continue
			}
			to := o.to()
			for _, id := range o.IDs {
				if old := ix.queue[id]; old != nil && to[old.Body].Size > 0 {
					e := *old
					e.Body = to[old.Body]
					ix.queue[id] = &e
					ix.tried[id] = true
					ix.refs.add(e.Body, 1)
					ix.refs.add(old.Body, -1)
				}
			}
		}
	}
}

// box returns the mailbox, making one for messages whose mailbox was lost to damage.
func (a *account) box(id uint32) *mailbox {
	if m := a.boxes[id]; m != nil {
		return m
	}
	m := newMailbox(id, fmt.Sprintf("Recovered %08x", id))
	m.loaded, m.goneHere = true, true
	a.boxes[id] = m
	a.names[m.name] = m
	a.lastID = max(a.lastID, id)
	return m
}

func (a *account) apply(o op, refs *refCount) {
	switch o := o.(type) {
	case *opAccount:
		a.quota = o.Quota
	case *opBox:
		a.applyBox(o)
	case *opBoxGone:
		if m := a.boxes[o.ID]; m != nil {
			a.bytes -= m.bytes
			a.count -= int64(m.count)
			refs.mailbox(m, -1)
			a.removed = append(a.removed, m.id)
			a.dropMeta(m.id)
			delete(a.boxes, m.id)
			if a.names[m.name] == m {
				delete(a.names, m.name)
			}
			m.publish(Event{Mailbox: m.name, Gone: true})
			a.tell(Change{Mailbox: m.name, What: ChangedDeleted})
		}
	case *opSub:
		a.tell(Change{Mailbox: o.Name, What: ChangedSubscription})
		if o.On {
			a.subs[o.Name] = true
		} else {
			delete(a.subs, o.Name)
		}
	case *opAdd:
		a.applyAdd(o, refs)
	case *opFlags:
		a.applyFlags(o)
	case *opExpunge:
		a.applyExpunge(o, refs)
	case *opMeta:
		a.applyMeta(o)
	case *opMoved:
		a.applyMoved(o, refs)
	}
}

// applyMoved changes where messages are, which no session sees.
func (a *account) applyMoved(o *opMoved, refs *refCount) {
	to := o.to()
	for _, b := range o.Boxes {
		m := a.boxes[b.Box]
		if m == nil {
			continue // removed in the same batch
		}
		m.dirty = true
		var moved []*Message
		for _, uid := range b.UIDs {
			old := m.msgs.get(uid)
			if old == nil {
				continue
			}
			msg := *old
			if r := to[msg.Head]; r.Size > 0 {
				msg.Head = r
			}
			if r := to[msg.Body]; r.Size > 0 {
				msg.Body = r
			}
			refs.message(m, &msg, 1)
			refs.message(m, old, -1)
			m.mark(uid)
			moved = append(moved, &msg)
		}
		m.msgs.replace(moved)
		o.messages = append(o.messages, moved...)
	}
}

func (a *account) applyBox(o *opBox) {
	m := a.boxes[o.ID]
	if m == nil {
		a.tell(Change{Mailbox: o.Name, What: ChangedCreated})
		m = newMailbox(o.ID, o.Name)
		m.loaded, m.goneHere = true, true // all there is of it
		a.boxes[o.ID] = m
		a.lastID = max(a.lastID, o.ID)
	} else if m.name != o.Name {
		if a.names[m.name] == m {
			delete(a.names, m.name)
		}
		m.publish(Event{Mailbox: o.Name, Renamed: true})
		a.tell(Change{Mailbox: o.Name, From: m.name, What: ChangedRenamed})
	}
	m.name = o.Name
	if other := a.names[o.Name]; other != nil && other != m {
		// Only after damage: the removal of the other was lost.
		other.name = fmt.Sprintf("Recovered %08x", other.id)
		a.names[other.name], other.dirty = other, true
	}
	a.names[o.Name] = m
	m.specialUse = o.SpecialUse
	m.raise(a, o.ModSeq)
}

func (m *mailbox) raise(a *account, modseq ModSeq) {
	m.dirty = true
	m.highest = max(m.highest, modseq)
	a.modseq = max(a.modseq, modseq)
}

func (a *account) applyAdd(o *opAdd, refs *refCount) {
	m := a.box(o.Box)
	fresh := make([]*Message, 0, len(o.Messages))
	for _, msg := range o.Messages {
		if msg.UID < m.uidNext {
			continue // only after damage: UIDs never go back
		}
		fresh = append(fresh, msg)
		m.uidNext = msg.UID + 1
		m.raise(a, msg.ModSeq)
		a.tally(m, msg, 1)
		refs.message(m, msg, 1)
		if m.loaded {
			m.mark(msg.UID)
		}
	}
	m.msgs.Append(fresh...)
	m.publish(Event{Mailbox: m.name, New: fresh})
	a.tellMessages(m, ChangedNew, len(fresh))
}

func (a *account) applyFlags(o *opFlags) {
	m := a.box(o.Box)
	n := 0
	for _, g := range o.Groups {
		n += len(g.UIDs)
	}
	changed := make([]FlagState, 0, n)
	for _, g := range o.Groups {
		for _, uid := range g.UIDs {
			k, i, ok := m.msgs.find(uid)
			if !ok {
				continue
			}
			b := m.msgs.edit(k)
			m.tallyFlags(b.lists[b.flags[i]], -1)
			b.setFlags(i, g.Flags, o.ModSeq)
			m.tallyFlags(g.Flags, 1)
			m.mark(uid)
			changed = append(changed, FlagState{uid, o.ModSeq, g.Flags})
		}
	}
	m.raise(a, o.ModSeq)
	if len(o.Groups) > 1 {
		slices.SortFunc(changed, func(x, y FlagState) int { return cmp.Compare(x.UID, y.UID) })
	}
	m.publish(Event{Mailbox: m.name, Changed: changed})
	a.tellMessages(m, ChangedFlags, len(changed))
}

func (a *account) applyExpunge(o *opExpunge, refs *refCount) {
	m := a.box(o.Box)
	removed := make([]UID, 0, len(o.UIDs))
	places := make([]int, 0, len(o.UIDs))
	var msg Message
	for _, uid := range o.UIDs {
		place, ok := m.msgs.Find(uid)
		if !ok {
			continue
		}
		m.msgs.Read(place, &msg)
		a.tally(m, &msg, -1)
		refs.message(m, &msg, -1)
		m.mark(uid)
		removed, places = append(removed, uid), append(places, place)
	}
	m.msgs.Remove(places)
	m.raise(a, o.ModSeq)
	if len(removed) > 0 {
		m.gone.add(o.ModSeq, removed)
		m.goneDirty = true
	}
	m.publish(Event{Mailbox: m.name, Expunged: removed})
	a.tellMessages(m, ChangedGone, len(removed))
}

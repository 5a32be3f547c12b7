package storetest_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/server/store"
	"mailform/server/store/storetest"
)

// TestReference has a second driver, of some maps, pass the suite: what that asks for
// can be done outside of package store, and follows from the contract and not from how
// the log does it. It is the plainest that keeps the contract; every change works on a
// copy of all that there is.
func TestReference(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Harness {
		return &harness{kept{accounts: map[string]*account{}, bodies: map[uint64]string{}, queue: map[string]store.QueueEntry{}}}
	})
}

type harness struct{ disk kept }

func (h *harness) Open(*testing.T) store.Store {
	return &memory{disk: &h.disk, watches: map[*watch]bool{}, followers: map[*store.AccountWatch]string{}}
}

// kept is what outlives the driver.
type kept struct {
	accounts map[string]*account
	queue    map[string]store.QueueEntry
	bodies   map[uint64]string // by segment
	last     uint64            // number given to something
}

type account struct {
	quota  int64
	lastID uint32
	modseq store.ModSeq
	boxes  map[string]*mailbox
	subs   map[string]bool
	meta   map[string]string
}

type mailbox struct {
	id      uint32
	use     string
	next    store.UID
	highest store.ModSeq
	msgs    []*store.Message
	gone    []vanished
	meta    map[string]string
	added   []string // keywords of the change that is being made
}

type vanished struct {
	uid    store.UID
	modseq store.ModSeq
}

func (k *kept) clone() kept {
	c := kept{accounts: map[string]*account{}, queue: maps.Clone(k.queue), bodies: maps.Clone(k.bodies), last: k.last}
	for name, a := range k.accounts {
		b := *a
		b.boxes, b.subs, b.meta = map[string]*mailbox{}, maps.Clone(a.subs), maps.Clone(a.meta)
		for n, m := range a.boxes {
			o := *m
			o.msgs, o.gone, o.meta, o.added = slices.Clone(m.msgs), slices.Clone(m.gone), maps.Clone(m.meta), nil
			b.boxes[n] = &o
		}
		c.accounts[name] = &b
	}
	return c
}

type memory struct {
	mu        sync.Mutex
	disk      *kept
	closed    bool
	quotas    store.Quotas
	watches   map[*watch]bool
	followers map[*store.AccountWatch]string
}

// change is a transaction: it has a copy of everything, and says what it did.
type change struct {
	kept
	s    *memory
	tell []func()
}

func (s *memory) change(f func(*change) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	c := &change{kept: s.disk.clone(), s: s}
	if err := f(c); err != nil {
		return err
	}
	*s.disk = c.kept
	for _, f := range c.tell {
		f()
	}
	return nil
}

// look is a change that changes nothing.
func (s *memory) look(name string, f func(*account) error) error {
	return s.change(func(c *change) error {
		a, err := c.account(name)
		if err != nil {
			return err
		}
		return f(a)
	})
}

func (c *change) account(name string) (*account, error) {
	if a := c.accounts[name]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("account %s: %w", name, store.ErrNoMailbox)
}

// box returns a mailbox and its name as it is kept.
func (c *change) box(name, box string) (*account, string, *mailbox, error) {
	a, err := c.account(name)
	if err != nil {
		return nil, "", nil, err
	}
	box, m, err := a.box(box)
	return a, box, m, err
}

// find is box for one that may be meant by its UIDVALIDITY.
func (c *change) find(name string, want store.Box) (*account, string, *mailbox, error) {
	a, err := c.account(name)
	if err != nil {
		return nil, "", nil, err
	}
	box, m, err := a.find(want)
	return a, box, m, err
}

func (a *account) find(want store.Box) (string, *mailbox, error) {
	if want.UIDValidity == 0 {
		return a.box(want.Name)
	}
	for n, m := range a.boxes {
		if m.id == want.UIDValidity {
			return n, m, nil
		}
	}
	return "", nil, &store.GoneError{Box: want}
}

func (a *account) box(name string) (string, *mailbox, error) {
	clean, err := store.CleanName(name)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", store.ErrNoMailbox, err)
	}
	m := a.boxes[clean]
	if m == nil {
		return "", nil, fmt.Errorf("%s: %w", clean, store.ErrNoMailbox)
	}
	return clean, m, nil
}

// follow tells who watches the account.
func (c *change) follow(name string, what store.Change) {
	c.tell = append(c.tell, func() {
		for w, of := range c.s.followers {
			if of == name {
				w.Put(what)
			}
		}
	})
}

// event tells who has the mailbox open.
func (c *change) event(name, box string, m *mailbox, e store.Event, what store.Changes) {
	e.Mailbox, e.ModSeq = box, max(m.highest, 1)
	c.tell = append(c.tell, func() {
		for w := range c.s.watches {
			if w.id == m.id && w.account == name {
				w.put(e)
			}
		}
	})
	if what != 0 {
		c.follow(name, store.Change{Mailbox: box, What: what})
	}
}

func (a *account) used() (q store.Quota) {
	for _, m := range a.boxes {
		for _, msg := range m.msgs {
			q.Bytes += msg.Size
			q.Messages++
		}
	}
	return q
}

func domainOf(account string) string { return account[strings.LastIndexByte(account, '@')+1:] }

func (k *kept) usedBy(domain string) (q store.Quota) {
	for name, a := range k.accounts {
		if domainOf(name) == domain {
			u := a.used()
			q.Bytes, q.Messages = q.Bytes+u.Bytes, q.Messages+u.Messages
		}
	}
	return q
}

// room asks for what is to come, all at once; before is as it was ahead of that.
func (c *change) room(before *kept, name string, wanted map[string]store.Quota) error {
	a := before.accounts[name]
	limit := store.Quota{Bytes: a.quota, Messages: c.s.quotas.Messages[name]}
	if err := limit.Room(a.used(), wanted[name], name, ""); err != nil {
		return err
	}
	domain := domainOf(name)
	var all store.Quota
	for other, q := range wanted {
		if domainOf(other) == domain {
			all.Bytes, all.Messages = all.Bytes+q.Bytes, all.Messages+q.Messages
		}
	}
	return c.s.quotas.Domains[domain].Room(before.usedBy(domain), all, name, domain)
}

func (c *change) make(name string, a *account, box, use string) *mailbox {
	for i, r := range box {
		if r == '/' && a.boxes[box[:i]] == nil {
			c.make(name, a, box[:i], "")
		}
	}
	a.lastID = max(a.lastID+1, uint32(time.Now().Unix()))
	a.modseq++
	m := &mailbox{id: a.lastID, use: use, next: 1, highest: a.modseq, meta: map[string]string{}}
	a.boxes[box] = m
	c.follow(name, store.Change{Mailbox: box, What: store.ChangedCreated})
	return m
}

func (c *change) store(text string) store.BodyRef {
	if text == "" {
		return store.BodyRef{}
	}
	c.last++
	c.bodies[c.last] = text
	return store.BodyRef{Segment: c.last, Size: int64(len(text))}
}

// add puts messages at the end of a mailbox, with one event.
func (c *change) add(name, box string, a *account, m *mailbox, list ...*store.Message) {
	for _, msg := range list {
		a.modseq++
		msg.UID, msg.ModSeq, msg.SaveDate = m.next, a.modseq, time.Now()
		if msg.ObjectID == "" {
			c.last++
			msg.ObjectID = fmt.Sprintf("E%d", c.last)
		}
		if msg.InternalDate.IsZero() {
			msg.InternalDate = msg.SaveDate
		}
		msg.InternalDate = msg.InternalDate.Truncate(time.Second)
		m.next++
		m.highest = a.modseq
		m.msgs = append(m.msgs, msg)
	}
	c.event(name, box, m, store.Event{New: list}, store.ChangedNew)
}

func (c *change) remove(name, box string, a *account, m *mailbox, uids []store.UID) {
	if len(uids) == 0 {
		return
	}
	a.modseq++
	m.highest = a.modseq
	m.msgs = slices.DeleteFunc(m.msgs, func(msg *store.Message) bool { return slices.Contains(uids, msg.UID) })
	for _, u := range uids {
		m.gone = append(m.gone, vanished{u, a.modseq})
	}
	c.event(name, box, m, store.Event{Expunged: uids}, store.ChangedGone)
}

func (m *mailbox) chosen(uids []store.UID) (list []*store.Message) {
	for _, msg := range m.msgs {
		if slices.Contains(uids, msg.UID) {
			list = append(list, msg)
		}
	}
	return list
}

func (a *account) info(name string, m *mailbox) store.MailboxInfo {
	i := store.MailboxInfo{Name: name, UIDValidity: m.id, UIDNext: m.next, HighestModSeq: max(m.highest, 1), Messages: uint32(len(m.msgs)),
		SpecialUse: m.use, Subscribed: a.subs[name], ObjectID: fmt.Sprintf("M%d", m.id)}
	for _, msg := range m.msgs {
		i.Bytes += msg.Size
		if !slices.Contains(msg.Flags, `\Seen`) {
			i.Unseen++
		}
		if slices.Contains(msg.Flags, `\Deleted`) {
			i.Deleted++
		}
	}
	return i
}

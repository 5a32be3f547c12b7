package storetest_test

import (
	"context"
	"maps"
	"slices"
	"strings"

	"mailform/server/store"
)

func (s *memory) EnsureAccount(_ context.Context, name string, quota int64) error {
	return s.change(func(c *change) error {
		a := c.accounts[name]
		if a == nil {
			a = &account{boxes: map[string]*mailbox{}, subs: map[string]bool{}, meta: map[string]string{}}
			c.accounts[name] = a
		}
		a.quota = quota
		uses := map[string]bool{}
		for _, m := range a.boxes {
			uses[m.use] = true
		}
		for box, use := range store.SpecialMailboxes {
			if a.boxes[box] == nil && (use == "" || !uses[use]) {
				c.make(name, a, box, use)
				a.subs[box] = true
			}
		}
		return nil
	})
}

func (s *memory) EmptyAccount(_ context.Context, name string) error {
	return s.change(func(c *change) error {
		a := c.accounts[name]
		if a == nil {
			return nil
		}
		for box, m := range a.boxes {
			c.event(name, box, m, store.Event{Gone: true}, store.ChangedDeleted)
		}
		clear(a.boxes)
		clear(a.subs)
		return nil
	})
}

func (s *memory) Usage(_ context.Context, name string) (bytes, messages int64, err error) {
	err = s.look(name, func(a *account) error { q := a.used(); bytes, messages = q.Bytes, q.Messages; return nil })
	return bytes, messages, err
}

func (s *memory) Quota(_ context.Context, name string) (quota int64, err error) {
	err = s.look(name, func(a *account) error { quota = a.quota; return nil })
	return quota, err
}

func (s *memory) SetQuotas(_ context.Context, q store.Quotas) error {
	return s.change(func(*change) error { s.quotas = q; return nil })
}

func (s *memory) QuotaRoots(_ context.Context, name string) (roots []store.QuotaRoot, err error) {
	err = s.change(func(c *change) error {
		a, err := c.account(name)
		if err != nil {
			return err
		}
		roots = []store.QuotaRoot{{Used: a.used(), Limit: store.Quota{Bytes: a.quota, Messages: s.quotas.Messages[name]}}}
		if limit, ok := s.quotas.Domains[domainOf(name)]; ok {
			roots = append(roots, store.QuotaRoot{Domain: domainOf(name), Used: c.usedBy(domainOf(name)), Limit: limit})
		}
		return nil
	})
	return roots, err
}

func (s *memory) Mailboxes(_ context.Context, name string) (list []store.MailboxInfo, err error) {
	err = s.look(name, func(a *account) error {
		for box, m := range a.boxes {
			list = append(list, a.info(box, m))
		}
		return nil
	})
	slices.SortFunc(list, func(x, y store.MailboxInfo) int {
		switch "INBOX" {
		case x.Name:
			return -1
		case y.Name:
			return 1
		}
		return strings.Compare(x.Name, y.Name)
	})
	return list, err
}

func (s *memory) Mailbox(_ context.Context, name, box string) (info store.MailboxInfo, err error) {
	err = s.look(name, func(a *account) error {
		n, m, err := a.box(box)
		if err == nil {
			info = a.info(n, m)
		}
		return err
	})
	return info, err
}

func (s *memory) CreateMailbox(_ context.Context, name, box, use string) (info store.MailboxInfo, err error) {
	box, err = store.CleanName(box)
	if err != nil {
		return info, err
	}
	err = s.change(func(c *change) error {
		a, err := c.account(name)
		if err != nil {
			return err
		}
		if a.boxes[box] != nil {
			return store.ErrMailboxExists
		}
		if !a.roomFor(box) {
			return store.ErrTooMany
		}
		info = a.info(box, c.make(name, a, box, use))
		return nil
	})
	return info, err
}

// roomFor says whether a mailbox can be made, with those above it.
func (a *account) roomFor(box string) bool {
	n := len(a.boxes) + 1
	for i, r := range box {
		if r == '/' && a.boxes[box[:i]] == nil {
			n++
		}
	}
	return n <= store.MaxMailboxes
}

func (s *memory) DeleteMailbox(_ context.Context, name, box string) error {
	return s.change(func(c *change) error {
		a, box, m, err := c.box(name, box)
		if err != nil {
			return err
		}
		if box == "INBOX" {
			return store.ErrName
		}
		for n := range a.boxes {
			if strings.HasPrefix(n, box+"/") {
				return store.ErrHasChildren
			}
		}
		delete(a.boxes, box)
		c.event(name, box, m, store.Event{Gone: true}, store.ChangedDeleted)
		return nil
	})
}

func (s *memory) RenameMailbox(_ context.Context, name, from, to string) error {
	to, err := store.CleanName(to)
	if err != nil {
		return err
	}
	return s.change(func(c *change) error {
		a, from, m, err := c.box(name, from)
		if err != nil {
			return err
		}
		if a.boxes[to] != nil {
			return store.ErrMailboxExists
		}
		if i := strings.LastIndexByte(to, '/'); from == "INBOX" && !a.roomFor(to) || i > 0 && a.boxes[to[:i]] == nil && !a.roomFor(to[:i]) {
			return store.ErrTooMany
		}
		if from == "INBOX" {
			var uids []store.UID
			var list []*store.Message
			for _, msg := range m.msgs {
				o := *msg
				list, uids = append(list, &o), append(uids, msg.UID)
			}
			c.add(name, to, a, c.make(name, a, to, ""), list...)
			c.remove(name, from, a, m, uids)
			return nil
		}
		if strings.HasPrefix(to, from+"/") {
			return store.ErrName
		}
		moves := map[string]string{}
		for n := range a.boxes {
			if n == from || strings.HasPrefix(n, from+"/") {
				moves[n] = to + n[len(from):]
				if a.boxes[moves[n]] != nil {
					return store.ErrMailboxExists
				}
			}
		}
		for i, r := range to {
			if r == '/' && a.boxes[to[:i]] == nil {
				c.make(name, a, to[:i], "")
			}
		}
		for _, n := range slices.Sorted(maps.Keys(moves)) {
			b := a.boxes[n]
			delete(a.boxes, n)
			a.boxes[moves[n]] = b
			a.modseq++
			c.event(name, moves[n], b, store.Event{Renamed: true}, 0)
			c.follow(name, store.Change{Mailbox: moves[n], From: n, What: store.ChangedRenamed})
		}
		return nil
	})
}

func (s *memory) Subscribe(_ context.Context, name, box string, on bool) error {
	box, err := store.CleanName(box)
	if err != nil {
		return err
	}
	return s.change(func(c *change) error {
		a, err := c.account(name)
		if err != nil || a.subs[box] == on {
			return err
		}
		if on && len(a.subs) >= store.MaxSubscriptions {
			return store.ErrTooMany
		}
		if delete(a.subs, box); on {
			a.subs[box] = true
		}
		c.follow(name, store.Change{Mailbox: box, What: store.ChangedSubscription})
		return nil
	})
}

func (s *memory) Subscriptions(_ context.Context, name string) (list []string, err error) {
	err = s.look(name, func(a *account) error { list = slices.Sorted(maps.Keys(a.subs)); return nil })
	return list, err
}

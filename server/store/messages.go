package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/server/store/seal"
)

// Deliver implements Store.
func (l *Log) Deliver(ctx context.Context, d Delivery) ([]Message, error) {
	if len(d.Targets) == 0 && len(d.Queue) == 0 {
		return nil, errors.New("a delivery needs a target or a queue entry")
	}
	names := make([]string, len(d.Targets))
	for i, t := range d.Targets {
		var err error
		if names[i], err = cleanName(t.Mailbox); err != nil {
			return nil, err
		}
	}
	x, err := l.accept(d.Body, d.Size, d.owners())
	if err != nil {
		return nil, err
	}
	prefixes, err := l.prefixes(d)
	if err != nil {
		return nil, errors.Join(err, l.discard(x))
	}
	sealedPrefixes := make([][]byte, len(d.Queue))
	for i, e := range d.Queue {
		if sealedPrefixes[i], err = l.sealPrefix(e.Prefix); err != nil {
			return nil, errors.Join(err, l.discard(x))
		}
	}
	var out []Message
	err = l.do(ctx, func(t *txn) error {
		if err := t.checkDelivery(d, x.size()); err != nil {
			return err
		}
		if err := t.readable(append(slices.Collect(maps.Values(prefixes)), x)...); err != nil {
			return err
		}
		ref := t.put(x)
		out = make([]Message, 0, len(d.Targets))
		heads := map[string]BodyRef{}
		for i, target := range d.Targets {
			a := t.stage.account(target.Account)
			b := a.box(names[i])
			if b == nil {
				b = t.create(a, names[i], "")
			}
			head, ok := heads[string(target.Prefix)]
			if !ok {
				head = t.put(prefixes[string(target.Prefix)])
				heads[string(target.Prefix)] = head
			}
			m := &Message{
				Flags: l.ix.flags.intern(canonicalList(target.Flags)), InternalDate: dateOr(target.InternalDate, t.now),
				Head: head, Body: ref, ObjectID: "E" + t.name(i),
			}
			t.append(a, b, m)
			out = append(out, *m)
		}
		for i := range d.Queue {
			t.enqueue(&d.Queue[i], i, ref, sealedPrefixes[i])
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, l.discard(x))
	}
	return out, l.keep(x)
}

// owners are those that a delivery's body is for.
func (d *Delivery) owners() []string {
	owners := make([]string, 0, len(d.Targets)+1)
	for _, t := range d.Targets {
		owners = append(owners, t.Account)
	}
	if len(d.Queue) > 0 {
		owners = append(owners, seal.Server)
	}
	return owners
}

// prefixes are what is put ahead of a delivery's body, each as it is to be stored for
// those that have it.
func (l *Log) prefixes(d Delivery) (map[string]*body, error) {
	owners := map[string][]string{}
	for _, t := range d.Targets {
		owners[string(t.Prefix)] = append(owners[string(t.Prefix)], t.Account)
	}
	out := make(map[string]*body, len(owners))
	for prefix, names := range owners {
		s, err := l.sealFor(names)
		if err != nil {
			return nil, err
		}
		if s == nil || prefix == "" {
			out[prefix] = plainBody([]byte(prefix))
			continue
		}
		c := coder{seal: s}
		out[prefix] = c.whole([]byte(prefix))
	}
	return out, nil
}

// accept takes a body in for these accounts, if there is room for new work.
func (l *Log) accept(r io.Reader, size int64, owners []string) (*body, error) {
	if l.closed() {
		return nil, ErrClosed
	}
	if err := l.room(size); err != nil {
		return nil, err
	}
	return l.spool(r, size, owners)
}

// room says whether there is space for that many octets of new work.
func (l *Log) room(size int64) error {
	if l.opt.ReserveBytes <= 0 {
		return nil
	}
	free, err := l.fs.Free(l.dir)
	if err != nil {
		return full("ask for the free space", err)
	}
	if want := l.opt.ReserveBytes + max(size, 0); free < want {
		return fmt.Errorf("%w: %d octets are free, %d are wanted", ErrFull, free, want)
	}
	return nil
}

// keep lets go of a body that is now the log's.
func (l *Log) keep(x *body) error {
	if x.seg == nil {
		return nil
	}
	return l.seg.release(x.seg)
}

// checkDelivery says whether the delivery can be made, to all its targets.
func (t *txn) checkDelivery(d Delivery, size int64) error {
	wanted := demand{t: t}
	for _, target := range d.Targets {
		a, err := t.account(target.Account)
		if err != nil {
			return err
		}
		if err := wanted.room(a, Quota{size + int64(len(target.Prefix)), 1}); err != nil {
			return err
		}
	}
	for i, e := range d.Queue {
		if e.ID != "" && t.stage.entry(e.ID) != nil {
			return fmt.Errorf("queue entry %d: the id %s is taken", i, e.ID)
		}
	}
	return nil
}

// name returns a name for the i-th thing the transaction makes, never used before.
func (t *txn) name(i int) string {
	s := strings.ToUpper(strconv.FormatUint(t.LSN, 36))
	if i > 0 {
		s += "-" + strconv.Itoa(i)
	}
	return s
}

// dateOr is d to the second, in d's zone; now when d is zero.
func dateOr(d, now time.Time) time.Time {
	if d.IsZero() {
		d = now
	}
	_, offset := d.Zone()
	if offset /= 60; offset == 0 || offset < -maxOffset || offset > maxOffset {
		return time.Unix(d.Unix(), 0).UTC()
	}
	return time.Unix(d.Unix(), 0).In(time.FixedZone("", offset*60))
}

// append puts m at the end of the mailbox, completing it.
func (t *txn) append(a *stagedAccount, b *stagedBox, m *Message) {
	a.modseq++
	m.UID, m.ModSeq = b.uidNext, a.modseq
	m.Size = m.Head.Size + m.Body.Size
	m.SaveDate = dateOr(t.now.UTC(), t.now)
	b.uidNext++
	b.changed[m.UID] = m
	b.added = append(b.added, m.UID)
	a.add(m.Size, 1)
	if n := len(t.Ops); n > 0 {
		if o, ok := t.Ops[n-1].(*opAdd); ok && o.Account == a.name && o.Box == b.id {
			o.Messages = append(o.Messages, m)
			return
		}
	}
	t.op(&opAdd{a.name, b.id, []*Message{m}})
}

// Append implements Store.
func (l *Log) Append(ctx context.Context, account, mailbox string, r io.Reader, size int64, flags []string, date time.Time) (Message, uint32, error) {
	staged, err := l.Stage(ctx, account, mailbox, r, size)
	if err != nil {
		return Message{}, 0, err
	}
	defer staged.Discard()
	msgs, validity, err := l.AppendStaged(ctx, account, mailbox, []StagedMessage{{staged, flags, date}}, nil)
	if err != nil {
		return Message{}, 0, err
	}
	return msgs[0], validity, nil
}

// appendable finds out early, before the message is read, that it will be refused.
func (l *Log) appendable(account, mailbox string, size int64) error {
	a, err := l.reading(account)
	if err != nil {
		return err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.names[mailbox] == nil {
		return fmt.Errorf("%s: %w", mailbox, ErrNoMailbox)
	}
	wanted := Quota{Bytes: max(size, 0)} // it may come in the place of another message
	if err := (Quota{a.quota, l.quotas.messages(account)}).room(Quota{a.bytes, a.count}, wanted, account, ""); err != nil {
		return err
	}
	domain := domainOf(account)
	limit, used := l.quotas.of(domain)
	return limit.room(used, wanted, account, domain)
}

// errAnother says that a mailbox is not the one any more that had its name.
var errAnother = errors.New("the mailbox is another now")

// Open implements Store.
func (l *Log) Open(ctx context.Context, account, mailbox string) (snap Snapshot, w Watch, err error) {
	for {
		if snap, w, err = l.open(account, mailbox); !errors.Is(err, errAnother) {
			return snap, w, err
		}
	}
}

func (l *Log) open(account, mailbox string) (Snapshot, Watch, error) {
	mailbox, err := cleanName(mailbox)
	if err != nil {
		return Snapshot{}, nil, fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	a, err := l.reading(account)
	if err != nil {
		return Snapshot{}, nil, err
	}
	release, err := l.pin(account, mailbox)
	if err != nil {
		return Snapshot{}, nil, err
	}
	defer release()
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.names[mailbox]
	if m == nil {
		return Snapshot{}, nil, fmt.Errorf("%s: %w", mailbox, ErrNoMailbox)
	}
	if !m.loaded {
		return Snapshot{}, nil, errAnother // renamed to this name since
	}
	w := newWatch()
	w.close = func() {
		l.forward.closed(w)
		a.mu.Lock()
		_, open := m.watches[w]
		delete(m.watches, w)
		a.mu.Unlock()
		if open {
			l.letGo(a, m)
		}
	}
	l.hold(m)
	l.forward.opened(w, l.opt.Now())
	if m.watches == nil {
		m.watches = map[*watch]bool{}
	}
	m.watches[w] = true
	return Snapshot{Info: a.info(m), Messages: slices.Clone(m.msgs), Keywords: slices.Sorted(maps.Keys(m.keywords))}, w, nil
}

// WatchAccount implements Store.
func (l *Log) WatchAccount(ctx context.Context, account string) (*AccountWatch, error) {
	a, err := l.reading(account)
	if err != nil {
		return nil, err
	}
	var w *AccountWatch
	w = NewAccountWatch(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watches, w)
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watches == nil {
		a.watches = map[*AccountWatch]bool{}
	}
	a.watches[w] = true
	return w, nil
}

// Read implements Store. ErrNoMessage says that the message was expunged and
// its octets have gone.
func (l *Log) Read(ctx context.Context, m Message) (io.ReadCloser, error) {
	if l.closed() {
		return nil, ErrClosed
	}
	return l.newReader(nil, m.Head, m.Body)
}

// UpdateFlags implements Store.
func (l *Log) UpdateFlags(ctx context.Context, account, mailbox string, uids []UID, how FlagOp, flags []string) ([]*Message, error) {
	u, err := l.UpdateFlagsIf(ctx, account, mailbox, uids, how, flags, math.MaxUint64)
	return u.Messages, err
}

// UpdateFlagsIf implements Store.
func (l *Log) UpdateFlagsIf(ctx context.Context, account, mailbox string, uids []UID, how FlagOp, flags []string, unchanged ModSeq) (u FlagUpdate, err error) {
	mailbox, err = cleanName(mailbox)
	if err != nil {
		return u, fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	uids, want := ascending(uids), canonicalList(flags)
	release, err := l.pin(account, mailbox)
	if err != nil {
		return u, err
	}
	defer release()
	err = l.do(ctx, func(t *txn) error {
		a, b, err := t.messages(account, mailbox)
		if err != nil {
			return err
		}
		o := &opFlags{Account: account, Box: b.id, ModSeq: a.modseq + 1}
		groups := map[string]int{}
		memo := flagMemo{how: how, want: want, flags: &l.ix.flags}
		u.Messages = make([]*Message, 0, len(uids))
		for _, uid := range uids {
			m := b.message(uid)
			switch {
			case m == nil:
				continue
			case m.ModSeq > unchanged:
				u.Modified = append(u.Modified, uid)
				continue
			}
			if after, key, changed := memo.change(m.Flags); changed {
				g, ok := groups[key]
				if !ok {
					g = len(o.Groups)
					groups[key] = g
					o.Groups = append(o.Groups, flagGroup{Flags: after})
				}
				o.Groups[g].UIDs = append(o.Groups[g].UIDs, uid)
				changed := *m
				changed.Flags, changed.ModSeq = after, o.ModSeq
				m = &changed
				b.changed[uid] = m
			}
			u.Messages = append(u.Messages, m)
		}
		if len(o.Groups) > 0 {
			a.modseq++
			u.ModSeq = o.ModSeq
			t.op(o)
		}
		return nil
	})
	if err != nil {
		return FlagUpdate{}, err
	}
	return u, nil
}

// flagMemo remembers the last change of flags: most messages have the same.
type flagMemo struct {
	how   FlagOp
	want  []string
	flags *flagTable

	have, after []string
	key         string
	changed     bool
	valid       bool
}

func (f *flagMemo) change(have []string) (after []string, key string, changed bool) {
	if f.valid && len(have) == len(f.have) && (len(have) == 0 || &have[0] == &f.have[0]) {
		return f.after, f.key, f.changed
	}
	f.valid, f.have = true, have
	f.after = changeFlags(have, f.how, f.want)
	if f.changed = !slices.Equal(f.after, have); f.changed {
		f.after = f.flags.intern(f.after)
		f.key = strings.Join(f.after, " ")
	}
	return f.after, f.key, f.changed
}

// mailbox returns a mailbox that must exist.
func (t *txn) mailbox(account, name string) (*stagedAccount, *stagedBox, error) {
	a, err := t.account(account)
	if err != nil {
		return nil, nil, err
	}
	b, err := a.mustBox(name)
	return a, b, err
}

// messages returns a mailbox that must exist, with its messages in memory.
func (t *txn) messages(account, name string) (*stagedAccount, *stagedBox, error) {
	a, b, err := t.mailbox(account, name)
	if err == nil {
		err = t.loaded(a, b)
	}
	return a, b, err
}

func ascending(uids []UID) []UID {
	uids = slices.Clone(uids)
	slices.Sort(uids)
	return slices.Compact(uids)
}

// Copy implements Store. A quota that the copies would exceed refuses all.
func (l *Log) Copy(ctx context.Context, account, from string, uids []UID, to string) (src, dst []UID, validity uint32, err error) {
	return l.transfer(ctx, account, from, uids, to, false)
}

// Move implements Store.
func (l *Log) Move(ctx context.Context, account, from string, uids []UID, to string) (src, dst []UID, validity uint32, err error) {
	return l.transfer(ctx, account, from, uids, to, true)
}

func (l *Log) transfer(ctx context.Context, account, from string, uids []UID, to string, move bool) (src, dst []UID, validity uint32, err error) {
	from, err = cleanName(from)
	if err == nil {
		to, err = cleanName(to)
	}
	if err != nil {
		return nil, nil, 0, fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	uids = ascending(uids)
	release, err := l.pin(account, from)
	if err != nil {
		return nil, nil, 0, err
	}
	defer release()
	err = l.do(ctx, func(t *txn) error {
		a, b, err := t.messages(account, from)
		if err != nil {
			return err
		}
		target, err := a.mustBox(to)
		if err != nil {
			return err
		}
		validity = target.id
		var size int64
		for _, uid := range uids {
			if m := b.message(uid); m != nil {
				src = append(src, uid)
				size += m.Size
			}
		}
		if !move {
			if err := t.room(a, size, int64(len(src))); err != nil {
				return err
			}
		}
		dst = t.copy(a, b, target, src)
		if move {
			t.expunge(a, b, src)
		}
		return nil
	})
	if err != nil {
		return nil, nil, 0, err
	}
	return src, dst, validity, nil
}

// copy puts copies of messages that exist at the end of another mailbox. They
// keep flags, internal date and object id, RFC 9051 6.4.7 and RFC 8474 5.1.
func (t *txn) copy(a *stagedAccount, from, to *stagedBox, uids []UID) (dst []UID) {
	for _, uid := range uids {
		m := *from.message(uid)
		t.append(a, to, &m)
		dst = append(dst, m.UID)
	}
	return dst
}

// expunge removes messages that exist.
func (t *txn) expunge(a *stagedAccount, b *stagedBox, uids []UID) {
	if len(uids) == 0 {
		return
	}
	a.modseq++
	for _, uid := range uids {
		a.add(-b.message(uid).Size, -1)
		b.changed[uid] = nil
	}
	t.op(&opExpunge{a.name, b.id, a.modseq, uids})
}

// Expunge implements Store.
func (l *Log) Expunge(ctx context.Context, account, mailbox string, uids []UID) ([]UID, error) {
	return l.expunge(ctx, account, mailbox, uids, func(m *Message) bool { return hasFlag(m.Flags, `\Deleted`) })
}

// ExpungeOld implements Store.
func (l *Log) ExpungeOld(ctx context.Context, account, mailbox string, uids []UID, before time.Time) ([]UID, error) {
	if len(uids) == 0 {
		return nil, nil
	}
	return l.expunge(ctx, account, mailbox, uids, func(m *Message) bool { return m.SaveDate.Before(before) })
}

// expunge removes those of the given messages that go; nil uids means all.
func (l *Log) expunge(ctx context.Context, account, mailbox string, uids []UID, goes func(*Message) bool) ([]UID, error) {
	mailbox, err := cleanName(mailbox)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	all := uids == nil
	uids = ascending(uids)
	release, err := l.pin(account, mailbox)
	if err != nil {
		return nil, err
	}
	defer release()
	var out []UID
	err = l.do(ctx, func(t *txn) error {
		a, b, err := t.messages(account, mailbox)
		if err != nil {
			return err
		}
		if all {
			uids = b.uids()
		}
		for _, uid := range uids {
			if m := b.message(uid); m != nil && goes(m) {
				out = append(out, uid)
			}
		}
		t.expunge(a, b, out)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Vanished returns the UIDs expunged from a mailbox since modseq, ascending.
// complete is false when some are no longer known, RFC 7162 3.2.10.
func (l *Log) Vanished(ctx context.Context, account, mailbox string, since ModSeq) (uids []UID, complete bool, err error) {
	a, err := l.reading(account)
	if err != nil {
		return nil, false, err
	}
	if mailbox, err = cleanName(mailbox); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	for {
		release, err := l.pin(account, mailbox)
		if err != nil {
			return nil, false, err
		}
		a.mu.RLock()
		m := a.names[mailbox]
		loaded := m != nil && m.loaded
		if loaded {
			uids, complete = m.gone.since(since)
		}
		a.mu.RUnlock()
		release()
		if m == nil {
			return nil, false, fmt.Errorf("%s: %w", mailbox, ErrNoMailbox)
		}
		if loaded {
			return uids, complete, nil
		}
	}
}

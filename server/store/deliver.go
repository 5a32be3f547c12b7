package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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
	object := l.reserve()
	x, err := l.accept(d.Body, d.Size, belonging{d.owners(), seal.PartBody, object})
	if err != nil {
		return nil, err
	}
	prefixes, err := l.prefixes(d, object)
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
				Flags: t.fit(b, l.ix.flags.intern(canonicalList(target.Flags))), InternalDate: dateOr(target.InternalDate, t.now),
				Head: head, Body: ref, ObjectID: t.objectID(object, i),
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
func (l *Log) prefixes(d Delivery, object string) (map[string]*body, error) {
	owners := map[string][]string{}
	for _, t := range d.Targets {
		owners[string(t.Prefix)] = append(owners[string(t.Prefix)], t.Account)
	}
	out := make(map[string]*body, len(owners))
	for prefix, names := range owners {
		s, err := l.sealFor(belonging{names, seal.PartHead, object})
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

// accept takes a body in, if there is room for new work.
func (l *Log) accept(r io.Reader, size int64, to belonging) (x *body, err error) {
	defer func() { l.refused(err) }()
	if l.closed() {
		return nil, ErrClosed
	}
	if err := l.room(size); err != nil {
		return nil, err
	}
	return l.spool(r, size, to)
}

// refused takes note of new work that the disk does not take.
func (l *Log) refused(err error) {
	if err != nil {
		l.outage.Look(err)
	}
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
	l.outage.Look(nil)
	l.handBack(x)
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
	return number(t.LSN) + ordinal(i)
}

func number(n uint64) string { return strings.ToUpper(strconv.FormatUint(n, 36)) }

// ordinal tells apart what has a name in common.
func ordinal(i int) string {
	if i == 0 {
		return ""
	}
	return "-" + strconv.Itoa(i)
}

// reserve returns how the object ids of messages begin that are on their way in, never
// used before: octets that are encrypted are bound to it, and that comes before there is
// a transaction. "" when nothing is encrypted; then objectID makes one.
//
// What a process reserves and does not use another may reserve again: it begins with
// the last transaction that this one found, and what was used came with a later one.
func (l *Log) reserve() string {
	if !l.vault.on.Load() {
		return ""
	}
	return "E" + number(l.found) + "_" + number(l.reserved.Add(1))
}

// objectID is the i-th of a transaction, beginning as it was reserved.
func (t *txn) objectID(reserved string, i int) string {
	if reserved == "" {
		return "E" + t.name(i)
	}
	return reserved + ordinal(i)
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
	staged, err := l.Stage(ctx, account, Named(mailbox), r, size)
	if err != nil {
		return Message{}, 0, err
	}
	defer staged.Discard()
	msgs, validity, err := l.AppendStaged(ctx, account, Named(mailbox), []StagedMessage{{staged, flags, date}}, nil)
	if err != nil {
		return Message{}, 0, err
	}
	return msgs[0], validity, nil
}

// appendable finds out early, before the message is read, that it will be refused.
func (l *Log) appendable(account string, mailbox Box, size int64) error {
	a, err := l.reading(account)
	if err != nil {
		return err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.find(mailbox) == nil {
		return mailbox.missing()
	}
	wanted := Quota{Bytes: max(size, 0)} // it may come in the place of another message
	if err := (Quota{a.quota, l.quotas.messages(account)}).room(Quota{a.bytes, a.count}, wanted, account, ""); err != nil {
		return err
	}
	domain := domainOf(account)
	limit, used := l.quotas.of(domain)
	return limit.room(used, wanted, account, domain)
}

package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mailform/server/store"
)

// take reads a body of a known or unknown size.
func take(r io.Reader, size int64) (string, error) {
	if r == nil {
		return "", nil
	}
	b, err := io.ReadAll(r)
	if err == nil && size >= 0 && int64(len(b)) != size {
		err = io.ErrUnexpectedEOF
	}
	return string(b), err
}

func (s *memory) Deliver(_ context.Context, d store.Delivery) (out []store.Message, err error) {
	if len(d.Targets)+len(d.Queue) == 0 {
		return nil, errors.New("a delivery to nobody")
	}
	text, err := take(d.Body, d.Size)
	if err != nil {
		return nil, err
	}
	err = s.change(func(c *change) error {
		before, wanted := c.clone(), map[string]store.Quota{}
		for _, t := range d.Targets {
			if _, err := c.account(t.Account); err != nil {
				return err
			}
			q := wanted[t.Account]
			wanted[t.Account] = store.Quota{Bytes: q.Bytes + int64(len(t.Prefix)+len(text)), Messages: q.Messages + 1}
			if err := c.room(&before, t.Account, wanted); err != nil {
				return err
			}
		}
		body := c.store(text)
		for _, t := range d.Targets {
			a := c.accounts[t.Account]
			box, err := store.CleanName(t.Mailbox)
			if err != nil {
				return err
			}
			m := a.boxes[box]
			if m == nil {
				m = c.make(t.Account, a, box, "")
			}
			msg := &store.Message{Flags: m.fit(store.Flags(t.Flags)), InternalDate: t.InternalDate, Size: int64(len(t.Prefix) + len(text)), Head: c.store(string(t.Prefix)), Body: body}
			c.add(t.Account, box, a, m, msg)
			out = append(out, *msg)
		}
		for i := range d.Queue {
			e := &d.Queue[i]
			if e.ID == "" {
				c.last++
				e.ID = fmt.Sprint("Q", c.last)
			}
			if e.Body == (store.BodyRef{}) {
				e.Body = body
			}
			e.Size = int64(len(e.Prefix)) + e.Body.Size
			c.queue[e.ID] = *e
		}
		return nil
	})
	return out, err
}

func (s *memory) Append(ctx context.Context, name, box string, body io.Reader, size int64, flags []string, date time.Time) (store.Message, uint32, error) {
	staged, err := s.Stage(ctx, name, store.Named(box), body, size)
	if err != nil {
		return store.Message{}, 0, err
	}
	list, validity, err := s.AppendStaged(ctx, name, store.Named(box), []store.StagedMessage{{Body: staged, Flags: flags, InternalDate: date}}, nil)
	if err != nil {
		return store.Message{}, 0, err
	}
	return list[0], validity, nil
}

// fit leaves out the keywords that there is no room for. What was taken in counts for as
// long as the change goes on, and after it only what messages have.
func (m *mailbox) fit(flags []string) (out []string) {
	have := map[string]bool{}
	for _, msg := range m.msgs {
		for _, f := range msg.Flags {
			have[f] = true
		}
	}
	maps.DeleteFunc(have, func(f string, _ bool) bool { return f[0] == '\\' })
	for _, f := range m.added {
		have[f] = true
	}
	for _, f := range flags {
		if f[0] != '\\' && !have[f] {
			if len(f) > store.MaxKeyword || len(have) >= store.MaxKeywords {
				continue
			}
			have[f] = true
			m.added = append(m.added, f)
		}
		out = append(out, f)
	}
	return out
}

type staged string

func (s staged) Size() int64 { return int64(len(s)) }
func (s staged) Discard()    {}

func (s *memory) Stage(_ context.Context, name string, box store.Box, body io.Reader, size int64) (store.Staged, error) {
	if err := s.look(name, func(a *account) error { _, _, err := a.find(box); return err }); err != nil {
		return nil, err
	}
	text, err := take(body, size)
	return staged(text), err
}

func (s *memory) AppendStaged(_ context.Context, name string, want store.Box, msgs []store.StagedMessage, replaced *store.Replaced) (out []store.Message, validity uint32, err error) {
	err = s.change(func(c *change) error {
		a, box, m, err := c.find(name, want)
		if err != nil {
			return err
		}
		if replaced != nil {
			_, old, from, err := c.find(name, replaced.Mailbox)
			if err != nil {
				return err
			}
			if len(from.chosen([]store.UID{replaced.UID})) == 0 {
				return store.ErrNoMessage
			}
			c.remove(name, old, a, from, []store.UID{replaced.UID})
		}
		before, wanted := c.clone(), store.Quota{}
		for _, msg := range msgs {
			wanted.Bytes, wanted.Messages = wanted.Bytes+msg.Body.Size(), wanted.Messages+1
		}
		if err := c.room(&before, name, map[string]store.Quota{name: wanted}); err != nil {
			return err
		}
		var list []*store.Message
		for _, msg := range msgs {
			if !slices.Equal(m.fit(store.Flags(msg.Flags)), store.Flags(msg.Flags)) {
				return store.ErrKeywords
			}
			list = append(list, &store.Message{Flags: store.Flags(msg.Flags), InternalDate: msg.InternalDate, Size: msg.Body.Size(), Body: c.store(string(msg.Body.(staged)))})
		}
		c.add(name, box, a, m, list...)
		for _, msg := range list {
			out = append(out, *msg)
		}
		validity = m.id
		return nil
	})
	return out, validity, err
}

func (s *memory) Import(_ context.Context, name string, list []store.Incoming) (out []*store.Message, err error) {
	texts := make([]string, len(list))
	var wanted store.Quota
	for i, in := range list {
		if texts[i], err = take(in.Body, in.Size); err != nil {
			return nil, err
		}
		if strings.Trim(in.ObjectID, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return nil, fmt.Errorf("object id %q", in.ObjectID)
		}
		if in.Body != nil {
			wanted.Bytes, wanted.Messages = wanted.Bytes+int64(len(texts[i])), wanted.Messages+1
		}
	}
	err = s.change(func(c *change) error {
		a, err := c.account(name)
		if err != nil {
			return err
		}
		before := c.clone()
		if err := c.room(&before, name, map[string]store.Quota{name: wanted}); err != nil {
			return err
		}
		for i, in := range list {
			box, err := store.CleanName(in.Mailbox)
			if err != nil {
				return err
			}
			m := a.boxes[box]
			if m == nil {
				m = c.make(name, a, box, "")
			}
			if before.accounts[name].boxes[box] == nil {
				a.subs[box] = true
			}
			if in.Body == nil {
				out = append(out, nil)
				continue
			}
			msg := &store.Message{Flags: m.fit(store.Flags(in.Flags)), InternalDate: in.InternalDate, Size: int64(len(texts[i])), Body: c.store(texts[i]), ObjectID: in.ObjectID}
			c.add(name, box, a, m, msg)
			out = append(out, msg)
		}
		return nil
	})
	return out, err
}

type watch struct {
	s       *memory
	account string
	id      uint32
	ready   chan struct{}

	mu     sync.Mutex
	events []store.Event
	notify func()
}

func (w *watch) put(e store.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	select {
	case w.ready <- struct{}{}:
	default:
	}
	if w.notify != nil {
		w.notify()
	}
}

func (w *watch) Ready() <-chan struct{} { return w.ready }

func (w *watch) Take() []store.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.events
	w.events = nil
	select {
	case <-w.ready:
	default:
	}
	return list
}

func (w *watch) Notify(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify = f; f != nil && len(w.events) > 0 {
		f()
	}
}

func (w *watch) Close() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	delete(w.s.watches, w)
}

func (s *memory) Open(_ context.Context, name, box string) (snap store.Snapshot, _ store.Watch, err error) {
	w := &watch{s: s, account: name, ready: make(chan struct{}, 1)}
	err = s.look(name, func(a *account) error {
		n, m, err := a.box(box)
		if err != nil {
			return err
		}
		words := map[string]bool{}
		for _, msg := range m.msgs {
			for _, f := range msg.Flags {
				words[f] = words[f] || f[0] != '\\'
			}
		}
		maps.DeleteFunc(words, func(_ string, keyword bool) bool { return !keyword })
		snap = store.Snapshot{Info: a.info(n, m), Messages: store.ListOf(m.msgs...), Keywords: slices.Sorted(maps.Keys(words))}
		w.id = m.id
		s.watches[w] = true
		return nil
	})
	return snap, w, err
}

func (s *memory) WatchAccount(_ context.Context, name string) (w *store.AccountWatch, err error) {
	err = s.look(name, func(*account) error {
		w = store.NewAccountWatch(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.followers, w)
		})
		s.followers[w] = name
		return nil
	})
	return w, err
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

func (s *memory) read(refs ...store.BodyRef) (r io.ReadCloser, err error) {
	err = s.change(func(c *change) error {
		var b []byte
		for _, ref := range refs {
			b = append(b, c.bodies[ref.Segment]...)
		}
		r = reader{bytes.NewReader(b)}
		return nil
	})
	return r, err
}

func (s *memory) Read(_ context.Context, _ string, m store.Message) (io.ReadCloser, error) {
	return s.read(m.Head, m.Body)
}

func (s *memory) UpdateFlags(ctx context.Context, name string, box store.Box, uids []store.UID, op store.FlagOp, flags []string) ([]store.FlagState, error) {
	u, err := s.UpdateFlagsIf(ctx, name, box, uids, op, flags, 1<<63)
	return u.Messages, err
}

func (s *memory) UpdateFlagsIf(_ context.Context, name string, want store.Box, uids []store.UID, op store.FlagOp, flags []string, unchanged store.ModSeq) (u store.FlagUpdate, err error) {
	err = s.change(func(c *change) error {
		a, box, m, err := c.find(name, want)
		if err != nil {
			return err
		}
		var changed []store.FlagState
		for i, msg := range m.msgs {
			if !slices.Contains(uids, msg.UID) {
				continue
			}
			if msg.ModSeq > unchanged {
				u.Modified = append(u.Modified, msg.UID)
				continue
			}
			want := store.Flags(flags)
			switch op {
			case store.FlagsAdd:
				want = store.Flags(slices.Concat(msg.Flags, want))
			case store.FlagsRemove:
				want = slices.DeleteFunc(slices.Clone(msg.Flags), func(f string) bool { return slices.Contains(want, f) })
			}
			o := *msg
			if !slices.Equal(want, msg.Flags) {
				if u.ModSeq == 0 {
					a.modseq++
					u.ModSeq, m.highest = a.modseq, a.modseq
				}
				if !slices.Equal(m.fit(want), want) {
					return store.ErrKeywords
				}
				o.Flags, o.ModSeq = want, u.ModSeq
				m.msgs[i] = &o
				changed = append(changed, store.FlagState{UID: o.UID, ModSeq: o.ModSeq, Flags: o.Flags})
			}
			u.Messages = append(u.Messages, store.FlagState{UID: o.UID, ModSeq: o.ModSeq, Flags: o.Flags})
		}
		if len(changed) > 0 {
			c.event(name, box, m, store.Event{Changed: changed}, store.ChangedFlags)
		}
		return nil
	})
	return u, err
}

func (s *memory) Vanished(_ context.Context, name string, box store.Box, since store.ModSeq) (uids []store.UID, complete bool, err error) {
	err = s.look(name, func(a *account) error {
		_, m, err := a.find(box)
		if err != nil {
			return err
		}
		for _, v := range m.gone {
			if v.modseq > since {
				uids = append(uids, v.uid)
			}
		}
		return nil
	})
	slices.Sort(uids)
	return uids, true, err
}

// notes are the annotations of a mailbox, or of the account.
func (c *change) notes(name, box string) (map[string]string, string, error) {
	if box == "" {
		a, err := c.account(name)
		if err != nil {
			return nil, "", err
		}
		return a.meta, "", nil
	}
	_, box, m, err := c.box(name, box)
	if err != nil {
		return nil, "", err
	}
	return m.meta, box, nil
}

func (s *memory) Metadata(_ context.Context, name, box string) (list []store.MetadataEntry, err error) {
	err = s.change(func(c *change) error {
		notes, _, err := c.notes(name, box)
		for _, k := range slices.Sorted(maps.Keys(notes)) {
			list = append(list, store.MetadataEntry{Name: k, Value: []byte(notes[k])})
		}
		return err
	})
	return list, err
}

func (s *memory) SetMetadata(_ context.Context, name, box string, entries []store.MetadataEntry) error {
	return s.change(func(c *change) error {
		notes, box, err := c.notes(name, box)
		if err != nil {
			return err
		}
		var names []string
		for _, e := range entries {
			k := strings.ToLower(e.Name)
			if len(e.Value) > store.MaxMetadataValue {
				return store.ErrMetadata
			}
			if names = append(names, k); e.Value == nil {
				delete(notes, k)
			} else {
				notes[k] = string(e.Value)
			}
		}
		a := c.accounts[name]
		all, octets := len(a.meta), 0
		for k, v := range a.meta {
			octets += len(k) + len(v)
		}
		for _, m := range a.boxes {
			all += len(m.meta)
			for k, v := range m.meta {
				octets += len(k) + len(v)
			}
		}
		if all > store.MaxMetadataEntries || octets > store.MaxMetadataOctets {
			return store.ErrMetadata
		}
		c.follow(name, store.Change{Mailbox: box, What: store.ChangedMetadata, Entries: names})
		return nil
	})
}

func (s *memory) transfer(name string, source store.Box, uids []store.UID, dest store.Box, move bool) (src, dst []store.UID, validity uint32, err error) {
	err = s.change(func(c *change) error {
		a, from, m, err := c.find(name, source)
		if err != nil {
			return err
		}
		_, to, target, err := c.find(name, dest)
		if err != nil {
			return err
		}
		before, wanted := c.clone(), store.Quota{}
		var list []*store.Message
		for _, msg := range m.chosen(uids) {
			o := *msg
			o.Flags = target.fit(o.Flags)
			list, src = append(list, &o), append(src, o.UID)
			wanted.Bytes, wanted.Messages = wanted.Bytes+o.Size, wanted.Messages+1
		}
		validity = target.id
		if len(list) == 0 {
			return nil
		}
		if !move {
			if err := c.room(&before, name, map[string]store.Quota{name: wanted}); err != nil {
				return err
			}
		} else {
			c.remove(name, from, a, m, src)
		}
		c.add(name, to, a, target, list...)
		for _, msg := range list {
			dst = append(dst, msg.UID)
		}
		return nil
	})
	return src, dst, validity, err
}

func (s *memory) Copy(_ context.Context, name string, from store.Box, uids []store.UID, to store.Box) (src, dst []store.UID, validity uint32, err error) {
	return s.transfer(name, from, uids, to, false)
}

func (s *memory) Move(_ context.Context, name string, from store.Box, uids []store.UID, to store.Box) (src, dst []store.UID, validity uint32, err error) {
	return s.transfer(name, from, uids, to, true)
}

func (s *memory) expunge(name string, want store.Box, goes func(*store.Message) bool) (gone []store.UID, err error) {
	err = s.change(func(c *change) error {
		a, box, m, err := c.find(name, want)
		if err != nil {
			return err
		}
		for _, msg := range m.msgs {
			if goes(msg) {
				gone = append(gone, msg.UID)
			}
		}
		c.remove(name, box, a, m, gone)
		return nil
	})
	return gone, err
}

func (s *memory) Expunge(_ context.Context, name string, box store.Box, uids []store.UID) ([]store.UID, error) {
	return s.expunge(name, box, func(m *store.Message) bool {
		return slices.Contains(m.Flags, `\Deleted`) && (uids == nil || slices.Contains(uids, m.UID))
	})
}

func (s *memory) ExpungeOld(_ context.Context, name string, box store.Box, uids []store.UID, before time.Time) ([]store.UID, error) {
	return s.expunge(name, box, func(m *store.Message) bool { return slices.Contains(uids, m.UID) && m.SaveDate.Before(before) })
}

func (s *memory) Queue(context.Context) (list []store.QueueEntry, err error) {
	err = s.change(func(c *change) error { list = slices.Collect(maps.Values(c.queue)); return nil })
	slices.SortFunc(list, func(a, b store.QueueEntry) int { return a.NextTry.Compare(b.NextTry) })
	return list, err
}

func (s *memory) UpdateQueue(_ context.Context, e store.QueueEntry) error {
	return s.change(func(c *change) error {
		old, ok := c.queue[e.ID]
		if !ok {
			return store.ErrNoMessage
		}
		e.Prefix, e.Body, e.Size, e.Attempts = old.Prefix, old.Body, old.Size, max(e.Attempts, 0)
		c.queue[e.ID] = e
		return nil
	})
}

func (s *memory) RemoveQueue(_ context.Context, id string) error {
	return s.change(func(c *change) error { delete(c.queue, id); return nil })
}

func (s *memory) OpenQueued(_ context.Context, e store.QueueEntry) (r io.ReadCloser, err error) {
	err = s.change(func(c *change) error {
		r = reader{bytes.NewReader(append(slices.Clone(e.Prefix), c.bodies[e.Body.Segment]...))}
		return nil
	})
	return r, err
}

func (s *memory) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

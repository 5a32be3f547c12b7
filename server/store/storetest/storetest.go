// Package storetest holds what every store.Store must do. A driver's test
// calls Run with a way to open and reopen it.
//
// It imports server/store and nothing else of mailform.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/store"
)

// Harness opens a driver over storage that outlives it.
type Harness interface {
	// Open opens the store. The test closes it before it opens it again.
	Open(t *testing.T) store.Store
}

// Run tests that a driver keeps the contract. fresh makes a Harness over empty storage.
func Run(t *testing.T, fresh func(t *testing.T) Harness) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"account", testAccount},
		{"deliver", testDeliver},
		{"deliver shares a body", testSharedBody},
		{"large body", testLargeBody},
		{"broken body", testBrokenBody},
		{"quota", testQuota},
		{"quotas of domains", testDomainQuota},
		{"quotas of messages", testMessageQuota},
		{"append", testAppend},
		{"import", testImport},
		{"flags", testFlags},
		{"expunge", testExpunge},
		{"expunge what is old", testExpungeOld},
		{"copy and move", testCopyMove},
		{"watch", testWatch},
		{"watch is never too late", testWatchOrder},
		{"watch an account", testWatchAccount},
		{"mailbox names", testNames},
		{"delete mailbox", testDelete},
		{"empty account", testEmpty},
		{"rename mailbox", testRename},
		{"rename INBOX", testRenameInbox},
		{"subscriptions", testSubscriptions},
		{"metadata", testMetadata},
		{"queue", testQueue},
		{"read at", testReadAt},
		{"closed", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, h: fresh(t), ctx: t.Context()}
			s.open()
			c.test(s)
			if s.s != nil {
				s.close()
			}
		})
	}
}

const alice, bob = "alice@example.org", "bob@example.org"

type suite struct {
	*testing.T
	h   Harness
	s   store.Store
	ctx context.Context
}

func (s *suite) open() {
	s.Helper()
	s.s = s.h.Open(s.T)
	s.ok(s.s.EnsureAccount(s.ctx, alice, 0))
	s.ok(s.s.EnsureAccount(s.ctx, bob, 0))
}

func (s *suite) close() {
	s.Helper()
	s.ok(s.s.Close())
	s.s = nil
}

// again runs check, and once more after the store was closed and opened.
func (s *suite) again(check func()) {
	s.Helper()
	check()
	s.close()
	s.open()
	check()
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("got error %v, want %v", err, want)
	}
}

func (s *suite) deliver(account, mailbox, text string) store.Message {
	s.Helper()
	m, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)),
		Targets: []store.Target{{Account: account, Mailbox: mailbox}}})
	s.ok(err)
	return m[0]
}

func (s *suite) text(m store.Message) string {
	s.Helper()
	r, err := s.s.Read(s.ctx, m)
	s.ok(err)
	b, err := io.ReadAll(r)
	s.ok(err)
	s.ok(r.Close())
	return string(b)
}

func (s *suite) snapshot(account, mailbox string) *store.Snapshot {
	s.Helper()
	snap, w, err := s.s.Open(s.ctx, account, mailbox)
	s.ok(err)
	w.Close()
	return &snap
}

// content describes a mailbox: "1:text [\Seen] 2:…".
func (s *suite) content(account, mailbox string) string {
	s.Helper()
	var l []string
	for _, m := range s.snapshot(account, mailbox).Messages.All() {
		l = append(l, strings.TrimSpace(fmt.Sprintf("%d:%s %s", m.UID, s.text(*m), strings.Join(m.Flags, ","))))
	}
	return strings.Join(l, " ")
}

func equal[T comparable](s *suite, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (s *suite) names(account string) string {
	s.Helper()
	l, err := s.s.Mailboxes(s.ctx, account)
	s.ok(err)
	var names []string
	for _, m := range l {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func (s *suite) info(account, name string) store.MailboxInfo {
	s.Helper()
	l, err := s.s.Mailboxes(s.ctx, account)
	s.ok(err)
	i := slices.IndexFunc(l, func(m store.MailboxInfo) bool { return m.Name == name })
	if i < 0 {
		s.Fatalf("no mailbox %s", name)
	}
	return l[i]
}

func testAccount(s *suite) {
	s.again(func() {
		equal(s, "mailboxes", s.names(alice), "INBOX Archive Drafts Junk Sent Trash")
		equal(s, "use", s.info(alice, "Junk").SpecialUse, `\Junk`)
		equal(s, "subscribed", s.info(alice, "Sent").Subscribed, true)
		if v := s.info(alice, "INBOX"); v.UIDValidity == 0 || v.UIDNext != 1 || v.HighestModSeq == 0 || v.ObjectID == "" {
			s.Fatalf("INBOX: %+v", v)
		}
	})
	_, _, err := s.s.Usage(s.ctx, "nobody@example.org")
	s.is(err, store.ErrNoMailbox)
	_, err = s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("x"), Size: 1, Targets: []store.Target{{Account: "nobody@example.org", Mailbox: "INBOX"}}})
	s.is(err, store.ErrNoMailbox)
	// A special-use mailbox that was given another name is not made again.
	s.ok(s.s.RenameMailbox(s.ctx, alice, "Junk", "Spam"))
	s.ok(s.s.EnsureAccount(s.ctx, alice, 0))
	equal(s, "mailboxes", s.names(alice), "INBOX Archive Drafts Sent Spam Trash")
}

func testDeliver(s *suite) {
	date := time.Date(2026, 11, 22, 8, 30, 1, 5e8, time.FixedZone("", 8*3600))
	ms, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("body"), Size: -1, Targets: []store.Target{
		{Account: alice, Mailbox: "inbox", Prefix: []byte("For: alice\r\n"), Flags: []string{`\seen`, "Work", `\Recent`, "work"}, InternalDate: date},
		{Account: bob, Mailbox: "New/Deep"},
		{Account: alice, Mailbox: "INBOX"},
	}})
	s.ok(err)
	equal(s, "messages", len(ms), 3)
	equal(s, "first UID", ms[0].UID, 1)
	equal(s, "second UID in the same mailbox", ms[2].UID, 2)
	if ms[2].ModSeq <= ms[0].ModSeq {
		s.Fatalf("modseqs %d, %d do not ascend", ms[0].ModSeq, ms[2].ModSeq)
	}
	s.again(func() {
		equal(s, "INBOX", s.content(alice, "INBOX"), "1:For: alice\r\nbody Work,\\Seen 2:body")
		equal(s, "new mailbox", s.content(bob, "New/Deep"), "1:body")
		equal(s, "its parent", s.info(bob, "New").Messages, 0)
		m := s.snapshot(alice, "INBOX").Messages.At(0)
		equal(s, "internal date", m.InternalDate.Format(time.RFC3339Nano), "2026-11-22T08:30:01+08:00")
		equal(s, "size", m.Size, int64(len("For: alice\r\nbody")))
		if m.ObjectID == "" || m.SaveDate.IsZero() {
			s.Fatalf("no object id or save date: %+v", m)
		}
		i := s.info(alice, "INBOX")
		equal(s, "messages", i.Messages, 2)
		equal(s, "unseen", i.Unseen, 1)
		equal(s, "octets", i.Bytes, int64(len("For: alice\r\nbody")+len("body")))
		equal(s, "UIDNEXT", i.UIDNext, 3)
		bytes, count, err := s.s.Usage(s.ctx, alice)
		s.ok(err)
		equal(s, "usage", bytes, i.Bytes)
		equal(s, "count", count, 2)
	})
}

func testSharedBody(s *suite) {
	ms, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("shared"), Size: 6,
		Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}, {Account: bob, Mailbox: "INBOX", Prefix: []byte("P")}},
		Queue:   []store.QueueEntry{{Domain: "elsewhere.example"}}})
	s.ok(err)
	q, err := s.s.Queue(s.ctx)
	s.ok(err)
	equal(s, "body of both recipients", ms[0].Body, ms[1].Body)
	equal(s, "body of the queue entry", q[0].Body, ms[0].Body)
	// One of them going does not take it from the others.
	s.expungeAll(alice, "INBOX")
	s.again(func() { equal(s, "the other's", s.content(bob, "INBOX"), "1:Pshared") })
}

func (s *suite) expungeAll(account, mailbox string) {
	s.Helper()
	var uids []store.UID
	for _, m := range s.snapshot(account, mailbox).Messages.All() {
		uids = append(uids, m.UID)
	}
	_, err := s.s.UpdateFlags(s.ctx, account, mailbox, uids, store.FlagsAdd, []string{`\Deleted`})
	s.ok(err)
	_, err = s.s.Expunge(s.ctx, account, mailbox, nil)
	s.ok(err)
}

func testLargeBody(s *suite) {
	text := strings.Repeat("0123456789abcde\n", 100_000)
	for _, size := range []int64{-1, int64(len(text))} {
		_, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader(text), Size: size,
			Targets: []store.Target{{Account: alice, Mailbox: "INBOX", Prefix: []byte("P")}, {Account: bob, Mailbox: "INBOX"}}})
		s.ok(err)
	}
	s.again(func() {
		for _, m := range s.snapshot(alice, "INBOX").Messages.All() {
			equal(s, "is whole", s.text(*m) == "P"+text, true)
		}
	})
	s.expungeAll(alice, "INBOX")
	s.again(func() {
		for _, m := range s.snapshot(bob, "INBOX").Messages.All() {
			equal(s, "is whole", s.text(*m) == text, true)
		}
	})
	s.expungeAll(bob, "INBOX")
	s.again(func() { equal(s, "messages", s.info(bob, "INBOX").Messages, 0) })
}

type brokenReader struct {
	r   io.Reader
	err error
}

func (b *brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}

func testBrokenBody(s *suite) {
	gone := errors.New("the client has gone")
	for _, n := range []int{10, 2_000_000} {
		_, err := s.s.Deliver(s.ctx, store.Delivery{Body: &brokenReader{strings.NewReader(strings.Repeat("x", n)), gone}, Size: -1,
			Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}})
		s.is(err, gone)
		for _, size := range []int64{int64(n) - 1, int64(n) + 1} {
			_, _, err = s.s.Append(s.ctx, alice, "INBOX", strings.NewReader(strings.Repeat("x", n)), size, nil, time.Time{})
			s.is(err, io.ErrUnexpectedEOF)
		}
	}
	s.again(func() { equal(s, "messages", s.info(alice, "INBOX").Messages, 0) })
}

func testQuota(s *suite) {
	s.ok(s.s.EnsureAccount(s.ctx, alice, 10))
	s.deliver(alice, "INBOX", "12345678")
	_, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("123"), Size: 3,
		Targets: []store.Target{{Account: bob, Mailbox: "INBOX"}, {Account: alice, Mailbox: "INBOX"}}})
	s.is(err, store.ErrQuota)
	var q *store.QuotaError
	if !errors.As(err, &q) || q.Account != alice || q.Limit != 10 || q.Used != 8 || q.Wanted != 3 {
		s.Fatalf("the error does not say whose quota it was: %+v", q)
	}
	equal(s, "bob got nothing of the refused delivery", s.info(bob, "INBOX").Messages, 0)
	_, _, _, err = s.s.Copy(s.ctx, alice, "INBOX", []store.UID{1}, "Archive")
	s.is(err, store.ErrQuota)
	_, _, err = s.s.Append(s.ctx, alice, "Drafts", strings.NewReader("123"), 3, nil, time.Time{})
	s.is(err, store.ErrQuota)
	// Moving takes no room, and what is expunged gives it back.
	_, _, _, err = s.s.Move(s.ctx, alice, "INBOX", []store.UID{1}, "Archive")
	s.ok(err)
	s.expungeAll(alice, "Archive")
	s.deliver(alice, "INBOX", "1234567890")
	// Two targets of one account count together.
	s.ok(s.s.EnsureAccount(s.ctx, alice, 21))
	_, err = s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("123456"), Size: 6,
		Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}, {Account: alice, Mailbox: "Sent"}}})
	s.is(err, store.ErrQuota)
	// No quota.
	s.ok(s.s.EnsureAccount(s.ctx, alice, 0))
	s.deliver(alice, "INBOX", "1234567890123456789012345678901234567890")
}

func testAppend(s *suite) {
	m, validity, err := s.s.Append(s.ctx, alice, "Drafts", strings.NewReader("draft"), 5, []string{`\Draft`}, time.Unix(1e9, 0))
	s.ok(err)
	equal(s, "UID", m.UID, 1)
	equal(s, "UIDVALIDITY", validity, s.info(alice, "Drafts").UIDValidity)
	_, _, err = s.s.Append(s.ctx, alice, "None", strings.NewReader("x"), 1, nil, time.Time{})
	s.is(err, store.ErrNoMailbox)
	s.again(func() {
		equal(s, "Drafts", s.content(alice, "Drafts"), `1:draft \Draft`)
		equal(s, "date", s.snapshot(alice, "Drafts").Messages.At(0).InternalDate.Unix(), int64(1e9))
	})
	// Dates that clients may send, and clocks that are wrong.
	for _, date := range []time.Time{
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 99*3600)), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		time.Date(1, 1, 2, 0, 0, 0, 0, time.FixedZone("", -23*3600)), time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		m, _, err := s.s.Append(s.ctx, alice, "Sent", strings.NewReader("x"), 1, nil, date)
		s.ok(err)
		equal(s, "date", m.InternalDate.Equal(date), true)
	}
	s.again(func() { equal(s, "messages", s.info(alice, "Sent").Messages, 4) })
}

func testFlags(s *suite) {
	for _, t := range []string{"a", "b", "c"} {
		s.deliver(alice, "INBOX", t)
	}
	before := s.info(alice, "INBOX").HighestModSeq
	got, err := s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{3, 1, 9, 1}, store.FlagsAdd, []string{`\SEEN`, "$junk"})
	s.ok(err)
	equal(s, "messages changed", len(got), 2)
	equal(s, "in UID order", got[0].UID, 1)
	after := s.info(alice, "INBOX").HighestModSeq
	if after <= before || got[0].ModSeq != after {
		s.Fatalf("modseq: mailbox %d then %d, message %d", before, after, got[0].ModSeq)
	}
	// Nothing to change: no new modseq.
	_, err = s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{1}, store.FlagsAdd, []string{`\Seen`, "$JUNK"})
	s.ok(err)
	equal(s, "modseq", s.info(alice, "INBOX").HighestModSeq, after)
	_, err = s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{1}, store.FlagsRemove, []string{"$Junk", `\Flagged`})
	s.ok(err)
	_, err = s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{2}, store.FlagsSet, []string{`\Deleted`, "Custom"})
	s.ok(err)
	s.again(func() {
		equal(s, "INBOX", s.content(alice, "INBOX"), `1:a \Seen 2:b Custom,\Deleted 3:c $Junk,\Seen`)
		i := s.info(alice, "INBOX")
		equal(s, "unseen", i.Unseen, 1)
		equal(s, "deleted", i.Deleted, 1)
	})
}

func testExpunge(s *suite) {
	for _, t := range []string{"a", "b", "c", "d"} {
		s.deliver(alice, "INBOX", t)
	}
	_, err := s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{1, 2, 4}, store.FlagsAdd, []string{`\Deleted`})
	s.ok(err)
	got, err := s.s.Expunge(s.ctx, alice, "INBOX", []store.UID{2, 3, 77})
	s.ok(err)
	equal(s, "only what is named and deleted", fmt.Sprint(got), "[2]")
	got, err = s.s.Expunge(s.ctx, alice, "INBOX", []store.UID{})
	s.ok(err)
	equal(s, "an empty set", len(got), 0)
	got, err = s.s.Expunge(s.ctx, alice, "INBOX", nil)
	s.ok(err)
	equal(s, "the rest", fmt.Sprint(got), "[1 4]")
	s.again(func() { equal(s, "INBOX", s.content(alice, "INBOX"), "3:c") })
	equal(s, "UIDs are not used again", s.deliver(alice, "INBOX", "e").UID, 5)
	bytes, count, err := s.s.Usage(s.ctx, alice)
	s.ok(err)
	equal(s, "octets", bytes, 2)
	equal(s, "messages", count, 2)
}

func testCopyMove(s *suite) {
	s.deliver(alice, "INBOX", "a")
	m := s.deliver(alice, "INBOX", "b")
	s.deliver(alice, "Archive", "z")
	_, err := s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{2}, store.FlagsAdd, []string{`\Flagged`})
	s.ok(err)
	src, dst, validity, err := s.s.Copy(s.ctx, alice, "INBOX", []store.UID{2, 1, 8}, "Archive")
	s.ok(err)
	equal(s, "copied", fmt.Sprint(src, dst), "[1 2] [2 3]")
	equal(s, "UIDVALIDITY", validity, s.info(alice, "Archive").UIDValidity)
	src, dst, _, err = s.s.Move(s.ctx, alice, "INBOX", []store.UID{2}, "Trash")
	s.ok(err)
	equal(s, "moved", fmt.Sprint(src, dst), "[2] [1]")
	_, _, _, err = s.s.Copy(s.ctx, alice, "INBOX", []store.UID{1}, "None")
	s.is(err, store.ErrNoMailbox)
	s.again(func() {
		equal(s, "INBOX", s.content(alice, "INBOX"), "1:a")
		equal(s, "Archive", s.content(alice, "Archive"), `1:z 2:a 3:b \Flagged`)
		equal(s, "Trash", s.content(alice, "Trash"), `1:b \Flagged`)
		equal(s, "object id", s.snapshot(alice, "Trash").Messages.At(0).ObjectID, m.ObjectID)
	})
	// Within one mailbox.
	_, dst, _, err = s.s.Move(s.ctx, alice, "Archive", []store.UID{1}, "Archive")
	s.ok(err)
	equal(s, "new UID", fmt.Sprint(dst), "[4]")
	s.again(func() { equal(s, "Archive", s.content(alice, "Archive"), `2:a 3:b \Flagged 4:z`) })
}

func describe(events []store.Event) string {
	var l []string
	for _, e := range events {
		for _, m := range e.New {
			l = append(l, fmt.Sprintf("new %d", m.UID))
		}
		for _, m := range e.Changed {
			l = append(l, fmt.Sprintf("flags %d %s", m.UID, strings.Join(m.Flags, ",")))
		}
		for _, u := range e.Expunged {
			l = append(l, fmt.Sprintf("gone %d", u))
		}
		if e.Renamed {
			l = append(l, "renamed "+e.Mailbox)
		}
		if e.Gone {
			l = append(l, "mailbox gone")
		}
	}
	return strings.Join(l, "; ")
}

func testWatch(s *suite) {
	s.deliver(alice, "INBOX", "before")
	snap, w, err := s.s.Open(s.ctx, alice, "INBOX")
	s.ok(err)
	equal(s, "snapshot", snap.Messages.Len(), 1)
	equal(s, "nothing yet", len(w.Take()), 0)
	s.deliver(alice, "INBOX", "x")
	s.deliver(alice, "Archive", "elsewhere")
	s.deliver(bob, "INBOX", "elsewhere")
	<-w.Ready()
	_, err = s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{1, 2}, store.FlagsAdd, []string{`\Seen`})
	s.ok(err)
	_, err = s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{1}, store.FlagsAdd, []string{`\Deleted`})
	s.ok(err)
	_, err = s.s.Expunge(s.ctx, alice, "INBOX", nil)
	s.ok(err)
	equal(s, "events", describe(w.Take()), `new 2; flags 1 \Seen; flags 2 \Seen; flags 1 \Deleted,\Seen; gone 1`)
	select {
	case <-w.Ready():
		s.Fatal("ready with nothing to take")
	default:
	}
	_, w2, err := s.s.Open(s.ctx, alice, "Archive")
	s.ok(err)
	s.ok(s.s.RenameMailbox(s.ctx, alice, "Archive", "Old"))
	s.deliver(alice, "Old", "after")
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "Old"))
	<-w2.Ready()
	equal(s, "events", describe(w2.Take()), "renamed Old; new 2; mailbox gone")
	w2.Close()
	w.Close()
	s.deliver(alice, "INBOX", "y")
	equal(s, "after Close", len(w.Take()), 0)
}

// testWatchOrder opens a mailbox while others deliver to it: snapshot and
// events together are every message once.
func testWatchOrder(s *suite) {
	const writers, each = 4, 25
	done := make(chan error, writers)
	for range writers {
		go func() {
			for range each {
				if _, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("x"), Size: 1, Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 10 {
		snap, w, err := s.s.Open(s.ctx, alice, "INBOX")
		s.ok(err)
		next := snap.Info.UIDNext
		equal(s, "messages before UIDNEXT", snap.Messages.Len(), int(next)-1)
		for next <= writers*each/2 {
			<-w.Ready()
			for _, e := range w.Take() {
				for _, m := range e.New {
					equal(s, "next UID", m.UID, next)
					next++
				}
			}
		}
		w.Close()
	}
	for range writers {
		s.ok(<-done)
	}
	equal(s, "messages", s.info(alice, "INBOX").Messages, writers*each)
}

func testQueue(s *suite) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)
	entries := []store.QueueEntry{
		{From: alice, Recipients: []string{"x@later.example"}, Domain: "later.example", Account: alice, Queued: now, NextTry: now.Add(time.Hour)},
		{Recipients: []string{"y@sooner.example", "z@sooner.example"}, Domain: "sooner.example", Prefix: []byte("DKIM: y\r\n"), Queued: now, NextTry: now},
	}
	_, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("body"), Size: 4, Queue: entries})
	s.ok(err)
	if entries[0].ID == "" || entries[0].ID == entries[1].ID {
		s.Fatalf("ids %q and %q", entries[0].ID, entries[1].ID)
	}
	s.again(func() {
		q, err := s.s.Queue(s.ctx)
		s.ok(err)
		equal(s, "entries", len(q), 2)
		equal(s, "oldest try first", q[0].Domain, "sooner.example")
		equal(s, "next try", q[0].NextTry.Equal(now), true)
		equal(s, "size", q[0].Size, int64(len("DKIM: y\r\nbody")))
		r, err := s.s.OpenQueued(s.ctx, q[0])
		s.ok(err)
		b, err := io.ReadAll(r)
		s.ok(err)
		s.ok(r.Close())
		equal(s, "message", string(b), "DKIM: y\r\nbody")
	})
	q, err := s.s.Queue(s.ctx)
	s.ok(err)
	e := q[0]
	e.Attempts, e.NextTry, e.LastError, e.Hold, e.Recipients, e.Prefix = 3, now.Add(2*time.Hour), "451 later", true, e.Recipients[:1], nil
	s.ok(s.s.UpdateQueue(s.ctx, e))
	s.again(func() {
		q, err := s.s.Queue(s.ctx)
		s.ok(err)
		got := q[1]
		if got.ID != e.ID || got.Attempts != 3 || got.LastError != "451 later" || !got.Hold || len(got.Recipients) != 1 || string(got.Prefix) != "DKIM: y\r\n" {
			s.Fatalf("after an attempt: %+v", got)
		}
	})
	s.ok(s.s.RemoveQueue(s.ctx, e.ID))
	s.ok(s.s.RemoveQueue(s.ctx, e.ID))
	s.is(s.s.UpdateQueue(s.ctx, e), store.ErrNoMessage)
	s.again(func() {
		q, err := s.s.Queue(s.ctx)
		s.ok(err)
		equal(s, "entries", len(q), 1)
	})
	left, err := s.s.Queue(s.ctx)
	s.ok(err)
	left[0].Attempts = -1
	s.ok(s.s.UpdateQueue(s.ctx, left[0]))
	s.again(func() {
		q, err := s.s.Queue(s.ctx)
		s.ok(err)
		equal(s, "attempts", q[0].Attempts, 0)
	})
	_, err = s.s.Deliver(s.ctx, store.Delivery{})
	if err == nil {
		s.Fatal("a delivery to nobody was accepted")
	}
}

func testReadAt(s *suite) {
	text := strings.Repeat("abcdefghij", 30_000)
	ms, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)),
		Targets: []store.Target{{Account: alice, Mailbox: "INBOX", Prefix: []byte("prefix")}}})
	s.ok(err)
	r, err := s.s.Read(s.ctx, ms[0])
	s.ok(err)
	defer r.Close()
	whole := "prefix" + text
	for _, at := range []int{0, 3, 6, 65530, 65536, 131078, len(whole) - 5} {
		p := make([]byte, 5)
		n, err := r.(io.ReaderAt).ReadAt(p, int64(at))
		s.ok(err)
		equal(s, fmt.Sprintf("5 octets at %d", at), string(p[:n]), whole[at:at+5])
	}
	n, err := r.(io.ReaderAt).ReadAt(make([]byte, 10), int64(len(whole)-4))
	equal(s, "at the end", fmt.Sprint(n, err), "4 EOF")
	end, err := r.(io.Seeker).Seek(-3, io.SeekEnd)
	s.ok(err)
	equal(s, "seek", end, int64(len(whole)-3))
	b, err := io.ReadAll(r)
	s.ok(err)
	equal(s, "rest", string(b), "hij")
}

func testClosed(s *suite) {
	st := s.s
	s.close()
	_, err := st.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("x"), Size: 1, Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}})
	s.is(err, store.ErrClosed)
	_, err = st.Mailboxes(s.ctx, alice)
	s.is(err, store.ErrClosed)
	s.ok(st.Close())
}

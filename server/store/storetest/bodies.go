package storetest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mailform/server/store"
)

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
	_, err := s.s.UpdateFlags(s.ctx, account, store.Named(mailbox), uids, store.FlagsAdd, []string{`\Deleted`})
	s.ok(err)
	_, err = s.s.Expunge(s.ctx, account, store.Named(mailbox), nil)
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
			equal(s, "is whole", s.text(alice, *m) == "P"+text, true)
		}
	})
	s.expungeAll(alice, "INBOX")
	s.again(func() {
		for _, m := range s.snapshot(bob, "INBOX").Messages.All() {
			equal(s, "is whole", s.text(bob, *m) == text, true)
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

func testReadAt(s *suite) {
	text := strings.Repeat("abcdefghij", 30_000)
	ms, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)),
		Targets: []store.Target{{Account: alice, Mailbox: "INBOX", Prefix: []byte("prefix")}}})
	s.ok(err)
	r, err := s.s.Read(s.ctx, alice, ms[0])
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

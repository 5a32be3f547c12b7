package storetest

import (
	"io"
	"strings"
	"time"

	"mailform/server/store"
)

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

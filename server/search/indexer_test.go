package search

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailform/server/store"
)

const alice = "alice@example.org"

// Messages are indexed as they come, copies and moves cost nothing, and the words
// of expunged ones are gone within an hour.
func TestIndexer(t *testing.T) {
	dir := t.TempDir()
	var indexer atomic.Pointer[Indexer]
	s, err := store.Open(dir+"/store", store.Options{ReserveBytes: -1, Changed: func(account string, added []*store.Message, removed bool) {
		if n := indexer.Load(); n != nil {
			n.Changed(account, added, removed)
		}
	}})
	must(t, err)
	defer s.Close()
	ctx := context.Background()
	must(t, s.EnsureAccount(ctx, alice, 0))
	deliver := func(text string) {
		t.Helper()
		text = "Subject: s\r\n\r\n" + text + "\r\n"
		_, err := s.Deliver(ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)), Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}})
		must(t, err)
	}
	deliver("before the start")
	verdicts := func(n *Indexer, text string) string {
		h, err := n.Find(alice, Body, Fold(text))
		must(t, err)
		defer h.Close()
		var out []string
		for _, box := range []string{"INBOX", "Archive"} {
			snap, watch, err := s.Open(ctx, alice, box)
			must(t, err)
			watch.Close()
			for _, m := range snap.Messages.All() {
				out = append(out, fmt.Sprint(h.Of(m.Body)))
			}
		}
		return strings.Join(out, " ")
	}
	synctest.Test(t, func(t *testing.T) {
		n := NewIndexer(Config{Store: s, Dir: dir + "/search", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()
		check := func(text, want string) {
			t.Helper()
			synctest.Wait()
			if got := verdicts(n, text); got != want {
				t.Errorf("%q: %s, want %s", text, got, want)
			}
		}
		check("before", "0") // nobody has told of it
		n.Check(alice)
		check("before", "2")
		snapBefore, watch, err := s.Open(ctx, alice, "INBOX")
		must(t, err)
		watch.Close()
		n.Changed(alice, nil, false)
		check("before", "2")
		// A tidy removes words of bodies that nothing uses any more.
		gone := snapBefore.Messages.At(0).Body
		x, err := n.index(alice)
		must(t, err)
		must(t, x.Add(store.BodyRef{Segment: 999, Offset: 8, Size: 9}, message("Subject: gone", "vanished")))
		must(t, x.Flush())
		n.Changed(alice, nil, true)
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		has := func(ref store.BodyRef) bool {
			x, err := n.index(alice)
			must(t, err)
			return x.Has(ref)
		}
		if !has(gone) || !has(store.BodyRef{Segment: 999, Offset: 8, Size: 9}) {
			t.Error("the index was tidied before it is worth while")
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if !has(gone) || has(store.BodyRef{Segment: 999, Offset: 8, Size: 9}) {
			t.Error("what is gone is still indexed, or what is there is not")
		}
		stop()
		must(t, <-done)
		if _, err := n.Find(alice, All, "X"); err == nil {
			t.Error("an indexer that has ended answers")
		}
	})

	n := NewIndexer(Config{Store: s, Dir: dir + "/search", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	indexer.Store(n)
	deliver("behind the start")
	_, _, _, err = s.Copy(ctx, alice, store.Named("INBOX"), []store.UID{1, 2}, store.Named("Archive"))
	must(t, err)
	for account, p, ok := n.next(false); ok; account, p, ok = n.next(false) {
		must(t, n.update(ctx, account, p))
	}
	if got := verdicts(n, "start"); got != "2 2 2 2" {
		t.Errorf("what was delivered and copied: %s", got)
	}
	must(t, n.close())
}

// Bodies that the store keeps compressed are known as the same ones when the
// index is tidied.
func TestCompressedBodies(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir+"/store", store.Options{ReserveBytes: -1, Compress: true})
	must(t, err)
	defer s.Close()
	ctx := context.Background()
	must(t, s.EnsureAccount(ctx, alice, 0))
	text := "Subject: s\r\n\r\n" + strings.Repeat("the same again and again\r\n", 500)
	msgs, err := s.Deliver(ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)), Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}})
	must(t, err)
	if msgs[0].Body.Stored == 0 {
		t.Fatal("the body is not compressed: the test shows nothing")
	}
	n := NewIndexer(Config{Store: s, Dir: dir + "/search", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(t, n.update(ctx, alice, &pending{all: true}))
	x, err := n.index(alice)
	must(t, err)
	must(t, x.Flush())
	must(t, n.update(ctx, alice, &pending{all: true}))
	if !x.Has(msgs[0].Body) {
		t.Error("a body that is there was tidied away")
	}
	h, err := n.Find(alice, Body, "AGAIN AND")
	must(t, err)
	defer h.Close()
	if v := h.Of(msgs[0].Body); v != Yes {
		t.Errorf("verdict %d", v)
	}
	must(t, n.close())
}

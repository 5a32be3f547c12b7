package store_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"mailform/server/store"
)

// What was erased does not come back with a power cut: that its files were removed is
// durable before the erasure is answered. Also of what the account has sent nothing is
// left, when a compaction has moved the body while it waited to be sent.
func TestErasedStaysErased(t *testing.T) {
	const alice, bob, secret = "alice@x", "bob@x", "SECRET-OF-ALICE"
	for seed := range uint64(12) {
		ctx := t.Context()
		fs := store.NewSimFS(rand.New(rand.NewPCG(seed, 1)))
		opt := store.Options{SegmentBytes: 2000, CheckpointBytes: 1 << 30}
		l := reopen(t, fs, opt)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range []string{alice, bob} {
			must(l.EnsureAccount(ctx, a, 0))
		}
		for _, a := range []action{
			{Kind: "create", Box: secret},
			{Kind: "deliver", Box: "INBOX", Text: secret + " sent", ID: "q"},
			{Kind: "flag", Box: "INBOX", UIDs: []store.UID{1}, Flag: `\Deleted`},
			{Kind: "expunge", Box: "INBOX"},
		} {
			must(perform(ctx, l, alice, a))
		}
		for range 20 {
			must(perform(ctx, l, bob, action{Kind: "deliver", Box: "INBOX", Text: strings.Repeat("b", 300)}))
		}
		c, err := l.Compact(ctx, store.CompactOptions{MaxLive: 1})
		must(err)
		if c.Bodies == 0 || fs.Find(secret+" sent") == "" {
			t.Fatal("the sent message was not moved: the test shows nothing")
		}
		must(l.RemoveQueue(ctx, "q"))
		e, err := l.Erase(ctx, alice, store.CompactOptions{})
		must(err)
		if !e.Clean() {
			t.Errorf("%+v", e)
		}
		if at := fs.Find(secret); at != "" {
			t.Errorf("seed %d: it is in %s", seed, at)
		}
		if at := fs.Survivors().Find(secret); at != "" {
			t.Errorf("seed %d: after a power cut it is in %s", seed, at)
		}
		closeLog(t, l)
	}
}

// Checkpoints that a power cut has brought back go with the next one.
func TestOldCheckpointsGo(t *testing.T) {
	fs := store.NewSimFS(rand.New(rand.NewPCG(1, 1)))
	l := reopen(t, fs, store.Options{})
	for range 3 {
		if err := l.Rebuild(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	names := fs.Names("/checkpoint/")
	if len(names) != 2 {
		t.Fatalf("checkpoints: %v", names)
	}
	for _, old := range []string{"0000000000000001", "0000000000000003"} {
		fs.SetContent("/s/checkpoint/"+old, fs.Content(names[0]))
	}
	l = reopen(t, fs, store.Options{})
	if err := l.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	if names := fs.Names("/checkpoint/"); len(names) != 2 || names[0] != "/s/checkpoint/0000000000000007" {
		t.Errorf("checkpoints: %v", names)
	}
}

package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mailform/server/store"
)

// damageWorld is a store with messages in several mailboxes, segments and
// checkpoints, closed in good order.
func damageWorld(t *testing.T, rng *rand.Rand, opt store.Options) *store.SimFS {
	t.Helper()
	ctx := t.Context()
	fs := store.NewSimFS(rng)
	opt.FS, opt.ReserveBytes = fs, -1
	l, err := store.Open("/s", opt)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		account := fmt.Sprintf("a%d@example.org", i%3)
		if err := l.EnsureAccount(ctx, account, 0); err != nil {
			t.Fatal(err)
		}
		a := action{Kind: "deliver", Box: "INBOX", Text: fmt.Sprintf("%s message %d,", account, i)}
		if i%10 == 0 {
			a.Large = 3000
		}
		if i%7 == 0 {
			a.Box = fmt.Sprintf("box%d", i)
		}
		if err := perform(ctx, l, account, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// texts reads everything: how often each text is there, and what cannot be read.
func texts(t *testing.T, l *store.Log) (whole map[string]int, unreadable int, next map[string]store.UID) {
	t.Helper()
	ctx := t.Context()
	whole, next = map[string]int{}, map[string]store.UID{}
	for i := range 3 {
		account := fmt.Sprintf("a%d@example.org", i)
		boxes, err := l.Mailboxes(ctx, account)
		if errors.Is(err, store.ErrNoMailbox) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range boxes {
			next[fmt.Sprint(account, info.UIDValidity)] = info.UIDNext
			snap, w, err := l.Open(ctx, account, info.Name)
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			for _, m := range snap.Messages.All() {
				text, err := content(l.Read(ctx, account, *m))
				if err != nil {
					if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrNoMessage) {
						t.Fatal(err)
					}
					unreadable++
					continue
				}
				whole[text]++
				if !strings.HasPrefix(text, account) {
					t.Fatalf("%s has the message %q", account, summary(text))
				}
			}
		}
	}
	return whole, unreadable, next
}

// TestBitFlips changes one bit anywhere in a store: it costs at most the
// messages of one record, never shows wrong octets, and is never silent.
func TestBitFlips(t *testing.T) {
	for name, opt := range map[string]store.Options{
		"log only":          {SegmentBytes: 4000, MemoryBody: 1000, CheckpointBytes: 1 << 40},
		"with a checkpoint": {SegmentBytes: 2500, MemoryBody: 1000, CheckpointBytes: 2000},
		"one segment":       {},
		"compressed":        {SegmentBytes: 4000, MemoryBody: 1000, CheckpointBytes: 2000, Compress: true},
		"encrypted":         {SegmentBytes: 4000, MemoryBody: 1000, CheckpointBytes: 2000, Encrypt: true, Root: rootKey()},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			fs := damageWorld(t, rng, opt)
			if name == "log only" || name == "one segment" {
				for _, n := range fs.Names("/checkpoint/") {
					if err := fs.Remove(n); err != nil {
						t.Fatal(err)
					}
				}
			}
			l := reopen(t, fs, opt)
			before, unreadable, next := texts(t, l)
			if len(before) != 60 || unreadable != 0 {
				t.Fatalf("%d messages, %d unreadable before any damage", len(before), unreadable)
			}
			closeLog(t, l)
			files := fs.Names("/s/")
			flips := rounds(t, 1000)/10 + 1
			for range flips {
				damaged := fs.Clone()
				file := files[rng.IntN(len(files))]
				if strings.Contains(name, "only") || name == "one segment" {
					for _, n := range damaged.Names("/checkpoint/") {
						_ = damaged.Remove(n)
					}
					if strings.Contains(file, "/checkpoint/") {
						continue
					}
				}
				bit := rng.IntN(1 << 30)
				damaged.Flip(file, bit)
				what := fmt.Sprintf("bit %d of %s", bit, file)

				l := reopen(t, damaged, opt)
				after, unreadable, then := texts(t, l)
				for box, uid := range next {
					if now, ok := then[box]; ok && now < uid {
						t.Fatalf("%s: UIDNEXT went back from %d to %d", what, uid, now)
					}
				}
				lost := 0
				for text := range before {
					if after[text] == 0 {
						lost++
					}
				}
				if len(after)+lost != len(before) {
					t.Fatalf("%s: %d messages that never were", what, len(after)+lost-len(before))
				}
				if lost > 1 {
					t.Fatalf("%s: %d messages lost", what, lost)
				}
				if lost > unreadable && len(l.Damage()) == 0 {
					t.Fatalf("%s: a message is gone without a word", what)
				}
				// Life goes on.
				for i := range 3 {
					account := fmt.Sprintf("a%d@example.org", i)
					if err := l.EnsureAccount(t.Context(), account, 0); err != nil {
						t.Fatal(err)
					}
					if err := perform(t.Context(), l, account, action{Kind: "deliver", Box: "INBOX", Text: account + " afterwards"}); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				}
				closeLog(t, l)
				l = reopen(t, damaged, opt)
				again, _, _ := texts(t, l)
				for text := range after {
					if again[text] == 0 {
						t.Fatalf("%s: %q was there after the first start, not after the second", what, summary(text))
					}
				}
				closeLog(t, l)
			}
			t.Logf("%d bits flipped", flips)
		})
	}
}

func reopen(t *testing.T, fs *store.SimFS, opt store.Options) *store.Log {
	t.Helper()
	opt.FS, opt.ReserveBytes = fs, -1
	l, err := store.Open("/s", opt)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t *testing.T, l *store.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedCheckpoint loses the newest checkpoint, whose log segments before
// the older one are gone already: nothing is missing.
func TestDamagedCheckpoint(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	opt := store.Options{SegmentBytes: 1500, MemoryBody: 1000, CheckpointBytes: 1000}
	fs := damageWorld(t, rng, opt)
	l := reopen(t, fs, opt)
	// Make the first segments dead.
	for i := range 3 {
		account := fmt.Sprintf("a%d@example.org", i)
		m, err := read(t.Context(), l, account)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range m.Boxes {
			var uids []store.UID
			for uid := range b.Messages {
				if uid%10 != 0 {
					uids = append(uids, uid)
				}
			}
			for _, a := range []action{{Kind: "flag", Box: name, UIDs: uids, Flag: `\Deleted`}, {Kind: "expunge", Box: name}} {
				if err := perform(t.Context(), l, account, a); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i := range 20 {
		if err := perform(t.Context(), l, "a0@example.org", action{Kind: "deliver", Box: "Sent", Text: fmt.Sprintf("a0@example.org more %d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	// Then segments that hold nothing but changes of flags, which only the
	// newest checkpoint covers.
	opt.CheckpointBytes = 1 << 40
	l = reopen(t, fs, opt)
	for i := range 60 {
		if _, err := l.UpdateFlags(t.Context(), "a0@example.org", store.Named("Sent"), []store.UID{store.UID(1 + i%20)}, store.FlagsSet, []string{fmt.Sprintf("$k%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	before := everything(t, l)
	closeLog(t, l)
	if _, err := fs.Open("/s/log/0000000000000001.log"); err == nil {
		t.Fatal("the first segment is still there: the test shows nothing")
	}
	checkpoints := fs.Names("/checkpoint/")
	if len(checkpoints) != 2 {
		t.Fatalf("checkpoints: %v", checkpoints)
	}
	fs.Flip(checkpoints[1], 1000)
	l = reopen(t, fs, opt)
	if d := l.Damage(); len(d) != 1 || !strings.Contains(d[0].File, "checkpoint") {
		t.Errorf("damage: %v", d)
	}
	if after := everything(t, l); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	if err := l.Check(t.Context()); err != nil {
		t.Error(err)
	}
	closeLog(t, l)
	l = reopen(t, fs, opt)
	if d := l.Damage(); len(d) != 0 {
		t.Errorf("damage at the next start: %v", d)
	}
	closeLog(t, l)
}

func everything(t *testing.T, l *store.Log) string {
	t.Helper()
	var b strings.Builder
	for i := range 3 {
		m, err := read(t.Context(), l, fmt.Sprintf("a%d@example.org", i))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(m.String())
	}
	return b.String()
}

// TestSpaceComesBack deletes the segments that nothing needs any more.
func TestSpaceComesBack(t *testing.T) {
	ctx := t.Context()
	fs := store.NewSimFS(rand.New(rand.NewPCG(5, 6)))
	opt := store.Options{SegmentBytes: 2000, MemoryBody: 500, CheckpointBytes: 4000}
	l := reopen(t, fs, opt)
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	fill := func(n, size int) {
		for i := range n {
			if err := perform(ctx, l, "a@b", action{Kind: "deliver", Box: "INBOX", Text: fmt.Sprint(i), Large: size}); err != nil {
				t.Fatal(err)
			}
		}
	}
	empty := func() {
		snap, w, err := l.Open(ctx, "a@b", "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		var uids []store.UID
		for _, m := range snap.Messages.All() {
			uids = append(uids, m.UID)
		}
		for _, a := range []action{{Kind: "flag", Box: "INBOX", UIDs: uids, Flag: `\Deleted`}, {Kind: "expunge", Box: "INBOX"}} {
			if err := perform(ctx, l, "a@b", a); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(10, 5000)
	if n := len(fs.Names(".body")); n != 10 {
		t.Errorf("%d segments for 10 large messages", n)
	}
	r, err := l.Read(ctx, "a@b", first(t, l))
	if err != nil {
		t.Fatal(err)
	}
	empty()
	fill(1, 1) // the loop clears up after answering; this one comes after
	if n := len(fs.Names(".body")); n != 0 {
		t.Errorf("%d segments of large messages are left", n)
	}
	if text, err := content(r, nil); err != nil || len(text) != 5001 {
		t.Errorf("a reader that was open: %d octets, %v", len(text), err)
	}
	fill(100, 100)
	empty()
	closeLog(t, l)
	l = reopen(t, fs, opt)
	fill(60, 10)
	empty()
	closeLog(t, l)
	l = reopen(t, fs, opt)
	fill(60, 10)
	closeLog(t, l)
	if n := len(fs.Names(".log")); n > 20 {
		t.Errorf("%d log segments are left", n)
	}
	l = reopen(t, fs, opt)
	if err := l.Check(ctx); err != nil {
		t.Error(err)
	}
	closeLog(t, l)
}

func first(t *testing.T, l *store.Log) store.Message {
	t.Helper()
	snap, w, err := l.Open(t.Context(), "a@b", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	return *snap.Messages.At(0)
}

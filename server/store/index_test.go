package store_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailform/server/store"
	"mailform/server/store/kv"
)

// indexed is a store in a folder of the machine, with an index file.
type indexed struct {
	t   *testing.T
	dir string
	now time.Time
	opt store.Options
}

func newIndexed(t *testing.T) *indexed {
	x := &indexed{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	x.opt = store.Options{ReserveBytes: -1, SegmentBytes: 40_000, CheckpointBytes: 1 << 30, IdleMessages: 1, Now: func() time.Time { return x.now }}
	return x
}

func (x *indexed) open(opt store.Options) *store.Log {
	x.t.Helper()
	l, err := store.Open(x.dir, opt)
	if err != nil {
		x.t.Fatal(err)
	}
	return l
}

// work has messages come to three accounts, and some change and go.
func (x *indexed) work(l *store.Log, n int) {
	x.t.Helper()
	ctx := x.t.Context()
	for i := range n {
		account := fmt.Sprintf("a%d@example.org", i%3)
		if err := l.EnsureAccount(ctx, account, 0); err != nil {
			x.t.Fatal(err)
		}
		info, err := l.Mailbox(ctx, account, "INBOX")
		if err != nil {
			x.t.Fatal(err)
		}
		list := []action{{Kind: "deliver", Box: "INBOX", Text: fmt.Sprintf("%s message %d of %d,", account, i, info.UIDNext)}}
		if last := info.UIDNext - 1; i%4 == 3 && last > 0 {
			list = append(list, action{Kind: "flag", Box: "INBOX", UIDs: []store.UID{last}, Flag: []string{`\Deleted`, "$Forwarded", `\Seen`}[i%3]}, action{Kind: "expunge", Box: "INBOX"})
		}
		for _, a := range list {
			if err := perform(ctx, l, account, a); err != nil {
				x.t.Fatal(err)
			}
		}
	}
}

// content is all that the store shows, and a check of it.
func (x *indexed) content(l *store.Log) string {
	x.t.Helper()
	ctx := x.t.Context()
	var b strings.Builder
	for i := range 3 {
		account := fmt.Sprintf("a%d@example.org", i)
		list, err := l.Mailboxes(ctx, account)
		if err != nil {
			x.t.Fatal(err)
		}
		for _, info := range list {
			snap, w, err := l.Open(ctx, account, info.Name)
			if err != nil {
				x.t.Fatal(err)
			}
			gone, complete, err := l.Vanished(ctx, account, store.Named(info.Name), 0)
			if err != nil {
				x.t.Fatal(err)
			}
			fmt.Fprintln(&b, account, snap.Info, snap.Keywords, gone, complete)
			for _, m := range snap.Messages.All() {
				text, err := content(l.Read(ctx, account, *m))
				if err != nil {
					x.t.Fatal(err)
				}
				fmt.Fprintln(&b, m.UID, m.ModSeq, m.Flags, m.InternalDate, m.SaveDate, m.Size, m.ObjectID, text)
			}
			w.Close()
		}
	}
	if err := l.Check(ctx); err != nil {
		x.t.Error(err)
	}
	return b.String()
}

func (x *indexed) index() string { return filepath.Join(x.dir, "index.db") }

func octetsOf(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestIndexLost starts with an index file that is missing, damaged, of another
// store or of another time: each time the store is what it was.
func TestIndexLost(t *testing.T) {
	other := newIndexed(t)
	l := other.open(other.opt)
	other.work(l, 30)
	closeLog(t, l)

	x := newIndexed(t)
	l = x.open(x.opt)
	x.work(l, 300)
	closeLog(t, l)
	older := octetsOf(t, x.index())
	l = x.open(x.opt)
	x.work(l, 150)
	if err := l.Rebuild(t.Context()); err != nil { // checkpoints, which are newer than older
		t.Fatal(err)
	}
	x.work(l, 90)
	want := x.content(l)
	closeLog(t, l)
	whole := octetsOf(t, x.index())
	rng := rand.New(rand.NewPCG(5, 6))
	cases := map[string][]byte{"as it was": whole, "empty": {}, "older": older, "of another store": octetsOf(t, other.index()), "no such file": []byte(strings.Repeat("not bolt", 4096))}
	for i := range 60 {
		b := bytes.Clone(whole)
		switch i % 3 {
		case 0:
			b = b[:rng.IntN(len(b))]
		case 1:
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		case 2: // pages of before
			for at := 4096 * rng.IntN(3); at+4096 <= min(len(older), len(b)); at += 4096 * (1 + rng.IntN(4)) {
				copy(b[at:at+4096], older[at:])
			}
		}
		cases[fmt.Sprint("damaged ", i)] = b
	}
	for name, b := range cases {
		if err := os.WriteFile(x.index(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		l := x.open(x.opt)
		if got := x.content(l); got != want {
			t.Errorf("%s: the store has changed:\n%s\nit was\n%s", name, summary(got), summary(want))
		}
		closeLog(t, l)
		l = x.open(x.opt)
		if len(l.Damage()) != 0 || l.Loaded() != 0 {
			t.Errorf("%s: the start after it: %d messages in memory, damage %v", name, l.Loaded(), l.Damage())
		}
		if got := x.content(l); got != want {
			t.Errorf("%s: the start after it shows another store", name)
		}
		closeLog(t, l)
	}
}

// TestIndexAhead has a log that lost its end, which the index file knows of.
func TestIndexAhead(t *testing.T) {
	x := newIndexed(t)
	l := x.open(x.opt)
	x.work(l, 30)
	want := x.content(l)
	closeLog(t, l)
	logs, err := filepath.Glob(filepath.Join(x.dir, "log", "*"))
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int{}
	for _, name := range logs {
		sizes[name] = len(octetsOf(t, name))
	}
	l = x.open(x.opt)
	x.work(l, 3)
	closeLog(t, l)
	for _, name := range logs {
		if err := os.Truncate(name, int64(sizes[name])); err != nil {
			t.Fatal(err)
		}
	}
	l = x.open(x.opt)
	if got := x.content(l); got != want {
		t.Errorf("the log has\n%s\nthe store shows\n%s", summary(want), summary(got))
	}
	closeLog(t, l)
}

// TestIndexPassedOver has a mailformd without index file work on the store in
// between, with and without writing a checkpoint.
func TestIndexPassedOver(t *testing.T) {
	for _, killed := range []bool{false, true} {
		x := newIndexed(t)
		l := x.open(x.opt)
		x.work(l, 200)
		closeLog(t, l)
		plain := x.opt
		plain.FS = store.Plain()
		before := octetsOf(t, x.index())
		l = x.open(plain)
		x.work(l, 100)
		want := x.content(l)
		if l.Loaded() == 0 {
			t.Error("without an index file the messages are not in memory")
		}
		closeLog(t, l)
		if killed {
			checkpoints, err := filepath.Glob(filepath.Join(x.dir, "checkpoint", "*"))
			if err != nil || len(checkpoints) == 0 {
				t.Fatal(checkpoints, err)
			}
			for _, name := range checkpoints {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !bytes.Equal(before, octetsOf(t, x.index())) {
			t.Error("it has changed the index file")
		}
		l = x.open(x.opt)
		if got := x.content(l); got != want {
			t.Errorf("killed=%v: the store has changed", killed)
		}
		closeLog(t, l)
	}
}

// TestIndexDamagedInUse damages the file under a store that uses it: it is made
// anew, and who opens a mailbox does not notice.
func TestIndexDamagedInUse(t *testing.T) {
	x := newIndexed(t)
	l := x.open(x.opt)
	x.work(l, 600)
	want := x.content(l)
	closeLog(t, l)
	var block []byte
	db, err := kv.Open(x.index())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.View(func(tx *kv.Tx) error {
		_, v, err := tx.Last("messages", nil)
		block = bytes.Clone(v)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l = x.open(x.opt)
	f, err := os.OpenFile(x.index(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := bytes.LastIndex(octetsOf(t, x.index()), block)
	if _, err := f.WriteAt([]byte{block[100] ^ 4}, int64(at+100)); err != nil {
		t.Fatal(err)
	}
	if got := x.content(l); got != want {
		t.Errorf("the store has changed:\n%s\nit was\n%s", summary(got), summary(want))
	}
	if d := l.Damage(); len(d) != 1 || d[0].File != "index.db" {
		t.Errorf("damage: %v", d)
	}
	x.work(l, 60)
	want = x.content(l)
	closeLog(t, l)
	l = x.open(x.opt)
	if got := x.content(l); got != want || len(l.Damage()) != 0 {
		t.Errorf("after the next start it is another store, or damaged: %v", l.Damage())
	}
	closeLog(t, l)
}

// TestMemory follows what is in memory: deliveries since the last flush, mailboxes
// in use, and for a while those that were.
func TestMemory(t *testing.T) {
	x := newIndexed(t)
	x.opt.IdleMessages = 1000
	l := x.open(x.opt)
	ctx := t.Context()
	x.work(l, 300)
	closeLog(t, l)
	l = x.open(x.opt)
	loaded := func(want int, when string) {
		t.Helper()
		if got := l.Loaded(); got != want {
			t.Errorf("%s: %d messages are in memory, want %d", when, got, want)
		}
	}
	loaded(0, "after the start")
	if err := perform(ctx, l, "a0@example.org", action{Kind: "deliver", Box: "INBOX", Text: "one"}); err != nil {
		t.Fatal(err)
	}
	loaded(1, "after a delivery")
	l.TendIndex()
	loaded(0, "after a flush")
	snap, w, err := l.Open(ctx, "a0@example.org", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	n := snap.Messages.Len()
	loaded(n, "while a session is open")
	x.now = x.now.Add(time.Hour)
	l.TendIndex()
	loaded(n, "while a session is open for long")
	w.Close()
	w.Close()
	loaded(n, "right after the session")
	x.now = x.now.Add(4 * time.Minute)
	l.TendIndex()
	loaded(n, "four minutes after it")
	x.now = x.now.Add(2 * time.Minute)
	l.TendIndex()
	loaded(0, "six minutes after it")
	if _, err := l.UpdateFlags(ctx, "a0@example.org", store.Named("INBOX"), []store.UID{snap.Messages.At(0).UID}, store.FlagsAdd, []string{`\Flagged`}); err != nil {
		t.Fatal(err)
	}
	loaded(n, "after a change of flags")
	x.now = x.now.Add(6 * time.Minute)
	l.TendIndex()
	loaded(0, "some time after it")
	again, w, err := l.Open(ctx, "a0@example.org", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(again.Messages.At(0).Flags, " "); !strings.Contains(got, `\Flagged`) {
		t.Errorf("the flag set is not there: %s", got)
	}
	for i := range again.Messages.Len() - 1 {
		a, b := again.Messages.At(i+1), snap.Messages.At(i+1)
		if !maps.Equal(map[string]any{"u": a.UID, "m": a.ModSeq, "o": a.ObjectID, "b": a.Body}, map[string]any{"u": b.UID, "m": b.ModSeq, "o": b.ObjectID, "b": b.Body}) {
			t.Errorf("message %d has changed", b.UID)
		}
	}
	w.Close()
	closeLog(t, l)
}

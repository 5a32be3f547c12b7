package summary

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailform/server/imap/mimetree"
	"mailform/server/imap/wire"
	"mailform/server/store"
)

const alice = "alice@example.org"

// fixture is a keeper over a store, with a clock of its own.
type fixture struct {
	testing.TB
	st  *store.Log
	k   *Keeper
	now time.Time
	log bytes.Buffer
	key cipher.AEAD
	no  error // what Cipher fails with
}

func newFixture(t testing.TB) *fixture {
	st, err := store.Open(t.TempDir(), store.Options{ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{TB: t, st: st, now: time.Unix(1e9, 0)}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	f.restart(t.TempDir())
	if err := st.EnsureAccount(context.Background(), alice, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

// restart makes another keeper over what is in dir.
func (f *fixture) restart(dir string) {
	f.k = NewKeeper(Config{Store: f.st, Dir: dir, Logger: slog.New(slog.NewTextHandler(&f.log, nil)), Now: func() time.Time { return f.now },
		Cipher: func(string) (cipher.AEAD, error) { return f.key, f.no }})
}

func text(i int) string {
	return fmt.Sprintf("From: \"User %d\" <user%d@example.net>\r\nTo: alice@example.org\r\nSubject: Re: secret-%d\r\nDate: Sun, 22 Nov 2026 08:%02d:00 +0800\r\n"+
		"Message-ID: <%d@x>\r\nReferences: <%d@x> <%d@x>\r\n\r\nbody-%d\r\n", i, i, i, i%60, i, i-1, i-2, i)
}

// deliver puts n more messages into a mailbox.
func (f *fixture) deliver(mailbox string, n int) {
	f.Helper()
	ctx := context.Background()
	var msgs []store.StagedMessage
	for i := range n {
		b, err := f.st.Stage(ctx, alice, store.Named(mailbox), strings.NewReader(text(i)), int64(len(text(i))))
		if err != nil {
			f.Fatal(err)
		}
		msgs = append(msgs, store.StagedMessage{Body: b})
	}
	if _, _, err := f.st.AppendStaged(ctx, alice, store.Named(mailbox), msgs, nil); err != nil {
		f.Fatal(err)
	}
	f.k.Changed(alice, make([]*store.Message, n), false)
}

func (f *fixture) open(mailbox string) store.Snapshot {
	f.Helper()
	snap, w, err := f.st.Open(context.Background(), alice, mailbox)
	if err != nil {
		f.Fatal(err)
	}
	w.Close()
	return snap
}

// expunge removes messages of INBOX.
func (f *fixture) expunge(uids ...store.UID) {
	f.Helper()
	ctx := context.Background()
	if _, err := f.st.UpdateFlags(ctx, alice, store.Named("INBOX"), uids, store.FlagsAdd, []string{`\Deleted`}); err != nil {
		f.Fatal(err)
	}
	if _, err := f.st.Expunge(ctx, alice, store.Named("INBOX"), uids); err != nil {
		f.Fatal(err)
	}
	f.k.Changed(alice, nil, true)
}

// known counts the messages of INBOX that are kept, each of them as it is.
func (f *fixture) known() (n int) {
	f.Helper()
	snap := f.open("INBOX")
	r := f.k.Reader(alice, snap.Info.UIDValidity)
	defer r.Close()
	for _, m := range snap.Messages.All() {
		if !r.Seek(m) {
			continue
		}
		src, err := f.st.Read(context.Background(), alice, *m)
		if err != nil {
			f.Fatal(err)
		}
		var all bytes.Buffer
		if _, err := all.ReadFrom(src); err != nil {
			f.Fatal(err)
		}
		if err := src.Close(); err != nil {
			f.Fatal(err)
		}
		h := mimetree.HeaderOf(all.Bytes())
		var want strings.Builder
		w := wire.NewWriter(&want, &wire.Buffers{})
		WriteEnvelope(w, h)
		_ = w.Flush()
		env, ok := r.Envelope(false)
		if !ok {
			continue // damaged: it was found out here
		}
		if string(env) != want.String() {
			f.Fatalf("UID %d: the envelope is %s, want %s", m.UID, env, &want)
		}
		if sent, ok := r.Sent(); ok && sent != SentOf(h) {
			f.Fatalf("UID %d: sent %v", m.UID, sent)
		}
		if th, ok := r.Thread(nil); ok && fmt.Sprint(th) != fmt.Sprint(ThreadOf(h)) {
			f.Fatalf("UID %d: thread %v", m.UID, th)
		}
		n++
	}
	return n
}

// files returns what is on the disk, one after the other.
func (f *fixture) files() (names []string, octets []byte) {
	f.Helper()
	if err := filepath.WalkDir(f.k.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == cleanFile {
			return err
		}
		b, err := os.ReadFile(path)
		names, octets = append(names, path), append(octets, b...)
		return err
	}); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Fatal(err)
	}
	return names, octets
}

func (f *fixture) expect(want int) {
	f.Helper()
	f.k.Catch(context.Background())
	if n := f.known(); n != want {
		f.Fatalf("%d messages are kept, want %d\n%s", n, want, &f.log)
	}
}

// Messages are taken in by many; what is kept outlives a restart, and few files
// come of many deliveries.
func TestKeeps(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deliver("INBOX", 200)
	f.expect(0)
	f.deliver("INBOX", 100)
	f.expect(300)
	f.restart(f.k.cfg.Dir)
	f.expect(300)
	for range 30 {
		f.deliver("INBOX", 300)
		f.k.Catch(context.Background())
	}
	f.expect(9300)
	if names, _ := f.files(); len(names) > 8 {
		t.Errorf("%d files: %s", len(names), names)
	}
	if f.log.Len() > 0 {
		t.Error(f.log.String())
	}
}

// An hour after its expunge, or when somebody asks, nothing is left of a message.
func TestForgetsExpunged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deliver("INBOX", 1000)
	f.deliver("Archive", 300)
	f.expect(1000)
	has := func(s string) bool {
		_, b := f.files()
		return bytes.Contains(b, []byte(s))
	}
	f.expunge(501, 502, 503)
	f.now = f.now.Add(tidyAfter - time.Second)
	f.expect(997)
	f.now = f.now.Add(time.Second)
	f.k.Catch(context.Background())
	if _, b := f.files(); bytes.Count(b, []byte("secret-500\r\n")) != 0 || bytes.Count(b, []byte("secret-499\r\n")) != 1 {
		t.Error("what was expunged is still there, or what was not is gone")
	}
	f.expect(997)
	f.expunge(601)
	if err := f.k.Tidy(context.Background()); err != nil || has("secret-600\r\n") {
		t.Error("an expunged message is still there", err)
	}
	if err := f.st.DeleteMailbox(context.Background(), alice, "Archive"); err != nil {
		t.Fatal(err)
	}
	f.k.Changed(alice, nil, true)
	if err := f.k.Tidy(context.Background()); err != nil {
		t.Fatal(err)
	}
	if names, _ := f.files(); len(names) != 1 {
		t.Error("a mailbox is gone and this is left:", names)
	}
	if err := f.st.EmptyAccount(context.Background(), alice); err != nil {
		t.Fatal(err)
	}
	f.restart(f.k.cfg.Dir) // nobody told this one
	if err := f.k.checkKept(); err != nil {
		t.Fatal(err)
	}
	f.k.Catch(context.Background())
	if names, _ := f.files(); len(names) != 0 {
		t.Error("an account is gone and this is left:", names)
	}
}

// Whatever happens to a file, an answer is right or there is none, and what was
// lost is made anew.
func TestDamage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deliver("INBOX", 300)
	f.expect(300)
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		names, b := f.files()
		if len(names) != 1 {
			t.Fatal(names)
		}
		switch r.IntN(4) {
		case 0:
			b = b[:r.IntN(len(b))]
		case 1:
			clear(b[r.IntN(len(b)):])
		case 2: // in the head, mostly
			b[r.IntN(200)] ^= 1 << r.IntN(8)
		default:
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(names[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		f.known()
		f.expect(300)
	}
}

// A store that was brought back from a backup gives UIDs anew.
func TestOtherMessagesWithTheSameUIDs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deliver("INBOX", 300)
	f.expect(300)
	g := newFixture(t)
	g.deliver("INBOX", 1)
	g.expunge(1)
	g.deliver("INBOX", 400)
	g.restart(f.k.cfg.Dir)
	if n := g.known(); n != 0 {
		t.Errorf("%d messages are taken for others", n)
	}
	g.k.Check(alice)
	g.expect(400)
}

// What another version has written is made anew.
func TestOtherVersion(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deliver("INBOX", 300)
	f.expect(300)
	names, b := f.files()
	binary.LittleEndian.PutUint32(b[len(magic):], Version+1)
	dir, blocks := headSize+2*(perBlock+int(columns)*perPlace), 2
	if binary.LittleEndian.Uint32(b[len(magic)+12:]) != uint32(blocks) {
		t.Fatal("the head is not as it was")
	}
	binary.LittleEndian.PutUint32(b[headSize-4:], headSum(b[:dir]))
	if err := os.WriteFile(names[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	f.restart(f.k.cfg.Dir)
	if n := f.known(); n != 0 {
		t.Errorf("%d messages are known by another version's values", n)
	}
	f.expect(300)
}

// A mailbox in which nothing has changed is not gone through after a restart.
func TestStartLooksAtLittle(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deliver("INBOX", 1000)
	f.expect(1000)
	f.expunge(3)
	f.deliver("INBOX", 10)
	if err := f.k.Tidy(context.Background()); err != nil {
		t.Fatal(err)
	}
	f.deliver("INBOX", 10)
	opened := &countingStore{Log: f.st}
	f.restart(f.k.cfg.Dir)
	f.k.cfg.Store = opened
	for i, want := range []int{0, 0, 1, 1} {
		if i == 2 {
			f.expunge(700)
		}
		f.k.Check(alice)
		f.k.Catch(context.Background())
		if opened.n != want {
			t.Errorf("look %d: %d mailboxes were opened, want %d", i, opened.n, want)
		}
	}
}

type countingStore struct {
	*store.Log
	n int
}

func (s *countingStore) Open(ctx context.Context, account, mailbox string) (store.Snapshot, store.Watch, error) {
	s.n++
	return s.Log.Open(ctx, account, mailbox)
}

// With a key nothing can be read without it; what was in the clear is made anew,
// and where there is no key for an account nothing is kept.
func TestSealed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.deliver("INBOX", 300)
	f.expect(300)
	c, err := aes.NewCipher(make([]byte, 32))
	if err == nil {
		f.key, err = cipher.NewGCM(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.restart(f.k.cfg.Dir)
	if n := f.known(); n != 0 {
		t.Error("what is in the clear counts")
	}
	f.expect(300)
	names, b := f.files()
	if bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("User")) {
		t.Error("mail is in the clear")
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(names[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	f.expect(300)
	f.no = errors.New("the key is not here")
	f.restart(t.TempDir())
	f.deliver("INBOX", 300)
	f.expect(0)
	if names, _ := f.files(); len(names) != 0 {
		t.Error(names)
	}
}

// FuzzValues takes any octets for what stands in a block.
func FuzzValues(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 1}, 1)
	f.Add([]byte{9, 0, 0, 0, 2, 3, 'a', 'b', 'c', 'd', 'e', 'f', 'g'}, 1)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		if n < 1 || 4*n > len(data) {
			return
		}
		b := &block{n: n, data: data}
		r := &Reader{k: &Keeper{}, on: true}
		r.cur.run, r.cur.blk = &run{}, 0
		for c := colThread; c < columns; c++ {
			r.cur.cols[c], r.cur.held[c] = *b, 1
		}
		all := FieldSet{}
		for i := range all {
			all[i] = ^uint64(0)
		}
		for i := range n + 1 {
			r.cur.pos = i
			r.Envelope(true)
			r.Structure(false)
			r.Preview(false)
			r.Text(ByCc)
			r.Thread(nil)
			r.Fields(nil, &all)
		}
	})
}

// inMemory is a file's octets.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// FuzzRun takes any octets for a run whose head is not damaged.
func FuzzRun(f *testing.F) {
	b, k := &builder{box: 7}, newMaker()
	for i := range 5 {
		e, err := k.make(&store.Message{UID: store.UID(2*i + 1), Size: int64(len(text(i)))}, strings.NewReader(text(i)))
		if err != nil {
			f.Fatal(err)
		}
		b.add(&e)
	}
	dir := f.TempDir()
	name, err := b.write(dir, 1, nil)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, name.String()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, name.count)
	f.Add(whole[:headSize+4], uint32(0))
	f.Fuzz(func(t *testing.T, data []byte, count uint32) {
		blocks := (int64(count) + blockLen - 1) / blockLen
		if head := headSize + blocks*(perBlock+int64(columns)*perPlace); int64(len(data)) >= head {
			binary.LittleEndian.PutUint32(data[headSize-4:], headSum(data[:head]))
		}
		r, err := newRun(inMemory{bytes.NewReader(data)}, runName{1, 1 << 20, count, 1}, 7, nil)
		if err != nil {
			return
		}
		c := &cursor{}
		c.open(r)
		for uid := store.UID(1); uid < 1<<20; uid += uid/3 + 1 {
			if found, err := c.seek(&store.Message{UID: uid}); err == nil && found {
				_, _ = c.entry()
			}
		}
	})
}

// BenchmarkPass is what a small message costs behind its delivery, all in all.
func BenchmarkPass(b *testing.B) {
	f := newFixture(b)
	f.deliver("INBOX", 8192)
	cpu := func() int64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := cpu()
	for b.Loop() {
		f.restart(b.TempDir())
		f.k.Check(alice)
		f.k.Catch(context.Background())
	}
	b.ReportMetric(float64(cpu()-before)/1000/8192/float64(b.N), "CPU-µs/message")
	_, octets := f.files()
	b.ReportMetric(float64(len(octets))/8192, "octets/message")
}

// BenchmarkMake is what a message costs behind its delivery, without reading it.
func BenchmarkMake(b *testing.B) {
	k := newMaker()
	msg := text(7) + strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 80)
	m := &store.Message{UID: 1, Size: int64(len(msg)), ObjectID: "E1"}
	at := strings.NewReader(msg)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.make(m, at); err != nil {
			b.Fatal(err)
		}
	}
}

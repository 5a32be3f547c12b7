package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailform/server/store/seal"
)

func testRoot(t testing.TB, fill byte) *seal.Key {
	t.Helper()
	k, err := seal.KeyOf(bytes.Repeat([]byte{fill}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

// sealedLog is a store in a folder, with two accounts, that encrypts.
func sealedLog(t testing.TB, dir string, opt Options) *Log {
	t.Helper()
	opt.ReserveBytes, opt.Encrypt = -1, true
	if opt.Root == nil {
		opt.Root = testRoot(t, 7)
	}
	l, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, a := range []string{"a@b", "c@b"} {
		if err := l.EnsureAccount(t.Context(), a, 0); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// Bodies of every length around the blocks come back as they were, from memory and
// from a segment of their own, compressed and not, before and after compaction and
// after encryption is turned on and off.
func TestSealed(t *testing.T) {
	text := strings.Repeat("From here to there, the same words again and again.\r\n", 8000)
	for _, memory := range []int64{256 << 10, 1000} {
		for _, compress := range []bool{false, true} {
			dir := t.TempDir()
			l := sealedLog(t, dir, Options{MemoryBody: memory, SegmentBytes: 300_000, Compress: compress})
			var sent []Message
			var want []string
			for i, size := range []int{1, 511, 5000, blobBlock - 1, blobBlock, blobBlock + 1, 2 * blobBlock, 3*blobBlock + 17} {
				for _, body := range []string{text[:size], noise(size), noise(size/2) + text[:size-size/2]} {
					if err := l.SetEncrypt(i%3 != 2); err != nil {
						t.Fatal(err)
					}
					sent = append(sent, deliverBody(t, l, body))
					want = append(want, "P: 1\r\n"+body)
				}
			}
			verify := func(when string, l *Log) {
				t.Helper()
				for i, m := range sent {
					if got, err := readBody(l, m); err != nil || got != want[i] || m.Size != int64(len(got)) {
						t.Fatalf("%s: message %d of %d octets: %v, the same %t", when, i, m.Size, err, got == want[i])
					}
				}
				if err := l.Check(t.Context()); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
			}
			verify("delivered", l)
			if err := l.SetEncrypt(true); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Compact(t.Context(), CompactOptions{MaxLive: 1, MaxCopy: 1 << 40}); err != nil {
				t.Fatal(err)
			}
			verify("compacted", l)
			if st, err := l.Stats(t.Context()); err != nil || st.Format != boundFormat || compress != (st.Packed > 0) {
				t.Errorf("stats: %+v, %v", st, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			// Without the keys all can be checked, and nothing that is encrypted be read.
			l, err := Open(dir, Options{Keyless: true, FS: ReadOnly()})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Check(t.Context()); err != nil {
				t.Error(err)
			}
			box, w, err := l.Open(t.Context(), "a@b", "INBOX")
			if err != nil || box.Messages.Len() != len(sent) {
				t.Fatalf("%d messages, %v", box.Messages.Len(), err)
			}
			if _, err := readBody(l, *box.Messages.At(0)); !errors.Is(err, ErrNoKey) || errors.Is(err, ErrDamaged) {
				t.Errorf("read without a key: %v", err)
			}
			w.Close()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// onFiles returns the files below dir that have one of the words in them.
func onFiles(t testing.TB, dir string, words ...string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a checkpoint that was finished meanwhile
		}
		for _, w := range words {
			if bytes.Contains(b, []byte(w)) {
				found = append(found, fmt.Sprintf("%s: %s", filepath.Base(path), w))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// No octet of a message is in any file of the store, whatever way it came in.
func TestSealedCanary(t *testing.T) {
	words := []string{"canary-body", "canary-large", "canary-prefix", "canary-append", "canary-queue", "canary-notice", "canary-import", "canary-old"}
	for _, compress := range []bool{false, true} {
		dir := t.TempDir()
		ctx := t.Context()
		l := sealedLog(t, dir, Options{MemoryBody: 10_000, Compress: compress, CheckpointBytes: 1})
		if err := l.SetEncrypt(false); err != nil {
			t.Fatal(err)
		}
		deliverBody(t, l, "canary-old")
		if len(onFiles(t, dir, words...)) == 0 {
			t.Fatal("what is in the clear is not found")
		}
		if err := l.SetEncrypt(true); err != nil {
			t.Fatal(err)
		}
		d := Delivery{Body: strings.NewReader("canary-body"), Size: -1, Targets: []Target{{Account: "a@b", Mailbox: "INBOX", Prefix: []byte("canary-prefix")}},
			Queue: []QueueEntry{{Prefix: []byte("canary-queue: 1\r\n"), Domain: "x"}}}
		_, err := l.Deliver(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		deliverBody(t, l, strings.Repeat("canary-large\r\n", 10_000))
		_, err = l.Deliver(ctx, Delivery{Queue: []QueueEntry{{Prefix: []byte("canary-notice"), Domain: "x"}}})
		_, _, err2 := l.Append(ctx, "a@b", "INBOX", strings.NewReader("canary-append"), -1, nil, l.opt.Now())
		_, err3 := l.Import(ctx, "c@b", []Incoming{{Mailbox: "Old", Body: strings.NewReader("canary-import"), Size: -1}})
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Compact(ctx, CompactOptions{MaxLive: 1, MaxCopy: 1 << 40}); err != nil {
			t.Fatal(err)
		}
		if err := l.Rebuild(ctx); err != nil {
			t.Fatal(err)
		}
		if found := onFiles(t, dir, words...); len(found) > 0 {
			t.Errorf("compress %t: in the clear: %v", compress, found)
		}
		q, err := l.Queue(ctx)
		if err != nil || len(q) != 2 {
			t.Fatalf("%v, %v", q, err)
		}
		i := slices.IndexFunc(q, func(e QueueEntry) bool { return e.Body.Size > 0 })
		if string(q[i].Prefix) != "canary-queue: 1\r\n" || q[i].Size != int64(len("canary-queue: 1\r\ncanary-body")) || string(q[1-i].Prefix) != "canary-notice" {
			t.Errorf("the queue: %+v", q)
		}
		r, err := l.OpenQueued(ctx, q[i])
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(r); err != nil || b.String() != "canary-queue: 1\r\ncanary-body" {
			t.Errorf("%q, %v", b.String(), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A store does not open without its key or with another, nothing is changed by that,
// and with the key again all is there.
func TestRootKey(t *testing.T) {
	dir := t.TempDir()
	l := sealedLog(t, dir, Options{})
	m := deliverBody(t, l, "text")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	before := folder(t, dir)
	for name, root := range map[string]*seal.Key{"none": nil, "another": testRoot(t, 8)} {
		for _, encrypt := range []bool{true, false} {
			_, err := Open(dir, Options{Root: root, Encrypt: encrypt})
			var wrong *seal.RootError
			if !errors.As(err, &wrong) || wrong.Want != testRoot(t, 7).Fingerprint() {
				t.Errorf("%s, encrypt %t: %v", name, encrypt, err)
			}
		}
	}
	if got := folder(t, dir); got != before {
		t.Errorf("it was changed:\n%s\n%s", before, got)
	}
	if _, err := Open(t.TempDir(), Options{Encrypt: true}); err == nil {
		t.Error("a new store is encrypted without a key")
	}
	l = sealedLog(t, dir, Options{})
	if got, err := readBody(l, m); err != nil || got != "P: 1\r\ntext" {
		t.Errorf("%q, %v", got, err)
	}
	// Another root key: from then on it is the one, and the old one is nothing.
	if err := errors.Join(l.SetRoot(*testRoot(t, 9)), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Root: testRoot(t, 7)}); err == nil {
		t.Error("the root key from before opens it")
	}
	l = sealedLog(t, dir, Options{Root: testRoot(t, 9)})
	if got, err := readBody(l, m); err != nil || got != "P: 1\r\ntext" {
		t.Errorf("after another root key: %q, %v", got, err)
	}
}

// folder tells of all files and what is in them.
func folder(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %d %08x\n", path, len(text), checksum(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// One copy of the keyring may be lost or damaged; both are an error that says so.
func TestKeyringCopies(t *testing.T) {
	dir := t.TempDir()
	l := sealedLog(t, dir, Options{})
	m := deliverBody(t, l, "text")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, harm := range []func(path string) error{
		os.Remove,
		func(path string) error { return os.Truncate(path, 0) },
		func(path string) error { return os.Truncate(path, 100) },
		func(path string) error { return os.WriteFile(path, []byte("noise"), 0o600) },
	} {
		for _, name := range []string{keyringName, keyringCopy} {
			if err := harm(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			l := sealedLog(t, dir, Options{})
			if got, err := readBody(l, m); err != nil || got != "P: 1\r\ntext" {
				t.Errorf("%q, %v", got, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		a, err := os.ReadFile(filepath.Join(dir, keyringName))
		b, err2 := os.ReadFile(filepath.Join(dir, keyringCopy))
		if errors.Join(err, err2) != nil || !bytes.Equal(a, b) {
			t.Fatal("it was not mended")
		}
	}
	for _, name := range []string{keyringName, keyringCopy} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "away."+name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir, Options{Root: testRoot(t, 7), Encrypt: true}); !errors.Is(err, seal.ErrRing) {
		t.Errorf("without a keyring: %v", err)
	}
	for _, name := range []string{keyringName, keyringCopy} {
		if err := os.Rename(filepath.Join(dir, "away."+name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	l = sealedLog(t, dir, Options{})
	if got, err := readBody(l, m); err != nil || got != "P: 1\r\ntext" {
		t.Errorf("%q, %v", got, err)
	}
}

// Erasing an account drops its key: what was its own cannot be read even from a copy
// of the log from before, what it shared is the others' still.
func TestSealedErase(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	l := sealedLog(t, dir, Options{})
	own := deliverBody(t, l, "mine alone")
	both, err := l.Deliver(ctx, Delivery{Body: strings.NewReader("for both"), Size: -1, Targets: []Target{{Account: "a@b", Mailbox: "INBOX"}, {Account: "c@b", Mailbox: "INBOX"}}})
	if err != nil {
		t.Fatal(err)
	}
	staged, err := l.Stage(ctx, "a@b", Named("INBOX"), strings.NewReader("on its way"), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Discard()
	r, err := l.newReader(nil, part{ref: own.Body})
	if err != nil {
		t.Fatal(err)
	}
	slots, bound := r.parts[0].coded.slots, r.parts[0].coded.bound
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Keys().OpenBody(slots, bound); err != nil {
		t.Fatal(err)
	}
	e, err := l.Erase(ctx, "a@b", CompactOptions{})
	if err != nil || !e.Clean() || !e.Key || e.Shared != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := l.Keys().OpenBody(slots, bound); !errors.Is(err, ErrNoKey) {
		t.Errorf("its key is there: %v", err)
	}
	if _, _, err := l.AppendStaged(ctx, "a@b", Named("INBOX"), []StagedMessage{{Body: staged}}, nil); err == nil {
		t.Error("what nobody can read was taken in")
	}
	if got, err := readBody(l, both[1]); err != nil || got != "for both" {
		t.Errorf("the other's: %q, %v", got, err)
	}
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	if got, err := readBody(l, deliverBody(t, l, "another's")); err != nil || got != "P: 1\r\nanother's" {
		t.Errorf("who has the name next: %q, %v", got, err)
	}
	if err := l.Check(ctx); err != nil {
		t.Error(err)
	}
}

// An image has the keys of all that is in it.
func TestSealedImage(t *testing.T) {
	l := sealedLog(t, t.TempDir(), Options{})
	m := deliverBody(t, l, "text")
	im, err := l.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range im.Files {
		r, err := im.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, f.Size)
		_, err = r.ReadAt(b, 0)
		path := filepath.Join(dir, f.Name)
		if err := errors.Join(err, r.Close(), os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := im.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Copied: true}); err == nil {
		t.Error("the copy opens without the key")
	}
	copied := sealedLog(t, dir, Options{Copied: true})
	if got, err := readBody(copied, m); err != nil || got != "P: 1\r\ntext" {
		t.Errorf("%q, %v", got, err)
	}
	if found := onFiles(t, dir, "P: 1"); len(found) > 0 {
		t.Errorf("in the clear: %v", found)
	}
}

// Whatever octet of a sealed record is another, and its checksums made to match, is
// found by the seal.
func TestSealedTampering(t *testing.T) {
	l := sealedLog(t, t.TempDir(), Options{})
	m := deliverBody(t, l, noise(2*blobBlock+100))
	b, err := l.openBlob(m.Body, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.seg.release(b.seg); err != nil {
			t.Error(err)
		}
	}()
	buf := make([]byte, blobBlock)
	if _, err := b.block(1, buf); err != nil {
		t.Fatal(err)
	}
	swap := func() {
		c := b.coded
		c.at[0], c.at[1], c.at[2] = c.at[1], c.at[2], c.at[2]+(c.at[1]-c.at[0])
		c.sums[0], c.sums[1] = c.sums[1], c.sums[0]
	}
	swap()
	if _, err := b.block(0, buf); !errors.Is(err, ErrDamaged) {
		t.Errorf("a block in the place of another: %v", err)
	}
	// Cut after two blocks: the second is not the last.
	b, err = l.newBlob(b.seg, m.Body)
	if err != nil {
		t.Fatal(err)
	}
	b.ref.Size = 2 * blobBlock
	if _, err := b.block(1, buf); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut off: %v", err)
	}
	b, err = l.newBlob(b.seg, m.Body)
	if err != nil {
		t.Fatal(err)
	}
	b.coded.slots = bytes.Clone(b.coded.slots)
	b.coded.slots[len(b.coded.slots)-1] ^= 1
	if _, err := b.block(0, buf); !errors.Is(err, ErrDamaged) {
		t.Errorf("another key in the slot: %v", err)
	}
}

// Salvage says of what is encrypted that it is there, and reads it with the keys.
func TestSealedSalvage(t *testing.T) {
	dir := t.TempDir()
	l := sealedLog(t, dir, Options{})
	m := deliverBody(t, l, "expunged")
	if _, err := l.UpdateFlags(t.Context(), "a@b", Named("INBOX"), []UID{m.UID}, FlagsAdd, []string{`\Deleted`}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Expunge(t.Context(), "a@b", Named("INBOX"), nil); err != nil {
		t.Fatal(err)
	}
	found := func(l *Log) (texts []string, sealed int) {
		err := l.Unreferenced(context.Background(), func(_ BodyRef, r io.Reader) error {
			var b bytes.Buffer
			if _, err := b.ReadFrom(r); errors.Is(err, ErrNoKey) {
				sealed++
			} else if err != nil {
				return err
			} else {
				texts = append(texts, b.String())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return texts, sealed
	}
	if texts, _ := found(l); !slices.Contains(texts, "expunged") {
		t.Errorf("with the keys: %q", texts)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir, Options{Keyless: true, FS: ReadOnly()})
	if err != nil {
		t.Fatal(err)
	}
	if texts, sealed := found(l); len(texts) != 0 || sealed != 2 {
		t.Errorf("without: %q, %d encrypted", texts, sealed)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkSealedBody encrypts messages, and reads what it made.
func BenchmarkSealedBody(b *testing.B) {
	for _, size := range []int{4 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := sealedLog(b, b.TempDir(), Options{})
			body := []byte(noise(size))
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := l.shortBody(body, belonging{[]string{"a@b"}, seal.PartBody, "E1"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An account that is emptied, 30 days after its mailbox was removed, has another key when
// it is used again: mail from before cannot be read from copies of the disk.
func TestSealedEmpty(t *testing.T) {
	ctx := t.Context()
	l := sealedLog(t, t.TempDir(), Options{})
	deliverBody(t, l, "from before")
	before, err := l.vault.ring.Load().SealOctets("a@b", "test", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.EmptyAccount(ctx, "a@b"); err != nil {
		t.Fatal(err)
	}
	if l.Keys().Has("a@b") {
		t.Error("the key is there")
	}
	for _, name := range []string{keyringName, keyringCopy} {
		if b, err := l.readKeyring(name); err != nil || bytes.Contains(b, seal.LineOf("a@b")) || !bytes.Contains(b, seal.LineOf("")) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	m := deliverBody(t, l, "from later")
	if _, err := l.vault.ring.Load().OpenOctets("a@b", "test", before); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("it is the key from before: %v", err)
	}
	if got, err := readBody(l, m); err != nil || got != "P: 1\r\nfrom later" {
		t.Errorf("%q, %v", got, err)
	}
}

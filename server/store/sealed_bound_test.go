package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailform/server/store/seal"
)

// A store that was encrypted before records were bound reads as it did, takes new mail,
// and is compacted without loss.
func TestSealedFromBefore(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/sealed-4")); err != nil {
		t.Fatal(err)
	}
	l := sealedLog(t, dir, Options{MemoryBody: 1000})
	want := map[string][]string{
		"a@b": {"P: 1\r\nMessage-ID: <1@x>\r\n\r\nfor both", strings.Repeat("large ", 500), "P: 1\r\nnew"},
		"c@b": {"Message-ID: <1@x>\r\n\r\nfor both"},
	}
	deliverBody(t, l, "new")
	verify := func(when string) {
		t.Helper()
		for account, texts := range want {
			snap, w, err := l.Open(t.Context(), account, "INBOX")
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			if snap.Messages.Len() != len(texts) {
				t.Fatalf("%s: %d messages", when, snap.Messages.Len())
			}
			for i, m := range snap.Messages.All() {
				if got, err := readAs(l, account, *m); err != nil || got != texts[i] {
					t.Errorf("%s: %s: %q, %v", when, account, got, err)
				}
			}
		}
		q, err := l.Queue(t.Context())
		if err != nil || len(q) != 1 {
			t.Fatal(q, err)
		}
		r, err := l.OpenQueued(t.Context(), q[0])
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || string(b) != "Q: 1\r\nMessage-ID: <1@x>\r\n\r\nfor both" {
			t.Errorf("%s: the queue: %q, %v", when, b, err)
		}
		if err := l.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	verify("opened")
	if _, err := l.Compact(t.Context(), CompactOptions{MaxLive: 1, MaxCopy: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	verify("compacted")
	// It was bound to whose keys it has even then.
	snap, w, err := l.Open(t.Context(), "a@b", "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := readAs(l, "c@b", *snap.Messages.At(1)); !errors.Is(err, ErrDamaged) {
		t.Errorf("another's message is shown: %v", err)
	}
}

func readAs(l *Log, account string, m Message) (string, error) {
	r, err := l.newReader(nil, part{m.Head, m.reading(account, seal.PartHead)}, part{m.Body, m.reading(account, seal.PartBody)})
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

// onDisk is a record of a segment file, to be rewritten by whoever has no key.
type onDisk struct {
	t    *testing.T
	file *os.File
	at   int64
	rec  record
	mark uint64
	data []byte
}

func diskRecord(t *testing.T, l *Log, ref BodyRef) *onDisk {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(l.seg.dir, segmentName(ref.Segment, l.seg.kindOf(ref.Segment))), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	head := make([]byte, recordHeader)
	if _, err := f.ReadAt(head, ref.Offset); err != nil {
		t.Fatal(err)
	}
	d := &onDisk{t: t, file: f, at: ref.Offset, mark: binary.LittleEndian.Uint64(head)}
	if d.rec, err = decodeRecord(head, d.mark); err != nil {
		t.Fatal(err)
	}
	d.data = make([]byte, d.rec.Len)
	if _, err := f.ReadAt(d.data, ref.Offset+recordHeader); err != nil {
		t.Fatal(err)
	}
	return d
}

// write puts data in the place of the record's, with every checksum as it has to be.
func (d *onDisk) write(kind recordType, data []byte, size int64) {
	d.t.Helper()
	tail := data[int64(len(data))-tailSize(kind, data[len(data)-codedTrailer:], size):]
	rec := d.rec
	rec.Type, rec.Len, rec.Sum = kind, int64(len(data)), checksum(tail)
	head := make([]byte, recordHeader)
	rec.put(head, d.mark)
	for _, w := range []struct {
		p  []byte
		at int64
	}{{head, d.at}, {data, d.at + recordHeader}} {
		if _, err := d.file.WriteAt(w.p, w.at); err != nil {
			d.t.Fatal(err)
		}
	}
}

// Whoever writes to the disk and has no key can take mail away, but show nobody another's,
// nor one message as another: what stands where it was not sealed for is damage.
func TestSealedIsBoundToItsPlace(t *testing.T) {
	const size = 900
	texts := map[string]string{}
	setUp := func(t *testing.T) (l *Log, a1, a2, c Message) {
		l = sealedLog(t, t.TempDir(), Options{})
		deliver := func(account, text string) Message {
			ms, err := l.Deliver(t.Context(), Delivery{Body: strings.NewReader(text), Size: -1, Targets: []Target{{Account: account, Mailbox: "INBOX", Prefix: []byte("P: 1\r\n")}}})
			if err != nil {
				t.Fatal(err)
			}
			texts[ms[0].ObjectID] = "P: 1\r\n" + text
			return ms[0]
		}
		head := "Message-ID: <one@example.com>\r\n\r\n"
		return l, deliver("a@b", head+noise(size-len(head))), deliver("a@b", noise(size)), deliver("c@b", noise(size))
	}
	for name, harm := range map[string]func(t *testing.T, l *Log, a1, a2, c Message) (hit []Message){
		"two messages of one account change places": func(t *testing.T, l *Log, a1, a2, c Message) []Message {
			x, y := diskRecord(t, l, a1.Body), diskRecord(t, l, a2.Body)
			x.write(recordSealed, y.data, size)
			y.write(recordSealed, x.data, size)
			return []Message{a1, a2}
		},
		"another account's message": func(t *testing.T, l *Log, a1, a2, c Message) []Message {
			diskRecord(t, l, a1.Body).write(recordSealed, diskRecord(t, l, c.Body).data, size)
			return []Message{a1}
		},
		"another account's message as it said it was": func(t *testing.T, l *Log, a1, a2, c Message) []Message {
			// The log is rewritten as well: only the key tells.
			return []Message{logged(t, l, c)}
		},
		"header lines as a message": func(t *testing.T, l *Log, a1, a2, c Message) []Message {
			a1.Head, a1.Body = BodyRef{}, a1.Head
			return []Message{logged(t, l, a1)}
		},
		"taken for what is only compressed": func(t *testing.T, l *Log, a1, a2, c Message) []Message {
			x := diskRecord(t, l, a1.Body)
			x.write(recordCoded, x.data, size)
			return []Message{a1}
		},
		"taken for one from before": func(t *testing.T, l *Log, a1, a2, c Message) []Message {
			x := diskRecord(t, l, a1.Body)
			n := len(x.data)
			data := append(bytes.Clone(x.data[:n-codedTrailer-seal.IDSize]), x.data[n-codedTrailer:]...)
			data[len(data)-codedTrailer+1], data[len(data)-codedTrailer+2] = 0, 0
			x.write(recordSealed, data, size)
			return []Message{a1}
		},
		"said to be of another message": func(t *testing.T, l *Log, a1, a2, c Message) []Message {
			x, y := diskRecord(t, l, a1.Body), diskRecord(t, l, a2.Body)
			data, n := bytes.Clone(y.data), len(y.data)
			copy(data[n-codedTrailer-seal.IDSize:], x.data[n-codedTrailer-seal.IDSize:n-codedTrailer])
			x.write(recordSealed, data, size)
			return []Message{a1}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, a1, a2, c := setUp(t)
			if err := l.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			hit := map[string]bool{}
			for _, m := range harm(t, l, a1, a2, c) {
				hit[m.ObjectID] = true
				if got, err := readAs(l, "a@b", m); !errors.Is(err, ErrDamaged) || got != "" && got != "P: 1\r\n" {
					t.Errorf("%q is shown, %v", got, err)
				}
				err := l.Check(t.Context())
				if err == nil || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "a@b, INBOX, UID ") {
					t.Errorf("check: %v", err)
				}
			}
			for account, list := range map[string][]Message{"a@b": {a1, a2}, "c@b": {c}} {
				for _, m := range list {
					if got, err := readAs(l, account, m); (account == "c@b" || !hit[m.ObjectID]) && (err != nil || got != texts[m.ObjectID]) {
						t.Errorf("what was not touched: %v", err)
					}
				}
			}
		})
	}
}

// The queue sends nobody's mail that was not for it.
func TestSealedQueueIsBound(t *testing.T) {
	l := sealedLog(t, t.TempDir(), Options{})
	m := deliverBody(t, l, "kept")
	if _, err := l.Deliver(t.Context(), Delivery{Queue: []QueueEntry{{ID: "q", Recipients: []string{"x@y"}, Domain: "y", Body: m.Body}}}); err != nil {
		t.Fatal(err)
	}
	q, err := l.Queue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.OpenQueued(t.Context(), q[0])
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); !errors.Is(err, ErrDamaged) {
		t.Errorf("%q, %v", b, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "queue entry q (from <> to x@y") {
		t.Errorf("check: %v", err)
	}
}

// Object ids that were reserved are nobody else's, also after a start that finds the
// same last transaction.
func TestReservedObjectIDs(t *testing.T) {
	dir, seen := t.TempDir(), map[string]bool{}
	for range 3 {
		l := sealedLog(t, dir, Options{})
		staged, err := l.Stage(t.Context(), "a@b", Box{Name: "INBOX"}, strings.NewReader("unused"), -1)
		if err != nil {
			t.Fatal(err)
		}
		staged.Discard()
		ms, err := l.Deliver(t.Context(), Delivery{Body: strings.NewReader("text"), Size: -1, Targets: []Target{{Account: "a@b", Mailbox: "INBOX"}, {Account: "c@b", Mailbox: "INBOX"}}})
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := l.Append(t.Context(), "a@b", "INBOX", strings.NewReader("x"), -1, nil, l.opt.Now())
		if err != nil {
			t.Fatal(err)
		}
		in, err := l.Import(t.Context(), "a@b", []Incoming{{Mailbox: "INBOX", Body: strings.NewReader("y"), Size: -1}})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range append(ms, m, *in[0]) {
			if seen[m.ObjectID] || !validObjectID(m.ObjectID) {
				t.Errorf("object id %q", m.ObjectID)
			}
			seen[m.ObjectID] = true
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// logged writes a transaction that puts a message as it is into the INBOX of a@b.
func logged(t *testing.T, l *Log, m Message) Message {
	t.Helper()
	if err := l.do(t.Context(), func(tx *txn) error {
		a, b, err := tx.messages("a@b", Box{Name: "INBOX"})
		if err == nil {
			tx.append(a, b, &m)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// sampleSegment makes a store and returns the octets of its first segment.
func sampleSegment(tb testing.TB, fs *SimFS) []byte {
	tb.Helper()
	l, err := Open("/s", Options{FS: fs, ReserveBytes: -1})
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		tb.Fatal(err)
	}
	for _, text := range []string{"one", "two", strings.Repeat("x", 1000)} {
		d := Delivery{Body: strings.NewReader(text), Size: -1, Targets: []Target{{Account: "a@b", Mailbox: "INBOX", Prefix: []byte("P")}},
			Queue: []QueueEntry{{Domain: "c"}}}
		if _, err := l.Deliver(ctx, d); err != nil {
			tb.Fatal(err)
		}
	}
	if _, err := l.UpdateFlags(ctx, "a@b", Named("INBOX"), []UID{1, 3}, FlagsSet, []string{`\Deleted`}); err != nil {
		tb.Fatal(err)
	}
	if _, err := l.Expunge(ctx, "a@b", Named("INBOX"), nil); err != nil {
		tb.Fatal(err)
	}
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	return fs.Content("/s/log/" + segmentName(1, kindLog))
}

func fuzzFS() *SimFS { return NewSimFS(rand.New(rand.NewPCG(1, 1))) }

// FuzzSegment opens a store whose only segment is made of arbitrary octets. It
// must open, and once more with the same content.
func FuzzSegment(f *testing.F) {
	good := sampleSegment(f, fuzzFS())
	f.Add(good, uint16(0), []byte{})
	f.Add(good, uint16(300), []byte("damage"))
	f.Add(good[:200], uint16(0), []byte{})
	f.Add(append(good[:500:500], good[64:]...), uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, segment []byte, at uint16, patch []byte) {
		if len(segment) > 1<<20 {
			return
		}
		segment = bytes.Clone(segment)
		if int(at) < len(segment) {
			copy(segment[at:], patch)
		}
		// Give records right checksums now and then, so that their content is looked at.
		if info, err := decodeSegmentInfo(segment); err == nil {
			sc := &scanner{r: bytes.NewReader(segment), marker: info.Marker, pos: segmentHeader, end: int64(len(segment))}
			for {
				it, err := sc.next()
				if err != nil {
					break
				}
				if it.Type == recordTx && it.payload != nil {
					it.Sum = checksum(it.payload)
					it.record.put(segment[it.off:], info.Marker)
				}
			}
		}
		fs := fuzzFS()
		fs.SetContent("/s/log/"+segmentName(1, kindLog), segment)
		var content [2]string
		for i := range content {
			l, err := Open("/s", Options{FS: fs, ReserveBytes: -1})
			if err != nil {
				t.Fatal(err)
			}
			content[i] = dump(t, l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if content[0] != content[1] {
			t.Fatalf("first start:\n%s\nsecond start:\n%s", content[0], content[1])
		}
	})
}

// dump shows the messages of a store.
func dump(t *testing.T, l *Log) string {
	var b strings.Builder
	for _, a := range l.ix.accounts {
		for _, err := range l.checkAccount(a, map[uint64]int64{}) {
			t.Error(err)
		}
	}
	boxes, err := l.Mailboxes(context.Background(), "a@b")
	if err != nil {
		return ""
	}
	for _, info := range boxes {
		snap, w, err := l.Open(context.Background(), "a@b", info.Name)
		if err != nil {
			continue // a name that no one could have given
		}
		w.Close()
		b.WriteString(info.Name + ":")
		for _, m := range snap.Messages.All() {
			text := "unreadable"
			if r, err := l.Read(context.Background(), "a@b", *m); err == nil {
				if octets, err := io.ReadAll(r); err == nil {
					text = string(octets)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
			b.WriteString(" " + text + strings.Join(m.Flags, ","))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// FuzzTransaction reads arbitrary octets as a transaction, and what it has read
// a second time after writing it.
func FuzzTransaction(f *testing.F) {
	seg := sampleSegment(f, fuzzFS())
	info, err := decodeSegmentInfo(seg)
	if err != nil {
		f.Fatal(err)
	}
	sc := &scanner{r: bytes.NewReader(seg), marker: info.Marker, pos: segmentHeader, end: int64(len(seg))}
	for {
		it, err := sc.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f.Fatal(err)
		}
		if it.Type == recordTx {
			f.Add(it.payload)
		}
	}
	moves := []refMove{{BodyRef{Segment: 1, Offset: 64, Size: 9000, Stored: 900}, BodyRef{Segment: 2, Offset: 64, Size: 9000, Stored: 900}}}
	var e encoder
	(&transaction{LSN: 7, Ops: []op{
		&opMoved{Account: "a@b", Moves: moves, Boxes: []movedBox{{Box: 1, UIDs: []UID{1, 4, 5}}}},
		&opMoved{Moves: moves, IDs: []string{"q"}},
	}}).encode(&e)
	f.Add(e.b)
	f.Fuzz(func(t *testing.T, payload []byte) {
		tx, err := decodeTransaction(payload, nil)
		if err != nil {
			return
		}
		var e encoder
		tx.encode(&e)
		again, err := decodeTransaction(e.b, nil)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		var e2 encoder
		again.encode(&e2)
		if !bytes.Equal(e.b, e2.b) {
			t.Fatal("writing what was read gives something else")
		}
		newIndex().apply(tx)
	})
}

// FuzzCheckpoint reads arbitrary octets as a checkpoint.
func FuzzCheckpoint(f *testing.F) {
	fs := fuzzFS()
	sampleSegment(f, fs)
	b := fs.Content("/s/checkpoint/" + checkpointName(1))
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		// With right checksums the parts are looked at.
		fixed := bytes.Clone(b)
		fixChunks(fixed)
		fs := fuzzFS()
		l := &Log{fs: fs}
		for _, octets := range [][]byte{b, fixed} {
			fs.SetContent("/checkpoint", octets)
			_, _ = l.readCheckpoint("/checkpoint", &checkpointBuilder{ix: newIndex()})
		}
	})
}

func fixChunks(b []byte) {
	pos := len(checkpointMagic)
	for pos+8 < len(b) {
		n := int(uint32(b[pos]) | uint32(b[pos+1])<<8 | uint32(b[pos+2])<<16 | uint32(b[pos+3])<<24)
		if n < 0 || n > len(b)-pos-8 {
			return
		}
		sum := checksum(b[pos+8 : pos+8+n])
		b[pos+4], b[pos+5], b[pos+6], b[pos+7] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		pos += 8 + n
	}
}

// FuzzBlock decodes arbitrary octets as a block of messages; what can be decoded
// is the same when it is written and read again.
func FuzzBlock(f *testing.F) {
	msgs := []*Message{
		{UID: 3, ModSeq: 9, Flags: []string{`\Seen`, "$Forwarded"}, InternalDate: time.Unix(1700000000, 0).In(time.FixedZone("", 8*3600)), SaveDate: time.Unix(1700000009, 0).UTC(),
			Size: 30, Head: BodyRef{1, 64, 10, 0}, Body: BodyRef{1, 128, 20, 12}, ObjectID: "EABC"},
		{UID: 4, ModSeq: 2, ObjectID: "EABCD", Size: 7, Body: BodyRef{2, 64, 7, 0}},
		{UID: 255, ModSeq: 1 << 60, Flags: []string{`\Seen`, "$Forwarded"}},
	}
	e := &encoder{}
	newBlock(msgs).encode(e)
	f.Add(e.b)
	f.Add(e.b[:9])
	intern := newIndex().flags.intern
	b, err := decodeBlock(0, e.b, intern)
	if err != nil {
		f.Fatal(err)
	}
	got := b.messages()
	for i, m := range msgs {
		g := got[i]
		if !g.InternalDate.Equal(m.InternalDate) || g.InternalDate.Format(time.RFC3339) != m.InternalDate.Format(time.RFC3339) || !g.SaveDate.Equal(m.SaveDate) {
			f.Errorf("message %d: %v, %v", m.UID, g.InternalDate, g.SaveDate)
		}
		x, y := *g, *m
		x.InternalDate, x.SaveDate, y.InternalDate, y.SaveDate = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		if fmt.Sprint(x) != fmt.Sprint(y) {
			f.Errorf("message %d: %v, want %v", m.UID, x, y)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		block, err := decodeBlock(0, b, intern)
		if err != nil {
			return
		}
		e := &encoder{}
		block.encode(e)
		block2, err := decodeBlock(0, e.b, intern)
		if err != nil || len(block2.uids) != len(block.uids) {
			t.Fatalf("%d messages are written and read again: %v", len(block.uids), err)
		}
		msgs, again := block.messages(), block2.messages()
		for i := range msgs {
			if fmt.Sprint(*msgs[i]) != fmt.Sprint(*again[i]) {
				t.Errorf("%v was read again as %v", *msgs[i], *again[i])
			}
		}
	})
}

// FuzzIndexRecords has the index take arbitrary octets as what its file has of an
// account, its annotations, a mailbox and a queue entry.
func FuzzIndexRecords(f *testing.F) {
	m := newMailbox(7, "Box")
	m.count, m.keywords, m.segs = 2, map[string]int{"$Junk": 1}, map[uint64]int64{3: 4}
	f.Add(m.encodeHead())
	a := newAccount("a@b")
	a.subs["x"] = true
	f.Add(a.encodeHead())
	v := &vanished{}
	v.add(9, []UID{1, 2, 7})
	e := &encoder{}
	v.encode(e)
	f.Add(e.b)
	e = &encoder{}
	(&indexState{place: place{segment: 1, offset: 2}, lsn: 5}).encode(e)
	f.Add(e.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		ix := newIndex()
		ix.accounts["a@b"] = newAccount("a@b")
		if err := ix.takeMailbox(boxKey("a@b", 7), b); err == nil {
			if m := ix.accounts["a@b"].boxes[7]; m == nil || ix.accounts["a@b"].names[m.name] != m {
				t.Error("the mailbox is not where its name is")
			}
		}
		_ = ix.takeAnnotations([]byte("a@b"), b)
		_ = ix.takeAccount([]byte("a@b"), b)
		_ = ix.takeQueued(queueKey("x"), b)
		_ = ix.takeQueued([]byte(queueHead), b)
		d := &decoder{b: b}
		new(vanished).decode(d)
		d = &decoder{b: b}
		new(indexState).decode(d)
		_, _, _ = parseBoxKey(b)
	})
}

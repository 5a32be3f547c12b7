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
)

// codedLog is a store with one account, that compresses.
func codedLog(t testing.TB, opt Options) *Log {
	t.Helper()
	opt.ReserveBytes = -1
	l, err := Open(t.TempDir(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.EnsureAccount(t.Context(), "a@b", 0); err != nil {
		t.Fatal(err)
	}
	return l
}

func deliverBody(t testing.TB, l *Log, text string) Message {
	t.Helper()
	msgs, err := l.Deliver(t.Context(), Delivery{Body: strings.NewReader(text), Size: -1, Targets: []Target{{Account: "a@b", Mailbox: "INBOX", Prefix: []byte("P: 1\r\n")}}})
	if err != nil {
		t.Fatal(err)
	}
	return msgs[0]
}

// accountOf is whose a message is that deliverBody or one of the tests made: the first
// of them, but for those that Deliver made second.
func accountOf(m Message) string {
	if strings.HasSuffix(m.ObjectID, "-1") {
		return "c@b"
	}
	return "a@b"
}

func readBody(l *Log, m Message) (string, error) {
	r, err := l.Read(context.Background(), accountOf(m), m)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return string(b)
}

// Bodies of every kind and length around the blocks come back as they were, from
// memory and from a segment of their own, before and after compaction, in a store
// where compression is turned on and off.
func TestCompressed(t *testing.T) {
	text := strings.Repeat("From here to there, the same words again and again.\r\n", 8000)
	for _, memory := range []int64{256 << 10, 1000} {
		l := codedLog(t, Options{MemoryBody: memory, SegmentBytes: 300_000})
		var sent []Message
		var want []string
		for i, size := range []int{1, 511, 512, 5000, blobBlock - 1, blobBlock, blobBlock + 1, 3*blobBlock + 17} {
			for _, body := range []string{text[:size], noise(size), noise(size/2) + text[:size-size/2]} {
				if err := l.SetCompress(i%3 != 2); err != nil {
					t.Fatal(err)
				}
				sent = append(sent, deliverBody(t, l, body))
				want = append(want, "P: 1\r\n"+body)
			}
		}
		verify := func(when string) {
			t.Helper()
			for i, m := range sent {
				if m.Size != int64(len(want[i])) {
					t.Fatalf("%s: message %d has %d octets, want %d", when, i, m.Size, len(want[i]))
				}
				if got, err := readBody(l, m); err != nil || got != want[i] {
					t.Fatalf("%s: message %d of %d octets: %v, the same %t", when, i, m.Size, err, got == want[i])
				}
			}
			if err := l.Check(t.Context()); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
		verify("delivered")
		st, err := l.Stats(t.Context())
		if err != nil || st.Packed == 0 || st.PackedTo*3 > st.Packed*2 || st.Format != codedFormat {
			t.Errorf("stats: %+v, %v", st, err)
		}
		if err := l.SetCompress(true); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Compact(t.Context(), CompactOptions{MaxLive: 1, MaxCopy: 1 << 40}); err != nil {
			t.Fatal(err)
		}
		verify("compacted")
		after, err := l.Stats(t.Context())
		if err != nil || memory > 1000 && after.Packed <= st.Packed {
			t.Errorf("compaction left as they were those that came while compression was off: %+v, %v", after, err)
		}
	}
}

// A part in the middle of a large message is read without what is before it.
func TestCompressedPart(t *testing.T) {
	l := codedLog(t, Options{Compress: true})
	text := strings.Repeat("0123456789abcdef", 1<<16)
	m := deliverBody(t, l, text)
	r, err := l.newReader(nil, part{ref: m.Body})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.parts[0].coded == nil {
		t.Fatal("it is not compressed")
	}
	// Damage all blocks but that one: they are not looked at.
	for i := range r.parts[0].coded.sums {
		if i != 9 {
			r.parts[0].coded.sums[i]++
		}
	}
	p := make([]byte, 100)
	if _, err := r.ReadAt(p, 9*blobBlock+5); err != nil || string(p) != text[9*blobBlock+5:][:100] {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := r.ReadAt(p, 8*blobBlock); !errors.Is(err, ErrDamaged) {
		t.Errorf("a block that does not match its checksum: %v", err)
	}
}

// What is compressed already is left as it is.
func TestLeftAsItIs(t *testing.T) {
	l := codedLog(t, Options{Compress: true})
	for size, body := range map[int]string{100: strings.Repeat("x", 100), 4000: noise(4000), 200_000: noise(200_000)} {
		if m := deliverBody(t, l, body); m.Body.Stored != 0 {
			t.Errorf("%d octets: stored as %d", size, m.Body.Stored)
		}
	}
	if random([]byte(strings.Repeat("text, and more text\r\n", 200))) || !random([]byte(noise(4096))) {
		t.Error("the probe takes text for noise, or noise for text")
	}
}

// A store gets the format that older versions refuse when there is something in it
// that they cannot read, and not before.
func TestCompressedFormat(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		compress bool
		want     int
	}{{false, baseFormat}, {true, codedFormat}, {false, codedFormat}} {
		l, err := Open(dir, Options{Compress: c.compress})
		if err != nil {
			t.Fatal(err)
		}
		st, err := l.Stats(t.Context())
		if err := errors.Join(err, l.Close()); err != nil || st.Format != c.want {
			t.Errorf("compress %t: format %d, want %d, %v", c.compress, st.Format, c.want, err)
		}
	}
}

// FuzzCoded reads arbitrary octets as the tail and the blocks of a coded record.
func FuzzCoded(f *testing.F) {
	var p packer
	if err := p.ready(); err != nil {
		f.Fatal(err)
	}
	c := coder{pack: &p}
	data := c.block(nil, []byte(strings.Repeat("abc", 1000)), true)
	tail, _ := c.finish()
	f.Add(append(data, tail...), int64(3000), false)
	f.Add(append(data, tail...), int64(3000), true)
	f.Fuzz(func(t *testing.T, payload []byte, size int64, sealed bool) {
		if size <= 0 || size > 1<<20 {
			return
		}
		kind := recordCoded
		if sealed {
			kind = recordSealed
		}
		if len(payload) < codedTrailer {
			return
		}
		n := tailSize(kind, payload[len(payload)-codedTrailer:], size)
		if n > int64(len(payload)) {
			return
		}
		coded, err := decodeTail(kind, payload[int64(len(payload))-n:], int64(len(payload)), size)
		if err != nil || sealed {
			return
		}
		buf := make([]byte, blobBlock)
		for i := range blocks(size) {
			stored := payload[coded.at[i]:coded.at[i+1]]
			if !coded.plain[i] {
				_ = p.unpack(buf[:blockLen(size, i)], stored)
			}
		}
	})
}

// BenchmarkCodedBody compresses messages: text, and base64 of what is compressed already.
func BenchmarkCodedBody(b *testing.B) {
	for _, size := range []int{4 << 10, 100 << 10} {
		for name, body := range map[string][]byte{
			"text":   bytes.Repeat([]byte("The quick brown fox number 17 jumps over the lazy dog, twice.\r\n"), size/60)[:size],
			"base64": base64Noise(size),
			"noise":  []byte(noise(size)),
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				l := codedLog(b, Options{Compress: true})
				b.SetBytes(int64(size))
				var stored int64
				for b.Loop() {
					stored = int64(len(l.codedBody(body).data))
				}
				b.ReportMetric(float64(stored)/float64(size), "ratio")
			})
		}
	}
}

func base64Noise(n int) []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	out := make([]byte, n)
	for i := range out {
		out[i] = letters[rand.IntN(64)]
	}
	return out
}

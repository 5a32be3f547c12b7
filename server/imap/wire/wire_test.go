package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestTrailingLiteral(t *testing.T) {
	for _, c := range []struct {
		line    string
		want    Literal
		ok, bad bool
	}{
		{"a LOGIN {3}\r\n", Literal{Size: 3}, true, false},
		{"a LOGIN {3+}\r\n", Literal{Size: 3, NonSync: true}, true, false},
		{"a LOGIN {3-}\n", Literal{Size: 3, NonSync: true}, true, false},
		{"a APPEND x ~{3+}\r\n", Literal{Size: 3, NonSync: true, Binary: true}, true, false},
		{"a APPEND x UTF8 (~{3}\r\n", Literal{Size: 3, Binary: true}, true, false},
		{"a LIST \"\" ({0}\r\n", Literal{}, true, false},
		{"a NOOP\r\n", Literal{}, false, false},
		{"a SELECT x{3}\r\n", Literal{}, false, false}, // no argument of its own: the parser refuses it
		{"a SELECT a}\r\n", Literal{}, false, false},
		{"a SELECT \"{3}\"\r\n", Literal{}, false, false},
		{"a SELECT {99999999999999999}\r\n", Literal{}, false, false},
		{"a SELECT {99999999999999999+}\r\n", Literal{}, false, true},
		{"a SELECT x{3+}\r\n", Literal{}, false, true},
		{"a SELECT \"x {3+}\r\n", Literal{}, false, true},
		{"a SELECT {+}\r\n", Literal{}, false, false},
	} {
		got, ok, bad := TrailingLiteral([]byte(c.line))
		if got != c.want || ok != c.ok || bad != c.bad {
			t.Errorf("%q: %+v, %v, %v; want %+v, %v, %v", c.line, got, ok, bad, c.want, c.ok, c.bad)
		}
	}
}

func TestReader(t *testing.T) {
	text := "first\r\nsecond {5}\r\nab\r\nc third\n" + strings.Repeat("x", 3*largeBuffer) + "\r\n"
	for name, src := range map[string]io.Reader{"whole": strings.NewReader(text), "octets": iotest.OneByteReader(strings.NewReader(text)), "halves": iotest.HalfReader(strings.NewReader(text))} {
		r := NewReader(src, &Buffers{})
		line := func(want string) {
			t.Helper()
			got, err := r.Line(nil, 4*largeBuffer)
			if err != nil || string(got) != want {
				t.Fatalf("%s: %.40q, %v; want %.40q", name, got, err, want)
			}
		}
		line("first\r\n")
		line("second {5}\r\n")
		literal := make([]byte, 5)
		if _, err := io.ReadFull(r, literal); err != nil || string(literal) != "ab\r\nc" {
			t.Fatalf("%s: %q, %v", name, literal, err)
		}
		line(" third\n")
		line(strings.Repeat("x", 3*largeBuffer) + "\r\n")
		if _, err := r.Line(nil, 100); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v at the end", name, err)
		}
		r.Release()
		if r.large != nil {
			t.Errorf("%s: a buffer is kept", name)
		}
	}
	if _, err := NewReader(strings.NewReader(text), &Buffers{}).Line(nil, 3); !errors.Is(err, ErrTooLong) {
		t.Errorf("a line that is too long: %v", err)
	}
}

func TestNames(t *testing.T) {
	for plain, encoded := range map[string]string{"INBOX": "INBOX", "日本語": "&ZeVnLIqe-", "a&b": "a&-b", "Entwürfe/ä": "Entw&APw-rfe/&AOQ-", "😀": "&2D3eAA-"} {
		if got := EncodeName(plain); got != encoded {
			t.Errorf("%q encodes as %q, want %q", plain, got, encoded)
		}
		if got, err := DecodeName(encoded); err != nil || got != plain {
			t.Errorf("%q decodes as %q, %v; want %q", encoded, got, err, plain)
		}
	}
	for _, bad := range []string{"&", "a&b", "&AOQ", "&!-", "&2D0-", "&AGE-", "\xff"} {
		if got, err := DecodeName(bad); err == nil {
			t.Errorf("%q decodes as %q", bad, got)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"&ZeVnLIqe-", "a&-b", "&2D3eAA-", "&&--", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := DecodeName(s)
		if err != nil {
			return
		}
		again, err := DecodeName(EncodeName(name))
		if err != nil || again != name {
			t.Errorf("%q is %q, which comes back as %q, %v", s, name, again, err)
		}
	})
}

// FuzzParser reads arguments of every kind from arbitrary octets: it comes to
// an end and never reads beyond them.
func FuzzParser(f *testing.F) {
	for _, s := range []string{" INBOX (\\Seen $x) \"01-Feb-2026 03:04:05 +0100\" {3}\r\nabc", " 1:*,3 $ NIL \"a\\\"b\" ~{1+}\r\nx", " ((((((", " &ZeVnLIqe- % * 9999999999999999999999", " {5}\r\nab", " \"", " 1-Feb-2026 aGk= ="} {
		f.Add(s, uint64(0x123456789abcdef))
	}
	f.Fuzz(func(t *testing.T, text string, order uint64) {
		p := NewParser([]byte(text))
		for range 16 {
			switch order % 16 {
			case 0:
				p.SP()
			case 1:
				p.Atom()
			case 2:
				p.AString()
			case 3:
				p.NString()
			case 4:
				p.Mailbox()
			case 5:
				p.Pattern()
			case 6:
				p.NumSet(order%32 < 16)
			case 7:
				p.UIDSet(false)
			case 8:
				p.Flags()
			case 9:
				p.Date()
			case 10:
				p.DateTime()
			case 11:
				p.Number64()
			case 12:
				p.Base64()
			case 13:
				p.List(func() { p.AString() })
			case 14:
				p.LiteralNext()
			case 15:
				p.More()
			}
			order /= 16
			if p.Pos() > len(text) {
				t.Fatalf("read %d octets of %d", p.Pos(), len(text))
			}
		}
		if err := p.End(); err != nil && strings.ContainsAny(err.Error(), "\r\n") {
			t.Fatalf("an error of two lines: %q", err)
		}
	})
}

// What is written as a string is read as the same.
func FuzzString(f *testing.F) {
	f.Add("plain", true)
	f.Add("a\r\nb\"\\\x00ä", false)
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		var b bytes.Buffer
		w := NewWriter(&b, &Buffers{})
		w.UTF8 = utf8
		w.String(s)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		p := NewParser(b.Bytes())
		if got := p.String(); got != s || p.End() != nil {
			t.Errorf("%q is written as %q and read as %q, %v", s, b.Bytes(), got, p.Err())
		}
	})
}

func TestWriterBounds(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, &Buffers{})
	mark := w.Mark()
	w.Raw("taken back")
	if !w.Rollback(mark) {
		t.Error("nothing was sent, and yet it cannot be taken back")
	}
	if err := w.Literal(strings.NewReader(strings.Repeat("x", 200_000)), 200_000, false); err != nil {
		t.Fatal(err)
	}
	if w.Rollback(mark) {
		t.Error("what was sent is taken back")
	}
	if err := w.Literal(strings.NewReader("short"), 10, false); err == nil {
		t.Error("a literal that breaks off is no error")
	}
	if err := w.Flush(); err != nil || b.Len() != len("{200000}\r\n")+200_000+len("{10}\r\nshort") {
		t.Errorf("%d octets, %v", b.Len(), err)
	}
}

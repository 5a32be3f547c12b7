package cloudflare

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

func TestParseTXT(t *testing.T) {
	for _, c := range []struct{ wire, want string }{
		{`"v=spf1 -all"`, "v=spf1 -all"},
		{`v=spf1 -all`, "v=spf1 -all"},
		{`"one" "two"`, "onetwo"},
		{`"one""two"`, "onetwo"},
		{"\"one\"\t \"two\" ", "onetwo"},
		{`"a\"b\\c\065"`, `a"b\cA`},
		{`""`, ""},
		{``, ""},
		{`"unterminated`, `"unterminated`},
		{`"a" b`, `"a" b`},
		{`"\999"`, `"\999"`},
		{`it's "quoted" inside`, `it's "quoted" inside`},
	} {
		if got := string(parseTXT(c.wire)); got != c.want {
			t.Errorf("%s is read as %q, want %q", c.wire, got, c.want)
		}
	}
}

// Whatever bytes a TXT record has: the API's form reads back to them, no string
// in it is too long, and the shown form stands for exactly them.
func TestTXTRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkTXT(t, rapid.SliceOfN(rapid.Byte(), 0, 1200).Draw(t, "raw")) })
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func checkTXT(t fataler, raw []byte) {
	wire := quoteTXT(raw)
	if got := parseTXT(wire); !bytes.Equal(got, raw) {
		t.Fatalf("%q is written as %s and read as %q", raw, wire, got)
	}
	if got, err := servedBytes(wire); err != nil || !bytes.Equal(got, raw) {
		t.Fatalf("%q is written as %s, which DNS serves as %q (%v)", raw, wire, got, err)
	}
	shown := showTXT(raw)
	if got := unshowTXT(shown); !bytes.Equal(got, raw) || !utf8.ValidString(shown) {
		t.Fatalf("%q is shown as %q, which stands for %q", raw, shown, got)
	}
	if again := canonicalContent("TXT", wireContent("TXT", shown)); again != shown {
		t.Fatalf("%q comes back as %q", shown, again)
	}
}

// servedBytes is what a name server makes of the wire form: the packed record's
// character-strings, joined. Packing fails when one of them is too long.
func servedBytes(wire string) ([]byte, error) {
	rr, err := dns.NewRR(". 0 IN TXT " + wire)
	if err != nil {
		return nil, err
	}
	packed := make([]byte, dns.MaxMsgSize)
	end, err := dns.PackRR(rr, packed, 0, nil, false)
	if err != nil {
		return nil, err
	}
	var out []byte
	for at := 1 + 10; at < end; at += 1 + int(packed[at]) { // root name, fixed header
		out = append(out, packed[at+1:at+1+int(packed[at])]...)
	}
	return out, nil
}

func FuzzParseTXT(f *testing.F) {
	for _, s := range []string{`"a" "b"`, `"\"`, `"\12"`, `a"b`, `" "x`, "\"\x00\xff\"", strings.Repeat(`"a"`, 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		raw := parseTXT(content)
		if len(raw) > 4000 {
			return // more than a record holds
		}
		if len(raw) > len(content) {
			t.Fatalf("%d bytes were read from %d", len(raw), len(content))
		}
		checkTXT(t, raw)
	})
}

func TestCanonicalName(t *testing.T) {
	for in, want := range map[string]string{
		"Mail.ACME.example.": "mail.acme.example", "_DMARC.bücher.example": "_dmarc.xn--bcher-kva.example",
		"*.acme.example": "*.acme.example", "": "", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"例え.テスト": "xn--r8jz45g.xn--zckzah",
	} {
		if got := canonicalName(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	for in, want := range map[[2]string]string{
		{"AAAA", "2001:0DB8:0:0::1"}: "2001:db8::1", {"MX", "Mail.Example."}: "mail.example", {"MX", "."}: ".",
		{"A", "192.0.2.1"}: "192.0.2.1", {"CAA", `0 issue "x"`}: `0 issue "x"`,
	} {
		if got := canonicalContent(in[0], in[1]); got != want {
			t.Errorf("%v becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzCanonicalName(f *testing.F) {
	for _, s := range []string{"a.b.", "ÄÖ.example", "xn--a.example", "..", "İ.example", "a\xffb", "ß.example", "\u200d.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := canonicalName(s)
		if twice := canonicalName(once); twice != once && strings.TrimSuffix(once, ".") == once {
			t.Fatalf("%q becomes %q, then %q", s, once, twice)
		}
	})
}

func TestMarks(t *testing.T) {
	for _, c := range []struct {
		comment string
		stack   string
		slot    string
		ok      bool
	}{
		{"mf1:acme:acme.example/mx", "acme", "acme.example/mx", true},
		{"mf1:acme:acme.example/mx do not touch", "acme", "acme.example/mx", true},
		{"mf1:Acme:acme.example/mx", "", "", false},
		{"mf1:acme:", "", "", false},
		{"mf1:acme", "", "", false},
		{"mf2:acme:x", "", "", false},
		{"", "", "", false},
	} {
		m, ok := parseMark(c.comment)
		if ok != c.ok || m.stack != c.stack || m.slot != c.slot {
			t.Errorf("%q: %+v %v", c.comment, m, ok)
		}
	}
}

// A mark always fits into a comment and stands for its slot only.
func TestMarkRoundTrip(t *testing.T) {
	stacks := rapid.StringMatching(`[a-z0-9-]{1,32}`)
	slots := rapid.StringMatching(`([a-z0-9_-]{1,60}\.){1,4}[a-z]{2,9}/(mx|spf|dkim/[a-z0-9]{1,40})`)
	rapid.Check(t, func(t *rapid.T) {
		stack, slot, other := stacks.Draw(t, "stack"), slots.Draw(t, "slot"), slots.Draw(t, "other")
		own := rapid.SliceOfNDistinct(rapid.StringMatching(`include:[a-z.]{3,20}`), 0, 20, rapid.ID[string]).Draw(t, "own")
		for _, c := range []string{comment(stack, slot), joinedComment(stack, slot, own)} {
			m, ok := parseMark(c)
			if len(c) > maxComment || !ok || m.stack != stack || !m.stands(slot) {
				t.Fatalf("%q for %s %s: %+v", c, stack, slot, m)
			}
			if other != slot && m.stands(other) {
				t.Fatalf("%q stands for %s and %s", c, slot, other)
			}
		}
		m, _ := parseMark(joinedComment(stack, slot, own))
		for hash := range m.own {
			known := false
			for _, term := range own {
				known = known || termHash(term) == hash
			}
			if !known {
				t.Fatalf("hash %s of no mechanism in %v", hash, own)
			}
		}
	})
}

func FuzzParseMark(f *testing.F) {
	for _, s := range []string{"mf1:a:b", "mf1:a:b own=abcdef", "mf1::", "mf1:a:b~0123456789ab", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, ok := parseMark(s); ok && (m.slot == "" || !validStack(m.stack)) {
			t.Fatalf("%q: %+v", s, m)
		}
	})
}

package mimetree

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// outline shows a tree: type, body in quotes, children in brackets.
func outline(msg string, p *Part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s", p.Type, p.Subtype)
	switch {
	case p.Multipart():
		b.WriteString("[")
		for i, c := range p.Children {
			if i > 0 {
				b.WriteString(" ")
			}
			b.WriteString(outline(msg, c))
		}
		b.WriteString("]")
	case p.Message != nil:
		b.WriteString("{" + outline(msg, p.Message) + "}")
	default:
		fmt.Fprintf(&b, "%q", msg[p.Body.Start:p.Body.End])
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct{ msg, want string }{
		"plain":         {"A: b\n\nhello\n", `text/plain"hello\r\n"`},
		"no body":       {"A: b\n", `text/plain""`},
		"empty":         {"", `text/plain""`},
		"only a body":   {"\nhello", `text/plain"hello"`},
		"garbage":       {"\x00\xff\x01 garbage", `text/plain""`},
		"type":          {"Content-Type: Text/HTML; charset=x\n\n<p>", `text/html"<p>"`},
		"broken type":   {"Content-Type: nonsense\n\nx", `text/plain"x"`},
		"unquoted name": {"Content-Type: application/pdf; name=a b.pdf; x=y\n\nx", `application/pdf"x"`},
		"mixed": {"Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n\none\n--b\nContent-Type: image/png\n\ntwo\n\n--b--\nepilogue\n",
			`multipart/mixed[text/plain"one" image/png"two\r\n"]`},
		"empty parts":          {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b\nA: b\n--b--\n", `multipart/mixed[text/plain"" text/plain""]`},
		"never closed":         {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none", `multipart/mixed[text/plain"one"]`},
		"no boundary named":    {"Content-Type: multipart/mixed\n\n--b\n\none", `text/plain"--b\r\n\r\none"`},
		"boundary never comes": {"Content-Type: multipart/mixed; boundary=b\n\nnothing", `text/plain"nothing"`},
		"boundary has spaces":  {"Content-Type: multipart/mixed; boundary=\"b b\"\n\n--b b  \n\none\n--b b--", `multipart/mixed[text/plain"one"]`},
		"a line that goes on behind the boundary": {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b x\n\ntwo\n--b--\n",
			`multipart/mixed[text/plain"one" text/plain"two"]`},
		"the longest boundary": {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b1\n\n--b1\n\none\n--b1--\n--b\n\ntwo\n--b--\n",
			`multipart/mixed[multipart/mixed[text/plain"one"] text/plain"two"]`},
		"the longest boundary is the outer one": {"Content-Type: multipart/mixed; boundary=b1\n\n--b1\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b1\n\ntwo\n--b1--\n",
			`multipart/mixed[multipart/mixed[text/plain"one"] text/plain"two"]`},
		"nested": {"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative; boundary=i\n\n--i\n\na\n--i\n\nb\n--i--\n\n--o\n\nc\n--o--\n",
			`multipart/mixed[multipart/alternative[text/plain"a" text/plain"b"] text/plain"c"]`},
		"inner never closed": {"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative; boundary=i\n\n--i\n\na\n--o\n\nc\n--o--\n",
			`multipart/mixed[multipart/alternative[text/plain"a"] text/plain"c"]`},
		"message": {"Content-Type: message/rfc822\n\nSubject: in\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n",
			`message/rfc822{multipart/mixed[text/plain"x"]}`},
		"encoded message is a leaf": {"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nQQ==\n", `message/rfc822"QQ==\r\n"`},
		"digest":                    {"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\nx\n--b--\n", `multipart/digest[message/rfc822{text/plain"x"}]`},
	} {
		t.Run(name, func(t *testing.T) {
			msg := crlf(c.msg)
			p, err := Parse(strings.NewReader(msg))
			if err != nil {
				t.Fatal(err)
			}
			if got := outline(msg, p); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			// With bare line feeds the structure is the same.
			p, err = Parse(strings.NewReader(c.msg))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := outline(c.msg, p), strings.ReplaceAll(c.want, `\r`, ""); got != want {
				t.Errorf("with LF: got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestLines(t *testing.T) {
	msg := crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n1\n2\n3\n--b\nContent-Type: message/rfc822\n\nA: 1\n\n3\n--b--\n")
	p, err := Parse(strings.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	if p.Children[0].Lines != 3 || p.Children[1].Lines != 3 {
		t.Errorf("lines %d and %d, want 3 and 3", p.Children[0].Lines, p.Children[1].Lines)
	}
	// A multipart without parts is text.
	for text, lines := range map[string]int64{"one\n\n--b--\n": 3, "": 0, "one": 1} {
		p, err = Parse(strings.NewReader(crlf("Content-Type: multipart/mixed; boundary=b\n\n" + text)))
		if err != nil {
			t.Fatal(err)
		}
		if p.Multipart() || p.Lines != lines {
			t.Errorf("%q: %d lines, want %d", text, p.Lines, lines)
		}
	}
}

func TestLongLines(t *testing.T) {
	// Lines as long as the buffer, with their end on both sides of its end.
	for n := 16<<10 - 4; n < 16<<10+4; n++ {
		body := strings.Repeat("x", n)
		msg := crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + body + "\n--b--\n")
		p, err := Parse(strings.NewReader(msg))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Children[0].Body.Len(); got != int64(n) {
			t.Errorf("a line of %d octets became a body of %d", n, got)
		}
	}
}

func TestDepthAndPartsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	p, err := Parse(strings.NewReader(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	depth := 0
	for ; p.Multipart(); p = p.Children[0] {
		depth++
	}
	if depth != maxDepth {
		t.Errorf("depth %d", depth)
	}
	p, err = Parse(strings.NewReader("Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n", 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Children) > maxParts {
		t.Errorf("%d parts", len(p.Children))
	}
}

func TestFind(t *testing.T) {
	msg := crlf(`Content-Type: multipart/mixed; boundary=o

--o
Content-Type: text/plain

one
--o
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/alternative; boundary=i

--i

two-one
--i

two-two
--i--

--o
Content-Type: message/rfc822

Subject: simple

three
--o--
`)
	p, err := Parse(strings.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"1": "one", "2.1": "two-one", "2.2": "two-two", "3.1": "three",
		"3": "Subject: simple\r\n\r\nthree",
		"4": "-", "0": "-", "1.1": "-", "2.3": "-", "3.2": "-", "3.1.1": "-",
	} {
		var nums []int
		for _, s := range strings.Split(path, ".") {
			n := 0
			fmt.Sscan(s, &n)
			nums = append(nums, n)
		}
		got := "-"
		if f := p.Find(nums); f != nil {
			got = msg[f.Body.Start:f.Body.End]
		}
		if got != want {
			t.Errorf("section %s: got %q, want %q", path, got, want)
		}
	}
	simple, err := Parse(strings.NewReader("A: b\r\n\r\nbody"))
	if err != nil {
		t.Fatal(err)
	}
	if simple.Find([]int{1}) != simple || simple.Find([]int{1, 1}) != nil || simple.Find(nil) != simple {
		t.Error("sections of a message without parts")
	}
}

func TestHeader(t *testing.T) {
	raw := crlf("Subject: a\n b\nnot a field\nX-Y : c\nSUBJECT: second\n")
	h, err := ParseHeader(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(h.Bytes(func(string) bool { return true })); got != raw+"\r\n" {
		t.Errorf("not the octets that came: %q", got)
	}
	if got := h.Get("subject"); got != "a b" {
		t.Errorf("Subject: %q", got)
	}
	if got := h.Get("X-Y"); got != "c" {
		t.Errorf("X-Y: %q", got)
	}
	if got := len(h.Values("Subject")); got != 2 {
		t.Errorf("%d subjects", got)
	}
}

func TestParseAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"a@b":                      "|a|b",
		"A B <a@b>, c@d":           "A B|a|b |c|d",
		`"Doe, \"J\"" <j@d>`:       `Doe, "J"|j|d`,
		"=?utf-8?q?=E5?= <a@b>":    "=?utf-8?q?=E5?=|a|b",
		"a@b (Comment (nested))":   "Comment (nested)|a|b",
		"team: a@b, C <c@d>;, e@f": "|team| |a|b C|c|d || |e|f",
		"undisclosed-recipients:;": "|undisclosed-recipients| ||",
		"<@route.example:a@b>":     "|a|b",
		"<>":                       "|MISSING_MAILBOX|MISSING_DOMAIN",
		"nobody":                   "|nobody|MISSING_DOMAIN",
		"Some Body":                "|Some Body|MISSING_DOMAIN",
		`"a b"@c`:                  "|a b|c",
		"a @ b":                    "|a|b",
		`"unterminated <a@b>`:      "unterminated|a|b",
		"A B a@b":                  "A B|a|b",
		"a . b @ c":                "|a.b|c",
		"A <<a@b>>":                "A|a|b",
		"A <a@b, C <c@d>":          "A|a|b C|c|d",
		"A a@b>":                   "A|a|b",
		`"A B"@c`:                  "|A B|c",
		"a@":                       "|a|MISSING_DOMAIN",
		"A <a@b> trailing, c@d":    "A|a|b |c|d",
		",,, ;":                    "",
		"open: a@b":                "|open| |a|b ||",
	} {
		var l []string
		for _, a := range ParseAddresses(in) {
			l = append(l, a.Name+"|"+a.Mailbox+"|"+a.Host)
		}
		if got := strings.Join(l, " "); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", in, got, want)
		}
	}
}

func TestDecoded(t *testing.T) {
	for _, c := range []struct{ encoding, in, want string }{
		{"7bit", "a=20", "a=20"},
		{"base64", "aGVsbG8=", "hello"},
		{"base64", "aGVs\r\nbG8=\r\n", "hello"},
		{"base64", "aG!Vs bG8", "hello"},
		{"base64", "", ""},
		{"base64", "!!!", ""},
		{"base64", "aGVsbG8=\r\n_____\r\nlist footer\r\n", "hello"},
		{"base64", "=aGVsbG8", "hello"},
		{"quoted-printable", "caf=C3=A9=\r\n!=", "café!="},
		{"quoted-printable", "a=ZZb =\nc", "a=ZZb c"},
	} {
		b, err := io.ReadAll(Decoded(c.encoding, strings.NewReader(c.in)))
		if err != nil || string(b) != c.want {
			t.Errorf("%s %q: %q, %v", c.encoding, c.in, b, err)
		}
	}
}

func TestCharsets(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"=?gb2312?B?xOO6ww==?=", "你好"},
		{"=?big5?B?p0GmbiE=?=", "你好!"},
		{"=?iso-2022-jp?B?GyRCJDMkcyRLJEEkTxsoQg==?=", "こんにちは"},
		{"=?utf-8?Q?caf=C3=A9?=", "café"},
		{"=?nonsense?Q?a?=", "a"},
		{"=?broken", "=?broken"},
		{"a =?utf-8?q?b?= =?UTF-8?Q?c?= =?gbk?q?d?=\t=?gbk?q?e?= f", "a bcde f"},
		{"=?utf-8?Q?=E4=BD?= =?utf-8?B?oOWlvQ==?=", "你好"}, // cut within a character
		{"=?gb2312?B?xOO6?= =?gb2312?B?ww?=", "你好"},
		{"=?utf-8*en?Q?a b_c=ZZ?=", "a b c=ZZ"},
		{"=?utf-8?Q?=E4?= x", "\uFFFD x"},
		{"=?utf-8?B?!?= =?utf-8?x?a?= =?=", "=?utf-8?B?!?= =?utf-8?x?a?= =?="},
		{"=?utf-8?Q??= =?utf-8?Q?a?=", "a"},
	} {
		if got := DecodeWords(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", c.in, got, c.want)
		}
	}
	if got := ToUTF8([]byte("\xc4\xe3\xba\xc3")); got != "你好" {
		t.Errorf("GBK without a name: %q", got)
	}
	if got := ToUTF8([]byte("caf\xe9")); got != "café" {
		t.Errorf("Latin 1 without a name: %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nA: b\n\nx\n--b--\n")))
	f.Add([]byte("From: a: b <c>;\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD"))
	f.Add([]byte("Subject: long\n\n" + strings.Repeat("a line of it\r\n", 3000) + strings.Repeat("x", 40<<10) + "\nend\n\nmore"))
	f.Add([]byte("Content-Type: multipart/digest; boundary=\"\r\n\r\n--\r\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		p, err := Parse(bytes.NewReader(msg))
		if err != nil {
			t.Fatal(err)
		}
		p.Walk(func(p *Part) {
			if p.Header.Start < 0 || p.Header.End < p.Header.Start || p.Body.Start < p.Header.Start || p.Body.End < p.Body.Start || p.Body.End > int64(len(msg)) {
				t.Fatalf("spans %v %v of %d octets", p.Header, p.Body, len(msg))
			}
			if p.Type == "multipart" && !p.Multipart() {
				t.Fatal("a multipart without parts")
			}
			if p.Lines < 0 {
				t.Fatalf("%d lines", p.Lines)
			}
			if _, err := io.Copy(io.Discard, Decoded(p.Encoding(), bytes.NewReader(msg[p.Body.Start:p.Body.End]))); err != nil {
				t.Fatal(err)
			}
		})
		leaf, err := ParseLeaf(bytes.NewReader(msg))
		if err != nil {
			t.Fatal(err)
		}
		if leaf != nil && (leaf.Type != p.Type || leaf.Subtype != p.Subtype || leaf.Body.Start != p.Body.Start || leaf.Body.End < p.Body.End || !reflect.DeepEqual(leaf.Fields, p.Fields)) {
			t.Fatalf("alone the part is %+v, and %+v as a whole", leaf, p)
		}
		if leaf != nil {
			body := msg[p.Body.Start:]
			lines := int64(bytes.Count(body, []byte{'\n'}))
			if len(body) > 0 && body[len(body)-1] != '\n' {
				lines++
			}
			if p.Body.End != int64(len(msg)) || p.Lines != lines {
				t.Fatalf("a body up to %d with %d lines, want %d and %d", p.Body.End, p.Lines, len(msg), lines)
			}
		}
		for _, f := range p.Fields {
			ParseAddresses(f.Value())
			DecodeWords(f.Value())
			ParseValue(f.Value())
		}
	})
}

// Both ways to read a header find the same.
func FuzzHeaderOf(f *testing.F) {
	for _, s := range []string{"A: b\r\nC: d\r\n e\r\n\r\nbody", " x\nA: b\n\n", "\r\nA: b", "no field\nA: b", "A: b\n\r\rC: d\n", "A"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, err := ParseHeader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		got := HeaderOf(data)
		if len(got) != len(want) {
			t.Fatalf("%d fields, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i].Name != want[i].Name || !bytes.Equal(got[i].Raw, want[i].Raw) {
				t.Errorf("field %d is %q %q, want %q %q", i, got[i].Name, got[i].Raw, want[i].Name, want[i].Raw)
			}
		}
	})
}

package search

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/text/encoding/simplifiedchinese"
	"pgregory.net/rapid"

	"mailform/server/store"
)

func message(header, body string) *bytes.Reader {
	return bytes.NewReader([]byte(strings.ReplaceAll(header+"\n\n"+body, "\n", "\r\n")))
}

func ref(n int) store.BodyRef {
	return store.BodyRef{Segment: uint64(n % 7), Offset: int64(n) * 8, Size: 100}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *Index {
	t.Helper()
	x, err := Open(dir, slog.New(slog.NewTextHandler(io.Discard, nil)))
	must(t, err)
	return x
}

// What a person looks for is found in every kind of text, and only there.
func TestFind(t *testing.T) {
	gb, err := simplifiedchinese.GBK.NewEncoder().String("季度销售报告")
	must(t, err)
	messages := []*bytes.Reader{
		message("From: Carol <carol@sender.example>\nTo: alice@example.org\nSubject: =?utf-8?q?Caf=C3=A9_um_drei?=", "Treffen wir uns um drei im Straßencafé?\n"),
		message("From: bob@example.org\nSubject: report\nContent-Type: text/plain; charset=gbk", gb+"\n"),
		message("From: bob@example.org\nSubject: page\nContent-Type: text/html", "<style>p { color: invisible }</style><p><b>H</b>ello&nbsp;wor<wbr>ld</p><p>next&eacute;</p><script>hidden()</script>"),
		message("From: bob@example.org\nSubject: both\nContent-Type: multipart/mixed; boundary=x",
			"--x\n\nshown part\n--x\nContent-Type: text/plain\nContent-Disposition: attachment; filename=secret.txt\n\nattachedtext\n--x\nContent-Type: message/rfc822\n\nFrom: inner@example.net\nSubject: forwarded\n\nforwardedbody\n--x--\n"),
		message("From: bob@example.org\nSubject: flow", "one two\nthree-four a@b.example 2026-11-22\n"),
		message("Subject: base\nContent-Transfer-Encoding: base64\nContent-Type: text/plain; charset=utf-8", "5Lit5paH5pCc57Si5rWL6K+V\n"), // 中文搜索测试
		message("From: <erin (a comment)@ (and another) odd.example>\nTo: frank@odd.example (Frank Who)", "odd\n"),
	}
	for _, where := range []string{"memory", "file", "merged"} {
		t.Run(where, func(t *testing.T) {
			x := open(t, t.TempDir())
			defer func() { must(t, x.Close()) }()
			for i, m := range messages {
				_, _ = m.Seek(0, io.SeekStart)
				must(t, x.Add(ref(i), m))
				if where == "merged" || where == "file" && i == 3 {
					must(t, x.Flush())
				}
			}
			if where == "file" {
				must(t, x.Flush())
			}
			if where == "merged" {
				for more := true; more; {
					var err error
					more, err = x.Tidy(func(store.BodyRef) bool { return true })
					must(t, err)
				}
				if len(x.segments) != 1 {
					t.Fatalf("%d segments after merging", len(x.segments))
				}
			}
			for _, c := range []struct {
				fields Field
				text   string
				want   []int
			}{
				{All, "café", []int{0}}, {Subject, "CAFÉ", []int{0}}, {Body, "café", []int{0}}, {Body, "enca", []int{0}}, {Body, "strasse", nil}, {Body, "straße", []int{0}},
				{Subject, "Café um", []int{0}}, {Subject, "um Café", nil}, {From, "carol@sender", []int{0}}, {From, "carol", []int{0}}, {To, "carol", nil},
				{All, "销售", []int{1}}, {All, "销", []int{1}}, {All, "季度销售报告", []int{1}}, {All, "售销", nil}, {All, "季报", nil},
				{Body, "hello world", []int{2}}, {Body, "ello wo", []int{2}}, {Body, "nexté", []int{2}}, {All, "invisible", nil}, {All, "hidden", nil}, {Body, "worldnext", nil},
				{Body, "shown", []int{3}}, {All, "attachedtext", nil}, {Body, "forwardedbody", []int{3}}, {All, "inner@example.net", []int{3}}, {From, "inner", nil}, {All, "secret.txt", []int{3}},
				{Body, "two three", []int{4}}, {Body, "three-four", []int{4}}, {Body, "threefour", nil}, {Body, "2026-11", []int{4}}, {Body, "a@b.ex", []int{4}}, {Body, "b@a", nil},
				{Body, "搜索", []int{5}}, {Body, "中文搜索测试", []int{5}}, {Body, "文测", nil}, {All, "bob@example.org", []int{1, 2, 3, 4}}, {All, "subject", []int{0, 1, 2, 3, 4, 5}},
				{From, "erin@odd.example", []int{6}}, {From, "a comment", []int{6}}, {To, "frank who <frank@odd", []int{6}}, {To, "odd.example (frank", []int{6}}, {All, "<erin@odd.example>", []int{6}},
				{Body, "?", []int{0}}, {All, "nowhere", nil},
			} {
				text := Fold(c.text)
				h, err := x.Find(c.fields, text)
				must(t, err)
				var got []int
				for i, m := range messages {
					_, _ = m.Seek(0, io.SeekStart)
					contains, err := Contains(m, c.fields, text)
					must(t, err)
					v := h.Of(ref(i))
					if v == Yes && !contains || v == No && contains {
						t.Errorf("%q in message %d: the index says %d, reading it %v", c.text, i, v, contains)
					}
					if contains {
						got = append(got, i)
					}
				}
				if h.Of(ref(100)) != Maybe {
					t.Error("the index knows a message that it never saw")
				}
				h.Close()
				if fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("%q in %b: found in %v, want %v", c.text, c.fields, got, c.want)
				}
			}
		})
	}
}

// The index never denies what reading finds, whatever comes, goes, is merged or
// lost, and says yes only where reading does.
func TestIndexAgrees(t *testing.T) {
	word := rapid.SampledFrom([]string{"ab", "abc", "b", "ca", "é", "x-y", "中文", "文字", "中", "a中b", "日本語テキスト", "12", "  ", ".", "ABCABC",
		"e\u0301", "ệ", "e\u0302\u0323", "İ", "ı", "ß", "ΐ", "Σς", "ａｂ", "ﬁ", "ǆ", "각", "가", "ガ", "ｶﾞ", "か", "ที่", "¨", "\u3000", "⅓", "\xff"})
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(word, 0, 12).Draw(t, "words"), rapid.SampledFrom([]string{"", " ", "\n"}).Draw(t, "between"))
	})
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "search")
		must(t, err)
		defer os.RemoveAll(dir)
		x := open(t, dir)
		defer func() { must(t, x.Close()) }()
		var docs []*bytes.Reader
		gone := map[store.BodyRef]bool{}
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				m := message("Subject: "+strings.ReplaceAll(text.Draw(rt, "subject"), "\n", " "), text.Draw(rt, "body"))
				must(t, x.Add(ref(len(docs)), m))
				docs = append(docs, m)
			},
			"flush": func(*rapid.T) { must(t, x.Flush()) },
			"gone": func(rt *rapid.T) {
				if len(docs) > 0 {
					gone[ref(rapid.IntRange(0, len(docs)-1).Draw(rt, "gone"))] = true
				}
			},
			"tidy": func(*rapid.T) {
				for more := true; more; {
					more, err = x.Tidy(func(r store.BodyRef) bool { return !gone[r] })
					must(t, err)
				}
				for _, s := range x.segments {
					for i := range s.len() {
						if gone[s.body(i)] {
							t.Fatal("words of what is gone are left")
						}
					}
				}
			},
			"reopen": func(*rapid.T) {
				must(t, x.Close())
				x = open(t, dir)
			},
			"find": func(rt *rapid.T) {
				needle := Fold(strings.Trim(text.Draw(rt, "needle"), "\n"))
				fields := rapid.SampledFrom([]Field{Subject, Body, All}).Draw(rt, "fields")
				h, err := x.Find(fields, needle)
				must(t, err)
				defer h.Close()
				for i, m := range docs {
					_, _ = m.Seek(0, io.SeekStart)
					contains, err := Contains(m, fields, needle)
					must(t, err)
					v := h.Of(ref(i))
					if gone[ref(i)] && v == Maybe {
						continue
					}
					if v == Yes && !contains {
						rt.Fatalf("%q: the index says yes, message %d says no", needle, i)
					}
					if v == No && contains {
						rt.Fatalf("%q: the index says no, message %d says yes", needle, i)
					}
				}
			},
		})
	})
}

// A word of any length is found by any part of it: by up to 32 characters in the
// index, by more of them after reading.
func TestLongWord(t *testing.T) {
	x := open(t, t.TempDir())
	defer func() { must(t, x.Close()) }()
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, "%dx", i*7919)
	}
	long := b.String() // of 3,200 characters: the index has 2,080
	must(t, x.Add(ref(0), message("Subject: s", "see "+long+" there")))
	must(t, x.Add(ref(1), message("Subject: s", "see "+long[:500]+" there")))
	for _, c := range []struct {
		text      string
		long, mid Verdict
	}{
		{"see " + long, Maybe, Maybe}, {long[:30], Yes, Yes}, {long[:60], Maybe, Maybe}, {long[:60] + "y", Maybe, Maybe}, {long[:20] + "y", Maybe, No},
		{long[468:500], Yes, Yes}, {long[470:500] + " there", Maybe, Yes}, {long[460:501], Maybe, Maybe}, {long[470:501], Yes, No}, {long[1000:1020], Yes, No},
		{long[3000:3020], Maybe, No}, {"see " + long[:20], Yes, Yes}, {" " + long[:20], Maybe, Maybe}, {"see " + long[1:20], Maybe, No}, {"e " + long[:20], Yes, Yes},
	} {
		h, err := x.Find(Body, Fold(c.text))
		must(t, err)
		if a, b := h.Of(ref(0)), h.Of(ref(1)); a != c.long || b != c.mid {
			t.Errorf("%.80q: %d and %d, want %d and %d", c.text, a, b, c.long, c.mid)
		}
		h.Close()
	}
}

// A phrase is decided without reading, unless it is far down, or may be elsewhere.
func TestPhrases(t *testing.T) {
	x := open(t, t.TempDir())
	defer func() { must(t, x.Close()) }()
	far := strings.Repeat("filler ", maxIndex) + "the end is near"
	must(t, x.Add(ref(0), message("Subject: the end", "one two\n three, four 中文搜索 five 六")))
	must(t, x.Add(ref(1), message("Subject: s", far)))
	must(t, x.Add(ref(2), message("Subject: s\nContent-Type: multipart/mixed; boundary=x", "--x\n\nending one\n--x\n\ntwo begins\n--x--")))
	for _, c := range []struct {
		fields Field
		text   string
		want   [3]Verdict
	}{
		{Body, "one two three", [3]Verdict{Yes, No, No}}, {Body, "ne two thr", [3]Verdict{Yes, No, No}}, {All, "three four", [3]Verdict{No, No, No}},
		{All, "three, four", [3]Verdict{Maybe, No, No}}, {Body, "two one", [3]Verdict{No, No, No}}, {All, "中文搜索 five 六", [3]Verdict{Yes, No, No}},
		{All, "文搜索 five", [3]Verdict{Yes, No, No}}, {All, "中搜", [3]Verdict{No, No, No}}, {All, "搜索five", [3]Verdict{No, No, No}},
		{All, "the end", [3]Verdict{Yes, Maybe, No}}, {All, "end is near", [3]Verdict{No, Maybe, No}}, {All, "filler filler the", [3]Verdict{No, Maybe, No}},
		{Body, "s filler", [3]Verdict{No, Maybe, No}}, {Body, "s one", [3]Verdict{No, No, No}}, {All, "one two", [3]Verdict{Yes, No, No}},
	} {
		h, err := x.Find(c.fields, Fold(c.text))
		must(t, err)
		if got := [3]Verdict{h.Of(ref(0)), h.Of(ref(1)), h.Of(ref(2))}; got != c.want {
			t.Errorf("%q: %v, want %v", c.text, got, c.want)
		}
		h.Close()
	}
}

// A file that is damaged anywhere is given up, and what it knew is unknown.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir)
	for i := range 50 {
		must(t, x.Add(ref(i), message("Subject: s", fmt.Sprintf("word%d common", i))))
	}
	must(t, x.Close())
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	must(t, err)
	whole, err := os.ReadFile(files[0])
	must(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		broken := bytes.Clone(whole)
		if rng.IntN(4) == 0 {
			broken = broken[:rng.IntN(len(broken))]
		} else {
			broken[rng.IntN(len(broken))] ^= 1 << rng.IntN(8)
		}
		must(t, os.WriteFile(files[0], broken, 0o600))
		x := open(t, dir)
		h, err := x.Find(All, "WORD7")
		must(t, err)
		if v := h.Of(ref(7)); v != Maybe {
			t.Fatalf("a damaged index says %d", v)
		}
		h.Close()
		if x.Has(ref(7)) {
			t.Fatal("a damaged index has a body")
		}
		must(t, x.Close())
	}
}

func FuzzSegment(f *testing.F) {
	file := func(b *builder, replaces []uint64) []byte {
		var out bytes.Buffer
		e := newEncoder(&out)
		b.encode(e)
		must(f, e.end(replaces))
		return out.Bytes()
	}
	b := newBuilder(&workspace{})
	for i, text := range []string{"ONE TWO", "TWO, ONE 中文"} {
		b.begin()
		b.text(Body, text, false)
		b.end(ref(i))
	}
	f.Add(file(b, []uint64{7}))
	f.Add(file(newBuilder(&workspace{}), nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeSegment(data, false)
		if err != nil {
			return
		}
		for i := range s.countWords() {
			_ = s.wordAt(i)
			c := newCursor(s.posting(i), s.len())
			for c.next(); c.body < s.len(); c.next() {
				p := places{rest: c.positions}
				for p.next(); p.index != math.MaxInt; p.next() {
				}
			}
		}
		for _, text := range []string{"TW", "TWO ONE", "E", "中文"} {
			q := newQuery(All, text)
			_, _, _ = match(q, s.len(), s.flags, s.lists)
		}
	})
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("Subject: a\r\nContent-Type: text/html; charset=gb18030\r\n\r\n<b>x</b>&amp;"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nx\r\n--a--"))
	f.Fuzz(func(t *testing.T, m []byte) {
		n := 0
		if err := Extract(bytes.NewReader(m), func(_ Field, text string, _ bool) bool {
			n += len(text)
			eachRun(text, apart, func(r run) {
				if r.from >= r.to || r.chars < 1 || r.chars > r.to-r.from {
					t.Fatalf("a run of %d characters from %d to %d of %q", r.chars, r.from, r.to, text)
				}
			})
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if n > 40*len(m)+1000 {
			t.Fatalf("%d octets of text from %d", n, len(m))
		}
	})
}

// cpu is the time that the process has had, which says more on a busy machine.
func cpu(t testing.TB) time.Duration {
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFind looks for words and phrases in 100,000 messages; the words of some
// phrases are in all of them.
func BenchmarkFind(b *testing.B) {
	dir := b.TempDir()
	x := open(b, dir)
	rng := rand.New(rand.NewPCG(3, 4))
	zipf := rand.NewZipf(rng, 1.2, 10, 200_000)
	const n = 100_000
	mail := 0
	at := func(i int) store.BodyRef { return store.BodyRef{Segment: 1, Offset: int64(i) * 8, Size: 100} }
	before := cpu(b)
	for i := range n {
		var text strings.Builder
		for k := range 12 {
			for range 12 {
				fmt.Fprintf(&text, "w%dx ", zipf.Uint64())
			}
			fmt.Fprintf(&text, "\nthe quick brown fox jumps over the lazy dog number %d.\n中文邮件第%d号\n", (i*31+k)%1000, i%5000)
		}
		m := message(fmt.Sprintf("From: p%d@example.org\nSubject: s%d", i%500, i), text.String())
		mail += m.Len()
		must(b, x.Add(at(i), m))
	}
	spent := cpu(b) - before
	for more := true; more; {
		var err error
		more, err = x.Tidy(func(store.BodyRef) bool { return true })
		must(b, err)
	}
	must(b, x.Close())
	x = open(b, dir)
	defer x.Close()
	size := 0
	for _, s := range x.segments {
		size += len(s.data)
	}
	for _, c := range []struct{ name, text string }{{"rare", "W99999X"}, {"common", "W1X"}, {"part", "123"}, {"two", "W77X W88X"},
		{"phrase", "JUMPS OVER THE LAZY DOG NUMBER 123"}, {"phrase-in-all", "THE QUICK BROWN FOX"}, {"phrase-in-none", "THE LAZY FOX"}, {"Chinese", "邮件第123"}, {"Chinese-in-all", "中文邮件"}} {
		b.Run(c.name, func(b *testing.B) {
			var times []time.Duration
			before := cpu(b)
			maybe := 0
			for b.Loop() {
				begun := time.Now()
				h, err := x.Find(All, c.text)
				must(b, err)
				maybe = 0
				for i := range n {
					if h.Of(at(i)) == Maybe {
						maybe++
					}
				}
				h.Close()
				times = append(times, time.Since(begun))
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(len(times)), "cpu-ms")
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)*95/100].Microseconds())/1000, "p95-ms")
			b.ReportMetric(float64(maybe), "to-read")
			b.ReportMetric(float64(size)/float64(mail)*100, "%-of-mail")
			b.ReportMetric(float64(spent.Microseconds())/n, "cpu-µs/message-added")
		})
	}
}

// BenchmarkAdd indexes messages of 100 KB.
func BenchmarkAdd(b *testing.B) {
	x := open(b, b.TempDir())
	defer x.Close()
	var text strings.Builder
	for i := range 1250 {
		fmt.Fprintf(&text, "Line %d of message %d: the quick brown fox jumps over the lazy dog number %d.\n", i, i%77, i*31%1000)
	}
	m := message("Subject: s", text.String())
	b.SetBytes(int64(m.Len()))
	before := cpu(b)
	n := 0
	for b.Loop() {
		_, _ = m.Seek(0, io.SeekStart)
		must(b, x.Add(ref(n), m))
		n++
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(n), "cpu-µs/op")
}

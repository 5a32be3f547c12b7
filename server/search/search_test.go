package search

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	word := rapid.SampledFrom([]string{"ab", "abc", "b", "ca", "é", "x-y", "中文", "文字", "中", "a中b", "日本語テキスト", "12", "  ", ".", "ABCABC"})
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

// A word that is longer than the index keeps is found by its beginning, and as
// a whole.
func TestLongWord(t *testing.T) {
	x := open(t, t.TempDir())
	defer func() { must(t, x.Close()) }()
	long := strings.Repeat("abcdefghij", 10)
	must(t, x.Add(ref(0), message("Subject: s", "see "+long+" there")))
	for text, want := range map[string]Verdict{"see " + long: Maybe, " " + long: Maybe, long: Maybe, long[:30]: Yes, long[:60] + "x": No, "see " + long[:64] + "x": Maybe} {
		h, err := x.Find(Body, Fold(text))
		must(t, err)
		if v := h.Of(ref(0)); v != want {
			t.Errorf("%q: %d, want %d", text, v, want)
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
	b := newBuilder()
	b.bodies = []store.BodyRef{ref(1), ref(2)}
	b.add("ONE", 0, Body)
	b.add("TWO", 1, Subject)
	b.add("TWO", 0, Subject)
	f.Add(b.encode([]uint64{7}))
	f.Add(newBuilder().encode(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeSegment(data)
		if err != nil {
			return
		}
		for i := range s.countWords() {
			_ = s.wordAt(i)
			_ = postingsOf(s.posting(i), s.len(), func(int, Field) {})
		}
		_, _ = s.search(newQuery(All, "TW"))
	})
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("Subject: a\r\nContent-Type: text/html; charset=gb18030\r\n\r\n<b>x</b>&amp;"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nx\r\n--a--"))
	f.Fuzz(func(t *testing.T, m []byte) {
		n := 0
		if err := Extract(bytes.NewReader(m), func(_ Field, text string) bool {
			n += len(text)
			eachWord(text, func(w word) {
				if w.text == "" || !strings.Contains(text, w.text) {
					t.Fatalf("word %q of %q", w.text, text)
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

// BenchmarkFind looks for words in 100,000 messages.
func BenchmarkFind(b *testing.B) {
	x := open(b, b.TempDir())
	defer x.Close()
	rng := rand.New(rand.NewPCG(3, 4))
	zipf := rand.NewZipf(rng, 1.2, 10, 200_000)
	const n = 100_000
	for i := range n {
		var text strings.Builder
		for range 150 {
			fmt.Fprintf(&text, "w%dx ", zipf.Uint64())
		}
		must(b, x.Add(ref(i), message(fmt.Sprintf("From: p%d@example.org\nSubject: s%d", i%500, i), text.String())))
	}
	for more := true; more; {
		var err error
		more, err = x.Tidy(func(store.BodyRef) bool { return true })
		must(b, err)
	}
	size := 0
	for _, s := range x.segments {
		size += len(s.data)
	}
	for _, c := range []struct{ name, text string }{{"rare", "W99999X"}, {"common", "W1X"}, {"part", "123"}, {"two", "W77X W88X"}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				h, err := x.Find(All, c.text)
				must(b, err)
				for i := range n {
					_ = h.Of(ref(i))
				}
				h.Close()
			}
			b.ReportMetric(float64(size)/n, "index-octets/message")
			b.ReportMetric(float64(len(x.segments)), "segments")
		})
	}
}

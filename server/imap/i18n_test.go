package imap

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"mailform/server/search"
)

// indexed returns a world whose searches are answered by an index, which has what
// take was called for.
func newIndexedWorld(t *testing.T) (w *world, take func(box string)) {
	index, err := search.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { index.Close() })
	w = newWorld(t, func(c *Config, _ *Settings) {
		c.Find = func(_ string, fields search.Field, text string) (*search.Hits, error) {
			return index.Find(fields, text)
		}
	})
	return w, func(box string) {
		snap, watch, err := w.store.Open(context.Background(), alice, box)
		if err != nil {
			t.Fatal(err)
		}
		watch.Close()
		for _, m := range snap.Messages.All() {
			r, err := w.store.Read(context.Background(), alice, *m)
			if err != nil {
				t.Fatal(err)
			}
			if err := index.Add(m.Body, r.(search.Source)); err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
	}
}

// letter is a message with one text in some places where searches look for it.
func letter(text string) string {
	return "From: \"" + text + "\" <a@example.net>\nSubject: " + text + "\nX-Note: " + text + "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + text + "\n"
}

var lettersKeys = []string{"SUBJECT", "FROM", "BODY", "TEXT", "HEADER X-Note"}

// find returns what a search for a text finds.
func (l *line) find(key, text string) string {
	l.send(fmt.Sprintf("f UID SEARCH CHARSET UTF-8 %s {%d+}\r\n%s\r\n", key, len(text), text))
	found := l.read()
	l.expect("f OK *")
	return strings.TrimPrefix(found, "* SEARCH")
}

// I18NLEVEL=1 (RFC 5255 4): searches compare as i;unicode-casemap does (RFC 5051),
// and an index makes no difference.
func TestUnicodeCasemap(t *testing.T) {
	texts := []string{
		1: "Σίσυφος", 2: "ΣΊΣΥΦΟΣ", 3: "Straße", 4: "STRASSE", 5: "kırmızı", 6: "KIRMIZI", 7: "İzmir", 8: "Ｆｕｌｌ Ｗｉｄｔｈ", 9: "full width",
		10: "café", 11: "cafe\u0301", 12: "CAFÉ", 13: "季度销售报告", 14: "Tiếng Việt", 15: "Tiê\u0301ng Viê\u0323t", 16: "ﬁne", 17: "ガイド", 18: "ｶﾞｲﾄﾞ", 19: "Жук", 20: "ЖУК",
	}
	plain := newWorld(t)
	indexed, take := newIndexedWorld(t)
	var lines []*line
	for _, w := range []*world{plain, indexed} {
		for _, text := range texts[1:] {
			w.deliver("INBOX", letter(text))
		}
		if w == indexed {
			take("INBOX")
		}
		l := w.dial("a")
		l.login()
		l.send("0 SELECT INBOX\r\n")
		l.skip("0 OK *")
		lines = append(lines, l)
	}
	for _, c := range []struct{ text, want string }{
		{"σίσυφος", " 1 2"}, {"ΣΊΣΥΦΟΣ", " 1 2"}, {"σισυφος", ""}, {"ίσυφοσ", " 1 2"},
		{"straße", " 3"}, {"strasse", " 4"}, // sharp s has no title case
		{"kirmizi", " 5 6"}, {"KIRMIZI", " 5 6"}, {"kırmızı", " 5 6"}, // dotless i has: I
		{"izmir", ""}, {"İZMİR", ""}, {"i\u0307zm", " 7"}, {"İzmir", " 7"}, // I with a dot is decomposed
		{"full width", " 8 9"}, {"ＦＵＬＬ ＷＩＤＴＨ", " 8 9"}, {"ｌｌ ｗ", " 8 9"},
		{"café", " 10 11 12"}, {"CAFE\u0301", " 10 11 12"}, {"cafe", " 10 11 12"}, {"\u0301", " 1 2 10 11 12 14 15"},
		{"季度销售报告", " 13"}, {"销售", " 13"}, {"售销", ""},
		{"việt", " 14 15"}, {"VIÊ\u0323T", " 14 15"}, {"tiếng", " 14 15"},
		{"ﬁne", " 16"}, {"fine", ""}, // title case comes first, and it has none
		{"ガイド", " 17 18"}, {"ｶﾞｲﾄﾞ", " 17 18"}, {"カ", " 17 18"},
		{"жук", " 19 20"},
	} {
		for _, key := range lettersKeys {
			for i, l := range lines {
				if got := l.find(key, c.text); got != c.want {
					t.Errorf("%s %q: found%s, want%s (with an index: %v)", key, c.text, got, c.want, i == 1)
				}
			}
		}
	}
	l := lines[0]
	l.send("1 UID SORT (SUBJECT) UTF-8 UID 1:6,10:12\r\n")
	l.expect("* SORT 10 11 12 5 6 4 3 1 2") // by what is compared: "É" is "E" with an accent behind
	l.expect("1 OK *")
	l.send("2 UID THREAD ORDEREDSUBJECT UTF-8 UID 1:6,10:12\r\n")
	l.expect("* THREAD (1 2)(3)(4)(5 6)(10 (11)(12))")
	l.expect("2 OK *")
}

// Whatever stands in messages and is looked for, it is found where the comparator
// says that it is, and an index says the same.
func TestUnicodeCasemapAgrees(t *testing.T) {
	// RFC 5051 2: each character in title case, then decomposed.
	prepare := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteString(string(unicode.ToTitle(r)))
		}
		return norm.NFKD.String(b.String())
	}
	plain := newWorld(t)
	indexed, take := newIndexedWorld(t)
	piece := rapid.SampledFrom([]string{"a", "B", "é", "e\u0301", "ΐ", "ς", "σ", "ı", "i", "ß", "ｘ", "中", "文", "ガ", "ｶ", "가", "ệ", "ǆ", "ﬁ", "-", "1", "Ж"})
	text := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(piece, 1, 8).Draw(t, "text"), "") })
	boxes := 0
	rapid.Check(t, func(rt *rapid.T) {
		boxes++
		box := fmt.Sprintf("box%d", boxes)
		texts := rapid.SliceOfN(text, 1, 4).Draw(rt, "texts")
		needle := text.Draw(rt, "needle")
		want := ""
		for i, s := range texts {
			if strings.Contains(prepare(s), prepare(needle)) {
				want += fmt.Sprintf(" %d", i+1)
			}
		}
		for _, w := range []*world{plain, indexed} {
			if _, err := w.store.CreateMailbox(context.Background(), alice, box, ""); err != nil {
				t.Fatal(err)
			}
			for _, s := range texts {
				w.deliver(box, letter(s))
			}
			if w == indexed {
				take(box)
			}
			l := w.dial("a")
			l.login()
			l.send("0 SELECT " + box + "\r\n")
			l.skip("0 OK *")
			for _, key := range []string{"SUBJECT", "BODY", "HEADER X-Note"} {
				if got := l.find(key, needle); got != want {
					rt.Fatalf("%s %q in %q: found%s, want%s (with an index: %v)", key, needle, texts, got, want, w == indexed)
				}
			}
			l.nc.Close()
		}
	})
}

// White space is the same however much of it there is, with an index and without.
func TestWhiteSpaceIsOneSpace(t *testing.T) {
	plain := newWorld(t)
	indexed, take := newIndexedWorld(t)
	for _, w := range []*world{plain, indexed} {
		w.deliver("INBOX", "From: \"Ann  Other\" <a@example.net>\nSubject: one\n  two\t three\u3000four\n\nx")
		if w == indexed {
			take("INBOX")
		}
		l := w.dial("a")
		l.login()
		l.send("0 SELECT INBOX\r\n")
		l.skip("0 OK *")
		for _, c := range []struct{ key, text, want string }{
			{"SUBJECT", "one two three four", " 1"}, {"SUBJECT", "one  two", " 1"}, {"FROM", "ann other", " 1"}, {"SUBJECT", "onetwo", ""}, {"SUBJECT", "three four ", ""}, {"HEADER Subject", "two three", " 1"},
		} {
			if got := l.find(c.key, c.text); got != c.want {
				t.Errorf("%s %q: found%s, want%s (with an index: %v)", c.key, c.text, got, c.want, w == indexed)
			}
		}
	}
}

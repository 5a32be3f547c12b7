package specs

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// A finding in a line of megabytes costs no more than one in a short line, apart
// from finding the place: what is made does not grow with the line.
func TestLongLinesAreCheapToShow(t *testing.T) {
	long := strings.Repeat("[", 1<<20)
	for _, column := range []int{1, 100, 1 << 19, 1 << 20} {
		shown, start, length := fitLine(long, column, column+1, 80)
		if textWidth(shown) > 80 || length != 1 || start >= 80 {
			t.Errorf("column %d: %q %d %d", column, shown, start, length)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		fitLine(long, column, 1<<20, 80)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
			t.Errorf("column %d: %d bytes are allocated", column, n)
		}
	}
}

// A spec of 100,000 nested brackets is refused, shown and reported in JSON.
func TestDeepNestingIsShown(t *testing.T) {
	_, src, ds := load(base + "locals { a = " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + " }\n")
	if len(ds) != 1 || ds[0].Code != codeTooComplex {
		t.Fatalf("%v", ds)
	}
	if out := show(src, ds); len(out) > 1000 || !strings.Contains(out, "…[[[[") {
		t.Errorf("shown as %d bytes: %.300s", len(out), out)
	}
	if out := DiagnosticsJSON(src, ds); len(out) > 4*maxSnippet {
		t.Errorf("the JSON has %d bytes", len(out))
	}
}

// fitLine gives what cutting the whole line would give.
func TestFitLineOfAnyLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab 王\t\u0301\x07é")), 0, 700, -1).Draw(t, "line")
		n := utf8.RuneCountInString(s)
		from := rapid.IntRange(-1, n+5).Draw(t, "from")
		to := rapid.IntRange(from+1, n+9).Draw(t, "to")
		room := rapid.IntRange(20, 100).Draw(t, "room")
		shown, start, length := fitLine(s, from, to, room)
		if w := textWidth(shown); w > room {
			t.Fatalf("%d columns in a room of %d: %q", w, room, shown)
		}
		if strings.ContainsFunc(shown, unicode.IsControl) || length < 1 {
			t.Fatalf("%q, length %d", shown, length)
		}
		if textWidth(expand(s)) <= room && shown != expand(s) {
			t.Fatalf("a line that fits was cut: %q of %q", shown, s)
		}
		// The part begins with the character that it should.
		if f := max(from, 1); f <= n {
			want := expand(string([]rune(s)[f-1]))
			if got := after(shown, start); runeWidth([]rune(want)[0]) > 0 && !strings.HasPrefix(got, want) {
				t.Fatalf("column %d of %q: %q begins with %q, want %q", f, s, shown, got, want)
			}
		}
	})
}

// expand is a line as it is shown.
func expand(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return '·'
		}
		return r
	}, strings.ReplaceAll(s, "\t", "  "))
}

// after is what stands from a column on, without marks that belong to the one before.
func after(s string, column int) string {
	at := 0
	for i, r := range s {
		if at >= column && runeWidth(r) > 0 {
			return s[i:]
		}
		at += runeWidth(r)
	}
	return ""
}

// Where secrets follow each other, overlap or go over lines, nothing of them shows.
func TestMasking(t *testing.T) {
	const text = "first secret line\nsecond one\n"
	for _, c := range []struct {
		hidden [][2]int
		want   string
	}{
		{[][2]int{{6, 12}}, "first ••• line|second one"},
		{[][2]int{{8, 12}, {6, 10}}, "first ••• line|second one"},
		{[][2]int{{6, 12}, {7, 8}}, "first ••• line|second one"},
		{[][2]int{{13, 24}}, "first secret •••|••• one"},
		{[][2]int{{0, 5}, {13, 17}}, "••• secret •••|second one"},
		{[][2]int{{0, 31}}, "•••|•••"},
	} {
		src := NewSources()
		src.Add("x", []byte(text))
		src.files["x"].hidden = c.hidden
		one, _ := src.line("x", 1)
		two, _ := src.line("x", 2)
		if got := fmt.Sprint(one, "|", two); got != c.want {
			t.Errorf("%v: %q, want %q", c.hidden, got, c.want)
		}
	}
}

// A text of many lines is fine, one whose joining would take minutes is not.
func TestHeredocs(t *testing.T) {
	for lines, fine := range map[int]bool{3000: true, 20_000: false} {
		text := "locals {\n  a = <<-E\n" + strings.Repeat("    a line of a text, which is as long as most are\n", lines) + "  E\n}\n"
		if _, src, ds := load(base + domainWith("") + text); ds.HasErrors() == fine || !fine && ds[0].Code != codeTooComplex {
			t.Errorf("%d lines: %s", lines, show(src, ds))
		}
	}
}

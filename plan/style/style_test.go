package style

import (
	"reflect"
	"strings"
	"testing"
)

func TestSheetIsPlainWithoutColour(t *testing.T) {
	var plain Sheet
	for _, f := range []func(string) string{plain.Bold, plain.Dim, plain.Red, plain.Green, plain.Yellow} {
		if got := f("x"); got != "x" {
			t.Errorf("plain sheet wrote %q", got)
		}
	}
	if got := New(true).Red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("red = %q", got)
	}
	if got := New(true).Red(""); got != "" {
		t.Errorf("nothing became %q", got)
	}
}

func TestWidth(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "abc": 3, "张三": 4, "e\u0301": 1, "→": 1, "•••": 3, "a\u200bb": 2,
	} {
		if got := Width(text); got != want {
			t.Errorf("Width(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestElideKeepsBothEndsAndFits(t *testing.T) {
	key := "v=DKIM1; k=rsa; p=" + strings.Repeat("A", 400) + "QAB"
	for w := range 60 {
		if got := Elide(key, w); Width(got) > w {
			t.Errorf("Elide to %d took %d columns: %q", w, Width(got), got)
		}
	}
	got := Elide(key, 30)
	if !strings.HasPrefix(got, "v=DKIM1; k=rsa") || !strings.HasSuffix(got, "AQAB") {
		t.Errorf("Elide lost an end: %q", got)
	}
	if got := Elide("张三李四王五", 7); Width(got) > 7 {
		t.Errorf("wide text took %d columns: %q", Width(got), got)
	}
}

func TestCleanStopsTerminalTricks(t *testing.T) {
	if got := Clean("ok\x1b[2Jgone\r\nx\u202eevil"); got != "ok�[2Jgone��x�evil" {
		t.Errorf("Clean = %q", got)
	}
}

func TestWrap(t *testing.T) {
	got := Wrap([]string{"aa", "bb", "cccccccc", "d"}, " · ", 8)
	want := [][]string{{"aa", "bb"}, {"cccccccc"}, {"d"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Wrap = %q", got)
	}
}

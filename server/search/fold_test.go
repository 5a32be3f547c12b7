package search

import (
	"strings"
	"testing"
)

// Fold is the form in which i;unicode-casemap compares, RFC 5051 2: title case first,
// then everything decomposed.
func TestFold(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"\u01c4", "Dz\u030c"}, // the RFC's own example
		{"hello", "HELLO"}, {"Straße", "STRAßE"}, {"STRASSE", "STRASSE"},
		{"σίσυφος", "ΣΙ\u0301ΣΥΦΟΣ"}, {"ΣΊΣΥΦΟΣ", "ΣΙ\u0301ΣΥΦΟΣ"},
		{"ı", "I"}, {"i", "I"}, {"İ", "I\u0307"}, {"ſ", "S"},
		{"é", "E\u0301"}, {"e\u0301", "E\u0301"}, {"É", "E\u0301"},
		{"ệ", "E\u0323\u0302"}, {"ê\u0323", "E\u0323\u0302"}, // as two kinds of keyboards write it
		{"ａｂｃ１２", "ABC12"}, {"ｶﾞ", "カ\u3099"}, {"ガ", "カ\u3099"},
		{"中文搜索", "中文搜索"}, {"각", "\u1100\u1161\u11a8"}, {"Жук", "ЖУК"},
		{"\xff中", "\ufffd中"}, {"", ""},
	} {
		if got := Fold(c.text); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.text, got, c.want)
		}
	}
}

// Whatever is folded, its ASCII is as folding ASCII alone makes it, and it is what
// two parts of it are one by one.
func FuzzFold(f *testing.F) {
	for _, s := range []string{"a", "é", "e\u0301", "\xff", "ﬁ", "ệ", "가"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		folded := Fold(s)
		if plain := []byte(s); foldASCII(plain) && string(plain) != folded {
			t.Errorf("%q becomes %q and %q", s, folded, plain)
		}
		if strings.ToValidUTF8(folded, "?") != folded {
			t.Errorf("%q becomes %q, which is no UTF-8", s, folded)
		}
		if one := Fold(s + " x"); one != folded+" X" {
			t.Errorf("%q becomes %q behind which is an x, and alone %q", s, one, folded)
		}
	})
}

package search

import (
	"unicode"
	"unicode/utf8"
)

// maxWord is how many characters of a word are indexed; a longer one is found by
// its first ones.
const maxWord = 64

// kind is how a character takes part in words.
type kind uint8

const (
	outside kind = iota // between words
	letter              // a part of a word
	dense               // of a script without spaces: indexed in pairs
)

func kindOf(r rune) kind {
	switch {
	case r < 0x80:
		if r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return letter
		}
		return outside
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar):
		return dense
	case unicode.In(r, unicode.Letter, unicode.Mark, unicode.Number):
		return letter
	}
	return outside
}

// word is one word of a text. Of a run of dense characters each pair is a word,
// and a single one.
type word struct {
	text string
	// first and last say that nothing stands before and behind it in the text: as a
	// query it may be the end, and the beginning, of a longer word.
	first, last bool
	cut         bool // not all of it
}

// eachWord calls f for the words of folded text.
func eachWord(s string, f func(word)) {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		k := kindOf(r)
		if k == outside {
			i += n
			continue
		}
		end, chars, limit := i+n, 1, i+n
		for end < len(s) {
			r, n := utf8.DecodeRuneInString(s[end:])
			if kindOf(r) != k {
				break
			}
			end += n
			if chars++; chars <= maxWord {
				limit = end
			}
		}
		if k == letter {
			f(word{s[i:limit], i == 0, end == len(s), chars > maxWord})
		} else {
			pairs(s[i:end], i == 0, end == len(s), f)
		}
		i = end
	}
}

func pairs(run string, first, last bool, f func(word)) {
	_, n := utf8.DecodeRuneInString(run)
	if n == len(run) {
		f(word{run, first, last, false})
		return
	}
	for a := 0; ; {
		_, n := utf8.DecodeRuneInString(run[a:])
		_, m := utf8.DecodeRuneInString(run[a+n:])
		// A pair is never a part of a longer word.
		f(word{text: run[a : a+n+m]})
		if a += n; a+m == len(run) {
			return
		}
	}
}

package search

import (
	"unicode"
	"unicode/utf8"
)

const (
	// A letter word of up to maxWord characters is a word of the index. Of a longer
	// one, pieces of that length are, each overlap characters further on, with a mark
	// where they are not its beginning or its end: so each part of up to overlap
	// characters is in one of them.
	maxWord = 64
	overlap = 32
	mark    = "\x01"
	// maxPieces bounds them; what is behind is known to be there, but not what it is.
	maxPieces = 64
)

// kind is how a character takes part in words.
type kind uint8

const (
	outside kind = iota // between words
	space               // between words, and nothing to be seen
	letter              // a part of a word
	dense               // of a script without spaces: indexed in pairs
)

// ascii has the kinds of the first 128 characters: w is a letter, s a space.
const ascii = ".........sssss..................s...............wwwwwwwwww......" +
	".wwwwwwwwwwwwwwwwwwwwwwwwww......wwwwwwwwwwwwwwwwwwwwwwwwww....."

func kindAt(s string, i int) (kind, int) {
	if c := s[i]; c < utf8.RuneSelf {
		switch ascii[c] {
		case 'w':
			return letter, 1
		case 's':
			return space, 1
		}
		return outside, 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	switch {
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar):
		return dense, n
	case unicode.In(r, unicode.Letter, unicode.Mark, unicode.Number):
		return letter, n
	case unicode.IsSpace(r):
		return space, n
	}
	return outside, n
}

// gap is what stands between a word and the one before.
type gap uint8

const (
	apart  gap = iota // something that is to be seen, or no word
	spaced            // only white space
	joined            // nothing: the scripts are different, or the pairs overlap
)

// eachRun calls f for the runs of letters and those of dense characters in folded
// text, s[from:to]. before is what stands ahead of it, and the result what stands
// behind its last run.
func eachRun(s string, before gap, f func(from, to int, k kind, chars int, g gap)) gap {
	for i := 0; i < len(s); {
		if s[i] == ' ' && before == joined { // between most words
			before = spaced
			i++
			continue
		}
		k, n := kindAt(s, i)
		if k <= space {
			if k == outside {
				before = apart
			} else if before == joined {
				before = spaced
			}
			i += n
			continue
		}
		start, chars := i, 1
		for i += n; i < len(s); chars++ {
			if k == letter && s[i] < utf8.RuneSelf { // nearly always
				if ascii[s[i]] != 'w' {
					break
				}
				i++
				continue
			}
			next, n := kindAt(s, i)
			if next != k {
				break
			}
			i += n
		}
		f(start, i, k, chars, before)
		before = joined
	}
	return before
}

// eachPair calls f for each two characters of a dense run that follow each other,
// or for the only one.
func eachPair(run string, f func(pair string)) {
	_, n := utf8.DecodeRuneInString(run)
	if n == len(run) {
		f(run)
		return
	}
	for a := 0; ; {
		_, n := utf8.DecodeRuneInString(run[a:])
		_, m := utf8.DecodeRuneInString(run[a+n:])
		f(run[a : a+n+m])
		if a += n; a+m == len(run) {
			return
		}
	}
}

// eachPiece calls f for the marked pieces of a letter word of more than maxWord
// characters. whole is false when there are too many.
func eachPiece(word string, f func(piece string)) (whole bool) {
	from := 0
	for n := range maxPieces {
		to := skip(word, from, maxWord)
		piece := word[from:to]
		if n > 0 {
			piece = mark + piece
		}
		if to == len(word) {
			f(piece)
			return true
		}
		f(piece + mark)
		from = skip(word, from, overlap)
	}
	return false
}

// skip is where the n characters from an octet on end.
func skip(s string, from, n int) int {
	for ; n > 0 && from < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[from:])
		from += size
	}
	return from
}

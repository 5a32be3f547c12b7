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
	case r >= 0x4e00 && r <= 0x9fff: // most of Han
		return dense, n
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

// run is some characters of one kind, letters or dense ones, and what is around them.
type run struct {
	from, to int // octets
	chars    int
	kind     kind
	gap      gap // what stands ahead of it
	behind   gap // and behind it, up to where the text ends if there is no run: joined otherwise
}

// runAt returns the next run of folded text from i on. before is what stands ahead
// of that. Without one from and to are the end of the text.
func runAt(s string, i int, before gap) run {
	for i < len(s) {
		k, n := kindAt(s, i)
		if k > space {
			r := run{from: i, chars: 1, kind: k, gap: before, behind: joined}
			for i += n; i < len(s); r.chars++ {
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
			r.to = i
			return r
		}
		if k == outside {
			before = apart
		} else if before == joined {
			before = spaced
		}
		i += n
	}
	return run{from: len(s), to: len(s), gap: before, behind: before}
}

// eachRun calls f for the runs of folded text. before is what stands ahead of it,
// and the result what stands behind its last run.
func eachRun(s string, before gap, f func(run)) gap {
	for i := 0; i < len(s); {
		r := runAt(s, i, before)
		if r.from < r.to {
			f(r)
		}
		i, before = r.to, r.behind
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

package search

import (
	"strings"
	"unicode"
)

// Contains reads a message and says whether a folded text is in some of its
// fields. Runs of white space count as one space, so that a line's end does not
// matter. The error is the source's.
func Contains(src Source, fields Field, text string) (bool, error) {
	needle := squeeze(text)
	if needle == "" {
		return true, nil
	}
	found := false
	tail := ""
	err := Extract(src, func(field Field, piece string, more bool) bool {
		if field&fields == 0 {
			return true
		}
		piece = squeeze(piece)
		if field != Body {
			found = strings.Contains(piece, needle)
			return !found
		}
		if more {
			piece = tail + piece
		}
		found = strings.Contains(piece, needle)
		tail = strings.Clone(piece[max(0, len(piece)-len(needle)+1):])
		return !found
	})
	return found, err
}

// Within says whether a folded text is in another one. Runs of white space count as
// one space.
func Within(text, part string) bool { return strings.Contains(squeeze(text), squeeze(part)) }

// squeeze makes every run of white space one space.
func squeeze(s string) string {
	run := false
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		c := s[i]
		space := c == ' '
		plain = c < 0x80 && (space || c > ' ') && !(space && run)
		run = space
	}
	if plain {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	run = false
	for _, r := range s {
		if unicode.IsSpace(r) {
			if !run {
				b.WriteByte(' ')
			}
			run = true
			continue
		}
		run = false
		b.WriteRune(r)
	}
	return b.String()
}

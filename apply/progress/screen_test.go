package progress

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// screen is a small terminal: it wraps at its width, scrolls at its height, and
// knows the few sequences that TTY uses. Anything else is an error.
type screen struct {
	t             *testing.T
	columns, rows int
	cells         [][]string // all rows ever, the last `rows` of which are visible
	joined        []bool     // the row continues the one above it
	row, column   int
	writes        int
}

func newScreen(t *testing.T, columns, rows int) *screen {
	return &screen{t: t, columns: columns, rows: rows, cells: [][]string{nil}, joined: []bool{false}}
}

func (s *screen) top() int { return max(0, len(s.cells)-s.rows) }

func (s *screen) down(joined bool) {
	s.row++
	if s.row == len(s.cells) {
		s.cells, s.joined = append(s.cells, nil), append(s.joined, joined)
	}
	s.joined[s.row] = joined
}

func (s *screen) Write(p []byte) (int, error) {
	s.writes++
	text := string(p)
	for len(text) > 0 {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
			if end < 0 {
				s.t.Fatalf("an unfinished sequence in %q", p)
			}
			s.sequence(rest[:end], rest[end])
			text = rest[end+1:]
			continue
		}
		r, _ := utf8.DecodeRuneInString(text)
		text = text[len(string(r)):]
		switch {
		case r == '\n':
			s.down(false)
			s.column = 0
		case r == '\r':
			s.column = 0
		case r < ' ' || r == 0x7f:
			s.t.Fatalf("a control character %q reaches the terminal", r)
		default:
			s.put(r)
		}
	}
	return len(p), nil
}

func (s *screen) sequence(args string, final byte) {
	switch final {
	case 'm':
	case 'A':
		n, err := strconv.Atoi(args)
		if err != nil {
			s.t.Fatal(err)
		}
		s.row = max(s.top(), s.row-n)
	case 'K':
		s.cells[s.row] = s.cells[s.row][:min(s.column, len(s.cells[s.row]))]
	case 'J':
		s.cells[s.row] = s.cells[s.row][:min(s.column, len(s.cells[s.row]))]
		for i := s.row + 1; i < len(s.cells); i++ {
			s.cells[i], s.joined[i] = nil, false
		}
	default:
		s.t.Fatalf("sequence %q%c", args, final)
	}
}

func (s *screen) put(r rune) {
	n := cells(r)
	if n == 0 && s.column > 0 {
		s.cells[s.row][s.column-1] += string(r)
		return
	}
	if s.column+n > s.columns {
		s.down(true)
		s.column = 0
	}
	row := s.cells[s.row]
	for len(row) < s.column {
		row = append(row, " ")
	}
	row = row[:s.column]
	row = append(row, string(r))
	for range n - 1 {
		row = append(row, "") // the second half of a wide character
	}
	s.cells[s.row] = row
	s.column += n
}

// lines returns everything, wrapped rows joined, without the empty rows at the end.
func (s *screen) lines() []string {
	var out []string
	for i, row := range s.cells {
		text := strings.Join(row, "")
		if s.joined[i] {
			out[len(out)-1] += text
		} else {
			out = append(out, text)
		}
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// resize changes the width as terminals do that wrap their content anew.
func (s *screen) resize(columns int) {
	old := s.lines()
	atEnd := s.row == len(s.cells)-1
	if !atEnd {
		s.t.Fatal("the test resizes only with the cursor below everything")
	}
	s.columns = columns
	s.cells, s.joined, s.row, s.column = [][]string{nil}, []bool{false}, 0, 0
	for _, l := range old {
		for _, r := range l {
			s.put(r)
		}
		s.down(false)
		s.column = 0
	}
}

func (s *screen) String() string { return strings.Join(s.lines(), "\n") }

package progress

import (
	"fmt"
	"strings"
	"time"

	"mailform/apply"
)

// span is a piece of a line in one colour.
type span struct{ sgr, text string }

type line []span

// render cuts the line to limit columns and paints what is left.
func (l line) render(p paint, limit int) (plainText, painted string) {
	var a, b strings.Builder
	for _, s := range l {
		text := cut(s.text, limit)
		limit -= textWidth(text)
		a.WriteString(text)
		if s.sgr == "" {
			b.WriteString(text)
		} else {
			b.WriteString(p.say(s.sgr, text))
		}
		if text != s.text {
			break
		}
	}
	return a.String(), b.String()
}

// columns are where things stand beside each other. They depend on the whole
// walk and the terminal only, so that nothing moves when an operation comes or goes.
type columns struct {
	all    int // of the terminal
	titles int // of group titles
	counts int // of "12/34"
	names  int // of operations' names
}

const (
	minName  = 12 // columns of a name at least
	minWhere = 8  // columns that are left of an address at least when it is cut
	clock    = 6  // columns of an elapsed time below 10 hours
	barCells = 20

	minMessage = 16 // columns of what an operation says that are worth showing

	besideName  = len("  g ") + len("  ") + clock // columns of a step's line without its name
	besideTitle = len("g ") + len("    ") + clock // of a heading's without its title and count
)

// facts is how many columns stay free beside a name and an elapsed time for what
// else is known of an operation.
func facts(all int) int { return min(all*28/100, 40) }

func (t *tree) columns(all int) columns {
	c := columns{all: all}
	for _, b := range t.groups {
		c.counts = max(c.counts, len(count(tally{done: b.tally.total, total: b.tally.total})))
	}
	c.titles = min(t.titles, max(minName, all-besideTitle-c.counts))
	c.names = min(t.names, max(minName, all-besideName-facts(all)))
	return c
}

func count(t tally) string { return fmt.Sprintf("%d/%d", t.done, t.total) }

// heading is the line of a group: how it stands, how much of it is done, for
// how long it has been worked on.
func (b *branch) heading(now time.Time, spin string, c columns) line {
	glyph, sgr, title := "·", sgrDim, sgrDim
	switch {
	case b.tally.failed > 0:
		glyph, sgr, title = "✗", sgrRed, sgrBold
	case b.tally.stopped > 0:
		glyph, sgr, title = "■", sgrYellow, sgrBold
	case len(b.active) > 0:
		glyph, sgr, title = spin, "", sgrBold
	case b.tally.skipped > 0:
		glyph, sgr, title = "-", sgrYellow, sgrBold
	case b.finished():
		glyph, sgr, title = "✓", sgrGreen, sgrBold
	case !b.untouched():
		glyph, title = "…", sgrBold // what it waits for is done elsewhere
	}
	l := line{
		{sgr, glyph}, {"", " "}, {title, pad(cut(b.title, c.titles), c.titles)},
		{sgrDim, "  " + before(count(b.tally), c.counts)},
	}
	if !b.begun.IsZero() {
		l = append(l, span{"", "  " + before(spell(b.elapsed(now)), clock)})
	}
	if rest := b.tally.rest(); rest != "" {
		l = l.also(sgrDim, rest, c.all)
	}
	return l
}

// width is how many columns the line takes.
func (l line) width() int {
	n := 0
	for _, s := range l {
		n += textWidth(s.text)
	}
	return n
}

// also appends text if all of it fits.
func (l line) also(sgr, text string, limit int) line {
	if l.width()+len("  ")+textWidth(text) > limit {
		return l
	}
	return append(l, span{sgr, "  " + text})
}

// before fills text with spaces on its left side to at least n columns.
func before(s string, n int) string { return strings.Repeat(" ", max(0, n-textWidth(s))) + s }

// running is one operation, or one provider being read, that has begun and not ended.
type running struct {
	op, title, where string
	begun            time.Time
	estimate         time.Duration
	message          string
	done, total      int64
	again            time.Time // when the next attempt is due; zero when none is
	found            string    // what was found out about a lost answer
}

func newRunning(e apply.Event) *running {
	title, where := label(e)
	return &running{op: e.Op, title: title, where: where, begun: e.Time, estimate: e.Estimate}
}

// named is an operation's name in n columns. An address of which too little
// would be left is left out.
func named(title, where string, n int) []span {
	title = cut(title, n)
	room := n - textWidth(title) - 1
	if where == "" || room < min(minWhere, textWidth(where)) {
		return []span{{"", pad(title, n)}}
	}
	return []span{{"", title + " "}, {sgrDim, pad(cut(where, room), room)}}
}

// lines lays out one running operation: its name, how long it has been running,
// how far it is, and what it says if there is room to say enough of it. The
// failure that makes it wait is said in any case, below when it must be.
func (r *running) lines(now time.Time, spin, indent string, names int, c columns) []line {
	glyph, fact := span{"", spin}, ""
	elapsed, wait, room := now.Sub(r.begun), r.again.Sub(now), facts(c.all)
	switch {
	case wait > 0:
		glyph, fact = span{sgrYellow, "↻"}, ", again in "+spell(wait)
		if textWidth(fact) > room {
			fact = ", in " + spell(wait)
		}
	case r.total > 0:
		share := min(max(float64(r.done)/float64(r.total), 0), 1)
		fact = fmt.Sprintf(" %3d%% %s", int(share*100), bar(share, min(barCells, c.all/10)))
	case r.estimate > 0:
		fact = " of ~" + guess(r.estimate)
		if usually := ", usually " + guess(r.estimate); elapsed > r.estimate && textWidth(usually) <= room {
			fact = usually
		}
	}
	l := append(line{{"", indent}, glyph, {"", " "}}, named(r.title, r.where, names)...)
	l = append(l, span{"", "  " + before(spell(elapsed), clock)}, span{sgrDim, fact})
	left := c.all - l.width() - len("  ")
	switch {
	case r.message == "":
	case !r.again.IsZero() && textWidth(r.message) > left:
		return []line{l, {{sgrYellow, indent + "  " + r.message}}}
	case !r.again.IsZero():
		l = append(l, span{sgrYellow, "  " + r.message})
	case left >= min(minMessage, textWidth(r.message)):
		l = append(l, span{sgrDim, "  " + r.message})
	}
	return []line{l}
}

func bar(share float64, n int) string {
	full := int(share * float64(n))
	return strings.Repeat("█", full) + strings.Repeat("░", n-full)
}

// failure is the lines of an operation that failed: its name, and its cause in
// short, beside it where there is room for all of it.
func failure(e apply.Event, c columns) []line {
	title, where := label(e)
	l := append(line{{"", "  "}, {sgrRed, "✗"}, {"", " "}}, named(title, where, c.names)...)
	l = append(l, span{"", "  " + before(spell(e.Elapsed), clock)})
	cause := reason(e)
	if cause == "" {
		return []line{l}
	}
	if whole := l.also("", cause, c.all); len(whole) > len(l) {
		return []line{whole}
	}
	return []line{l, {{"", "    " + cause}}}
}

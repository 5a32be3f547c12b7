package progress

import (
	"fmt"
	"time"
)

// row is a line of the live region and how dear it is when there is no room for all.
type row struct {
	line
	worth worth
}

// worth says which rows go first when the terminal has too few.
type worth int

// From what is missed least to what is missed most.
const (
	finishedGroup worth = iota
	untouchedGroup
	cause
	idleGroup
	failedStep
	activeGroup
	runningStep
	sum
)

// folded is the one row that stands for n rows that were left out.
func (w worth) folded(n int) line {
	switch w {
	case finishedGroup:
		return line{{sgrGreen, "✓"}, {sgrDim, fmt.Sprintf(" %d groups done", n)}}
	case untouchedGroup:
		return line{{sgrDim, fmt.Sprintf("· %d groups not begun", n)}}
	case idleGroup:
		return line{{sgrDim, fmt.Sprintf("… %d groups wait for others", n)}}
	case failedStep:
		return line{{sgrRed, "  ✗"}, {"", fmt.Sprintf(" %d steps failed", n)}}
	case runningStep:
		return line{{sgrDim, fmt.Sprintf("  and %d more running", n)}}
	}
	return nil
}

// fromEnd reports whether the last rows of a kind are left out first.
func (w worth) fromEnd() bool { return w == untouchedGroup || w == idleGroup || w == runningStep }

// fit leaves rows out until they are at most room: first each kind shrinks to
// one row that counts the others, then whole kinds go. The running operations and
// the sum are the last.
func fit(rows []row, room int) []row {
	for w := finishedGroup; w < runningStep; w++ {
		rows = shrink(rows, w, len(rows)-room)
	}
	for w := finishedGroup; w < runningStep; w++ {
		rows = without(rows, w, len(rows)-room)
	}
	rows = shrink(rows, runningStep, len(rows)-room)
	return rows[max(0, len(rows)-max(0, room)):]
}

// shrink makes rows of one kind fewer by excess, if there are as many, and puts
// one in their place that counts them.
func shrink(rows []row, w worth, excess int) []row {
	var at []int
	for i, r := range rows {
		if r.worth == w {
			at = append(at, i)
		}
	}
	if excess <= 0 || len(at) < 2 || w.folded(1) == nil {
		return rows
	}
	gone := at[:min(excess+1, len(at))]
	stand := gone[len(gone)-1] // where the row in their place stands
	if w.fromEnd() {
		gone = at[len(at)-len(gone):]
		stand = gone[0]
	}
	var out []row
	for i, r := range rows {
		switch {
		case i == stand:
			out = append(out, row{w.folded(len(gone)), w})
		case r.worth != w || i < gone[0] || i > gone[len(gone)-1]:
			out = append(out, r)
		}
	}
	return out
}

// without drops up to n rows of a kind. The headings of what runs go together: an
// operation must not stand below the heading of another group.
func without(rows []row, w worth, n int) []row {
	if w == activeGroup && n > 0 {
		n = len(rows)
	}
	var out []row
	for _, r := range rows {
		if r.worth == w && n > 0 {
			n--
			continue
		}
		out = append(out, r)
	}
	return out
}

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// frame lays out the live lines in at most as many rows: what is read, the
// groups with what goes on in them, and the sum.
func (t *TTY) frame(all, rows int) []line {
	if len(t.reading) == 0 && !t.walk {
		return nil
	}
	now := t.opts.Now()
	spin := spinner[t.turn%len(spinner)]
	c := columns{all: all}
	var out []row
	for _, r := range t.reading {
		names := min(textWidth(name(r.title, r.where)), max(minName, all-besideName-facts(all)))
		out = append(out, step(r.lines(now, spin, "", names, c), runningStep)...)
	}
	if t.walk {
		c = t.tree.columns(all)
		for _, b := range t.tree.groups {
			out = append(out, b.rows(now, spin, c)...)
		}
		if t.stopping {
			text := "finishing what is in flight; ^C again gives it up"
			if textWidth(text)+2 > all {
				text = "finishing what is in flight"
			}
			out = append(out, row{line{{sgrYellow, "■ " + text}}, sum})
		}
		out = append(out, row{t.sum(now, all), sum})
	}
	var lines []line
	for _, r := range fit(out, rows) {
		lines = append(lines, r.line)
	}
	return lines
}

// rows are a group as it is shown while the walk goes on: one line when nothing
// goes on in it, else with what is running below it. What failed stays.
func (b *branch) rows(now time.Time, spin string, c columns) []row {
	head := idleGroup
	switch {
	case len(b.active) > 0 || len(b.failed) > 0:
		head = activeGroup
	case b.untouched():
		head = untouchedGroup
	case b.finished():
		head = finishedGroup
	}
	out := []row{{b.heading(now, spin, c), head}}
	for _, e := range b.failed {
		out = append(out, step(failure(e, c), failedStep)...)
	}
	for _, r := range b.active {
		out = append(out, step(r.lines(now, spin, "  ", c.names, c), runningStep)...)
	}
	return out
}

// step is the rows of an operation: its line and what may stand below it.
func step(lines []line, w worth) []row {
	rows := []row{{lines[0], w}}
	for _, l := range lines[1:] {
		rows = append(rows, row{l, cause})
	}
	return rows
}

// sum is the last line: how much is done, for how long the walk has been going
// on, and about how long it takes.
func (t *TTY) sum(now time.Time, all int) line {
	elapsed := now.Sub(t.begun)
	l := line{{sgrBold, "  " + t.tally.String()}, {sgrDim, "  " + spell(elapsed)}}
	if about := roughly(t.typical); about != "" && elapsed < t.typical {
		if whole := append(l, span{sgrDim, " of " + about}); whole.width() <= all {
			return whole
		}
	}
	return l
}

package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"mailform/apply"
)

// TTYOptions are the choices of TTY.
type TTYOptions struct {
	// Size returns the terminal's columns and rows and is asked before every
	// frame; values below 1 count as 80 and 24.
	Size  func() (columns, rows int)
	Color bool
	Now   func() time.Time // nil: time.Now
	// Tick gives the moments at which elapsed times are redrawn; the channel of a
	// time.Ticker of about 100 ms. Nil redraws on events only.
	Tick <-chan time.Time
}

// TTY shows what is going on in a region at the bottom of a terminal that is
// redrawn in place; what has ended scrolls up above it.
//
// Every line of the region is cut to the terminal's width, so that it takes
// exactly one row, and the region never has more rows than the terminal: that
// is what makes it safe to move the cursor back over it.
type TTY struct {
	opts  TTYOptions
	paint paint
	stop  chan struct{}
	idle  sync.WaitGroup

	mu      sync.Mutex
	w       io.Writer
	err     error
	active  []*running // in the order in which they began
	failed  []apply.Event
	tally   tally
	skips   skips
	begun   time.Time
	typical time.Duration // of the whole walk
	walk    bool          // between start and end
	frame   int           // of the spinner
	drawn   []int         // columns of each line of the region on the screen
}

// running is one operation, or one provider being read, that has begun and not ended.
type running struct {
	op, title, where string
	begun            time.Time
	estimate         time.Duration
	message          string
	done, total      int64
	again            time.Time // when the next attempt is due; zero when not waiting
}

// NewTTY returns a TTY that draws on w until Close.
func NewTTY(w io.Writer, o TTYOptions) *TTY {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &TTY{opts: o, w: w, paint: paint{o.Color}, stop: make(chan struct{})}
	if o.Tick != nil {
		t.idle.Go(func() {
			for {
				select {
				case <-t.stop:
					return
				case <-o.Tick:
					t.tick()
				}
			}
		})
	}
	return t
}

func (t *TTY) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.active) > 0 || len(t.drawn) > 0 {
		t.frame++
		t.draw("")
	}
}

// Event shows one event. It is an apply.Sink.
func (t *TTY) Event(e apply.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	above := ""
	if e.Kind == apply.EventSkipped && t.skips.add(e) {
		t.tally.add(e)
		t.draw("")
		return
	}
	before := t.skipped()
	t.tally.add(e)
	title, where := label(e)
	switch e.Kind {
	case apply.EventStart:
		t.walk, t.begun, t.typical = true, e.Time, e.Estimate
	case apply.EventObserve, apply.EventBegin:
		t.active = append(t.active, &running{op: e.Op, title: title, where: where, begun: e.Time, estimate: e.Estimate})
	case apply.EventProgress:
		if r := t.find(e.Op); r != nil {
			r.message, r.done, r.total, r.again = clean(e.Message), e.Done, e.Total, time.Time{}
		}
	case apply.EventRetry:
		if r := t.find(e.Op); r != nil {
			r.message, r.done, r.total, r.again = reason(e), 0, 0, e.Time.Add(e.Wait)
		}
	case apply.EventObserved:
		t.end(e.Op)
	case apply.EventResolved:
		above = t.ended("•", "", title, where, clean(e.Message))
	case apply.EventDone:
		t.end(e.Op)
		above = t.ended("✓", sgrGreen, title, where, spell(e.Elapsed))
	case apply.EventFailed:
		t.end(e.Op)
		t.failed = append(t.failed, e)
		above = t.ended("✗", sgrRed, title, where, spell(e.Elapsed))
	case apply.EventStopped:
		t.end(e.Op)
		above = t.ended("■", sgrYellow, title, where, "stopped after "+spell(e.Elapsed))
	case apply.EventSkipped:
		t.skips.add(e)
	case apply.EventWarning:
		above = t.paint.say(sgrYellow, "!") + " " + clean(e.Message) + "\n"
	case apply.EventEnd:
		t.walk, t.active = false, nil
		above = fmt.Sprintf("  %s in %s\n", t.tally, spell(e.Elapsed)) + allDetails(t.failed, t.paint)
		t.failed = nil
	}
	t.draw(before + above)
}

// skipped is the line about what was skipped, once it is clear how much for the
// same reason.
func (t *TTY) skipped() string {
	if name, why, any := t.skips.take(); any {
		return t.ended("-", sgrDim, name, "", "skipped: "+why)
	}
	return ""
}

// Close wipes the region, prints the errors that no end has printed yet, and
// reports the first failed write. Events after Close are lines only.
func (t *TTY) Close() error {
	close(t.stop)
	t.idle.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.walk, t.active = false, nil
	t.draw(t.skipped() + allDetails(t.failed, t.paint))
	t.failed = nil
	return t.err
}

func (t *TTY) find(op string) *running {
	for _, r := range t.active {
		if r.op == op {
			return r
		}
	}
	return nil
}

func (t *TTY) end(op string) {
	t.active = slices.DeleteFunc(t.active, func(r *running) bool { return r.op == op })
}

// minWhere is how many columns are left of an address at least when it is cut.
const minWhere = 8

// ended is the line that stays for an operation. Its address is cut when that
// makes it fit; otherwise it may be longer than the terminal is wide: it is
// written once, above the region, and wraps.
func (t *TTY) ended(glyph, sgr, title, where, note string) string {
	s := t.paint.say(sgr, glyph) + " " + title
	if where != "" {
		columns, _ := t.size()
		if room := columns - textWidth(glyph+" "+title+"   "+note); room >= minWhere {
			where = cut(where, room)
		}
		s += " " + t.paint.say(sgrDim, where)
	}
	return s + "  " + t.paint.say(sgrDim, note) + "\n"
}

func (t *TTY) size() (columns, rows int) {
	if t.opts.Size != nil {
		columns, rows = t.opts.Size()
	}
	if columns < 1 {
		columns = 80
	}
	if rows < 1 {
		rows = 24
	}
	return columns, rows
}

// draw replaces the region in one write: back to its first row, clear to the
// end of the screen, the lines that stay, the new region.
func (t *TTY) draw(above string) {
	columns, rows := t.size()
	var b strings.Builder
	up := 0
	for _, n := range t.drawn {
		// A terminal that has become narrower since has wrapped the line.
		up += max(1, (n+columns-1)/columns)
	}
	if up = min(up, rows-1); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	if len(t.drawn) > 0 {
		b.WriteString("\r\x1b[J")
	}
	b.WriteString(above)
	t.drawn = t.drawn[:0]
	// The last column stays free: a character there makes some terminals wrap.
	for _, l := range t.region(columns-1, rows-1) {
		plainText, painted := l.render(t.paint, columns-1)
		b.WriteString(painted + "\n")
		t.drawn = append(t.drawn, textWidth(plainText))
	}
	if b.Len() > 0 && t.err == nil {
		_, t.err = io.WriteString(t.w, b.String())
	}
}

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
		b.WriteString(p.say(s.sgr, text))
		if text != s.text {
			break
		}
	}
	return a.String(), b.String()
}

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// region lays out the live lines: what is running, oldest first, and the sum.
func (t *TTY) region(columns, rows int) []line {
	if len(t.active) == 0 && !t.walk {
		return nil
	}
	now := t.opts.Now()
	var lines []line
	room := rows
	if t.walk {
		room--
	}
	shown := t.active
	if len(shown) > room {
		shown = shown[:max(0, room-1)]
	}
	for _, r := range shown {
		lines = append(lines, r.line(now, spinner[t.frame%len(spinner)], columns))
	}
	if hidden := len(t.active) - len(shown); hidden > 0 && room > 0 {
		lines = append(lines, line{{sgrDim, fmt.Sprintf("  and %d more running", hidden)}})
	}
	if t.walk && rows > 0 {
		lines = append(lines, line{{sgrBold, fmt.Sprintf("  %s", t.tally)}, {sgrDim, "  " + t.clock(now)}})
	}
	return lines
}

// clock is how long the walk has been going on, and about how long it takes.
func (t *TTY) clock(now time.Time) string {
	elapsed := now.Sub(t.begun)
	s := spell(elapsed)
	if about := roughly(t.typical); about != "" && elapsed < t.typical {
		s += " of " + about
	}
	return s
}

const barCells = 20

// minName is how many columns the name of an operation gets at least, when its
// elapsed time and its bar leave room for fewer.
const minName = 12

// line lays out one running operation: its name, shortened when need be, how
// long it has been running, how far it is, and what it says, which a narrow
// terminal loses first.
func (r *running) line(now time.Time, spin string, columns int) line {
	facts := "  " + spell(now.Sub(r.begun))
	wait := r.again.Sub(now)
	switch {
	case wait > 0:
		facts += ", again in " + spell(wait)
	case r.estimate > 0:
		facts += " of about " + spell(r.estimate)
	}
	if r.total > 0 {
		share := min(max(float64(r.done)/float64(r.total), 0), 1)
		facts += fmt.Sprintf("  %3d%% %s", int(share*100), bar(share, min(barCells, columns/8)))
	}
	room := max(minName, columns-textWidth(spin+" "+facts))
	title := cut(r.title, room)
	l := line{{"", spin + " " + title}}
	if room -= textWidth(title); r.where != "" && room > 1 {
		l = append(l, span{sgrDim, cut(" "+r.where, room)})
	}
	l = append(l, span{"", facts})
	if r.message != "" {
		sgr := sgrDim
		if !r.again.IsZero() {
			sgr = sgrYellow // the failure that made it wait
		}
		l = append(l, span{sgr, "  " + r.message})
	}
	return l
}

func bar(share float64, n int) string {
	full := int(share * float64(n))
	return strings.Repeat("█", full) + strings.Repeat("░", n-full)
}

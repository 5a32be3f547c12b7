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

// TTY shows what is going on as a tree at the bottom of a terminal, which is
// redrawn in place: the groups of the plan, and in them what is running and what
// has failed. Once the walk is over, everything that ended is printed to stay.
//
// Every line of the region is cut to the terminal's width, so that it takes
// exactly one row, and the region never has more rows than the terminal: that
// is what makes it safe to move the cursor back over it.
type TTY struct {
	opts  TTYOptions
	paint paint
	stop  chan struct{}
	idle  sync.WaitGroup

	mu       sync.Mutex
	w        io.Writer
	err      error
	reading  []*running // what goes on outside of a walk, in the order in which it began
	tree     *tree
	failed   []apply.Event
	tally    tally
	begun    time.Time
	typical  time.Duration // of the whole walk
	walk     bool          // between start and end
	stopping bool          // nothing more is begun
	turn     int           // of the spinner
	drawn    []int         // columns of each line of the region on the screen
}

// NewTTY returns a TTY that draws on w until Close.
func NewTTY(w io.Writer, o TTYOptions) *TTY {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &TTY{opts: o, w: w, paint: paint{o.Color}, stop: make(chan struct{}), tree: newTree(nil)}
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
	if t.walk || len(t.reading) > 0 || len(t.drawn) > 0 {
		t.turn++
		t.draw("")
	}
}

// Event shows one event. It is an apply.Sink.
func (t *TTY) Event(e apply.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	above := ""
	t.tally.add(e)
	switch e.Kind {
	case apply.EventStart:
		t.walk, t.stopping, t.begun, t.typical = true, false, e.Time, e.Estimate
		t.tree = newTree(e.Ops)
	case apply.EventObserve:
		t.reading = append(t.reading, newRunning(e))
	case apply.EventObserved:
		t.reading = slices.DeleteFunc(t.reading, func(r *running) bool { return r.op == e.Op })
	case apply.EventBegin:
		t.tree.begin(e)
	case apply.EventProgress:
		if r := t.find(e.Op); r != nil {
			r.message, r.done, r.total, r.again = clean(e.Message), e.Done, e.Total, time.Time{}
		}
	case apply.EventRetry:
		if r := t.find(e.Op); r != nil {
			r.message, r.done, r.total, r.again = reason(e), 0, 0, e.Time.Add(e.Wait)
		}
	case apply.EventResolved:
		if r := t.find(e.Op); r != nil {
			r.message, r.again, r.found = clean(e.Message), time.Time{}, clean(e.Message)
		} else {
			above = t.ended(e, "", 0)
		}
	case apply.EventDone, apply.EventStopped, apply.EventSkipped:
		t.tree.end(e)
	case apply.EventFailed:
		t.tree.end(e)
		t.failed = append(t.failed, e)
	case apply.EventWarning:
		// That it is stopping stands in the region for as long as it takes.
		t.stopping = t.stopping || e.Stopping
		if !e.Stopping || e.Err != nil {
			above = t.paint.say(sgrYellow, "!") + " " + clean(e.Message) + "\n"
		}
	case apply.EventEnd:
		above = t.record()
		above += fmt.Sprintf("  %s in %s\n", t.tally, spell(e.Elapsed)) + allDetails(t.failed, t.paint)
		t.failed = nil
	}
	t.draw(above)
}

// Close wipes the region, prints what has ended and the errors that no end has
// printed yet, and reports the first failed write.
func (t *TTY) Close() error {
	close(t.stop)
	t.idle.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading = nil
	t.draw(t.record() + allDetails(t.failed, t.paint))
	t.failed = nil
	return t.err
}

func (t *TTY) find(op string) *running {
	if r := t.tree.find(op); r != nil {
		return r
	}
	return find(t.reading, op)
}

// record ends the walk: the tree as it stays, with everything that ended in it.
func (t *TTY) record() string {
	if !t.walk {
		return ""
	}
	t.walk = false
	all, _ := t.size()
	now, c := t.opts.Now(), t.tree.columns(all-1)
	names := min(t.tree.names, all-1-besideName)
	var b strings.Builder
	for _, g := range t.tree.groups {
		heading := g.heading(now, "…", c)
		_, painted := heading.render(t.paint, heading.width())
		b.WriteString(painted + "\n")
		var s skips
		for _, e := range g.ended {
			if e.Kind == apply.EventSkipped && s.add(e) {
				continue
			}
			b.WriteString(t.skipped(&s))
			if e.Kind == apply.EventSkipped {
				s.add(e)
				continue
			}
			b.WriteString(t.ended(e, "  ", names))
		}
		b.WriteString(t.skipped(&s))
	}
	t.tree = newTree(nil)
	return b.String()
}

// ended is the line that stays for an operation, its name in as many columns as
// names says or in as many as it takes when it has more to say than fits: the line
// is written once, above the region, and may wrap.
func (t *TTY) ended(e apply.Event, indent string, names int) string {
	title, where := label(e)
	glyph, sgr, note := "✓", sgrGreen, before(spell(e.Elapsed), clock)
	switch e.Kind {
	case apply.EventFailed:
		glyph, sgr = "✗", sgrRed
	case apply.EventStopped:
		glyph, sgr, note = "■", sgrYellow, note+"  stopped"
	case apply.EventResolved:
		glyph, sgr, note = "•", "", ""
	}
	if e.Message != "" {
		note = strings.TrimPrefix(note+"  "+clean(e.Message), "  ")
	}
	if textWidth(title) > names {
		names = textWidth(name(title, where))
	}
	l := append(line{{"", indent}, {sgr, glyph}, {"", " "}}, named(title, where, names)...)
	l = append(l, span{sgrDim, "  " + note})
	_, painted := l.render(t.paint, l.width())
	return painted + "\n"
}

// skipped is the line about what was skipped for one reason.
func (t *TTY) skipped(s *skips) string {
	what, why, any := s.take()
	if !any {
		return ""
	}
	return "  " + t.paint.say(sgrDim, "-") + " " + what + "  " + t.paint.say(sgrDim, "skipped: "+why) + "\n"
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

// draw replaces the region in one write: back to its first row, the lines that
// stay, the new region. Without lines that stay, each row is written over, so
// that a terminal has no empty region to show in between.
func (t *TTY) draw(above string) {
	all, rows := t.size()
	var b strings.Builder
	up := 0
	for _, n := range t.drawn {
		// A terminal that has become narrower since has wrapped the line.
		up += max(1, (n+all-1)/all)
	}
	if up = min(up, rows-1); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	// The last column stays free: a character there makes some terminals wrap.
	lines := t.frame(all-1, rows-1)
	had := len(t.drawn) > 0
	if had {
		b.WriteByte('\r')
	}
	if had && above != "" {
		b.WriteString("\x1b[J")
	}
	b.WriteString(above)
	t.drawn = t.drawn[:0]
	for _, l := range lines {
		plainText, painted := l.render(t.paint, all-1)
		b.WriteString(painted + "\x1b[K\n")
		t.drawn = append(t.drawn, textWidth(plainText))
	}
	if had && above == "" {
		b.WriteString("\x1b[J")
	}
	if b.Len() > 0 && t.err == nil {
		_, t.err = io.WriteString(t.w, b.String())
	}
}

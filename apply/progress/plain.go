package progress

import (
	"fmt"
	"io"
	"strings"
	"time"

	"mailform/apply"
)

// PlainOptions are the choices of Plain.
type PlainOptions struct {
	Color bool
}

// Plain writes one line per thing that happens, for pipes and CI logs.
type Plain struct {
	w      io.Writer
	paint  paint
	tally  tally
	skips  skips
	failed []apply.Event
	told   map[string]time.Time // by operation: when it was last said how it gets on
	err    error
}

// NewPlain returns a Plain that writes to w.
func NewPlain(w io.Writer, o PlainOptions) *Plain {
	return &Plain{w: w, paint: paint{o.Color}}
}

// Event shows one event. It is an apply.Sink.
func (p *Plain) Event(e apply.Event) {
	if e.Kind == apply.EventSkipped && p.skips.add(e) {
		p.tally.add(e)
		return
	}
	p.skipped()
	p.tally.add(e)
	title, where := label(e)
	name := strings.TrimSpace(title + " " + where)
	switch e.Kind {
	case apply.EventStart:
		text := fmt.Sprintf("%d steps", e.Total)
		if e.Total == 1 {
			text = "1 step"
		}
		if about := roughly(e.Estimate); about != "" {
			text += ", " + about
		}
		p.line("start", sgrBold, text)
	case apply.EventObserved:
		p.line("read", "", fmt.Sprintf("%s  %d objects  %s", clean(e.Provider), e.Done, spell(e.Elapsed)))
	case apply.EventBegin:
		if e.Estimate >= longStep {
			name += "  " + roughly(e.Estimate)
		}
		p.line("begin", "", name)
	case apply.EventProgress:
		// Of what can be counted, at a pace that a log bears.
		if e.Total > 0 && e.Time.Sub(p.told[e.Op]) >= calm {
			if p.told == nil {
				p.told = map[string]time.Time{}
			}
			if _, any := p.told[e.Op]; any {
				p.line("going", "", fmt.Sprintf("%s  %d%%: %s", name, 100*e.Done/e.Total, clean(e.Message)))
			}
			p.told[e.Op] = e.Time
		}
	case apply.EventRetry:
		p.line("retry", sgrYellow, fmt.Sprintf("%s  again in %s (attempt %d): %s", name, spell(e.Wait), e.Attempt+1, reason(e)))
	case apply.EventResolved:
		p.line("found", "", fmt.Sprintf("%s  %s", name, clean(e.Message)))
	case apply.EventDone:
		p.line("done", sgrGreen, fmt.Sprintf("%s  %s", name, spell(e.Elapsed)))
	case apply.EventFailed:
		p.line("failed", sgrRed, fmt.Sprintf("%s  %s", name, spell(e.Elapsed)))
		p.failed = append(p.failed, e)
	case apply.EventSkipped:
		p.skips.add(e)
	case apply.EventStopped:
		p.line("stop", sgrYellow, fmt.Sprintf("%s  %s", name, spell(e.Elapsed)))
	case apply.EventWarning:
		p.line("note", sgrYellow, clean(e.Message))
	case apply.EventEnd:
		total := p.tally
		p.tally = tally{} // no step is being counted any more
		p.line("end", sgrBold, fmt.Sprintf("%s in %s", total, spell(e.Elapsed)))
		p.print(allDetails(p.failed, p.paint))
		p.failed = nil
	}
}

// calm is how far apart the lines are that say how one step gets on.
const calm = 15 * time.Second

// longStep is how long a step takes at least to be announced as long.
const longStep = 10 * time.Second

// skipped tells what was skipped, once it is clear how much for the same reason.
func (p *Plain) skipped() {
	if name, why, any := p.skips.take(); any {
		p.line("skip", sgrDim, name+"  "+why)
	}
}

// line writes "[ 3/18] done    start the instance host/mx1/instance  12.3s". The
// counter says how many operations have ended.
func (p *Plain) line(verb, sgr, text string) {
	counter := ""
	if p.tally.total > 0 {
		digits := len(fmt.Sprint(p.tally.total))
		counter = fmt.Sprintf("[%*d/%d] ", digits, p.tally.ended(), p.tally.total)
	}
	p.print(counter + p.paint.say(sgr, pad(verb, 6)) + "  " + text + "\n")
}

func (p *Plain) print(s string) {
	if p.err == nil && s != "" {
		_, p.err = io.WriteString(p.w, s)
	}
}

// Close reports the first failed write.
func (p *Plain) Close() error {
	p.skipped()
	p.print(allDetails(p.failed, p.paint))
	p.failed = nil
	return p.err
}

// allDetails are the full errors, each after an empty line.
func allDetails(failed []apply.Event, p paint) string {
	var b strings.Builder
	for _, e := range failed {
		b.WriteString("\n" + details(e, p))
	}
	return b.String()
}

package progress

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"mailform/apply"
	"mailform/plan"
)

// paint is how colour is asked for; the zero value is none.
type paint struct{ on bool }

const (
	sgrBold   = "1"
	sgrDim    = "2"
	sgrRed    = "31"
	sgrGreen  = "32"
	sgrYellow = "33"
)

func (p paint) say(sgr, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[0m"
}

// clean makes text from outside harmless in a terminal: no control characters,
// nothing that reorders what is read, one line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, s)
}

// cells is how many columns a rune takes in a terminal.
func cells(r rune) int {
	if r < 0x300 { // nothing below is combining or wide
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func textWidth(s string) int {
	n := 0
	for _, r := range s {
		n += cells(r)
	}
	return n
}

// cut shortens clean text to at most limit columns, with an ellipsis when something is lost.
func cut(s string, limit int) string {
	if textWidth(s) <= limit {
		return s
	}
	if limit <= 0 {
		return ""
	}
	used := 0
	for i, r := range s {
		if used+cells(r) > limit-1 {
			return s[:i] + "…"
		}
		used += cells(r)
	}
	return s
}

// pad fills clean text with spaces to at least n columns.
func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-textWidth(s)))
}

// spell writes a duration as people say it: 0.4s, 12.3s, 1m05s, 1h02m.
func spell(d time.Duration) string {
	switch {
	case d < time.Minute:
		// Never round up to 60.0s.
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// guess writes the typical duration of one operation, without a precision it
// does not have: 0.4s, 2s, 30s, 1m05s.
func guess(d time.Duration) string {
	switch {
	case d < time.Second:
		return spell(d)
	case d < time.Minute:
		return fmt.Sprintf("%ds", min(59, (d+time.Second/2)/time.Second))
	}
	return spell(d)
}

// roughly is an estimate as far as it can be trusted, "" when there is none.
func roughly(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < 10*time.Second:
		return "a few seconds"
	case d < 90*time.Second:
		return fmt.Sprintf("about %d s", (d+4*time.Second)/(5*time.Second)*5)
	}
	return fmt.Sprintf("about %d min", (d+30*time.Second)/time.Minute)
}

// label is what an operation is called: its title and whom it concerns.
func label(e apply.Event) (title, where string) {
	title = clean(e.Title)
	if title == "" {
		title = clean(e.Op)
	}
	switch n := len(e.Addresses); {
	case n == 1:
		where = clean(string(e.Addresses[0]))
	case n > 1:
		where = fmt.Sprintf("%s and %d more", clean(string(e.Addresses[0])), n-1)
	}
	return title, where
}

// reason is the one-line form of an event's error or message.
func reason(e apply.Event) string {
	var pe *plan.Error
	if errors.As(e.Err, &pe) && pe.Got != "" {
		return clean(pe.Got)
	}
	if e.Err != nil {
		return clean(e.Err.Error())
	}
	return clean(e.Message)
}

// details writes everything a failed operation's error says, indented.
func details(e apply.Event, p paint) string {
	var b strings.Builder
	title, where := label(e)
	fmt.Fprintf(&b, "%s %s\n", p.say(sgrRed, "✗"), p.say(sgrBold, strings.TrimSpace(title+" "+where)))
	line := func(name, text string) {
		for i, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			if i > 0 {
				name = ""
			}
			if l = strings.TrimRight(clean(l), " "); l != "" {
				fmt.Fprintf(&b, "    %-6s %s\n", name, l)
			}
		}
	}
	var pe *plan.Error
	if !errors.As(e.Err, &pe) {
		if e.Err != nil {
			line("error", e.Err.Error())
		}
		return b.String()
	}
	if pe.Code != "" {
		line("code", pe.Code)
	}
	line("step", pe.Step)
	line("sent", pe.Sent)
	got := pe.Got
	if got == "" && pe.Err != nil {
		got = pe.Err.Error()
	}
	line("got", got)
	line("fix", pe.Fix)
	var panicked *apply.PanicError
	if errors.As(pe.Err, &panicked) {
		line("stack", string(panicked.Stack))
	}
	return b.String()
}

// tally counts operations for the last line.
type tally struct{ total, done, failed, skipped, stopped int }

func (t *tally) add(e apply.Event) {
	switch e.Kind {
	case apply.EventStart:
		*t = tally{total: int(e.Total)}
	case apply.EventDone:
		t.done++
	case apply.EventFailed:
		t.failed++
	case apply.EventSkipped:
		t.skipped++
	case apply.EventStopped:
		t.stopped++
	}
}

func (t tally) String() string {
	s := fmt.Sprintf("%d of %d done", t.done, t.total)
	if rest := t.rest(); rest != "" {
		s += ", " + rest
	}
	return s
}

// rest is what ended in another way than done: "1 failed, 3 skipped".
func (t tally) rest() string {
	var parts []string
	for _, part := range []struct {
		n    int
		word string
	}{{t.failed, "failed"}, {t.skipped, "skipped"}, {t.stopped, "stopped"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.word))
		}
	}
	return strings.Join(parts, ", ")
}

// ended is how many operations will not come again.
func (t tally) ended() int { return t.done + t.failed + t.skipped + t.stopped }

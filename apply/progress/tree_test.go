package progress

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailform/apply"
	"mailform/plan"
)

// crowd is a run on more groups than a small terminal has rows: some are done,
// some at work, some not begun; some steps failed, one waits; it is asked to stop.
func crowd() []apply.Event {
	const hosts = 12
	var ops []plan.Op
	step := func(kind apply.EventKind, host, step int, at time.Duration) apply.Event {
		a := plan.Address(fmt.Sprintf("host/mx%02d/part%d", host, step))
		return apply.Event{Kind: kind, Time: epoch.Add(at), Op: string(a), Title: fmt.Sprintf("make part %d", step), Addresses: []plan.Address{a}}
	}
	for h := range hosts {
		for s := range 3 {
			e := step("", h, s, 0)
			ops = append(ops, plan.Op{ID: e.Op, Title: e.Title, Addresses: e.Addresses})
		}
	}
	events := []apply.Event{{Kind: apply.EventStart, Time: epoch, Total: int64(len(ops)), Estimate: 20 * time.Second, Ops: ops}}
	add := func(e apply.Event) { events = append(events, e) }
	for h := range 9 {
		for s := range 3 {
			at := time.Duration(h+s) * time.Second
			begin := step(apply.EventBegin, h, s, at)
			begin.Estimate = time.Second
			add(begin)
			if h > 4 && s == 1 {
				break
			}
			end := step(apply.EventDone, h, s, at+time.Second)
			end.Elapsed = time.Second
			if h == 3 {
				end.Kind, end.Err = apply.EventFailed, errors.New("no route to host")
			}
			add(end)
		}
	}
	retry := step(apply.EventRetry, 5, 1, 11*time.Second)
	retry.Attempt, retry.Wait, retry.Err = 1, 3*time.Second, errors.New("503 Service Unavailable")
	add(retry)
	add(apply.Event{Kind: apply.EventWarning, Time: epoch.Add(12 * time.Second), Message: "stopping", Stopping: true})
	for h := 5; h < 9; h++ {
		end := step(apply.EventDone, h, 1, 13*time.Second)
		end.Elapsed = 6 * time.Second
		if h == 5 {
			end.Kind = apply.EventStopped
		}
		add(end)
	}
	add(apply.Event{Kind: apply.EventEnd, Time: epoch.Add(13 * time.Second), Elapsed: 13 * time.Second})
	return events
}

// TestTTYFewRows plays a crowd on terminals of few rows. What runs is in sight
// for as long as there is a row for it, and nothing scrolls before the end.
func TestTTYFewRows(t *testing.T) {
	for _, height := range []int{1, 2, 3, 5, 7, 10, 24} {
		s := newScreen(t, 80, height)
		var shots strings.Builder
		now := epoch
		tty := NewTTY(s, TTYOptions{Size: func() (int, int) { return 80, height }, Now: func() time.Time { return now }})
		events, running := crowd(), map[string]string{}
		for i, e := range events {
			now = e.Time
			tty.Event(e)
			switch e.Kind {
			case apply.EventBegin:
				running[e.Op] = e.Title + " " + e.Op
			case apply.EventDone, apply.EventFailed, apply.EventStopped:
				delete(running, e.Op)
			}
			if e.Kind == apply.EventEnd {
				break
			}
			if s.top() > 0 {
				t.Fatalf("%d rows: event %d (%s) made the terminal scroll", height, i, e.Kind)
			}
			for _, name := range running {
				if len(running)+3 <= height && !strings.Contains(s.String(), name) {
					t.Errorf("%d rows, event %d: %q is running and not in sight:\n%s", height, i, name, s)
				}
			}
			fmt.Fprintf(&shots, "---- %d %s\n%s\n", i, e.Kind, s)
		}
		if height == 10 {
			golden(t, "tty-rows-10.txt", shots.String())
		}
		tty.Close()
	}
}

// TestTTYStopping holds that one ^C shows in the region, cut to what fits.
func TestTTYStopping(t *testing.T) {
	for width, want := range map[int]string{80: "■ finishing what is in flight; ^C again gives it up\n", 40: "■ finishing what is in flight\n"} {
		s := newScreen(t, width, 24)
		tty := NewTTY(s, TTYOptions{Size: func() (int, int) { return width, 24 }, Now: func() time.Time { return epoch }})
		tty.Event(apply.Event{Kind: apply.EventStart, Time: epoch, Total: 1})
		tty.Event(apply.Event{Kind: apply.EventBegin, Time: epoch, Op: "a", Title: "a"})
		tty.Event(apply.Event{Kind: apply.EventWarning, Message: "stopping: …", Stopping: true})
		if got := s.String(); !strings.Contains(got, want) || strings.Contains(got, "stopping") {
			t.Errorf("%d columns:\n%s", width, got)
		}
		tty.Event(apply.Event{Kind: apply.EventDone, Time: epoch, Op: "a", Title: "a"})
		tty.Event(apply.Event{Kind: apply.EventEnd, Time: epoch})
		if got := s.String(); strings.Contains(got, "finishing") {
			t.Errorf("%d columns, at the end:\n%s", width, got)
		}
		tty.Close()
	}
}

// TestTTYColourAddsNothing holds that NO_COLOR changes no text, and that colours
// are those of plan/style, which are legible on dark and on light.
func TestTTYColourAddsNothing(t *testing.T) {
	play := func(colour bool) (string, string) {
		var raw strings.Builder
		now := epoch
		tty := NewTTY(&raw, TTYOptions{Color: colour, Now: func() time.Time { return now }})
		for _, e := range append(story(), crowd()...) {
			now = e.Time
			tty.Event(e)
		}
		tty.Close()
		text := raw.String()
		for _, sgr := range []string{"0", sgrBold, sgrDim, sgrRed, sgrGreen, sgrYellow} {
			text = strings.ReplaceAll(text, "\x1b["+sgr+"m", "")
		}
		return raw.String(), text
	}
	plainRaw, _ := play(false)
	painted, stripped := play(true)
	if painted == stripped || stripped != plainRaw {
		t.Error("with colour there is other text than without, or another colour than those of the house")
	}
}

// TestTTYFrameIsOneWrite: a terminal never shows half a frame.
func TestTTYFrameIsOneWrite(t *testing.T) {
	s := newScreen(t, 80, 24)
	tty := NewTTY(s, TTYOptions{Now: func() time.Time { return epoch }})
	for _, e := range crowd() {
		before := s.writes
		tty.Event(e)
		if s.writes > before+1 {
			t.Fatalf("%s: %d writes", e.Kind, s.writes-before)
		}
	}
	tty.Close()
}

package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/term"

	"mailform/apply"
	"mailform/apply/progress"
)

// redraw is how often elapsed times in a live terminal move.
const redraw = 120 * time.Millisecond

// view is a consumer of events and its end.
type view interface {
	Event(apply.Event)
	Close() error
}

// applySink shows an apply: a live region in a terminal, lines in a pipe, JSON
// for machines. The returned function ends it and may be called twice.
func (a *app) applySink(asJSON bool) (apply.Sink, func()) {
	switch {
	case asJSON:
		return closing(progress.NewJSON(a.term.out), nil)
	case a.term.live:
		tick := time.NewTicker(redraw)
		return closing(progress.NewTTY(a.term.out, progress.TTYOptions{
			Size: a.term.size, Color: a.term.color, Now: a.env.Now, Tick: tick.C,
		}), tick.Stop)
	}
	return closing(progress.NewPlain(a.term.out, progress.PlainOptions{Color: a.term.color}), nil)
}

// lookAround is how often the clock is looked at while something is waited for
// and nobody watches.
const lookAround = 500 * time.Millisecond

// readingSink shows the reading of the world while a person watches. Elsewhere
// it only says on stderr what is waited for, which can take minutes.
func (a *app) readingSink(quiet bool) (apply.Sink, func()) {
	if quiet || !a.term.live {
		tick := time.NewTicker(lookAround)
		return closing(progress.NewWaiting(a.term.err, progress.WaitingOptions{Now: a.env.Now, Tick: tick.C}), tick.Stop)
	}
	tick := time.NewTicker(redraw)
	return closing(progress.NewTTY(a.term.out, progress.TTYOptions{
		Size: a.term.size, Color: a.term.color, Now: a.env.Now, Tick: tick.C,
	}), tick.Stop)
}

func closing(v view, also func()) (apply.Sink, func()) {
	return v.Event, sync.OnceFunc(func() {
		if also != nil {
			also()
		}
		if err := v.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "mailform: progress could not be written:", err)
		}
	})
}

// size asks the terminal anew: people resize windows.
func (t *terminal) size() (columns, rows int) {
	columns, rows, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return t.width, 24
	}
	return columns, rows
}

func sortedNames[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

package apply

import (
	"time"

	"mailform/plan"
)

// EventKind says what an Event reports.
type EventKind string

// The kinds of event.
const (
	EventObserve  EventKind = "observe"  // a provider is being read; Message says what for
	EventObserved EventKind = "observed" // it was read; Done is the number of objects
	EventStart    EventKind = "start"    // the walk begins; Total operations
	EventBegin    EventKind = "begin"    // an operation begins
	EventProgress EventKind = "progress" // it is getting on
	EventRetry    EventKind = "retry"    // it failed in a way that is tried again after Wait
	EventResolved EventKind = "resolved" // an interrupted operation was found done or not done
	EventDone     EventKind = "done"
	EventFailed   EventKind = "failed"
	EventSkipped  EventKind = "skipped" // not begun because something it needs failed
	EventStopped  EventKind = "stopped" // given up because the person said stop
	EventWarning  EventKind = "warning" // something a person should know; nothing stops
	EventEnd      EventKind = "end"     // the walk ended; Done of Total operations
	EventAdvice   EventKind = "advice"  // after the end: what a person should do
)

// Event is the only output of apply. The terminal, CI lines and --json consume it.
type Event struct {
	Kind      EventKind      `json:"kind"`
	Time      time.Time      `json:"time"`
	Op        string         `json:"op,omitempty"`
	Provider  string         `json:"provider,omitempty"`
	Title     string         `json:"title,omitempty"`
	Addresses []plan.Address `json:"addresses,omitempty"`
	Message   string         `json:"message,omitempty"`
	Elapsed   time.Duration  `json:"elapsed_ns,omitempty"`
	Estimate  time.Duration  `json:"estimate_ns,omitempty"` // with begin and start: how long it, or all of it, typically takes
	Done      int64          `json:"done,omitempty"`
	Total     int64          `json:"total,omitempty"`
	Attempt   int            `json:"attempt,omitempty"`
	Wait      time.Duration  `json:"wait_ns,omitempty"`
	Err       error          `json:"-"`
	Advice    *plan.Advice   `json:"-"` // with advice
	Ops       []plan.Op      `json:"-"` // with start: everything that is to be done, to be read only
	Stopping  bool           `json:"-"` // with warning: what is in flight is finished, nothing more is begun
}

// Sink receives events. It is called from many goroutines, one at a time.
type Sink func(Event)

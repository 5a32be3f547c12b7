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

// Patience of Waiting: when it first says what is waited for, and how often again.
const (
	firstWait = 3 * time.Second
	nextWait  = 30 * time.Second
)

// WaitingOptions are the choices of Waiting.
type WaitingOptions struct {
	Color bool
	Now   func() time.Time // nil: time.Now
	Tick  <-chan time.Time // the moments to look at the clock; a time.Ticker of about a second
}

// Waiting says nothing while the world is read quickly, and what is waited for
// when that takes its time: for readers who are no terminal.
type Waiting struct {
	opts  WaitingOptions
	paint paint
	stop  chan struct{}
	idle  sync.WaitGroup

	mu     sync.Mutex
	w      io.Writer
	err    error
	active []*reading
}

// reading is one provider that is being read.
type reading struct {
	op, title, what string
	begun, next     time.Time
}

// NewWaiting returns a Waiting that writes to w until Close.
func NewWaiting(w io.Writer, o WaitingOptions) *Waiting {
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Waiting{opts: o, w: w, paint: paint{o.Color}, stop: make(chan struct{})}
	v.idle.Go(func() {
		for {
			select {
			case <-v.stop:
				return
			case <-o.Tick:
				v.tick()
			}
		}
	})
	return v
}

// Event takes in one event. It is an apply.Sink.
func (v *Waiting) Event(e apply.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.Kind {
	case apply.EventObserve:
		v.active = append(v.active, &reading{op: e.Op, title: clean(e.Title), what: clean(e.Message), begun: e.Time, next: e.Time.Add(firstWait)})
	case apply.EventObserved:
		v.active = slices.DeleteFunc(v.active, func(r *reading) bool { return r.op == e.Op })
	case apply.EventRetry:
		title, where := label(e)
		v.line(fmt.Sprintf("%s  again in %s (attempt %d): %s", strings.TrimSpace(title+" "+where), spell(e.Wait), e.Attempt+1, reason(e)))
	case apply.EventWarning:
		v.line(clean(e.Message))
	}
}

func (v *Waiting) tick() {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.opts.Now()
	for _, r := range v.active {
		if now.Before(r.next) {
			continue
		}
		r.next = now.Add(nextWait)
		text := fmt.Sprintf("still waiting to %s", r.title)
		if r.what != "" {
			text += " (" + r.what + ")"
		}
		v.line(fmt.Sprintf("%s, for %s", text, spell(now.Sub(r.begun).Truncate(time.Second))))
	}
}

func (v *Waiting) line(text string) {
	if v.err == nil {
		_, v.err = io.WriteString(v.w, v.paint.say(sgrYellow, "note")+"  "+text+"\n")
	}
}

// Close ends the output and reports the first failed write.
func (v *Waiting) Close() error {
	close(v.stop)
	v.idle.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

package backup

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailform/server/bucket/bucketsim"
)

// runner runs one by hand: each wait is announced on waits, and ends when the
// test sends to fire.
type runner struct {
	*Runner
	w     *world
	waits chan time.Duration
	fire  chan time.Time
	done  chan error
	stop  context.CancelFunc
}

func newRunner(w *world, s *Settings) *runner {
	r := &runner{w: w, waits: make(chan time.Duration), fire: make(chan time.Time), done: make(chan error, 1)}
	ctx, stop := context.WithCancel(w.Context())
	r.stop = stop
	var err error
	r.Runner, err = NewRunner(RunnerConfig{Config: w.config(), Store: w.log, Layout: w.layout, Version: "test",
		After: func(d time.Duration) (<-chan time.Time, func()) {
			select {
			case r.waits <- d:
			case <-ctx.Done():
			}
			return r.fire, func() {}
		}}, s)
	w.must(err)
	go func() { r.done <- r.Run(ctx) }()
	w.Cleanup(func() {
		stop()
		if err := <-r.done; err != nil {
			w.Error(err)
		}
	})
	return r
}

// next checks how long the runner waits, and lets the time pass.
func (r *runner) next(want time.Duration) {
	r.w.Helper()
	if got := <-r.waits; got != want {
		r.w.Errorf("the next backup is due in %v, want %v", got, want)
	}
	r.w.advance(want)
	r.fire <- time.Time{}
}

func TestRunnerTimes(t *testing.T) {
	w := newWorld(t)
	r := newRunner(w, &Settings{Backup: settings, Stack: "acme", Host: "mx1"})
	r.next(0) // the first at once
	if got := <-r.waits; got != time.Hour {
		t.Errorf("the second is due in %v", got)
	}
	w.advance(time.Hour)
	var broken atomic.Bool
	broken.Store(true)
	w.spoil(func(*http.Request) bucketsim.Fault {
		if broken.Load() {
			return bucketsim.Fault{Status: 403, Code: "AccessDenied"}
		}
		return bucketsim.Fault{}
	})
	r.fire <- time.Time{}
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
		r.next(want)
	}
	got := <-r.waits
	st := r.Status()
	if got != 16*time.Minute || st.Err == nil || w.now().Sub(st.Last) != 75*time.Minute {
		t.Errorf("after five failures: next in %v, %+v at %v", got, st, w.now())
	}
	broken.Store(false)
	r.fire <- time.Time{}
	if got := <-r.waits; got != time.Hour || r.Status().Err != nil || !r.Status().Last.Equal(w.now()) {
		t.Errorf("once it works: next in %v, %+v", got, r.Status())
	}

	// Asked for between two of them; the next one counts from it.
	w.advance(10 * time.Minute)
	answered := make(chan error, 1)
	go func() {
		m, err := r.Now(t.Context())
		if err == nil && !m.Time.Equal(w.now()) {
			err = errors.New("it is not of now")
		}
		answered <- err
	}()
	if got := <-r.waits; got != time.Hour {
		t.Errorf("after one that was asked for: next in %v", got)
	}
	w.must(<-answered)

	// Other settings are another place: there is nothing yet.
	other := settings
	other.Prefix, other.EverySeconds = "elsewhere", 1800
	r.Set(&Settings{Backup: other, Stack: "acme", Host: "mx1"})
	r.next(0)
	r.next(30 * time.Minute)
	<-r.waits
	r.Set(nil)
	if _, err := r.Now(t.Context()); !errors.Is(err, ErrOff) {
		t.Errorf("without settings: %v", err)
	}
}

// A restart does not make a backup before its time, and shutting down does not wait for one.
func TestRunnerRestart(t *testing.T) {
	w := newWorld(t)
	_, err := w.backup(t.Context())
	w.must(err)
	w.advance(20 * time.Minute)
	r := newRunner(w, &Settings{Backup: settings, Stack: "acme", Host: "mx1"})
	r.next(0) // only looks
	if got := <-r.waits; got != 40*time.Minute {
		t.Errorf("the next one is due in %v", got)
	}
	w.advance(time.Hour)
	held := make(chan struct{})
	hold := sync.OnceFunc(func() { close(held) })
	w.spoil(func(q *http.Request) bucketsim.Fault {
		if q.Method == http.MethodPut {
			hold()
			<-q.Context().Done()
			return bucketsim.Fault{Drop: true}
		}
		return bucketsim.Fault{}
	})
	w.deliver("a@x", "new")
	r.fire <- time.Time{}
	<-held
	r.stop()
	err = <-r.done
	r.done <- err
	if st := r.Status(); err != nil || st.Err != nil {
		t.Errorf("stopped: %v, %+v", err, st)
	}
	if _, err := r.Now(t.Context()); !errors.Is(err, errEnded) {
		t.Errorf("asked for afterwards: %v", err)
	}
}

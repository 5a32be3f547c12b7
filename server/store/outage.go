package store

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Outage keeps a log readable while the disk takes nothing: what is refused for that is
// told once, when it begins, then as a number now and then, and once when it is over.
// Each who is refused hears it in the answer to his command.
type Outage struct {
	Logger *slog.Logger
	Now    func() time.Time
	What   string // does not take anything: "store"

	on atomic.Bool // as in mu, for who only has to say that all is well

	mu      sync.Mutex
	began   time.Time
	last    time.Time // when something was refused last
	told    time.Time
	refused int64
	since   int64 // of refused, since it was told
}

const (
	outageTold = time.Minute
	// outageOver is how long nothing has to be refused before something that is taken ends
	// it: a large message may find no room beside small ones that do.
	outageOver = 10 * time.Second
)

// Look takes note of what became of new work: an ErrFull, another error or none.
func (o *Outage) Look(err error) {
	switch {
	case errors.Is(err, ErrFull):
		o.failed(err)
	case err == nil && o.on.Load():
		o.worked()
	}
}

func (o *Outage) failed(err error) {
	now := o.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = now
	o.refused++
	o.since++
	switch {
	case !o.on.Load():
		o.on.Store(true)
		o.began, o.told, o.refused, o.since = now, now, 1, 0
		o.Logger.Error(o.What+": new mail is refused until the disk takes it", "err", err,
			"to_do", "make room on the disk (df -h), or look for its errors in the kernel's log; senders try again, nothing needs a restart")
	case now.Sub(o.told) >= outageTold:
		o.Logger.Error(o.What+": new mail is still refused", "refused", o.refused, "since_last", o.since, "for", now.Sub(o.began).Round(time.Second), "err", err)
		o.told, o.since = now, 0
	}
}

func (o *Outage) worked() {
	now := o.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.on.Load() || now.Sub(o.last) < outageOver {
		return
	}
	o.on.Store(false)
	o.Logger.Info(o.What+": new mail is taken again", "refused", o.refused, "after", now.Sub(o.began).Round(time.Second))
}

// On says that it has begun and is not over.
func (o *Outage) On() bool { return o.on.Load() }

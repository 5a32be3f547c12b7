package limits

import (
	"sync"
	"time"
)

// Hourly counts what each account has done within the last hour, to the
// minute. The counts do not depend on the limit, which may change at any time.
// They are in memory only: a restart begins anew. An account that did something
// takes about 300 octets until an hour later.
type Hourly struct {
	now     func() time.Time
	maxKept int

	mu       sync.Mutex
	accounts map[string]*window
}

// window is one account's last hour: how often in each minute.
type window struct {
	last   int64 // minute of the newest count, since 1970
	sum    int
	counts [minutes]uint32 // by minute modulo minutes
}

const (
	minutes = 60
	// maxAccounts bounds the memory. Only accounts that exist are counted, so
	// it takes a very large host to come near.
	maxAccounts = 100_000
)

// NewHourly returns an empty count. now may be nil.
func NewHourly(now func() time.Time) *Hourly {
	if now == nil {
		now = time.Now
	}
	return &Hourly{now: now, maxKept: maxAccounts, accounts: map[string]*window{}}
}

// Take counts one for account if that stays within limit. Otherwise it says
// how long it takes until there is room again.
func (h *Hourly) Take(account string, limit int) (ok bool, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	minute := now.Unix() / 60
	w := h.accounts[account]
	if wait := w.wait(now, limit); wait > 0 {
		return false, wait
	}
	if w == nil {
		if len(h.accounts) >= h.maxKept {
			h.sweep(minute)
		}
		w = &window{last: minute}
		h.accounts[account] = w
	}
	w.advance(minute)
	w.counts[w.last%minutes]++
	w.sum++
	return true, 0
}

// Wait is how long Take would refuse; 0 when it would not.
func (h *Hourly) Wait(account string, limit int) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.accounts[account].wait(h.now(), limit)
}

// wait is how long it takes until fewer than limit are left of the last hour.
func (w *window) wait(now time.Time, limit int) time.Duration {
	if limit <= 0 {
		return time.Hour
	}
	if w == nil {
		return 0
	}
	w.advance(now.Unix() / 60)
	left := w.sum
	if left < limit {
		return 0
	}
	for m := w.last - minutes + 1; m <= w.last; m++ {
		if m >= 0 {
			left -= int(w.counts[m%minutes])
		}
		if left < limit {
			return time.Unix((m+minutes)*60, 0).Sub(now)
		}
	}
	return time.Hour
}

// advance forgets what is older than an hour. A clock that was set back counts
// into the newest minute until it has caught up.
func (w *window) advance(minute int64) {
	if minute-w.last >= minutes {
		*w = window{last: minute}
		return
	}
	for w.last < minute {
		w.last++
		c := &w.counts[w.last%minutes]
		w.sum -= int(*c)
		*c = 0
	}
}

// sweep drops accounts that did nothing within the hour and, if none are to be
// had, any.
func (h *Hourly) sweep(minute int64) {
	for account, w := range h.accounts {
		if minute-w.last >= minutes {
			delete(h.accounts, account)
		}
	}
	for account := range h.accounts {
		if len(h.accounts) < h.maxKept {
			return
		}
		delete(h.accounts, account)
	}
}

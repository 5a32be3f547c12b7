package daemon

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"time"

	"mailform/server/store"
)

// How often the store is compacted, and how many octets a second that copies: a
// fraction of what a slow disk reads and writes.
const (
	compactEvery = time.Hour
	compactRate  = 4 << 20
)

// keeper is what the store has for those who keep it in order; store.Log has it.
type keeper interface {
	Check(context.Context) error
	Stats(context.Context) (store.Stats, error)
	Compact(context.Context, store.CompactOptions) (store.Compaction, error)
}

// compact takes what was expunged off the disk, again and again until the
// context ends.
func (d *daemon) compact(ctx context.Context, tick <-chan time.Time) error {
	k, ok := d.store.(keeper)
	if !ok {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
		_, err := d.compacted(ctx, k, store.CompactOptions{Rate: compactRate})
		if err != nil && ctx.Err() == nil {
			d.log.Warn("the store is not compacted; what was expunged stays on the disk until it is", "err", err)
		}
	}
}

// compacted compacts the store. What is derived from expunged mail goes first, so
// that nothing of it is left when the mail is gone.
func (d *daemon) compacted(ctx context.Context, k keeper, o store.CompactOptions) (store.Compaction, error) {
	var err error
	if sums := d.sums.Load(); sums != nil {
		err = sums.Tidy(ctx)
	}
	if words := d.search.Load(); words != nil {
		err = errors.Join(err, words.Tidy(ctx))
	}
	c, cerr := k.Compact(ctx, o)
	return c, errors.Join(err, cerr)
}

// StoreCheck is the answer of a check.
type StoreCheck struct {
	Findings []string `json:"findings"`
}

// NewStoreCheck says what a check has found, one finding an item.
func NewStoreCheck(err error) StoreCheck {
	c := StoreCheck{Findings: []string{}}
	if err != nil {
		c.Findings = strings.Split(err.Error(), "\n")
	}
	return c
}

// keeping answers the person who keeps the store in order.
func (d *daemon) keeping(mux *http.ServeMux) {
	handle := func(pattern string, f func(*http.Request, keeper) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			// It may take longer than other requests.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
			k, ok := d.store.(keeper)
			if !ok {
				http.Error(w, "this store has no such service", http.StatusNotImplemented)
				return
			}
			v, err := f(r, k)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			d.answer(w, v)
		})
	}
	handle("GET /v1/store", func(r *http.Request, k keeper) (any, error) { return k.Stats(r.Context()) })
	handle("GET /v1/store/check", func(r *http.Request, k keeper) (any, error) {
		err := k.Check(r.Context())
		if r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		return NewStoreCheck(err), nil
	})
	handle("POST /v1/store/compact", func(r *http.Request, k keeper) (any, error) {
		o := store.CompactOptions{Rate: compactRate}
		if r.URL.Query().Has("all") {
			o = store.CompactOptions{Rate: 4 * compactRate, MaxLive: 1, MaxCopy: math.MaxInt64}
		}
		return d.compacted(r.Context(), k, o)
	})
}

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mailform/server/store"
)

// keptStore is a store that is kept in order, or fails at it.
type keptStore struct {
	store.Store
	check, compact error
	runs           chan store.CompactOptions
}

func (s *keptStore) Check(context.Context) error { return s.check }
func (s *keptStore) Stats(context.Context) (store.Stats, error) {
	return store.Stats{Format: 2, Messages: 7}, nil
}
func (s *keptStore) Compact(_ context.Context, o store.CompactOptions) (store.Compaction, error) {
	s.runs <- o
	return store.Compaction{Freed: 9}, s.compact
}

// The store is compacted at each tick, also after a run that failed, and never faster than the limit.
func TestCompaction(t *testing.T) {
	var logged strings.Builder
	s := &keptStore{runs: make(chan store.CompactOptions), compact: errors.New("no space left on device")}
	d := &daemon{store: s, log: slog.New(slog.NewTextHandler(&logged, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	tick, done := make(chan time.Time), make(chan error)
	go func() { done <- d.compact(ctx, tick) }()
	for range 2 {
		tick <- time.Time{}
		if o := <-s.runs; o.Rate != compactRate {
			t.Errorf("compacted with %+v", o)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(logged.String(), "no space left") {
		t.Errorf("logged: %s", logged.String())
	}
}

func TestStoreOverControl(t *testing.T) {
	s := &keptStore{check: errors.Join(errors.New("one"), errors.New("two"))}
	d := &daemon{store: s, log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	d.keeping(mux)
	get := func(path string, into any) int {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code == http.StatusOK {
			if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return w.Code
	}
	var st store.Stats
	if code := get("/v1/store", &st); code != http.StatusOK || st.Messages != 7 {
		t.Errorf("stats: %d %+v", code, st)
	}
	var c StoreCheck
	if code := get("/v1/store/check", &c); code != http.StatusOK || len(c.Findings) != 2 {
		t.Errorf("check: %d %+v", code, c)
	}
	d.store = nil
	if code := get("/v1/store", &st); code != http.StatusNotImplemented {
		t.Errorf("a store without the service: %d", code)
	}
}

package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"mailform/server/store"
)

// hangingStore is a store whose writer may hang or be closed.
type hangingStore struct {
	store.Store
	index, writer error
	hang          chan struct{} // nil: the writer answers
}

func (s *hangingStore) Queue(context.Context) ([]store.QueueEntry, error) { return nil, s.index }
func (s *hangingStore) RemoveQueue(context.Context, string) error {
	if s.hang != nil {
		<-s.hang
	}
	return s.writer
}

// systemd hears from a daemon only while its store's index and writer answer.
func TestWatchdog(t *testing.T) {
	for name, tc := range map[string]struct {
		store hangingStore
		heard bool
	}{
		"well":             {hangingStore{}, true},
		"the disk is full": {hangingStore{writer: errors.New("no space left on device")}, true},
		"the index fails":  {hangingStore{index: errors.New("input/output error")}, false},
		"the writer ended": {hangingStore{writer: store.ErrClosed}, false},
		"the writer hangs": {hangingStore{hang: make(chan struct{})}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if tc.store.hang != nil { // of this bubble
					tc.store.hang = make(chan struct{})
				}
				heard := 0
				d := &daemon{store: &tc.store, log: slog.New(slog.DiscardHandler), cfg: Config{
					Watchdog: 30 * time.Second, Hangup: make(chan os.Signal),
					Notify: func(state string) error {
						if state == "WATCHDOG=1" {
							heard++
						}
						return nil
					},
				}}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+time.Second)
				defer cancel()
				if err := d.wait(ctx, nil); err != nil {
					t.Fatal(err)
				}
				if tc.store.hang != nil {
					close(tc.store.hang)
				}
				synctest.Wait()
				if want := 8; tc.heard && heard != want || !tc.heard && heard != 0 {
					t.Errorf("systemd heard %d times of it", heard)
				}
			})
		})
	}
}

package store_test

import (
	"bytes"
	"errors"
	"testing"

	"mailform/server/store"
	"mailform/server/store/seal"
	"mailform/server/store/storetest"
)

// dirHarness opens a Log over a directory of the machine and checks it before
// it is closed.
type dirHarness struct {
	dir string
	opt store.Options
}

func (h *dirHarness) Open(t *testing.T) store.Store {
	l, err := store.Open(h.dir, h.opt)
	if err != nil {
		t.Fatal(err)
	}
	return checked{l, t}
}

type checked struct {
	*store.Log
	t *testing.T
}

func (c checked) Close() error {
	if err := c.Check(c.t.Context()); err != nil && !errors.Is(err, store.ErrClosed) {
		c.t.Error(err)
	}
	if d := c.Damage(); len(d) > 0 {
		c.t.Error(d)
	}
	return c.Log.Close()
}

// rootKey is the storage key of stores in tests.
func rootKey() *seal.Key {
	k, err := seal.KeyOf(bytes.Repeat([]byte{7}, seal.KeySize))
	if err != nil {
		panic(err)
	}
	return &k
}

func TestConformance(t *testing.T) {
	for name, opt := range map[string]store.Options{
		"default":              {},
		"small segments":       {SegmentBytes: 1000, MemoryBody: 100},
		"compressed":           {SegmentBytes: 4000, MemoryBody: 1000, Compress: true},
		"encrypted":            {SegmentBytes: 4000, MemoryBody: 1000, Encrypt: true, Root: rootKey()},
		"both":                 {SegmentBytes: 4000, MemoryBody: 1000, Compress: true, Encrypt: true, Root: rootKey()},
		"nothing in memory":    {SegmentBytes: 4000, FlushMessages: 1, IdleMessages: 1},
		"frequent checkpoints": {SegmentBytes: 2000, CheckpointBytes: 500},
	} {
		t.Run(name, func(t *testing.T) {
			opt.ReserveBytes = -1
			storetest.Run(t, func(t *testing.T) storetest.Harness { return &dirHarness{t.TempDir(), opt} })
		})
	}
}

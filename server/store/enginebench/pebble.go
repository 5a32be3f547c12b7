package main

import (
	"errors"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
)

type pebbleDB struct{ db *pebble.DB }

func openPebble(dir string) (engine, error) {
	db, err := pebble.Open(filepath.Join(dir, "pebble"), &pebble.Options{Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	return &pebbleDB{db}, nil
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

func (p *pebbleDB) write(pairs []pair) error {
	b := p.db.NewBatch()
	for _, q := range pairs {
		var err error
		if q.value == nil {
			err = b.Delete(q.key, nil)
		} else {
			err = b.Set(q.key, q.value, nil)
		}
		if err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (p *pebbleDB) scan(prefix []byte, f func(k, v []byte)) error {
	end := append(append([]byte(nil), prefix...), 0xff)
	it, err := p.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		f(it.Key(), v)
	}
	return it.Close()
}

func (p *pebbleDB) close() error { return p.db.Close() }

package main

import (
	"bytes"
	"path/filepath"

	"go.etcd.io/bbolt"
)

type bolt struct{ db *bbolt.DB }

func openBolt(dir string) (engine, error) {
	db, err := bbolt.Open(filepath.Join(dir, "bolt"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	return &bolt{db}, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte("x"))
		return err
	})
}

func (b *bolt) write(pairs []pair) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		x := tx.Bucket([]byte("x"))
		x.FillPercent = 0.9 // keys come in order
		for _, p := range pairs {
			if p.value == nil {
				if err := x.Delete(p.key); err != nil {
					return err
				}
			} else if err := x.Put(p.key, p.value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bolt) scan(prefix []byte, f func(k, v []byte)) error {
	return b.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte("x")).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			f(k, v)
		}
		return nil
	})
}

func (b *bolt) close() error { return b.db.Close() }

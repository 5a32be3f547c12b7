// Package kv keeps derived data in one file: an ordered map with durable
// transactions. It is bbolt with what a cache needs that must never lie: each
// value carries a checksum, the tree is verified when it is opened, and damage
// that shows later is an error and no panic. Who gets ErrDamaged removes the file
// and makes its content anew from where it was derived.
//
// It imports nothing of mailform. BENCH.md says why it is bbolt.
package kv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// ErrDamaged says that the file is not as it was written. It stays so: once a
// transaction has met it, all later ones fail with it, too.
var ErrDamaged = errors.New("the file is damaged")

// DB is an open file. All methods may be called from many goroutines; f of View
// and Update must not begin another transaction.
type DB struct {
	swap    sync.RWMutex // held by transactions; Rewrite keeps them out
	bolt    *bbolt.DB
	path    string
	damaged atomic.Bool
	crc     *crc32.Table
}

// lockWait bounds the wait for another process that has the file open.
const lockWait = time.Second

// Open opens the file, making it when it is missing, and verifies its structure:
// that takes a read of each page that is no continuation of a large value.
func Open(path string) (*DB, error) {
	if err := verify(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d := &DB{path: path, crc: crc32.MakeTable(crc32.Castagnoli)}
	err := d.guard(func() (err error) {
		d.bolt, err = openBolt(path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func openBolt(path string) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoStatistics: true})
}

// rewriteStep is how many octets one transaction of a rewrite copies.
const rewriteStep = 4 << 20

// Rewrite puts a file in the place of this one that has what the map holds and
// nothing of what it held before, which stays in free pages otherwise. Other
// transactions wait meanwhile.
func (d *DB) Rewrite() error {
	if d.damaged.Load() {
		return ErrDamaged
	}
	d.swap.Lock()
	defer d.swap.Unlock()
	return d.guard(func() error {
		temp := d.path + ".new"
		if err := Remove(temp); err != nil { // of one that a crash ended
			return err
		}
		fresh, err := openBolt(temp)
		if err != nil {
			return err
		}
		err = bbolt.Compact(fresh, d.bolt, rewriteStep)
		if err == nil {
			err = fresh.Sync()
		}
		if err == nil {
			err = os.Rename(temp, d.path)
		}
		if err != nil {
			return errors.Join(err, fresh.Close(), Remove(temp))
		}
		old := d.bolt
		d.bolt = fresh
		return errors.Join(old.Close(), syncDir(filepath.Dir(d.path)))
	})
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Remove deletes the file; one that is missing is no error. It may be open: then
// its octets go when it is closed.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close waits for the transactions that run and closes the file.
func (d *DB) Close() error {
	d.swap.RLock()
	defer d.swap.RUnlock()
	return d.guard(d.bolt.Close)
}

// Path returns the file's name.
func (d *DB) Path() string { return d.path }

// View runs f with the map as it is at one moment. Many run at once, also beside
// an Update.
func (d *DB) View(f func(*Tx) error) error {
	if d.damaged.Load() {
		return ErrDamaged
	}
	d.swap.RLock()
	defer d.swap.RUnlock()
	return d.guard(func() error {
		return d.bolt.View(func(tx *bbolt.Tx) error { return f(&Tx{tx, d.crc}) })
	})
}

// Update runs f and makes all it has changed durable, or nothing when f or the
// disk fails. One runs after the other, and each waits for the disk twice: many
// changes belong into one, in the order of their keys.
func (d *DB) Update(f func(*Tx) error) error {
	if d.damaged.Load() {
		return ErrDamaged
	}
	d.swap.RLock()
	defer d.swap.RUnlock()
	return d.guard(func() error {
		return d.bolt.Update(func(tx *bbolt.Tx) error { return f(&Tx{tx, d.crc}) })
	})
}

// guard makes an ErrDamaged of a panic and of a read of the mapped file that the
// disk or the file's end refuses, and remembers one.
func (d *DB) guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
		if errors.Is(err, bbolterrors.ErrInvalid) || errors.Is(err, bbolterrors.ErrChecksum) || errors.Is(err, bbolterrors.ErrVersionMismatch) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if errors.Is(err, ErrDamaged) {
			d.damaged.Store(true)
		}
	}()
	return f()
}

// Size returns the octets of the file.
func (d *DB) Size() (n int64, err error) {
	err = d.View(func(tx *Tx) error {
		n = tx.bolt.Size()
		return nil
	})
	return n, err
}

// Trim gives back the memory of what was read: the file is mapped, and what was
// touched counts as the process's until then. The system still has it cached.
func (d *DB) Trim() error {
	return d.View(func(tx *Tx) error {
		// The transaction keeps the mapping where it is.
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, d.bolt.Info().Data, uintptr(tx.bolt.Size()), unix.MADV_DONTNEED)
		if errno != 0 {
			return fmt.Errorf("%s: madvise: %w", d.path, errno)
		}
		return nil
	})
}

// Tx is a transaction. What it returns is good until it ends, and read-only.
type Tx struct {
	bolt *bbolt.Tx
	crc  *crc32.Table
}

const sumSize = 4

func (t *Tx) sum(bucket string, key, value []byte) uint32 {
	sum := crc32.Update(0, t.crc, []byte(bucket))
	return crc32.Update(crc32.Update(sum, t.crc, key), t.crc, value)
}

// open takes a stored value apart, checking it.
func (t *Tx) open(bucket string, key, stored []byte) ([]byte, error) {
	n := len(stored) - sumSize
	if n < 0 {
		return nil, fmt.Errorf("%w: a value of bucket %s is cut off", ErrDamaged, bucket)
	}
	if t.sum(bucket, key, stored[:n]) != binary.LittleEndian.Uint32(stored[n:]) {
		return nil, fmt.Errorf("%w: a value of bucket %s does not match its checksum", ErrDamaged, bucket)
	}
	return stored[:n:n], nil
}

// Get returns a key's value; nil when there is none.
func (t *Tx) Get(bucket string, key []byte) ([]byte, error) {
	b := t.bolt.Bucket([]byte(bucket))
	if b == nil {
		return nil, nil
	}
	stored := b.Get(key)
	if stored == nil {
		return nil, nil
	}
	return t.open(bucket, key, stored)
}

// Scan calls f with the pairs whose keys begin with prefix, in order. An error of
// f ends it.
func (t *Tx) Scan(bucket string, prefix []byte, f func(key, value []byte) error) error {
	return t.each(bucket, prefix, func(k []byte) bool { return bytes.HasPrefix(k, prefix) }, f)
}

// Range calls f with the pairs whose keys are from <= key < to, in order; a nil to
// is the end.
func (t *Tx) Range(bucket string, from, to []byte, f func(key, value []byte) error) error {
	return t.each(bucket, from, func(k []byte) bool { return to == nil || bytes.Compare(k, to) < 0 }, f)
}

func (t *Tx) each(bucket string, from []byte, within func([]byte) bool, f func(key, value []byte) error) error {
	b := t.bolt.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	c := b.Cursor()
	for k, stored := c.Seek(from); k != nil && within(k); k, stored = c.Next() {
		v, err := t.open(bucket, k, stored)
		if err == nil {
			err = f(k, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Last returns the last pair whose key begins with prefix; nil when there is none.
func (t *Tx) Last(bucket string, prefix []byte) (key, value []byte, err error) {
	b := t.bolt.Bucket([]byte(bucket))
	if b == nil {
		return nil, nil, nil
	}
	c := b.Cursor()
	var stored []byte
	if end := after(prefix); end == nil {
		key, stored = c.Last()
	} else if k, _ := c.Seek(end); k == nil {
		key, stored = c.Last()
	} else {
		key, stored = c.Prev()
	}
	if key == nil || !bytes.HasPrefix(key, prefix) {
		return nil, nil, nil
	}
	value, err = t.open(bucket, key, stored)
	return key, value, err
}

// after is the first key behind all that begin with prefix; nil when there is none.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for n := len(end); n > 0; n-- {
		if end[n-1]++; end[n-1] != 0 {
			return end[:n]
		}
	}
	return nil
}

// Put sets a key's value.
func (t *Tx) Put(bucket string, key, value []byte) error {
	b, err := t.bolt.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	b.FillPercent = 0.9 // most keys come in order
	stored := make([]byte, 0, len(value)+sumSize)
	stored = append(stored, value...)
	return b.Put(key, binary.LittleEndian.AppendUint32(stored, t.sum(bucket, key, value)))
}

// Delete removes a key; one that is missing is no error.
func (t *Tx) Delete(bucket string, key []byte) error {
	if b := t.bolt.Bucket([]byte(bucket)); b != nil {
		return b.Delete(key)
	}
	return nil
}

// DeletePrefix removes the keys that begin with prefix; all of the bucket when it
// is empty.
func (t *Tx) DeletePrefix(bucket string, prefix []byte) error {
	b := t.bolt.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	if len(prefix) == 0 {
		return t.bolt.DeleteBucket([]byte(bucket))
	}
	var keys [][]byte // a cursor that deletes may pass over the next one
	c := b.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

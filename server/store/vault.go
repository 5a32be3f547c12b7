package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"mailform/server/store/seal"
)

// ErrNoKey says that what is asked for is encrypted and its key is not here.
var ErrNoKey = seal.ErrNoKey

// The keyring's file and its copy, in the store's directory.
const (
	keyringName = "keyring"
	keyringCopy = "keyring.copy"
	maxKeyring  = 64 << 20
)

// vault is the keys of a store: of its accounts, and its own for what waits to be
// sent. They are on the disk, twice, before anything is sealed with them.
type vault struct {
	on   atomic.Bool // what comes is sealed
	ring atomic.Pointer[seal.Ring]

	mu    sync.Mutex // held while the ring changes
	dirty bool       // it is not on the disk as it is
	text  []byte     // as it is on the disk
	// unread are copies with keys that could not be read: they are put aside before
	// they are written over.
	unread [][]byte
}

// openVault reads the keyring, when there is one.
func (l *Log) openVault() error {
	var copies [][]byte
	for _, name := range []string{keyringName, keyringCopy} {
		b, err := l.readKeyring(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			copies = append(copies, b)
		}
	}
	if len(copies) == 0 {
		have, err := l.readFormat(filepath.Join(l.dir, "format"))
		if err == nil && have.Sealed && !l.opt.Keyless {
			return fmt.Errorf("%w: it is missing. Nothing was changed; bring %s back from a backup of the store", seal.ErrRing, keyringName)
		}
		return nil
	}
	if l.opt.Keyless {
		l.vault.text = copies[0]
		return nil
	}
	ring, whole, err := seal.Decode(l.opt.Root, l.opt.Rand, copies...)
	if errors.Is(err, seal.ErrRing) {
		return fmt.Errorf("%w. Nothing was changed; bring %s back from a backup of the store", err, keyringName)
	}
	if err != nil {
		return err
	}
	l.vault.ring.Store(ring)
	if !whole {
		l.report(Damage{File: keyringName, Length: int64(len(copies[0])), What: keysMissing})
		// As it is, it may be mended, and is what a backup takes.
		l.vault.unread = copies
		l.vault.text = copies[max(0, slices.IndexFunc(copies, func(c []byte) bool { _, err := seal.Missing(c); return err == nil }))]
		return nil
	}
	if len(copies) == 2 && bytes.Equal(copies[0], copies[1]) {
		l.vault.text = copies[0]
		return nil
	}
	l.opt.Logger.Warn("store: the copies of the keyring are not the same and are made anew", "file", keyringName)
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	return l.writeKeyring(true)
}

func (l *Log) readKeyring(name string) ([]byte, error) {
	f, err := l.fs.Open(filepath.Join(l.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, maxKeyring))
	if len(b) == 0 {
		return b, nil
	}
	_, err = f.ReadAt(b, 0)
	return b, err
}

// writeKeyring makes the ring durable, in both files. scrub has the octets of the
// files before it overwritten: keys were dropped. The vault's lock is held.
func (l *Log) writeKeyring(scrub bool) error {
	l.vault.dirty = true
	if err := l.putAside(); err != nil {
		return full("keep the damaged keyring", err)
	}
	text, err := l.vault.ring.Load().Encode()
	if err != nil {
		return err
	}
	for _, name := range []string{keyringName, keyringCopy} {
		if err := l.replaceFile(filepath.Join(l.dir, name), text, scrub); err != nil {
			return full("write the keyring", err)
		}
	}
	l.vault.dirty, l.vault.text = false, text
	return nil
}

// replaceFile puts a file in the place of one, durably. What was in the old one is
// overwritten when scrub says so: on a disk that writes in place it is gone then.
func (l *Log) replaceFile(path string, text []byte, scrub bool) error {
	temp := path + ".new"
	if err := ignoreMissing(l.fs.Remove(temp)); err != nil {
		return err
	}
	var old File
	if scrub {
		var err error
		if old, err = l.fs.Open(path); ignoreMissing(err) != nil {
			return err
		}
	}
	err := func() error {
		f, err := l.fs.Create(temp)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(text, 0)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := errors.Join(l.fs.Rename(temp, path), l.fs.SyncDir(l.dir)); err != nil {
			return err
		}
		if old == nil {
			return nil
		}
		size, err := old.Size()
		if err != nil {
			return err
		}
		_, err = old.WriteAt(make([]byte, size), 0)
		return errors.Join(err, old.Sync())
	}()
	if old != nil {
		err = errors.Join(err, old.Close())
	}
	return err
}

// SetEncrypt has bodies that come from now on encrypted, or not. Those that are there
// stay as they are until they are compacted. A store with encrypted bodies in it
// cannot be read without its root key, nor by a mailformd from before.
func (l *Log) SetEncrypt(on bool) error {
	if !on {
		l.vault.on.Store(false)
		return nil
	}
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	if l.vault.ring.Load() == nil {
		if l.opt.Root == nil {
			return errors.New("the mail is to be encrypted, and there is no storage key")
		}
		l.vault.ring.Store(seal.New(*l.opt.Root, l.opt.Rand))
	}
	if err := l.addKeys(seal.Server); err != nil {
		return err
	}
	if err := l.raiseFormat(boundFormat); err != nil {
		return full("note the format", err)
	}
	l.vault.on.Store(true)
	return nil
}

// addKeys has durable keys for these. The vault's lock is held.
func (l *Log) addKeys(names ...string) error {
	ring := l.vault.ring.Load()
	missing := slices.DeleteFunc(slices.Clone(names), ring.Has)
	if len(missing) == 0 && !l.vault.dirty {
		return nil
	}
	if _, err := ring.Make(missing...); err != nil {
		return err
	}
	if err := l.writeKeyring(l.vault.dirty); err != nil {
		ring.Discard()
		return err
	}
	ring.Keep()
	return nil
}

// belonging is whose octets on their way into the log are, and what of.
type belonging struct {
	owners []string // accounts; seal.Server is the queue
	part   seal.Part
	object string // what the object ids of its messages begin with; "" when that is not known
}

// sealFor makes the key of octets on their way; nil when nothing is encrypted.
func (l *Log) sealFor(to belonging) (*seal.Body, error) {
	if !l.vault.on.Load() {
		return nil, nil
	}
	owners := slices.Compact(slices.Sorted(slices.Values(to.owners)))
	ring := l.vault.ring.Load()
	for _, name := range owners {
		if ring.Has(name) {
			continue
		}
		if name != seal.Server && l.ix.lookup(name) == nil {
			return nil, fmt.Errorf("account %s: %w", name, ErrNoMailbox)
		}
		l.vault.mu.Lock()
		err := l.addKeys(name)
		l.vault.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
	return ring.NewBody(bound(to.part, to.object), owners...)
}

// readable refuses bodies that were sealed for an account that was erased before
// they were committed: nobody could read them.
func (t *txn) readable(bodies ...*body) error {
	for _, x := range bodies {
		if x != nil && x.slots != nil && !t.log.vault.ring.Load().Readable(x.slots) {
			return fmt.Errorf("the account was erased meanwhile: %w", ErrNoMailbox)
		}
	}
	return nil
}

// dropKey forgets an account's key, between two commits. What was sealed for it alone
// is noise from now on, wherever it is.
func (t *txn) dropKey(account string) error {
	l := t.log
	ring := l.vault.ring.Load()
	if ring == nil {
		return nil
	}
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	if ring.Drop(account) || l.vault.dirty {
		if err := l.writeKeyring(true); err != nil {
			return err
		}
	}
	return l.dropAside(account)
}

// Keys returns the keys of the store's accounts; nil when none of it is encrypted, or
// the store was opened without.
func (l *Log) Keys() *seal.Ring { return l.vault.ring.Load() }

// SetRoot has the keyring wrapped by another root key. When it returns nil the store
// opens with that one only; after an error, with either the one or the other.
func (l *Log) SetRoot(root seal.Key) error {
	ring := l.vault.ring.Load()
	if ring == nil {
		return errors.New("nothing of the store is encrypted: it has no keyring")
	}
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	ring.Rewrap(root)
	return l.writeKeyring(true)
}

// The prefix of a queue entry stands in the log and in the index with the entry. Sealed
// it begins with an octet that no header begins with.
const (
	sealedPrefix = "\x00sealed1"
	prefixUse    = "queue prefix"
)

func (l *Log) sealPrefix(p []byte) ([]byte, error) {
	if !l.vault.on.Load() || len(p) == 0 {
		return p, nil
	}
	sealed, err := l.vault.ring.Load().SealOctets(seal.Server, prefixUse, p)
	return append([]byte(sealedPrefix), sealed...), err
}

func (l *Log) openPrefix(p []byte) ([]byte, error) {
	sealed, ok := bytes.CutPrefix(p, []byte(sealedPrefix))
	if !ok {
		return p, nil
	}
	ring := l.vault.ring.Load()
	if ring == nil {
		return nil, ErrNoKey
	}
	return ring.OpenOctets(seal.Server, prefixUse, sealed)
}

// GiveRoot has a root key for when encryption is turned on first. A store that has a
// keyring already needed its own to open.
func (l *Log) GiveRoot(root *seal.Key) {
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	if l.vault.ring.Load() == nil {
		l.opt.Root = root
	}
}

// KeyNeeded returns the fingerprint of the root key that the store in dir needs; ""
// when it needs none.
func KeyNeeded(dir string) (string, error) {
	var copies [][]byte
	for _, name := range []string{keyringName, keyringCopy} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err == nil {
			copies = append(copies, b)
		}
	}
	if len(copies) == 0 {
		return "", nil
	}
	return seal.Needs(copies...)
}

// Package keyfile keeps the storage key of a host in its file: 32 octets, for root and
// the service's group. While the key is changed there is a second file with the one
// that comes; which of the two counts, the store's keyring says.
//
// It imports nothing of mailform but server/manifest, server/store and server/store/seal.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"mailform/server/manifest"
	"mailform/server/store"
	"mailform/server/store/seal"
)

// Mode is that of the file: root writes, the service reads.
const Mode fs.FileMode = 0o640

// savedMode is that of the file that says which key was exported: a fingerprint.
const savedMode fs.FileMode = 0o644

// Place is where a host keeps the key of a store.
type Place struct {
	Path  string // of the key
	Saved string // of the fingerprint of the key that somebody has taken a copy of
	Store string // the store's directory
	GID   int    // of the service's group, which may read the key; negative: that of the folder
	FS    FS     // nil is the machine's

	// Needed returns the fingerprint of the key that the store needs, "" for none;
	// nil asks its keyring.
	Needed func() (string, error)
}

// Of is the place of a host's own store.
func Of(l manifest.Layout) Place {
	return Place{Path: l.StoreKeyFile(), Saved: l.StoreKeySavedFile(), Store: l.StoreDir(), GID: -1}
}

// Next is the file of the key that is about to take the place of the one in Path.
func (p Place) Next() string { return p.Path + ".next" }

// Aside is the file of a key that another one took the place of.
func (p Place) Aside(k seal.Key) string { return p.Path + ".was-" + k.Fingerprint() }

func (p Place) fs() FS {
	if p.FS != nil {
		return p.FS
	}
	return disk{}
}

// Need returns the fingerprint of the key that the store needs; "" when it needs none.
func (p Place) Need() (string, error) {
	if p.Needed != nil {
		return p.Needed()
	}
	return store.KeyNeeded(p.Store)
}

func (p Place) read(path string) (*seal.Key, error) {
	b, err := p.fs().Read(path, seal.KeySize+1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the storage key: %w", err)
	}
	k, err := seal.KeyOf(b)
	if err != nil {
		if len(b) > seal.KeySize {
			err = fmt.Errorf("it is longer than the %d octets of a storage key", seal.KeySize)
		}
		return nil, fmt.Errorf("%s: %w. Nothing was changed; bring the key back: mailformd store key import", path, err)
	}
	return &k, nil
}

// Key returns the key for the store: that of Path or of Next, as its keyring needs;
// that of Path when it has no keyring, or needs neither; nil when there is none. One
// that is damaged is an error, unless the other is the one.
func (p Place) Key() (*seal.Key, error) {
	key, err := p.read(p.Path)
	need, nerr := p.Need()
	if nerr != nil || need == "" || key != nil && key.Fingerprint() == need {
		return key, err // what is wrong with the keyring, opening the store says
	}
	if next, nerr := p.read(p.Next()); nerr == nil && next != nil && next.Fingerprint() == need {
		return next, nil
	}
	return key, err
}

// put has the key in a file, durably: whole or not at all. What the file had before is
// overwritten. With fresh there must not be such a file: fs.ErrExist.
func (p Place) put(path string, b []byte, mode fs.FileMode, fresh bool) error {
	f := p.fs()
	unlock, err := f.Lock(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	temp := path + ".new"
	if err := gone(f.Remove(temp)); err != nil {
		return err
	}
	letGo := func(bool) error { return nil }
	if !fresh {
		if letGo, err = f.Hold(path); err != nil {
			return err
		}
	}
	err = f.Write(temp, b, mode, p.GID)
	if err == nil && fresh {
		err = f.Link(temp, path)
	} else if err == nil {
		err = f.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, gone(f.Remove(temp)), letGo(false))
	}
	// Only once the name is the new file's for good.
	if err := f.SyncDir(filepath.Dir(path)); err != nil {
		return errors.Join(err, letGo(false))
	}
	return letGo(true)
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Make makes a key where there is none: fs.ErrExist when there is one.
func (p Place) Make(rand io.Reader) (seal.Key, error) {
	key, err := seal.NewKey(rand)
	if err != nil {
		return key, err
	}
	if err := p.put(p.Path, key.Octets(), Mode, true); err != nil {
		return key, fmt.Errorf("make the storage key: %w", err)
	}
	return key, nil
}

// Import puts a key in its place that was exported. One that the store does not need is
// refused. A key that was there is kept in aside when it is another one: mail that was
// moved away may need it.
func (p Place) Import(key seal.Key) (aside string, err error) {
	need, err := p.Need()
	if err != nil {
		return "", err
	}
	have, _ := p.Key() // a damaged one is what this mends
	switch {
	case need != "" && need != key.Fingerprint():
		return "", fmt.Errorf("this is the storage key %s; the store in %s needs %s. Nothing was changed", key.Fingerprint(), p.Store, need)
	case need == "" && have != nil && *have != key:
		return "", fmt.Errorf("there is a storage key here, %s, and no store that needs this one, %s. Nothing was changed; restore the store first", have.Fingerprint(), key.Fingerprint())
	}
	if err := p.fs().MkdirAll(filepath.Dir(p.Path), p.GID); err != nil {
		return "", err
	}
	if was, err := p.read(p.Path); err == nil && was != nil && *was != key {
		aside = p.Aside(*was)
		if err := p.put(aside, was.Octets(), Mode, false); err != nil {
			return "", err
		}
	}
	if err := p.put(p.Path, key.Octets(), Mode, false); err != nil {
		return aside, err
	}
	return aside, p.NoteSaved(key.Fingerprint())
}

// Rewrapper is a store whose keyring can be wrapped by another key; store.Log is one.
type Rewrapper interface{ SetRoot(seal.Key) error }

// Rotate gives the store a new key. Wherever it is cut off, the store needs either the
// old key or the new one, and Key returns that.
func (p Place) Rotate(l Rewrapper, rand io.Reader) (seal.Key, error) {
	// A change that was cut off may have left the key that counts in the other file.
	now, err := p.Key()
	if err != nil {
		return seal.Key{}, err
	}
	if now == nil {
		return seal.Key{}, errors.New("there is no storage key on this host")
	}
	if err := p.put(p.Path, now.Octets(), Mode, false); err != nil {
		return seal.Key{}, err
	}
	key, err := seal.NewKey(rand)
	if err != nil {
		return key, err
	}
	// It is on the disk before the keyring needs it.
	if err := p.put(p.Next(), key.Octets(), Mode, false); err != nil {
		return key, err
	}
	if err := l.SetRoot(key); err != nil {
		return key, err
	}
	return key, p.settle(key)
}

// settle has the key that counts in its own file, and nothing in the other.
func (p Place) settle(key seal.Key) error {
	if err := p.put(p.Path, key.Octets(), Mode, false); err != nil {
		return err
	}
	if err := gone(p.fs().Remove(p.Next())); err != nil {
		return err
	}
	return p.fs().SyncDir(filepath.Dir(p.Path))
}

// NoteSaved notes that somebody has a copy of the key with this fingerprint.
func (p Place) NoteSaved(fingerprint string) error {
	return p.put(p.Saved, []byte(fingerprint+"\n"), savedMode, false)
}

// IsSaved says whether somebody has taken a copy of the key.
func (p Place) IsSaved(key seal.Key) (bool, error) {
	b, err := p.fs().Read(p.Saved, 1024)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.TrimSpace(string(b)) == key.Fingerprint(), err
}

// Package keyfile keeps the storage key of a host in its file: 32 octets, for root and
// the service's group. While the key is changed there is a second file with the one
// that comes; which of the two counts, the store's keyring says.
//
// It imports nothing of mailform but server/store and server/store/seal.
package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"mailform/server/store"
	"mailform/server/store/seal"
)

// Mode is that of the file: root writes, the service reads.
const Mode fs.FileMode = 0o640

// Read returns the key in a file; nil when there is no such file.
func Read(path string) (*seal.Key, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k, err := seal.KeyOf(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; bring it back: mailformd store key import", path, err)
	}
	return &k, nil
}

// Next is the file of the key that is about to take the place of the one in path.
func Next(path string) string { return path + ".next" }

// For returns the key for the store in dir: that of path or of Next, as its keyring
// needs; that of path when it has no keyring, or needs neither.
func For(path, dir string) (*seal.Key, error) {
	key, err := Read(path)
	if err != nil {
		return nil, err
	}
	need, err := store.KeyNeeded(dir)
	if err != nil || need == "" || key != nil && key.Fingerprint() == need {
		return key, nil // what is wrong with the keyring, opening the store says
	}
	next, err := Read(Next(path))
	if err == nil && next != nil && next.Fingerprint() == need {
		return next, nil
	}
	return key, err
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"mailform/server/store/seal"
)

// KeyringFile is the keyring's name within the store's directory.
const KeyringFile = keyringName

// keyringAside begins the names of damaged keyrings that were kept: what could not be
// read of them may be mended by hand, or be of use to somebody who knows more.
const keyringAside = keyringName + ".damaged-"

const keysMissing = "keys of accounts are damaged in both copies, and their mail cannot be read. " +
	"Stop the server, have a backup from before written elsewhere (mailformd restore --to DIR), and bring its keys back: mailformd store key mend DIR/store/keyring"

// putAside keeps copies of the keyring, durably and for their owner's eyes alone, that
// are about to be written over and could not be read to their end. The vault's lock is held.
func (l *Log) putAside() error {
	for len(l.vault.unread) > 0 {
		text := l.vault.unread[0]
		have, err := l.keyringsAside()
		if err != nil {
			return err
		}
		known := false
		for _, name := range have {
			b, err := l.readKeyring(name)
			known = known || err == nil && bytes.Equal(b, text)
		}
		if !known {
			name := keyringAside + l.opt.Now().UTC().Format("20060102T150405Z")
			for i := 2; slices.Contains(have, name); i++ {
				name = fmt.Sprintf("%s-%d", strings.TrimSuffix(name, fmt.Sprintf("-%d", i-1)), i)
			}
			if err := l.replaceFile(filepath.Join(l.dir, name), text, false); err != nil {
				return err
			}
			l.opt.Logger.Error("store: a damaged keyring is written over; as it was it is kept", "file", name, "do", keysMissing)
		}
		l.vault.unread = l.vault.unread[1:]
	}
	return nil
}

// keyringsAside are the names of the damaged keyrings that are kept, the oldest first.
func (l *Log) keyringsAside() ([]string, error) {
	names, err := l.fs.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return slices.DeleteFunc(names, func(n string) bool {
		return !strings.HasPrefix(n, keyringAside) || strings.HasSuffix(n, ".new")
	}), err
}

// dropAside takes the lines of an account's key out of the keyrings that are kept. The
// vault's lock is held.
func (l *Log) dropAside(account string) error {
	names, err := l.keyringsAside()
	if err != nil {
		return err
	}
	line := seal.LineOf(account)
	for _, name := range names {
		b, err := l.readKeyring(name)
		if err != nil {
			return err
		}
		if !bytes.Contains(b, line) {
			continue
		}
		for i := bytes.Index(b, line); i >= 0; i = bytes.Index(b, line) {
			end := bytes.IndexByte(b[i+1:], '\n')
			if end < 0 {
				end = len(b) - i - 1
			}
			b = append(b[:i:i], b[i+1+end:]...)
		}
		if err := l.replaceFile(filepath.Join(l.dir, name), b, true); err != nil {
			return err
		}
	}
	return nil
}

// Mend takes keys that the store lacks from another copy of its keyring: of a backup, or
// one that was mended by hand. It takes those that messages were sealed for that their
// account cannot open, and the queue's: no key comes back that was dropped. It returns
// whose keys it took.
func (l *Log) Mend(ctx context.Context, text []byte) ([]string, error) {
	ring := l.vault.ring.Load()
	if ring == nil {
		return nil, errors.New("nothing of the store is encrypted: it has no keyring")
	}
	type lost struct {
		name string
		id   uint64
	}
	wanted := map[lost]bool{}
	var failed error
	if err := l.eachHolder(ctx, 0, func(h holder) {
		if h.ref.Size == 0 || failed != nil {
			return
		}
		b, err := l.openBlob(h.ref, h.reading())
		if err != nil {
			return // no key helps it
		}
		if b.coded != nil && b.coded.kind == recordSealed && errors.Is(b.unlock(), ErrNoKey) {
			for _, id := range ring.Unknown(b.coded.slots) {
				wanted[lost{h.account, id}] = true
			}
		}
		failed = l.seg.release(b.seg)
	}); err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	names, err := ring.Merge(text, func(name string, id uint64) bool { return name == seal.Server || wanted[lost{name, id}] })
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return names, l.writeKeyring(false)
}

// checkKeyring reads both copies of the keyring; it needs no key for that.
func (l *Log) checkKeyring() (errs []error) {
	l.vault.mu.Lock()
	defer l.vault.mu.Unlock()
	var copies [][]byte
	for _, name := range []string{keyringName, keyringCopy} {
		b, err := l.readKeyring(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		copies = append(copies, b)
	}
	if len(copies) > 0 {
		n, err := seal.Missing(copies...)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", keyringName, err))
		case n > 0:
			errs = append(errs, fmt.Errorf("%s: %w: %d keys: %s", keyringName, ErrDamaged, n, keysMissing))
		}
	}
	aside, err := l.keyringsAside()
	if err != nil {
		errs = append(errs, err)
	}
	for _, name := range aside {
		errs = append(errs, fmt.Errorf("%s: %w: it is a keyring as it was before it was written over, with keys that are in no other: %s. Once they are back, or given up, remove it", name, ErrDamaged, keysMissing))
	}
	return errs
}

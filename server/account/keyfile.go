package account

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// keyFile keeps the keys for SCRAM that were learned at logins, in memory and in
// a file that only this process reads and writes: a line for the secret that the
// salts of those who have no keys come from, and a line for each account with the
// hash its keys belong to. With another hash they are nothing. A line that is
// damaged or was cut by a crash costs its account a login by other means.
type keyFile struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	off    bool
	secret [sha256.Size]byte
	keys   map[string]learnedKeys // by address
}

type learnedKeys struct {
	hash [sha256.Size]byte // of the PHC string of the same password
	keys *scramKeys
}

const maxKeyLine = 1024 // octets

// openKeyFile reads the file of that path, if there is one.
func openKeyFile(path string, log *slog.Logger) (*keyFile, error) {
	f := &keyFile{path: path, log: log, keys: map[string]learnedKeys{}}
	if _, err := rand.Read(f.secret[:]); err != nil {
		return nil, fmt.Errorf("make the secret for salts: %w", err)
	}
	if path == "" {
		return f, nil
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("keys for SCRAM are not known: clients have to log in by other means once", "err", err)
	}
	f.parse(string(text))
	return f, nil
}

func (f *keyFile) parse(text string) {
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, maxKeyLine)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && fields[0] == "secret" {
			if b, err := base64.StdEncoding.DecodeString(fields[1]); err == nil && len(b) == len(f.secret) {
				copy(f.secret[:], b)
			}
		}
		if len(fields) != 3 {
			continue
		}
		hash, err := base64.StdEncoding.DecodeString(fields[1])
		if keys, ok := parseKeys(fields[2]); ok && err == nil && len(hash) == sha256.Size {
			f.keys[fields[0]] = learnedKeys{[sha256.Size]byte(hash), keys}
		}
	}
}

func (k learnedKeys) line(address string) string {
	return address + " " + base64.StdEncoding.EncodeToString(k.hash[:]) + " " + k.keys.String() + "\n"
}

// keep forgets what is of no use with the accounts of d, and writes the file anew.
func (f *keyFile) keep(d *Directory) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for address, k := range f.keys {
		if a, ok := d.byAddress[address]; !ok || a.keys != nil || sha256.Sum256([]byte(a.hash)) != k.hash {
			delete(f.keys, address)
		}
	}
	if f.off = d.noSCRAM; f.off {
		clear(f.keys)
	}
	if err := f.write(); err != nil {
		f.log.Warn("the keys for SCRAM are not kept: clients have to log in by other means once after a restart", "err", err)
	}
}

// write replaces the file; the lock is held.
func (f *keyFile) write() error {
	if f.path == "" {
		return nil
	}
	if f.off {
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	var text strings.Builder
	text.WriteString("secret " + base64.StdEncoding.EncodeToString(f.secret[:]) + "\n")
	for address, k := range f.keys {
		text.WriteString(k.line(address))
	}
	next := f.path + ".new"
	if err := os.WriteFile(next, []byte(text.String()), 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return os.Rename(next, f.path)
}

// of returns the keys of an account; nil when none were learned of its password.
func (f *keyFile) of(a Account) *scramKeys {
	hash := sha256.Sum256([]byte(a.hash))
	f.mu.Lock()
	defer f.mu.Unlock()
	if k, ok := f.keys[a.Address]; ok && k.hash == hash {
		return k.keys
	}
	return nil
}

// learn makes the keys of a password that was found right against the account's hash.
func (f *keyFile) learn(a Account, password string) {
	f.mu.Lock()
	off := f.off
	f.mu.Unlock()
	if off || a.keys != nil || f.of(a) != nil {
		return
	}
	keys, err := deriveKeys(password)
	if err != nil {
		f.log.Debug("no keys for SCRAM", "account", a.Address, "err", err)
		return
	}
	k := learnedKeys{sha256.Sum256([]byte(a.hash)), keys}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off {
		return
	}
	f.keys[a.Address] = k
	if err := f.append(k.line(a.Address)); err != nil {
		f.log.Warn("the keys for SCRAM are not kept", "account", a.Address, "err", err)
	}
}

func (f *keyFile) append(line string) error {
	if f.path == "" {
		return nil
	}
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(line)
	return errors.Join(err, file.Close())
}

// nobody are the keys shown to who has none: the same for each login as long as
// the file lives, and with no password.
func (f *keyFile) nobody(login string) *scramKeys {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &scramKeys{
		salt:   hmacOf(f.secret[:], "salt "+strings.ToLower(login))[:scramSalt],
		stored: [sha256.Size]byte(hmacOf(f.secret[:], "stored "+strings.ToLower(login))),
		server: [sha256.Size]byte(hmacOf(f.secret[:], "server "+strings.ToLower(login))),
	}
}

// Package account knows who may log in: the accounts of the manifest, their
// argon2id password hashes, how to check a password without letting a crowd of
// guesses take the machine's memory, and the server's side of SCRAM-SHA-256.
//
// SCRAM needs keys of its own, which a hash does not give. They are made with a
// password that is born on the host, or when its owner logs in with it by other
// means for the first time; until then a login by SCRAM fails as with a wrong
// password.
//
// It imports server/manifest and nothing else of mailform.
package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrCredentials says that the login does not exist or the password is not
// its own; which of the two is not told.
var ErrCredentials = errors.New("wrong user or password")

// MaxPassword is the length of the longest password that is looked at, in octets.
const MaxPassword = 1024

// Options tune an Authenticator. The zero value is ready for use.
type Options struct {
	// Parallel is how many hashes are computed at once, 19 MiB each; default 2.
	Parallel int
	// CacheFor is how long a right password is known without hashing it again;
	// default 2 minutes, negative turns the cache off. Mail clients open several
	// connections at once and come back every few minutes.
	CacheFor time.Duration
	// CacheSize is how many accounts the cache holds; default 10,000.
	CacheSize int
	// KeyFile keeps the keys for SCRAM that are learned at logins; "" keeps them in
	// memory only.
	KeyFile string
	Logger  *slog.Logger     // default none
	Now     func() time.Time // default time.Now
}

// Authenticator checks logins against a Directory that may be exchanged at any time.
type Authenticator struct {
	opt       Options
	directory atomic.Pointer[Directory]
	slots     chan struct{}
	dummy     string // hash to work on when the login is unknown
	cacheKey  [32]byte
	learned   *keyFile

	mu    sync.Mutex
	cache map[string]verified // by account address
}

// verified is proof that a password was right a moment ago: a MAC, under a key
// that lives only in this process, of the hash and the password.
type verified struct {
	mac     [sha256.Size]byte
	expires time.Time
}

// NewAuthenticator returns an Authenticator over d.
func NewAuthenticator(d *Directory, opt Options) (*Authenticator, error) {
	if opt.Parallel <= 0 {
		opt.Parallel = 2
	}
	if opt.CacheFor == 0 {
		opt.CacheFor = 2 * time.Minute
	}
	if opt.CacheSize <= 0 {
		opt.CacheSize = 10_000
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{opt: opt, slots: make(chan struct{}, opt.Parallel), cache: map[string]verified{}}
	if _, err := rand.Read(a.cacheKey[:]); err != nil {
		return nil, fmt.Errorf("make the cache key: %w", err)
	}
	p := phc{time: hashTime, memory: hashMemory, threads: hashThreads, salt: a.cacheKey[:hashSalt], key: make([]byte, hashKey)}
	a.dummy = p.String() // no password derives to it, and checking one takes the usual time
	var err error
	if a.learned, err = openKeyFile(opt.KeyFile, opt.Logger); err != nil {
		return nil, err
	}
	a.SetDirectory(d)
	return a, nil
}

// SetDirectory exchanges the accounts. Logins under way end with the old ones;
// what the cache knows stays true, because it is bound to the hash.
func (a *Authenticator) SetDirectory(d *Directory) {
	a.directory.Store(d)
	a.learned.keep(d)
}

// Directory returns the accounts now in use.
func (a *Authenticator) Directory() *Directory { return a.directory.Load() }

// keysOf returns the account that logs in by SCRAM as login and its keys. For one
// that cannot do so known is false, and the keys are nobody's but always the same.
func (a *Authenticator) keysOf(login string) (address string, keys *scramKeys, known bool) {
	account, _ := a.directory.Load().Lookup(login)
	nobody := a.learned.nobody(login)
	if keys = account.keys; keys == nil {
		keys = a.learned.of(account)
	}
	if keys == nil {
		return "", nobody, false
	}
	return account.Address, keys, true
}

// Authenticate returns the account name for a login and its password.
// ErrCredentials means that they are wrong; any other error says nothing about them.
func (a *Authenticator) Authenticate(ctx context.Context, login, password string) (string, error) {
	account, known := a.directory.Load().Lookup(login)
	hash := account.hash
	if hash == "" {
		known, hash = false, a.dummy
	}
	if password == "" || len(password) > MaxPassword {
		known, password = false, "x"
	}
	mac := a.mac(hash, password)
	if known && a.cached(account.Address, mac) {
		return account.Address, nil
	}

	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-a.slots }()
	// Several connections of one client wait here together: the first did the work.
	if known && a.cached(account.Address, mac) {
		return account.Address, nil
	}
	right, err := Verify(hash, password)
	if err != nil {
		return "", err
	}
	if !right || !known {
		return "", ErrCredentials
	}
	a.remember(account.Address, mac)
	a.learned.learn(account, password)
	return account.Address, nil
}

func (a *Authenticator) mac(hash, password string) (out [sha256.Size]byte) {
	m := hmac.New(sha256.New, a.cacheKey[:])
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(hash)))
	m.Write(n[:])
	m.Write([]byte(hash))
	m.Write([]byte(password))
	m.Sum(out[:0])
	return out
}

func (a *Authenticator) cached(address string, mac [sha256.Size]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	v, ok := a.cache[address]
	if !ok {
		return false
	}
	if !a.opt.Now().Before(v.expires) {
		delete(a.cache, address)
		return false
	}
	return subtle.ConstantTimeCompare(v.mac[:], mac[:]) == 1
}

func (a *Authenticator) remember(address string, mac [sha256.Size]byte) {
	if a.opt.CacheFor < 0 {
		return
	}
	now := a.opt.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.cache) >= a.opt.CacheSize {
		for k, v := range a.cache {
			if !now.Before(v.expires) {
				delete(a.cache, k)
			}
		}
		if len(a.cache) >= a.opt.CacheSize {
			clear(a.cache) // costs one hash per account, no more
		}
	}
	a.cache[address] = verified{mac: mac, expires: now.Add(a.opt.CacheFor)}
}

package daemon

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"mailform/server/account"
	"mailform/server/limits"
)

// errBlocked is not about the password, so that clients do not ask their users for another.
var errBlocked = errors.New("too many failed logins from this address, try again later")

// failDelay is the wait before a wrong password from this host is answered.
const failDelay = 500 * time.Millisecond

// authenticator is what all protocols check passwords with: one memory of who guesses.
type authenticator struct {
	accounts  *account.Authenticator
	penalties *limits.Penalties
	scramless scramless
	banner    *banner
	sleep     func(ctx context.Context, d time.Duration) error
}

// login returns the account of a login. It takes its time to say no.
func (a *authenticator) login(ctx context.Context, user, password string, remote netip.Addr) (string, error) {
	if a.blocked(remote) {
		return "", errBlocked
	}
	name, err := a.accounts.Authenticate(ctx, user, password)
	if err == nil {
		a.scramless.forget(remote)
	}
	return name, a.weigh(ctx, remote, err)
}

// blocked says that a client is not listened to now. One that goes on is banned.
func (a *authenticator) blocked(remote netip.Addr) bool {
	if isLocal(remote) || !a.penalties.Blocked(remote) {
		return false
	}
	a.banner.ban(remote, "failed logins")
	return true
}

func isLocal(remote netip.Addr) bool { return !remote.IsValid() || remote.IsLoopback() }

// weigh remembers a failure and takes its time before it is answered.
func (a *authenticator) weigh(ctx context.Context, remote netip.Addr, err error) error {
	if !errors.Is(err, account.ErrCredentials) {
		return err
	}
	wait := failDelay
	if !isLocal(remote) {
		wait = a.penalties.Fail(remote)
		a.blocked(remote)
	}
	if err := a.sleep(ctx, wait); err != nil {
		return err
	}
	return err
}

// Shown implements account.SCRAMLogins.
func (a *authenticator) Shown(remote netip.Addr) bool { return !a.scramless.has(remote) }

// Begin implements account.SCRAMLogins; a failure weighs as much as a wrong password.
func (a *authenticator) Begin(ctx context.Context, remote netip.Addr, plus bool, binding account.Binding) account.Exchange {
	return &weighed{a.accounts.SCRAM(plus, binding), a, ctx, remote}
}

// weighed is an exchange whose failures are remembered.
type weighed struct {
	account.Exchange
	a      *authenticator
	ctx    context.Context
	remote netip.Addr
}

func (x *weighed) Next(response []byte) (challenge []byte, done bool, err error) {
	if x.a.blocked(x.remote) {
		return nil, false, errBlocked
	}
	challenge, done, err = x.Exchange.Next(response)
	if err != nil {
		x.a.scramless.add(x.remote)
	}
	return challenge, done, x.a.weigh(x.ctx, x.remote, err)
}

// offered is how clients log in by SCRAM; nil where the spec says no.
func (d *daemon) offered(s *state) account.SCRAMLogins {
	if s.manifest.NoSCRAM {
		return nil
	}
	return d.auth
}

// scramless remembers clients that could not log in by SCRAM. The server may know
// no keys of their password yet, and some programs take the best mechanism that
// they see and give up with it. So the next time they see others, with which the
// server learns the keys.
type scramless struct {
	now func() time.Time

	mu      sync.Mutex
	clients map[netip.Prefix]time.Time // when each is forgotten
}

const (
	scramlessFor  = 24 * time.Hour
	scramlessMost = 10_000
)

func (l *scramless) has(a netip.Addr) bool {
	client, _ := limits.Prefixes(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.clients[client]
	return ok && l.now().Before(until)
}

func (l *scramless) add(a netip.Addr) {
	client, _ := limits.Prefixes(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.clients) >= scramlessMost {
		clear(l.clients) // costs a failed login for each, no more
	}
	l.clients[client] = l.now().Add(scramlessFor)
}

// forget is for a client that has logged in by other means.
func (l *scramless) forget(a netip.Addr) {
	client, _ := limits.Prefixes(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.clients, client)
}

// lift listens to a client again.
func (a *authenticator) lift(remote netip.Addr) {
	a.penalties.Forgive(remote)
	a.banner.lift(remote)
}

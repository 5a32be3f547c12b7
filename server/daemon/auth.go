package daemon

import (
	"context"
	"errors"
	"net/netip"
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
	sleep     func(ctx context.Context, d time.Duration) error
}

// login returns the account of a login. It takes its time to say no.
func (a *authenticator) login(ctx context.Context, user, password string, remote netip.Addr) (string, error) {
	local := !remote.IsValid() || remote.IsLoopback()
	if !local && a.penalties.Blocked(remote) {
		return "", errBlocked
	}
	name, err := a.accounts.Authenticate(ctx, user, password)
	if errors.Is(err, account.ErrCredentials) {
		wait := failDelay
		if !local {
			wait = a.penalties.Fail(remote)
		}
		if err := a.sleep(ctx, wait); err != nil {
			return "", err
		}
	}
	return name, err
}

package daemon

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"mailform/server/limits"
)

// banner asks for clients to be dropped by the kernel that go on although they are
// refused: those who guess passwords, and those who connect without end. It may
// only ask, over a socket of a helper that has the right and checks what it hears.
type banner struct {
	bans   *limits.Bans
	floods *limits.Penalties // refused connections
	ask    func(limits.Ban) error
	log    *slog.Logger
}

// Refused connections that lead to a ban, when they come within a minute or so.
const (
	floodAt       = 500
	floodHalfLife = time.Minute
)

func newBanner(now func() time.Time, socket string, log *slog.Logger) *banner {
	return &banner{
		bans: limits.NewBans(now), floods: limits.NewPenalties(limits.PenaltyOptions{HalfLife: floodHalfLife, BlockAt: floodAt, Now: now}),
		ask: func(b limits.Ban) error { return askBan(socket, b) }, log: log,
	}
}

// refused counts a connection that was refused.
func (b *banner) refused(a netip.Addr) {
	b.floods.Fail(a)
	if b.floods.Blocked(a) {
		b.ban(a, "too many connections")
	}
}

// ban asks for a client's ban. Without a firewall of the host's own nobody listens.
func (b *banner) ban(a netip.Addr, why string) {
	ban, ok := b.bans.Decide(a)
	if !ok {
		return
	}
	switch err := b.ask(ban); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		b.log.Warn("a ban could not be asked for", "client", ban.Client.String(), "err", err)
	default:
		b.log.Info("asked for a ban", "client", ban.Client.String(), "for", ban.For.String(), "why", why)
	}
}

// lift forgets what a client did.
func (b *banner) lift(a netip.Addr) {
	b.bans.Lift(a)
	b.floods.Forgive(a)
}

// askBan sends a request. It does not wait: a helper that is behind misses one.
func askBan(socket string, b limits.Ban) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return err
	}
	_, err = c.Write(b.Request())
	return err
}

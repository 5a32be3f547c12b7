package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// LeaseTTL is how long a lease lasts after it was granted or renewed: long
// enough to survive a lost packet, short enough to wait for when its holder's
// machine is gone.
const LeaseTTL = time.Minute

// ErrLeaseLost says that a lease is certainly no longer its holder's.
var ErrLeaseLost = errors.New("the lease is no longer ours")

// Holder says who holds a lock. Its fields are shown to the next person who
// wants it, so Command must not carry secrets given as flags.
type Holder struct {
	Stack   string    `json:"stack,omitempty"`
	Who     string    `json:"who"`     // login name
	Host    string    `json:"host"`    // machine
	PID     int       `json:"pid"`     // process
	Command string    `json:"command"` // "mailform apply"
	Since   time.Time `json:"since"`

	// Place names the local lock file that the holder has locked, its machine and
	// boot included. Whoever has that very file locked now knows that an earlier
	// holder from the same place is dead. "" when that cannot be told.
	Place string `json:"place,omitempty"`
}

// From reports whether h is from the same, known place: when one of the two is
// alive there, the other is not.
func (h Holder) From(other Holder) bool { return h.Place != "" && h.Place == other.Place }

func (h Holder) String() string {
	h = h.Printable()
	if h.PID == 0 {
		return "somebody"
	}
	return fmt.Sprintf("%s on %s (process %d, %q) since %s", h.Who, h.Host, h.PID, h.Command, h.Since.Format(time.RFC3339))
}

// Printable keeps control characters away from terminals: what is read from a
// lock was written elsewhere.
func (h Holder) Printable() Holder {
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || r == unicode.ReplacementChar {
				return '?'
			}
			return r
		}, s)
	}
	h.Stack, h.Who, h.Host, h.Command, h.Place = clean(h.Stack), clean(h.Who), clean(h.Host), clean(h.Command), clean(h.Place)
	return h
}

// Lease is a lock as it was granted: for a while, or as long as it is renewed.
type Lease struct {
	ID     string // of this acquisition, unguessable; what a person names to break it
	Epoch  int64  // rises with every acquisition of the lock: what fences an earlier holder
	Holder Holder
	TTL    time.Duration // counted from the moment before it was asked for or renewed
	// Left is how much of it is left by the clock of who keeps the lock, with
	// Lock.Held; 0 when it has expired.
	Left time.Duration
	// Gone, when there is one, is closed at the moment the lease is known to be lost.
	Gone <-chan struct{}
}

// Lock is a lock that machines share. Its holder has a lease that must be
// renewed. What a renewal's error that is not ErrLeaseLost means is unknown.
type Lock interface {
	Name() string // "the bucket acme-locks, mailform/acme", "host mx1"
	// Held tells who has it, nil when it is free or expired. It changes nothing.
	Held(context.Context) (*Lease, error)
	Renew(context.Context, Lease) (Lease, error)
	Release(context.Context, Lease) error
	// Break takes the lock from its holder and leaves it free, under a higher epoch.
	Break(context.Context, Lease) error
}

// SharedLock is a Lock that is taken on its own, before anything is read.
type SharedLock interface {
	Lock
	// Acquire takes the lock for h, over from a holder whose lease has expired or
	// who was at the same Place. The error's class is ErrLocked when it is held.
	Acquire(ctx context.Context, h Holder) (Lease, error)
	Close()
}

// LockedError says who has a lock (class ErrLocked).
func LockedError(lock string, l Lease) *Error {
	e := &Error{
		Class: ErrLocked, Code: "MF6002", Step: "lock " + lock, Got: "held by " + l.Holder.String(),
		Fix: "wait until it is done; when that process is gone, its lease ends by itself within " + shortDuration(max(l.TTL, LeaseTTL)) + ", and `mailform unlock` takes it away at once",
	}
	if l.Left > 0 {
		e.Got += ", renewed until " + shortDuration(l.Left) + " from now"
	}
	return e
}

func shortDuration(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", (d+time.Second-1)/time.Second)
}

// Package lock holds the locks that a team shares: an object in a bucket, or an
// advisory lock of a PostgreSQL database. Which one is the spec's lock block;
// credentials come from the environment.
//
// It imports plan, specs and server/bucket of mailform.
package lock

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"mailform/plan"
	"mailform/specs"
)

// The kinds of lock, as the spec names them.
const (
	KindBucket   = "bucket"
	KindPostgres = "postgres"
)

// Config is what New works with.
type Config struct {
	Stack  string
	Spec   *specs.Lock
	Getenv func(string) string
	Roots  *x509.CertPool // nil is the system's
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	Now    func() time.Time
	Sleep  func(context.Context, time.Duration) error // between tries; nil really sleeps
}

// New makes the lock that a spec asks for. Nothing is connected before it is used.
func New(c Config) (plan.SharedLock, error) {
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	switch c.Spec.Kind {
	case KindBucket:
		return newBucket(c)
	case KindPostgres:
		return newPostgres(c)
	}
	return nil, &plan.Error{Class: plan.ErrSpec, Code: "MF5501", Step: "read the lock block", Got: fmt.Sprintf("there is no lock %q", c.Spec.Kind), Fix: "use \"bucket\" or \"postgres\""}
}

// newID names one acquisition.
func newID() string { return rand.Text()[:12] }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

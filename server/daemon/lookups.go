package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"mailform/server/filter"
	"mailform/server/mailauth"
	"mailform/server/queue"
)

// Resolver answers what the queue and the checks of incoming mail ask the DNS;
// queue.DNS is one. Errors are as queue.Resolver's.
type Resolver interface {
	queue.Resolver
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupA(ctx context.Context, host string) ([]netip.Addr, error)
	LookupPTR(ctx context.Context, a netip.Addr) ([]string, error)
}

// lookups is a Resolver in the terms of the checks of incoming mail.
type lookups struct{ r Resolver }

var _ filter.Resolver = lookups{}

func lookedUp[T any](v T, err error) (T, error) {
	if errors.Is(err, queue.ErrNoDomain) {
		err = fmt.Errorf("%w: %w", mailauth.ErrNoName, err)
	}
	return v, err
}

func (l lookups) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return lookedUp(l.r.LookupTXT(ctx, name))
}

func (l lookups) LookupMX(ctx context.Context, domain string) ([]*net.MX, error) {
	list, err := lookedUp(l.r.LookupMX(ctx, domain))
	out := make([]*net.MX, len(list))
	for i, mx := range list {
		out[i] = &net.MX{Host: mx.Host, Pref: mx.Preference}
	}
	return out, err
}

func (l lookups) LookupAddr(ctx context.Context, host string) ([]netip.Addr, error) {
	return lookedUp(l.r.LookupAddr(ctx, host))
}

func (l lookups) LookupA(ctx context.Context, host string) ([]netip.Addr, error) {
	return lookedUp(l.r.LookupA(ctx, host))
}

func (l lookups) LookupPTR(ctx context.Context, a netip.Addr) ([]string, error) {
	return lookedUp(l.r.LookupPTR(ctx, a))
}

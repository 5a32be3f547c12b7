package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
)

// A run that may change hosts takes the lease on each host it observes or
// installs, in the same command, and passes the lease's epoch with everything it
// asks for from then on. Releasing it is the only command a run costs more,
// unless a host can be reached only later: then the lease is asked for before
// the first command that changes something there.

// LeaseKeeper renews leases until they are given back.
type LeaseKeeper interface {
	// Keep takes over a lease that was granted to a request sent at asked.
	Keep(lock plan.Lock, lease plan.Lease, asked time.Time)
	// Drop forgets the lease on the lock of that name.
	Drop(name string)
}

// leasing is how a run takes leases; the zero value takes none.
type leasing struct {
	keeper LeaseKeeper
	holder plan.Holder
	id     string           // of every lease of this run
	epochs map[string]int64 // by host name, of the leases held
}

// UseLeases makes the provider take a lease on every host of ours that it works
// on from now on, on behalf of h.
func (p *Provider) UseLeases(h plan.Holder, k LeaseKeeper) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leasing = leasing{keeper: k, holder: h, id: rand.Text()[:12], epochs: map[string]int64{}}
}

// LeaseName is the name of the lock on a host, as Lock gives it.
func LeaseName(host string) string { return "host " + host }

// Lock is the lease on a host that was observed before.
func (p *Provider) Lock(host string) plan.Lock { return &hostLock{p, host} }

// leaseRequest asks for the lease on a host, nil when none is wanted.
func (p *Provider) leaseRequest(host string) *manifest.LeaseRequest {
	claim := p.claim(host)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leasing.keeper == nil {
		return nil
	}
	return &manifest.LeaseRequest{
		Claim: claim, ID: p.leasing.id, Holder: manifest.Holder(p.leasing.holder), Seconds: int64(plan.LeaseTTL / time.Second),
	}
}

// leased takes in a lease that a host has given.
func (p *Provider) leased(host string, l *manifest.Lease, asked time.Time) {
	if l == nil {
		return
	}
	p.mu.Lock()
	p.leasing.epochs[host] = l.Epoch
	keeper := p.leasing.keeper
	p.mu.Unlock()
	keeper.Keep(p.Lock(host), leaseOf(l), asked)
}

// unleased forgets the lease on a host that is ours no longer.
func (p *Provider) unleased(host string) {
	p.mu.Lock()
	keeper := p.leasing.keeper
	delete(p.leasing.epochs, host)
	p.mu.Unlock()
	if keeper != nil {
		keeper.Drop(LeaseName(host))
	}
}

// claimNow is the claim of a command that changes a host with a mailformd. It
// takes the lease first when the run takes leases and has none there: the host
// could not be reached when the run looked.
func (p *Provider) claimNow(ctx context.Context, t target) (manifest.Claim, error) {
	var err error
	if req := p.leaseRequest(t.host); req != nil && req.Epoch == 0 {
		_, err, _ = p.taking.Do(t.host, func() (any, error) {
			if p.epoch(t.host) != 0 {
				return nil, nil // another operation has it by now
			}
			return p.acquire(ctx, t, "take the lease", *req)
		})
	}
	return p.claim(t.host), err
}

func (p *Provider) epoch(host string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leasing.epochs[host]
}

func leaseOf(l *manifest.Lease) plan.Lease {
	return plan.Lease{ID: l.ID, Epoch: l.Epoch, Holder: plan.Holder(l.Holder).Printable(), TTL: time.Duration(l.Seconds) * time.Second}
}

// leasedFacts is observeFacts for a run that takes leases.
func (p *Provider) leasedFacts(ctx context.Context, t target) (*manifest.Facts, int, error) {
	req := p.leaseRequest(t.host)
	if req == nil || p.epoch(t.host) != 0 {
		return p.observeFacts(ctx, t)
	}
	_, sha, err := p.probe(ctx, t)
	if err != nil || sha == "" {
		return nil, 2, err
	}
	f, err := p.acquire(ctx, t, "look at what is there", *req)
	if err == nil && f == nil {
		return p.observeFacts(ctx, t)
	}
	return f, 3, err
}

// acquire takes the lease on a host with a mailformd and returns what is there.
// Without facts and error it is a mailformd from before there were leases: the
// lease comes with the new one.
func (p *Provider) acquire(ctx context.Context, t target, step string, req manifest.LeaseRequest) (*manifest.Facts, error) {
	asked, asking := p.Now(), p.clockNow()
	b, err := p.leaseCommand(ctx, t, step, "acquire", req)
	if err != nil && strings.Contains(err.Error(), "unknown command") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out manifest.Leased
	if err := json.Unmarshal(b, &out); err != nil || out.Facts == nil {
		return nil, badAnswer(t, "lease acquire", err)
	}
	f, err := manifest.CheckFacts(out.Facts)
	if err != nil {
		return nil, unreadableFacts(t, "lease acquire", err)
	}
	noteClock(f, asking, p.clockNow())
	p.leased(t.host, out.Lease, asked)
	return f, nil
}

// leaseCommand runs one of mailformd's lease commands.
func (p *Provider) leaseCommand(ctx context.Context, t target, step, verb string, req manifest.LeaseRequest) ([]byte, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	out, err := p.run(ctx, t, commandLine(paths.Binary(), "lease", verb), func() io.Reader { return bytes.NewReader(body) }, nil)
	if err != nil {
		return nil, err
	}
	if out.status != 0 {
		return nil, agentError(t, step, "lease "+verb, out)
	}
	return out.stdout, nil
}

// hostLock is the lease on one host, as the keeper of leases sees it.
type hostLock struct {
	p    *Provider
	host string
}

func (l *hostLock) Name() string { return LeaseName(l.host) }

func (l *hostLock) request(lease plan.Lease) manifest.LeaseRequest {
	return manifest.LeaseRequest{Claim: manifest.Claim{Stack: l.p.Stack, Host: l.host, Epoch: lease.Epoch, Actor: l.p.Actor}, ID: lease.ID}
}

// Renew implements plan.Lock.
func (l *hostLock) Renew(ctx context.Context, lease plan.Lease) (plan.Lease, error) {
	t, err := l.p.target(l.host)
	if err != nil {
		return lease, err
	}
	_, err = l.p.leaseCommand(ctx, t, "renew the lease", "renew", l.request(lease))
	if plan.ClassOf(err) == plan.ErrStale { // fenced
		return lease, fmt.Errorf("%w: %w", plan.ErrLeaseLost, err)
	}
	return lease, err
}

// Release implements plan.Lock, over a connection that is there: a host that
// cannot be reached ends the lease by itself.
func (l *hostLock) Release(ctx context.Context, lease plan.Lease) error {
	t, err := l.p.target(l.host)
	if err != nil {
		return err
	}
	c := l.p.sessions.live(t)
	if c == nil {
		return fmt.Errorf("there is no connection to it any more")
	}
	body, err := json.Marshal(l.request(lease))
	if err != nil {
		return err
	}
	out, err := c.exec(ctx, commandLine(paths.Binary(), "lease", "release"), bytes.NewReader(body), nil)
	if err == nil && out.status != 0 {
		err = agentError(t, "give back the lease", "lease release", out)
	}
	return err
}

// Held implements plan.Lock.
func (l *hostLock) Held(ctx context.Context) (*plan.Lease, error) {
	t, err := l.p.target(l.host)
	if err != nil {
		return nil, err
	}
	f, _, err := l.p.observeFacts(ctx, t)
	if err != nil || f == nil || f.Owner == nil || f.Owner.Stack != l.p.Stack {
		return nil, err
	}
	return LeaseIn(f), nil
}

// LeaseIn is the lease that facts tell of, nil when there is none.
func LeaseIn(f *manifest.Facts) *plan.Lease {
	if f.Lease == nil {
		return nil
	}
	l := leaseOf(f.Lease)
	l.Left = max(0, f.Lease.Expires.Sub(f.Now))
	return &l
}

// Break implements plan.Lock.
func (l *hostLock) Break(ctx context.Context, lease plan.Lease) error {
	t, err := l.p.target(l.host)
	if err != nil {
		return err
	}
	req := l.request(lease)
	req.Break = true
	_, err = l.p.leaseCommand(ctx, t, "break the lease", "release", req)
	return err
}

// live returns the connection to a host if there is a whole one that nobody is
// making anew.
func (s *sessions) live(t target) *client {
	sl := s.slot(t.host)
	select {
	case sl.sem <- struct{}{}:
	default:
		return nil
	}
	defer func() { <-sl.sem }()
	if sl.client == nil || sl.client.t != t || !sl.client.alive() {
		return nil
	}
	return sl.client
}

// Package host is the provider for what lives on a machine: mailformd itself,
// signing keys, the server's settings, mailboxes and aliases. It works over SSH
// and leaves everything that happens on the machine to mailformd's agent
// commands, whose documents are in server/manifest.
//
// It imports plan, specs and server/manifest of mailform. It knows nothing of
// being simulated: connections come from Config.Dial.
package host

import (
	"context"
	"crypto/x509"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"mailform/plan"
	"mailform/providers/host/agentbin"
	"mailform/providers/host/sshconn"
	"mailform/server/manifest"
)

// Name is the provider's name in plans.
const Name = "host"

// Config is what a Provider works with.
type Config struct {
	Stack   string
	Version string // of this mailform, shown as the version of the mailformd it carries
	Actor   string // "alice@laptop"; left on the host for whoever finds a conflict

	// ReadOnly lets no command reach a machine but those that look at it.
	ReadOnly bool
	// DeleteMail deletes the mail, too, when mailform is taken off a machine that was
	// there before it.
	DeleteMail bool

	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	SSH    *sshconn.Env // the person's keys and configuration; nil has none. Without a Dial of its own it uses ours
	Agents agentbin.Source
	// NoteHostKey notes on a machine that mailform made by which SSH host key it is
	// recognised from now on, and returns when whoever asks is told so. nil: machines
	// keep the key that they were made with.
	NoteHostKey func(ctx context.Context, instance, fingerprint string) error
	// Published asks the name servers about TXT records, in the order of the
	// questions. nil: nothing is known to be seen, and no new signing key is used.
	Published func(context.Context, []TXT) []Sighting
	Secret    func(fingerprint string) (string, bool) // specs.Spec.Secret
	Roots     *x509.CertPool                          // the servers' certificates must chain to one of them; nil is the system's

	Now func() time.Time
	// HostNow is the clock that those of the hosts ought to agree with, where Now runs ahead; nil is Now.
	HostNow func() time.Time
	Sleep   func(context.Context, time.Duration) error // between tries; nil really sleeps
}

// TXT is a record that ought to be in DNS.
type TXT struct{ Name, Text string }

// Sighting is what the name servers say about a TXT record.
type Sighting struct {
	Everywhere bool          // every server of the zone answers with it and nothing else
	Negative   time.Duration // how long resolvers remember that there was none, RFC 2308 5; 0 when that is not known
	Got        string        // what came instead
}

// Provider implements plan.Provider. It keeps one SSH connection per host and
// what it has observed; Close ends the connections.
type Provider struct {
	Config
	sessions sessions

	mu      sync.Mutex
	targets map[string]target          // by host name, as last seen
	facts   map[string]*manifest.Facts // by host name, from the last observation
	leasing leasing
	taking  singleflight.Group // of leases, by host name
}

var _ plan.Provider = (*Provider)(nil)

// New returns a provider.
func New(c Config) *Provider {
	p := &Provider{Config: c, targets: map[string]target{}, facts: map[string]*manifest.Facts{}}
	p.sessions.p = p
	if p.SSH == nil {
		p.SSH = &sshconn.Env{Keys: &sshconn.Keys{}}
	}
	if p.SSH.Dial == nil {
		p.SSH.Dial = p.Dial
	}
	if p.Sleep == nil {
		p.Sleep = sleep
	}
	return p
}

// Name implements plan.Provider.
func (p *Provider) Name() string { return Name }

// After implements plan.Provider: addresses and host keys come from the cloud.
func (p *Provider) After() []string { return []string{"alicloud"} }

// Close ends all connections.
func (p *Provider) Close() { p.sessions.close() }

func (p *Provider) claim(host string) manifest.Claim {
	return manifest.Claim{Stack: p.Stack, Host: host, Epoch: p.epoch(host), Actor: p.Actor}
}

func (p *Provider) remember(t target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets[t.host] = t
}

// target returns how a host was last reached.
func (p *Provider) target(host string) (target, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.targets[host]
	if !ok {
		return t, noAddress(host)
	}
	return t, nil
}

func noAddress(host string) error {
	return &plan.Error{
		Code: "MF5401", Step: "connect to host " + host,
		Got: "its address is not known yet",
		Fix: "Apply the whole stack: the machine and its address come first.",
	}
}

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

package alicloud

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"mailform/plan"
)

// Name is the provider's name in plans and specs.
const Name = "alicloud"

// Config is everything the provider depends on.
type Config struct {
	Region      string // "cn-hongkong"; may be empty only while no host of the spec is an instance
	ECSEndpoint string // URL, host or host:port (https unless it says http://); "" for the vendor's
	VPCEndpoint string
	OSSEndpoint string
	Stack       string // the owner mark

	// Credentials gives what requests are signed with; it is asked before every
	// request. See FindCredentials. Its error should be a *plan.Error of class ErrCredentials.
	Credentials func() (Credentials, error)

	// OperatorKeys are the public keys, as authorized_keys lines, of the person who
	// applies: they log in to an instance whose spec gives no authorized_keys.
	OperatorKeys []string

	Roots       *x509.CertPool // trusted roots; nil for the system's
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	Transport   http.RoundTripper // replaces the HTTP transport, Roots and DialContext altogether

	Now   func() time.Time                           // to say how late this machine's clock is; nil for time.Now
	Sleep func(context.Context, time.Duration) error // waits, or returns the context's error; nil for the real thing
	Rand  io.Reader                                  // for SSH host keys; nil for crypto/rand
}

// Provider is Alibaba Cloud as a plan.Provider. It is safe for concurrent use.
type Provider struct {
	api          *api
	region       string
	stack        string
	operatorKeys []string
	sleep        func(context.Context, time.Duration) error
	rand         io.Reader

	mu      sync.Mutex
	planned []string // hosts that are still to be made, see note
}

var _ plan.Provider = (*Provider)(nil)

// New makes the provider. It sends nothing and does not ask for credentials.
func New(c Config) (*Provider, error) {
	p := &Provider{
		region: c.Region,
		stack:  c.Stack,
		sleep:  c.Sleep,
		rand:   c.Rand,
	}
	if p.sleep == nil {
		p.sleep = sleep
	}
	if p.rand == nil {
		p.rand = rand.Reader
	}
	for _, line := range c.OperatorKeys {
		key, err := canonicalKey(line)
		if err != nil {
			return nil, fmt.Errorf("operator's SSH key: %w", err)
		}
		p.operatorKeys = append(p.operatorKeys, key)
	}
	p.api = &api{region: c.Region, ownOSS: c.OSSEndpoint != "", endpoints: map[product]endpoint{}, credentials: c.Credentials, now: c.Now, transport: c.Transport}
	if p.api.now == nil {
		p.api.now = time.Now
	}
	for _, e := range []struct {
		p        product
		override string
	}{{ecs, c.ECSEndpoint}, {vpc, c.VPCEndpoint}, {oss, c.OSSEndpoint}} {
		at, err := endpointFor(e.override, c.Region, e.p)
		if err != nil {
			return nil, err
		}
		p.api.endpoints[e.p] = at
	}
	if p.api.credentials == nil {
		p.api.credentials = func() (Credentials, error) {
			return Credentials{}, missingCredentials("none were configured")
		}
	}
	if p.api.transport == nil {
		dial := c.DialContext
		if dial == nil {
			dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
		}
		p.api.transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           dial,
			TLSClientConfig:       &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: callTimeout,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       30 * time.Second,
		}
	}
	return p, nil
}

// Name returns "alicloud".
func (p *Provider) Name() string { return Name }

// After returns nothing: the cloud is observed in the first wave.
func (p *Provider) After() []string { return nil }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Package acme gets the hosts' TLS certificates from a certificate authority
// (RFC 8555) by DNS-01. Keys and signing requests are made on the hosts; the
// challenge records are put up by the DNS provider; this package only carries
// public things between them and the authority.
//
// It imports plan, specs and server/manifest. Of lego/v4 it uses the protocol
// client (acme/api): lego's own solver asks the system's resolver through package
// globals, cannot be cancelled, and sleeps.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	legolog "github.com/go-acme/lego/v4/log"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

// Name is the provider's name in plans.
const Name = "acme"

// Challenger puts up and takes down TXT records at "_acme-challenge.…" names.
// Both may be repeated without harm. The DNS provider implements it.
//
// records are the values by name: a name and its wildcard share one. Present
// answers by name with what went wrong; all names of a zone share a transaction.
type Challenger interface {
	Present(ctx context.Context, records map[string][]string) map[string]error
	CleanUp(ctx context.Context, records map[string][]string) error
}

// Hosts is what certificates need of the hosts. The host provider implements it.
// Every method may be repeated without harm.
type Hosts interface {
	// CertificateRequest makes the key for a new certificate on the host, or takes up
	// one that waits there already, and returns a PKCS #10 request as PEM. With
	// keepKey it takes the key in use, if there is one of this type.
	CertificateRequest(ctx context.Context, host, name string, names []string, keyType string, keepKey bool) (csrPEM []byte, err error)
	// InstallCertificate installs a chain (PEM, leaf first) for that key or the current
	// one. meta has "directory" and, when the CA says when to renew, manifest.MetaRenewalInfo.
	InstallCertificate(ctx context.Context, host, name string, chainPEM []byte, meta map[string]string) error
	// RemoveCertificate takes a certificate and its key off the host.
	RemoveCertificate(ctx context.Context, host, name string) error
	// Certificates gives what the last observation found on a host, and false when it
	// was not observed (because it does not exist yet).
	Certificates(host string) ([]manifest.Certificate, bool)
	// AccountKey returns the host's account key for a directory as PKCS #8 PEM.
	AccountKey(ctx context.Context, host, directory string) (pemPKCS8 []byte, err error)
	// Order returns where the CA of a directory keeps the order for a certificate
	// whose key waits, as KeepOrder wrote it down, and "" without one. An installed
	// certificate has none.
	Order(ctx context.Context, host, name, directory string) (location string, err error)
	KeepOrder(ctx context.Context, host, name, directory, location string) error
}

// Config is everything the provider needs from outside.
type Config struct {
	Directory string         // URL; "" for Let's Encrypt. http:// works, for simulations
	Issuer    string         // the CA's name in CAA records, as the spec says it; "" when it does not
	Contact   string         // e-mail address for the account; may be ""
	EAB       EAB            // for CAs that want one; the zero EAB for none
	Roots     *x509.CertPool // for the directory's TLS; nil for the system's
	Resolver  string         // host:port that is asked whether challenge records are visible; "" asks their authoritative servers

	Challenger Challenger
	Hosts      Hosts
	Answers    Answers // nil keeps nothing between runs

	// Transport replaces the default HTTP transport (and Roots).
	Transport http.RoundTripper
	// Now and Sleep default to the real ones.
	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

// Provider implements plan.Provider.
type Provider struct {
	cfg     Config
	visible *watcher
	gather  *gathering
	left    leftovers
}

var _ plan.Provider = (*Provider)(nil)

// quiet makes lego's package-level logger silent, once: it would write between
// the lines of a live terminal. What it says is in our progress and errors.
var quiet sync.Once

// New checks the configuration. It makes no request.
func New(cfg Config) (*Provider, error) {
	if cfg.Directory == "" {
		cfg.Directory = specs.Authorities()[0].Directory
	}
	u, err := url.Parse(cfg.Directory)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, &plan.Error{
			Class: plan.ErrSpec, Code: "MF5301", Step: "read the ACME directory's URL",
			Got: fmt.Sprintf("%q is not an http(s) URL", cfg.Directory),
			Fix: "give directory (or MAILFORM_ACME_DIRECTORY) as the CA documents it, or leave it out for Let's Encrypt",
		}
	}
	if cfg.Challenger == nil || cfg.Hosts == nil {
		return nil, fmt.Errorf("acme: Challenger and Hosts are needed")
	}
	if cfg.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}
		t.ResponseHeaderTimeout = 30 * time.Second
		cfg.Transport = t
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if err := cfg.EAB.check(); err != nil {
		return nil, err
	}
	quiet.Do(func() { legolog.Logger = silent{} })
	return &Provider{cfg: cfg, visible: newWatcher(cfg.Resolver, cfg.Sleep), gather: newGathering(cfg.Challenger, cfg.Sleep)}, nil
}

// Name implements plan.Provider.
func (p *Provider) Name() string { return Name }

// After implements plan.Provider: certificates are seen on the hosts.
func (p *Provider) After() []string { return []string{"host"} }

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

// silent implements lego's StdLogger.
type silent struct{}

func (silent) Fatal(...any)          {}
func (silent) Fatalln(...any)        {}
func (silent) Fatalf(string, ...any) {}
func (silent) Print(...any)          {}
func (silent) Println(...any)        {}
func (silent) Printf(string, ...any) {}

package cloudflare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"mailform/plan"
)

// Name is the provider's name in addresses and plans.
const Name = "cloudflare"

// defaultBaseURL is the vendor's API.
const defaultBaseURL = "https://api.cloudflare.com/client/v4/"

// Config is everything the provider needs from outside.
type Config struct {
	Token   string         // API token with the permissions of Scope; from CLOUDFLARE_API_TOKEN
	BaseURL string         // "" for the vendor's; http:// works
	Roots   *x509.CertPool // nil for the system's

	// Transport replaces the default HTTP transport (and Roots).
	Transport http.RoundTripper

	Stack string // whose marks are ours

	// ACMEDirectory is where certificates come from when the spec does not say; ""
	// for Let's Encrypt. CAA records let its CA issue.
	ACMEDirectory string

	// Now and Sleep default to the real ones. Now reads Retry-After dates; Sleep is
	// for the attempts of Present and CleanUp, other retries are apply's business.
	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

// Provider implements plan.Provider and plan.Merger for zones at Cloudflare.
type Provider struct {
	stack     string
	directory string
	api       *client
	sleep     func(context.Context, time.Duration) error

	mu         sync.Mutex
	zones      []zone            // of the last listing
	challenges map[string]string // "fqdn value" -> record id, of this process
	leftovers  map[string]record // challenge records of ended runs by id, from the last observation
	advice     []plan.Advice     // from the last observation
}

var (
	_ plan.Provider = (*Provider)(nil)
	_ plan.Merger   = (*Provider)(nil)
)

// New checks the configuration. It makes no request.
func New(cfg Config) (*Provider, error) {
	if strings.TrimSpace(cfg.Token) == "" {
		return nil, &plan.Error{
			Class: plan.ErrCredentials, Code: "MF5201",
			Step: "find the Cloudflare API token",
			Got:  "the environment variable CLOUDFLARE_API_TOKEN is not set",
			Fix:  "create a token for your zones at https://dash.cloudflare.com/profile/api-tokens with these permissions and set CLOUDFLARE_API_TOKEN to it: " + permissionNames(Scope(false)),
		}
	}
	base := cfg.BaseURL
	if base == "" {
		base = defaultBaseURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, &plan.Error{
			Class: plan.ErrSpec, Code: "MF5202",
			Step: "read the Cloudflare base URL",
			Got:  fmt.Sprintf("%q is not an http(s) URL", base),
			Fix:  "give base_url (or CLOUDFLARE_BASE_URL) as https://api.cloudflare.com/client/v4, or leave it out",
		}
	}
	transport := cfg.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}
		transport = t
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Provider{
		stack:      cfg.Stack,
		directory:  cfg.ACMEDirectory,
		api:        newClient(u, strings.TrimSpace(cfg.Token), transport, cfg.Now),
		sleep:      cfg.Sleep,
		challenges: map[string]string{},
	}
	if p.sleep == nil {
		p.sleep = sleep
	}
	return p, nil
}

// Name implements plan.Provider.
func (p *Provider) Name() string { return Name }

// After implements plan.Provider: nothing has to be observed before the zones.
func (p *Provider) After() []string { return nil }

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

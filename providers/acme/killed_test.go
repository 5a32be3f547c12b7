package acme

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"

	"mailform/providers/acme/acmesim"
	"mailform/providers/cloudflare"
)

// killer ends a run at its k-th word with anybody: before it is said, or after it
// had its effect and before the answer is read. Nothing gets through afterwards.
type killer struct {
	mu     sync.Mutex
	k      int
	before bool
	count  int
	dead   bool
	last   string
	stop   context.CancelFunc
}

var errKilled = errors.New("killed")

func (k *killer) around(what string, do func() error) error {
	k.mu.Lock()
	k.count++
	here := k.count == k.k
	if k.dead || here && k.before {
		if here {
			k.last = what
			k.stop()
		}
		k.dead = true
		k.mu.Unlock()
		return errKilled
	}
	k.mu.Unlock()
	err := do()
	if here {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.dead, k.last = true, what
		k.stop()
		return errKilled
	}
	return err
}

func (k *killer) transport(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (res *http.Response, err error) {
		err = k.around(r.Method+" "+r.URL.Path, func() error {
			res, err = next.RoundTrip(r)
			return err
		})
		if err != nil {
			return nil, err
		}
		return res, nil
	})
}

// mortalHosts are hosts that are spoken to by a run that is killed.
type mortalHosts struct {
	*hosts
	k *killer
}

func (h mortalHosts) CertificateRequest(ctx context.Context, host, name string, names []string, kind string, keep bool) (csr []byte, err error) {
	err = h.k.around("csr", func() error { csr, err = h.hosts.CertificateRequest(ctx, host, name, names, kind, keep); return err })
	return csr, err
}

func (h mortalHosts) InstallCertificate(ctx context.Context, host, name string, chain []byte, meta map[string]string) error {
	return h.k.around("install", func() error { return h.hosts.InstallCertificate(ctx, host, name, chain, meta) })
}

func (h mortalHosts) AccountKey(ctx context.Context, host, directory string) (key []byte, err error) {
	err = h.k.around("account", func() error { key, err = h.hosts.AccountKey(ctx, host, directory); return err })
	return key, err
}

func (h mortalHosts) Order(ctx context.Context, host, name, directory string) (l string, err error) {
	err = h.k.around("order", func() error { l, err = h.hosts.Order(ctx, host, name, directory); return err })
	return l, err
}

func (h mortalHosts) KeepOrder(ctx context.Context, host, name, directory, location string) error {
	return h.k.around("keep order", func() error { return h.hosts.KeepOrder(ctx, host, name, directory, location) })
}

// Killed at every word that a run has with the CA, the DNS and the host, the next
// run continues the order of the one before: one certificate, and a second order
// only when the first could not be written down any more.
func TestKilledEverywhere(t *testing.T) {
	places := 0
	for _, before := range []bool{true, false} {
		for k := 1; ; k++ {
			w := newWorld(t, acmesim.Config{RejectNonces: -1})
			ctx, cancel := context.WithCancel(t.Context())
			kill := &killer{k: k, before: before, stop: cancel}
			if err := w.runMortal(ctx, kill); err == nil {
				cancel()
				if w.ca.Counts() != (acmesim.Counts{Orders: 1, Certificates: 1, Accounts: 1}) {
					t.Errorf("undisturbed: %+v", w.ca.Counts())
				}
				break
			}
			cancel()
			places++
			w.apply(testSpec())
			w.verify()
			if again := actions(w.plan(testSpec())); again != "" {
				t.Errorf("killed at %s: there is still %s", kill.last, again)
			}
			orders := 1
			if kill.last == "POST /order-plz" && !before || kill.last == "keep order" && before {
				orders = 2 // nobody knows of the first one
			}
			if got := w.ca.Counts(); got.Certificates != 1 || got.Orders != orders || got.Accounts != 1 {
				t.Errorf("killed at %s (before its effect: %v): %+v, want %d orders and 1 certificate", kill.last, before, got, orders)
			}
		}
	}
	t.Logf("%d places, each before and after its effect", places/2)
	if places < 30 {
		t.Errorf("only %d places were tried", places)
	}
}

// runMortal plans and applies with everything going through a killer.
func (w *world) runMortal(ctx context.Context, kill *killer) error {
	w.t.Helper()
	p := w.plan(testSpec())
	next := http.DefaultTransport.(*http.Transport).Clone()
	defer next.CloseIdleConnections()
	next.TLSClientConfig = w.tls()
	dns, err := cloudflare.New(cloudflare.Config{Token: "token", BaseURL: w.api, Stack: "acme-mail", Sleep: noSleep, Transport: kill.transport(next)})
	if err != nil {
		w.t.Fatal(err)
	}
	mortal := w.provider(func(c *Config) {
		c.Transport, c.Challenger, c.Hosts = kill.transport(next), dns, mortalHosts{w.hosts, kill}
	})
	immortal := w.p
	defer func() { w.p = immortal }()
	w.p = mortal
	return w.runWith(ctx, p)
}

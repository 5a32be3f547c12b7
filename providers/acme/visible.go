package acme

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"mailform/plan"
)

// visibleWithin is how long a challenge record may take to appear. Cloudflare's
// own servers have it within seconds.
const visibleWithin = 2 * time.Minute

// watcher waits until a TXT record can be seen, before the CA is told to look: a
// failed validation costs an attempt of an hourly limit.
//
// With a resolver it asks that one. Without, it asks the zone's own servers, so that
// no cache remembers that the record was not there; only when they cannot be
// reached (a network that closes port 53) it asks the system's resolver.
type watcher struct {
	resolver string
	sleep    func(context.Context, time.Duration) error

	lookupNS   func(ctx context.Context, name string) ([]*net.NS, error)
	lookupHost func(ctx context.Context, name string) ([]string, error)
	lookupTXT  func(ctx context.Context, name string) ([]string, error)
	port       string // of the zone's servers
	timeout    time.Duration
}

func newWatcher(resolver string, sleep func(context.Context, time.Duration) error) *watcher {
	return &watcher{
		resolver: resolver, sleep: sleep,
		lookupNS: net.DefaultResolver.LookupNS, lookupHost: net.DefaultResolver.LookupHost, lookupTXT: net.DefaultResolver.LookupTXT,
		port: "53", timeout: 5 * time.Second,
	}
}

// wait returns once every server that counts shows the record with all its values.
func (w *watcher) wait(ctx context.Context, fqdn string, values []string, progress plan.Progress) error {
	servers := []string{w.resolver}
	if w.resolver == "" {
		servers = w.authorities(ctx, fqdn)
	}
	var last error
	pause := 250 * time.Millisecond
	for waited := time.Duration(0); waited <= visibleWithin; waited += pause {
		if waited > 0 {
			pause = min(2*pause, 5*time.Second)
		}
		last = w.seen(ctx, servers, fqdn, values)
		if last == nil {
			return nil
		}
		progress(fmt.Sprintf("waiting until %s is visible", fqdn), 0, 0)
		if err := w.sleep(ctx, pause); err != nil {
			return err
		}
	}
	e := &plan.Error{
		Class: plan.ErrTransient, Code: "MF5310",
		Step: "wait until the challenge record " + fqdn + " is visible",
		Got:  last.Error(),
		Fix: fmt.Sprintf("check that the domain's name servers are Cloudflare's (dig NS %s) and, if it is set, that the resolver (MAILFORM_RESOLVER) sees the public DNS; then run the same command again",
			strings.TrimPrefix(fqdn, challengeLabel)),
	}
	return e
}

// seen returns nil when all servers show the record, else what one of them says.
func (w *watcher) seen(ctx context.Context, servers []string, fqdn string, values []string) error {
	unreachable := 0
	for _, s := range servers {
		texts, err := w.ask(ctx, s, fqdn)
		var dead *unreachableError
		if errors.As(err, &dead) && w.resolver == "" {
			unreachable++
			continue
		}
		if err != nil {
			return err
		}
		if !containsAll(texts, values) {
			return fmt.Errorf("%s answers with %s", s, shown(texts))
		}
	}
	if unreachable < len(servers) {
		return nil
	}
	texts, err := w.lookupTXT(ctx, dns.Fqdn(fqdn))
	if err != nil {
		return err
	}
	if !containsAll(texts, values) {
		return fmt.Errorf("the system's resolver answers with %s", shown(texts))
	}
	return nil
}

func containsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(v string) bool { return !slices.Contains(have, v) })
}

func shown(texts []string) string {
	if len(texts) == 0 {
		return "no TXT record"
	}
	return fmt.Sprintf("other TXT records (%d)", len(texts))
}

type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// ask gets the TXT records of a name from one server, over TCP when UDP is too small.
func (w *watcher) ask(ctx context.Context, server, fqdn string) ([]string, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(fqdn), dns.TypeTXT)
	m.SetEdns0(1232, false)
	client := &dns.Client{Timeout: w.timeout}
	res, _, err := client.ExchangeContext(ctx, m, server)
	if err == nil && res.Truncated {
		client.Net = "tcp"
		res, _, err = client.ExchangeContext(ctx, m, server)
	}
	if err != nil {
		return nil, &unreachableError{fmt.Errorf("%s does not answer: %w", server, err)}
	}
	switch res.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	default:
		return nil, fmt.Errorf("%s answers with %s", server, dns.RcodeToString[res.Rcode])
	}
	var texts []string
	for _, rr := range res.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			texts = append(texts, strings.Join(txt.Txt, ""))
		}
	}
	return texts, nil
}

// authorities finds the addresses of the servers of the zone that holds a name.
// None means that the system's resolver is asked.
func (w *watcher) authorities(ctx context.Context, fqdn string) []string {
	for name := dns.Fqdn(fqdn); name != "."; {
		servers, err := w.lookupNS(ctx, name)
		if err == nil && len(servers) > 0 {
			var out []string
			for _, ns := range servers {
				if addrs, err := w.lookupHost(ctx, ns.Host); err == nil && len(addrs) > 0 {
					out = append(out, net.JoinHostPort(addrs[0], w.port))
				}
			}
			slices.Sort(out)
			return slices.Compact(out)
		}
		i, end := dns.NextLabel(name, 0)
		if end {
			break
		}
		name = name[i:]
	}
	return nil
}

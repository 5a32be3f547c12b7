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

// authority is who answers for a name: the servers of its zone.
type authority struct {
	zone    string // "acme.example."; "" with a resolver, or when no servers were found
	names   []string
	servers []string // host:port
}

// asked is who is asked about a name. No servers mean the system's resolver.
func (w *watcher) asked(ctx context.Context, fqdn string) authority {
	if w.resolver != "" {
		return authority{servers: []string{w.resolver}}
	}
	return w.authorities(ctx, fqdn)
}

// wait returns once every server that counts shows the record with all its values.
func (w *watcher) wait(ctx context.Context, fqdn string, values []string, progress plan.Progress) error {
	who := w.asked(ctx, fqdn)
	var last error
	pause := 250 * time.Millisecond
	for waited := time.Duration(0); waited <= visibleWithin; waited += pause {
		if waited > 0 {
			pause = min(2*pause, 5*time.Second)
		}
		last = w.seen(ctx, who.servers, fqdn, values)
		if last == nil {
			return nil
		}
		progress(fmt.Sprintf("waiting until %s is visible", fqdn), 0, 0)
		if err := w.sleep(ctx, pause); err != nil {
			return err
		}
	}
	// The CA was not asked, so that nothing is lost; but what two minutes did not
	// bring, a person has to look at.
	return &plan.Error{
		Code: "MF5310", Step: "wait until the challenge record " + fqdn + " is visible", Got: last.Error(),
		Fix: who.remedy(fqdn, w.resolver, last) + "; then run the same command again",
	}
}

// cloudflareNS ends the names of the DNS provider's servers.
const cloudflareNS = ".ns.cloudflare.com."

// remedy says what a person must do so that the record can be seen.
func (a authority) remedy(fqdn, resolver string, last error) string {
	name := strings.TrimPrefix(fqdn, challengeLabel)
	var alias *aliasError
	var dead *unreachableError
	switch {
	case errors.As(last, &alias):
		return fmt.Sprintf("a CNAME record at %s leads to %s, where mailform cannot write: delete it", fqdn, alias.target)
	case resolver != "" && errors.As(last, &dead):
		return "the resolver " + resolver + " (MAILFORM_RESOLVER, or resolver in provider \"acme\") cannot be asked: correct it, or leave it out"
	case resolver != "":
		return fmt.Sprintf("check that the domain's name servers are Cloudflare's (dig NS %s) and that the resolver %s sees the public DNS", name, resolver)
	case a.zone == "":
		return fmt.Sprintf("no name servers were found for %s: check that the domain is registered and delegated to Cloudflare's name servers (dig NS %s)", name, name)
	case slices.ContainsFunc(a.names, func(ns string) bool { return !strings.HasSuffix(strings.ToLower(ns), cloudflareNS) }):
		return fmt.Sprintf("%s is served by %s, and not only by Cloudflare, where the record was written: delegate it to Cloudflare's name servers, which the zone's page there shows, at the registrar or, when it is delegated within another zone, there",
			strings.TrimSuffix(a.zone, "."), trimmed(a.names))
	}
	return fmt.Sprintf("Cloudflare's servers (%s) do not show what was written: see whether the zone is paused there, or written by somebody else at the same time", trimmed(a.names))
}

func trimmed(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, strings.TrimSuffix(n, "."))
	}
	return strings.Join(out, ", ")
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

// exchange asks one server, over TCP when UDP is too small. That there is no such
// name is an answer.
func (w *watcher) exchange(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
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
		return res, nil
	}
	return nil, fmt.Errorf("%s answers with %s", server, dns.RcodeToString[res.Rcode])
}

// ask gets the TXT records of a name from one server.
func (w *watcher) ask(ctx context.Context, server, fqdn string) ([]string, error) {
	res, err := w.exchange(ctx, server, fqdn, dns.TypeTXT)
	if err != nil {
		return nil, err
	}
	var texts []string
	var alias *aliasError
	for _, rr := range res.Answer {
		if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(c.Hdr.Name, dns.Fqdn(fqdn)) {
			alias = &aliasError{server, strings.TrimSuffix(c.Target, ".")}
		}
		if txt, ok := rr.(*dns.TXT); ok {
			texts = append(texts, strings.Join(txt.Txt, ""))
		}
	}
	if alias != nil && len(texts) == 0 {
		return nil, alias
	}
	return texts, nil
}

// aliasError is a CNAME that leads somewhere without the record.
type aliasError struct{ server, target string }

func (e *aliasError) Error() string { return e.server + " answers with a CNAME to " + e.target }

// authorities finds the servers of the zone that holds a name.
func (w *watcher) authorities(ctx context.Context, fqdn string) authority {
	for name := dns.Fqdn(fqdn); name != "."; {
		servers, err := w.lookupNS(ctx, name)
		if err == nil && len(servers) > 0 {
			out := authority{zone: name}
			for _, ns := range servers {
				out.names = append(out.names, ns.Host)
				if addrs, err := w.lookupHost(ctx, ns.Host); err == nil && len(addrs) > 0 {
					out.servers = append(out.servers, net.JoinHostPort(addrs[0], w.port))
				}
			}
			slices.Sort(out.names)
			slices.Sort(out.servers)
			out.servers = slices.Compact(out.servers)
			return out
		}
		i, end := dns.NextLabel(name, 0)
		if end {
			break
		}
		name = name[i:]
	}
	return authority{}
}

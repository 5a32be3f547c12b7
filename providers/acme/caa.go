package acme

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"mailform/plan"
	"mailform/providers/internal/webpage"
	"mailform/specs"
)

// A CA must not issue against the CAA records of a name or, without any, of the
// closest name above (RFC 8659 3). They are looked at before an order is made: a
// refusal comes late, costs one of the few validations that a CA fails in an hour,
// and does not say where the record is.

// caaAgain are the pauses after which records that forbid the CA are looked at again:
// those that let it may have been written by this very run.
var caaAgain = [...]time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

const maxAliases = 8

// permitted gives an error when CAA records keep the CA from issuing for a name. What
// cannot be looked up forbids nothing here: the CA looks for itself.
func (o *order) permitted(ctx context.Context) error {
	issuers := o.issuers()
	if len(issuers) == 0 {
		return nil
	}
	for attempt := 0; ; attempt++ {
		refusal := o.forbidden(ctx, issuers)
		if refusal == nil || attempt == len(caaAgain) {
			return refusal
		}
		if o.p.cfg.Sleep(ctx, caaAgain[attempt]) != nil {
			return refusal
		}
	}
}

// issuers are the CA's names in CAA records: as the spec says, as is known of it, and
// as its directory says (RFC 8555 7.1.1).
func (o *order) issuers() []string {
	var all []string
	for _, name := range append([]string{o.p.cfg.Issuer, specs.IssuerOf(o.directory)}, o.ca.GetDirectory().Meta.CaaIdentities...) {
		if name = strings.ToLower(strings.TrimSuffix(name, ".")); name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// forbidden looks at all names once.
func (o *order) forbidden(ctx context.Context, issuers []string) error {
	look := &caaLook{watcher: o.p.visible, known: map[string]func() []*dns.CAA{}}
	found := make([]error, len(o.names))
	var g errgroup.Group
	g.SetLimit(lookingAtOnce)
	for i, name := range o.names {
		g.Go(func() error {
			at, records := look.relevant(ctx, strings.TrimPrefix(name, "*."))
			if ok, why := lets(records, issuers, strings.HasPrefix(name, "*.")); !ok {
				found[i] = &plan.Error{
					Class: plan.ErrBlocked, Code: "MF5315",
					Step: fmt.Sprintf("make sure that %s may issue a certificate for %s", issuers[0], name),
					Got:  fmt.Sprintf("the CAA records of %s %s (RFC 8659)", at, why),
					Fix: fmt.Sprintf("write the record %s CAA 0 issue %q beside them, or, where they are mailform's, add it to caa in the zone block; then run the same command again. The CA was not asked",
						at, issuers[0]),
				}
			}
			return nil
		})
	}
	_ = g.Wait() // it is in found
	for _, err := range found {
		if err != nil {
			return err
		}
	}
	return nil
}

// lets reports whether CAA records let one of the issuers, by dns-01. why says in
// words what they say instead.
func lets(records []*dns.CAA, issuers []string, wildcard bool) (ok bool, why string) {
	var issue, wild []string
	for _, r := range records {
		switch tag := strings.ToLower(r.Tag); {
		case tag == "issue":
			issue = append(issue, r.Value)
		case tag == "issuewild":
			wild = append(wild, r.Value)
		case tag != "iodef" && tag != "issuemail" && tag != "issuevmc" && tag != "contactemail" && tag != "contactphone" && r.Flag&128 != 0:
			return false, fmt.Sprintf("have a critical property %q that no CA knows", r.Tag)
		}
	}
	if wildcard && len(wild) > 0 {
		issue = wild
	}
	if len(issue) == 0 {
		return true, ""
	}
	var named []string
	for _, value := range issue {
		name, dns01 := readIssue(value)
		switch {
		case slices.Contains(issuers, name) && dns01:
			return true, ""
		case slices.Contains(issuers, name):
			named = append(named, name+" (not by dns-01)")
		case name != "":
			named = append(named, name)
		}
	}
	if len(named) == 0 {
		return false, "let nobody"
	}
	return false, "let only " + webpage.Line(strings.Join(named, ", "), 200)
}

// readIssue reads the value of an issue property: a CA's name, "" for nobody, and
// whether dns-01 is among the methods it may use (RFC 8657 4).
func readIssue(value string) (name string, dns01 bool) {
	name, parameters, _ := strings.Cut(value, ";")
	dns01 = true
	for _, p := range strings.Split(parameters, ";") {
		if key, methods, ok := strings.Cut(p, "="); ok && strings.EqualFold(strings.TrimSpace(key), "validationmethods") {
			dns01 = slices.ContainsFunc(strings.Split(methods, ","), func(m string) bool { return strings.TrimSpace(m) == "dns-01" })
		}
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(name), ".")), dns01
}

// caaLook finds the CAA records of names, those of each name above only once.
type caaLook struct {
	*watcher
	mu    sync.Mutex
	known map[string]func() []*dns.CAA
}

// relevant climbs from a name to the closest that has CAA records. Those of top-level
// domains are not looked for.
func (l *caaLook) relevant(ctx context.Context, name string) (at string, records []*dns.CAA) {
	for name = dns.Fqdn(name); dns.CountLabel(name) > 1; {
		if records := l.at(ctx, name); len(records) > 0 {
			return strings.TrimSuffix(name, "."), records
		}
		i, _ := dns.NextLabel(name, 0)
		name = name[i:]
	}
	return "", nil
}

func (l *caaLook) at(ctx context.Context, name string) []*dns.CAA {
	l.mu.Lock()
	get := l.known[name]
	if get == nil {
		get = sync.OnceValue(func() []*dns.CAA { return l.lookup(ctx, name, maxAliases) })
		l.known[name] = get
	}
	l.mu.Unlock()
	return get()
}

// lookup asks for a name's CAA records, where an alias leads when there is one.
func (w *watcher) lookup(ctx context.Context, name string, aliases int) (records []*dns.CAA) {
	for _, server := range w.asked(ctx, name).servers {
		res, err := w.exchange(ctx, server, name, dns.TypeCAA)
		if err != nil {
			continue // the next one may
		}
		target := ""
		for _, rr := range res.Answer {
			switch rr := rr.(type) {
			case *dns.CAA:
				records = append(records, rr)
			case *dns.CNAME:
				target = rr.Target
			}
		}
		if len(records) == 0 && target != "" && aliases > 0 {
			return w.lookup(ctx, target, aliases-1)
		}
		return records
	}
	return nil
}

package cloudflare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/plan"
)

// challengeTTL is the shortest the vendor allows on every plan, in seconds.
const challengeTTL = 60

// challengeAttempts is how often one call is made for a challenge record. These
// calls are parts of a larger operation (an ACME order) that should not be begun
// anew for a hiccup here; both can be repeated without harm.
const challengeAttempts = 5

// Present puts up the TXT record that proves control over a name to a certificate
// authority (RFC 8555 8.4). fqdn is the record's name, "_acme-challenge.…". The
// record carries our mark, so that one left behind by a crash is deleted by the
// next plan. Presenting the same value twice is no error.
func (p *Provider) Present(ctx context.Context, fqdn, value string) error {
	fqdn = canonicalName(fqdn)
	z, err := p.challengeZone(ctx, fqdn)
	if err != nil {
		return err
	}
	if note, ok := z.unserved(); ok {
		return &plan.Error{
			Class: plan.ErrBlocked, Code: "MF5220",
			Step: "put up the challenge record " + fqdn,
			Got:  note,
			Fix: fmt.Sprintf("at the registrar of %s set the name servers to %s, wait until Cloudflare shows the zone as active, then run the same command again",
				z.name, strings.Join(z.nameServers, " and ")),
		}
	}
	rec := record{
		name: fqdn, kind: "TXT", content: showTXT([]byte(value)), ttl: challengeTTL,
		comment: comment(p.stack, challengeSlot(z, fqdn)),
	}
	step := "put up the challenge record " + fqdn
	return p.persist(ctx, func() error {
		made, err := p.api.create(ctx, step, z.id, rec)
		if hasCode(err, codeExists, codeIdentical) {
			return nil // by an attempt whose answer was lost, or by an earlier run
		}
		if err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.challenges[fqdn+" "+value] = made.id
		return nil
	})
}

// CleanUp removes what Present put up. A record that is gone is no error; one
// without our mark is left alone.
func (p *Provider) CleanUp(ctx context.Context, fqdn, value string) error {
	fqdn = canonicalName(fqdn)
	z, err := p.challengeZone(ctx, fqdn)
	if err != nil {
		return err
	}
	p.mu.Lock()
	id := p.challenges[fqdn+" "+value]
	p.mu.Unlock()

	var ids []string
	if id != "" {
		ids = []string{id}
	} else {
		want := comment(p.stack, challengeSlot(z, fqdn))
		records, _, err := p.api.listRecords(ctx, z, want)
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.name == fqdn && r.kind == "TXT" && r.comment == want && r.content == showTXT([]byte(value)) {
				ids = append(ids, r.id)
			}
		}
	}
	for _, id := range ids {
		err := p.persist(ctx, func() error {
			err := p.api.delete(ctx, "take down the challenge record "+fqdn, z.id, id)
			if hasCode(err, codeNoSuchRecord) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.challenges, fqdn+" "+value)
	return nil
}

// challengeSlot is the slot of a challenge record: "D/acme-challenge/NAME".
func challengeSlot(z zone, fqdn string) string {
	return z.name + "/acme-challenge/" + strings.TrimPrefix(fqdn, "_acme-challenge.")
}

// challengeZone finds the zone of a challenge record among those of the last
// observation, or asks for them.
func (p *Provider) challengeZone(ctx context.Context, fqdn string) (zone, error) {
	p.mu.Lock()
	known := p.zones
	p.mu.Unlock()
	if z, ok := zoneFor(known, fqdn); ok && z.status == "active" {
		return z, nil
	}
	known, _, err := p.api.listZones(ctx)
	if err != nil {
		return zone{}, err
	}
	p.remember(known)
	z, ok := zoneFor(known, fqdn)
	if !ok {
		return zone{}, &plan.Error{
			Class: plan.ErrCredentials, Code: "MF5222",
			Step: "find the zone of " + fqdn,
			Got:  fmt.Sprintf("the token sees %s, none of which holds this name%s", count(len(known), "zone"), nameSome(known)),
			Fix:  "add the domain to the Cloudflare account, or give the token of CLOUDFLARE_API_TOKEN access to its zone",
		}
	}
	return z, nil
}

func nameSome(zones []zone) string {
	names := make([]string, 0, len(zones))
	for _, z := range zones {
		names = append(names, z.name)
	}
	slices.SortFunc(names, cmp.Compare[string])
	if len(names) > 5 {
		names = append(names[:5], "…")
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// challengePatience is the longest Retry-After that is waited for with an order open.
const challengePatience = 10 * time.Second

// persist makes a call that can be repeated until it succeeds, fails for good or
// the vendor wants more patience than a few seconds.
func (p *Provider) persist(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || attempt == challengeAttempts || ctx.Err() != nil {
			return err
		}
		wait := time.Duration(attempt) * 500 * time.Millisecond
		switch plan.ClassOf(err) {
		case plan.ErrTransient, plan.ErrAmbiguous:
		case plan.ErrThrottled:
			var e *plan.Error
			if !errors.As(err, &e) || e.RetryAfter > challengePatience {
				return err
			}
			wait = max(wait, e.RetryAfter)
		default:
			return err
		}
		if p.sleep(ctx, wait) != nil {
			return err
		}
	}
}

package cloudflare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mailform/plan"
)

// challengeTTL is the shortest the vendor allows on every plan, in seconds.
const challengeTTL = 60

// challengeAttempts is how often one call is made for a challenge record. These
// calls are parts of a larger operation (an ACME order) that should not be begun
// anew for a hiccup here; both can be repeated without harm.
const challengeAttempts = 5

// Present puts up the TXT records that prove control over names to a certificate
// authority (RFC 8555 8.4): values by name, "_acme-challenge.…". Those of a zone go up in
// one transaction, or in as few as the vendor takes. They carry our mark, so that what a
// crash leaves behind is deleted by the next plan. Presenting the same again is no
// error. What went wrong is told by name.
func (p *Provider) Present(ctx context.Context, records map[string][]string) map[string]error {
	return p.eachZone(ctx, records, func(ctx context.Context, z zone, wanted []record) error {
		for part := range slices.Chunk(wanted, batchLimit(z.plan)) {
			if err := p.putUp(ctx, z, part); err != nil {
				return err
			}
		}
		return nil
	})
}

// CleanUp removes what Present put up, and what earlier runs had put up for the same
// names and did not live to take down. A record that is gone is no error; one without
// our mark is left alone.
func (p *Provider) CleanUp(ctx context.Context, records map[string][]string) error {
	errs := p.eachZone(ctx, records, func(ctx context.Context, z zone, wanted []record) error {
		for part := range slices.Chunk(wanted, batchLimit(z.plan)) {
			if err := p.takeDown(ctx, z, part); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(slices.Collect(maps.Values(errs))...)
}

// eachZone does something with the challenge records of each zone, the zones at the
// same time, and returns what went wrong by name.
func (p *Provider) eachZone(ctx context.Context, records map[string][]string, do func(context.Context, zone, []record) error) map[string]error {
	errs := map[string]error{}
	zones := map[string]zone{}
	wanted := map[string][]record{}
	for _, fqdn := range slices.Sorted(maps.Keys(records)) {
		z, err := p.challengeZone(ctx, canonicalName(fqdn))
		if err != nil {
			errs[fqdn] = err
			continue
		}
		zones[z.id] = z
		for _, value := range records[fqdn] {
			name := canonicalName(fqdn)
			wanted[z.id] = append(wanted[z.id], record{
				name: name, kind: "TXT", content: showTXT([]byte(value)), ttl: challengeTTL,
				comment: comment(p.stack, challengeSlot(z, name)),
			})
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for id, z := range zones {
		wg.Go(func() {
			err := do(ctx, z, wanted[id])
			mu.Lock()
			defer mu.Unlock()
			for fqdn := range records {
				if in, ok := zoneFor(slices.Collect(maps.Values(zones)), canonicalName(fqdn)); ok && in.id == id && err != nil {
					errs[fqdn] = err
				}
			}
		})
	}
	wg.Wait()
	return errs
}

// putUp makes records of one zone in one transaction. When some are there already
// (an earlier attempt's, whose answer was lost, or an earlier run's), those that are
// missing.
func (p *Provider) putUp(ctx context.Context, z zone, wanted []record) error {
	if note, ok := z.unserved(); ok {
		return &plan.Error{
			Class: plan.ErrBlocked, Code: "MF5220",
			Step: "put up the challenge record " + wanted[0].name,
			Got:  note,
			Fix:  "at" + strings.TrimPrefix(z.unservedFix(), "At") + ", then run the same command again",
		}
	}
	step := "put up challenge records in zone " + z.name
	if len(wanted) == 1 {
		step = "put up the challenge record " + wanted[0].name
	}
	missing := wanted
	return p.persist(ctx, func() error {
		_, posted, err := p.api.batch(ctx, step, z.id, batch{posts: missing})
		if hasCode(err, codeExists, codeIdentical) || plan.ClassOf(err) == plan.ErrAmbiguous {
			p.mu.Lock()
			for _, w := range wanted { // they are, or may be, there
				p.challenges[challengeKey(w)] = ""
			}
			p.mu.Unlock()
		}
		if hasCode(err, codeExists, codeIdentical) {
			tried := len(missing)
			// At least one is there; the list may show it late.
			err = p.settled(ctx, z, func(there []record) (bool, error) {
				missing = slices.DeleteFunc(slices.Clone(wanted), func(w record) bool {
					return slices.ContainsFunc(there, func(r record) bool { return challengeKey(r) == challengeKey(w) })
				})
				return len(missing) < tried, nil
			}, err)
			if err != nil || len(missing) == 0 {
				return err
			}
			_, posted, err = p.api.batch(ctx, step, z.id, batch{posts: missing})
		}
		if err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, r := range posted {
			p.challenges[challengeKey(r)] = r.id
		}
		return nil
	})
}

// takeDown deletes records of one zone in one transaction.
func (p *Provider) takeDown(ctx context.Context, z zone, wanted []record) error {
	var ids []string
	left := p.leftoversOf(wanted)
	known, unsure := true, 0 // unsure are those that may be there without having been seen
	p.mu.Lock()
	for _, w := range wanted {
		id, tried := p.challenges[challengeKey(w)]
		if id == "" && tried {
			unsure++
		}
		known = known && id != ""
		ids = append(ids, id)
	}
	p.mu.Unlock()
	find := func() (err error) {
		ids, err = p.ours(ctx, z, wanted)
		// What was just put up may be listed late.
		for _, wait := range []time.Duration{1, 2, 4, 8, 8} {
			if err != nil || len(ids) >= unsure || p.sleep(ctx, wait*time.Second) != nil {
				break
			}
			ids, err = p.ours(ctx, z, wanted)
		}
		return err
	}
	err := p.persist(ctx, func() error {
		if !known {
			if err := find(); err != nil {
				return err
			}
		}
		if len(ids)+len(left) == 0 {
			return nil
		}
		_, _, err := p.api.batch(ctx, "take down challenge records in zone "+z.name, z.id, batch{deletes: together(ids, left)})
		if hasCode(err, codeNoSuchRecord) { // nothing was deleted: once more, with what is there
			left = nil
			if err := find(); err != nil || len(ids) == 0 {
				return err
			}
			_, _, err = p.api.batch(ctx, "take down challenge records in zone "+z.name, z.id, batch{deletes: ids})
		}
		return err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range wanted {
		delete(p.challenges, challengeKey(w))
	}
	return nil
}

// noteLeftovers remembers the challenge records that carry our mark and are not this
// process's: whoever put them up is dead, because nobody else is at work now.
func (p *Provider) noteLeftovers(views []*view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leftovers = map[string]record{}
	for _, v := range views {
		for _, r := range v.records {
			_, own := p.challenges[challengeKey(r)]
			if name, is := strings.CutPrefix(r.name, "_acme-challenge."); is && !own && r.comment == comment(p.stack, v.zone.name+challengeRole+name) {
				p.leftovers[r.id] = r
			}
		}
	}
}

// leftoversOf are the ids of what ended runs have left for the names of these records.
// They are given once.
func (p *Provider) leftoversOf(wanted []record) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for id, r := range p.leftovers {
		if slices.ContainsFunc(wanted, func(w record) bool { return r.kind == w.kind && r.name == w.name && r.comment == w.comment }) {
			ids = append(ids, id)
			delete(p.leftovers, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// together are the ids of both lists, each once.
func together(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// ours are the ids of those of the wanted records that are there with our mark.
func (p *Provider) ours(ctx context.Context, z zone, wanted []record) ([]string, error) {
	there, _, err := p.api.listRecords(ctx, z, markPrefix+p.stack+":")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range there {
		if slices.ContainsFunc(wanted, func(w record) bool { return challengeKey(r) == challengeKey(w) && r.comment == w.comment }) {
			ids = append(ids, r.id)
		}
	}
	return ids, nil
}

// challengeKey tells one challenge record from all others of a zone.
func challengeKey(r record) string { return r.kind + " " + r.name + " " + r.content }

// challengeRole stands between the zone and the name in a challenge record's slot.
const challengeRole = "/acme-challenge/"

// challengeSlot is the slot of a challenge record: "D/acme-challenge/NAME".
func challengeSlot(z zone, fqdn string) string {
	return z.name + challengeRole + strings.TrimPrefix(fqdn, "_acme-challenge.")
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

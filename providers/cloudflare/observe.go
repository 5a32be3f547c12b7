package cloudflare

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mailform/plan"
)

// maxSweep is how many zones outside the spec are searched for records of ours.
// A token for mail sees a handful; one that sees a whole agency's would cost a
// request for each.
const maxSweep = 20

// parallelLists bounds how many zones are read at the same time.
const parallelLists = 8

// Observe implements plan.Provider: one list of the zones, unless the spec gives
// their ids, then one list of the records of each zone in the spec. Other zones of the account are asked only for
// records with our mark, which are what a domain leaves behind that is no longer in the spec.
func (p *Provider) Observe(ctx context.Context, scope plan.Scope) (plan.Observed, error) {
	var out plan.Observed
	all, given := givenZones(scope.Desired)
	if !given {
		var err error
		if all, out.Calls, err = p.api.listZones(ctx); err != nil {
			return out, err
		}
		p.remember(all)
	}

	var views []*view
	var advice, ranges []plan.Advice
	restricted := false
	byID := map[string]*view{}
	for _, r := range scope.Desired {
		if r.Kind != kindZone {
			continue
		}
		z, ok, err := zoneOf(all, r)
		if err != nil {
			return out, err
		}
		if !ok {
			continue // the plan says so; nothing is concluded about its records
		}
		v := byID[z.id]
		if v == nil {
			v = &view{stack: scope.Stack, zone: z}
			byID[z.id] = v
			views = append(views, v)
		}
		v.zones = append(v.zones, r.Address)
		v.domains = append(v.domains, r.Attrs["domain"])
		if r.Attrs["block"].True() {
			v.block = r.Address
		}
		restricted = restricted || r.Attrs["restricted"].True()
		v.issuer = r.Attrs["issuer"].Str()
		v.dane = v.dane || r.Attrs["dane"].True()
		if r.Attrs["any_spf_policy"].True() {
			v.anyPolicy = append(v.anyPolicy, r.Attrs["domain"].Str())
		}
	}
	for _, r := range scope.Desired {
		for _, v := range views {
			if r.Kind != kindZone && slices.Contains(v.zones, refAddress(r.Attrs["zone_id"])) {
				v.want(r)
			}
		}
	}
	sweep := otherZones(all, byID)
	if len(sweep) > maxSweep {
		advice = append(advice, plan.Advice{
			Code: adviceSweep, About: "API token", Title: fmt.Sprintf("it sees %d zones beside those of the spec", len(sweep)),
			Text:  fmt.Sprintf("More than %d are not searched for records that a domain has left behind which is no longer in the spec. Limit the token in CLOUDFLARE_API_TOKEN to the zones that are mailform's business.", maxSweep),
			Links: []string{"https://dash.cloudflare.com/profile/api-tokens"},
		})
		sweep = nil
	}

	inSpec := len(views)
	for _, z := range sweep {
		views = append(views, &view{stack: scope.Stack, zone: z})
	}
	var group errgroup.Group
	group.SetLimit(parallelLists)
	if restricted {
		out.Calls++
		group.Go(func() error {
			ranges = p.adviseRanges(ctx)
			return nil
		})
	}
	for i, v := range views {
		if i < inSpec {
			z := v.zone // the other one may find out more about it meanwhile
			group.Go(func() error { return p.readSigned(ctx, v, z) })
		}
		group.Go(func() error {
			prefix := ""
			if i >= inSpec {
				prefix = markPrefix + scope.Stack + ":"
			}
			var err error
			v.records, v.calls, err = p.api.listRecords(ctx, v.zone, prefix)
			if given {
				err = p.confirm(ctx, v, scope.Desired, err)
			}
			if err == nil {
				err = p.beyondRecords(ctx, v)
			}
			if err == nil && given {
				err = p.readPlan(ctx, v)
			}
			if i >= inSpec && plan.ClassOf(err) == plan.ErrCredentials {
				return nil // what this token may not read, it has not written
			}
			return err
		})
	}
	err := group.Wait()
	for _, v := range views {
		out.Calls += v.calls + v.signedCalls
	}
	if err != nil {
		return out, err
	}
	for i, v := range views {
		objects, foreign := v.sort()
		out.Objects = append(out.Objects, v.zoneObjects()...)
		out.Objects = append(out.Objects, objects...)
		out.Objects = append(out.Objects, v.more...)
		if i < inSpec {
			out.Foreign = append(append(out.Foreign, foreign), v.others...)
			advice = append(advice, v.advise()...)
		}
	}
	p.dependencies(out.Objects, scope.Desired)
	p.noteLeftovers(views[:inSpec])
	p.mu.Lock()
	p.advice = append(advice, ranges...)
	p.mu.Unlock()
	return out, nil
}

// refAddress is the address a value refers to.
func refAddress(v plan.Value) plan.Address {
	if refs := v.Refs(nil); len(refs) == 1 {
		return refs[0].Address
	}
	return ""
}

// zoneFor finds the zone that holds a domain: of those whose name it lies under
// the longest, and of several with the same name (other accounts, moved away)
// the active one.
func zoneFor(all []zone, domain string) (zone, bool) {
	var best zone
	found := false
	for _, z := range all {
		if !under(domain, z.name) {
			continue
		}
		better := len(z.name) > len(best.name) ||
			len(z.name) == len(best.name) && (z.status == "active" && best.status != "active" ||
				(z.status == "active") == (best.status == "active") && z.id < best.id)
		if !found || better {
			best, found = z, true
		}
	}
	return best, found
}

func otherZones(all []zone, inSpec map[string]*view) []zone {
	var out []zone
	for _, z := range all {
		if inSpec[z.id] == nil {
			out = append(out, z)
		}
	}
	slices.SortFunc(out, func(a, b zone) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id)) })
	return out
}

// view is one zone on its way from records to objects.
type view struct {
	stack   string
	zone    zone
	zones   []plan.Address // the zone/… addresses it stands for
	domains []plan.Value   // of each
	wanted  []slot
	records []record
	calls   int

	dane     bool            // it should be signed
	issuer   string          // CAA name of the CA of our certificates, "" when not known
	block    plan.Address    // the zone/… address, when the spec has a zone block for it
	settings []plan.Resource // at most one

	anyPolicy []string // domains whose spec leaves "all" to the others in their SPF record
	rules     []plan.Resource
	more      []plan.Object  // of settings and rules
	others    []plan.Foreign // rules of others
	notes     []plan.Advice  // what else there is to say

	signed      *dnssec // nil when it was not read
	signedCalls int     // apart from calls: it is read at the same time
}

// zoneObjects are the zone under each of its addresses.
func (v *view) zoneObjects() []plan.Object {
	var out []plan.Object
	for i, a := range v.zones {
		out = append(out, plan.Object{
			Address: a, Provider: Name, Kind: kindZone, ID: v.zone.id,
			Attrs:   plan.Attrs{"domain": v.domains[i]},
			Outputs: plan.Attrs{"id": plan.String(v.zone.id), "name": plan.String(v.zone.name), "plan": plan.String(v.zone.plan)},
		})
	}
	return out
}

// want notes something that is wanted in the zone.
func (v *view) want(r plan.Resource) {
	switch r.Kind {
	case kindRecord:
		v.wanted = append(v.wanted, newSlot(r, v.zone, v.stack))
	case kindSettings:
		v.settings = append(v.settings, r)
	case kindRule:
		v.rules = append(v.rules, r)
	}
}

// beyondRecords reads what the zone has besides records, as far as the spec speaks
// of it: the named settings, and the WAF custom rules when there is a zone block.
func (p *Provider) beyondRecords(ctx context.Context, v *view) error {
	if a, ok := v.lockedOut(); ok {
		v.notes = append(v.notes, a)
	}
	if v.block != "" {
		found, err := p.api.readRules(ctx, v.zone)
		v.calls++
		if err != nil {
			return err
		}
		objects, foreign := v.ruleObjects(v.block, found)
		v.more = append(v.more, objects...)
		if foreign.Count > 0 {
			v.others = append(v.others, foreign)
		}
	}
	for _, r := range v.settings {
		found, calls, err := p.api.readSettings(ctx, v.zone, r.Attrs.Names())
		v.calls += calls
		if err != nil {
			return err
		}
		v.more = append(v.more, v.settingsObject(r.Address, found))
	}
	return nil
}

// readSigned reads whether a zone is signed. That it cannot be read matters only where
// the spec relies on it.
func (p *Provider) readSigned(ctx context.Context, v *view, z zone) error {
	if _, unserved := z.unserved(); unserved {
		return nil
	}
	signed, err := p.api.readDNSSEC(ctx, z)
	v.signedCalls++
	switch class := plan.ClassOf(err); {
	case err == nil:
		v.signed = &signed
	case v.dane || class == plan.ErrTransient || class == plan.ErrThrottled:
		return err
	}
	return nil
}

// unserved says that the Internet does not ask the vendor about a zone. Its records
// can be prepared all the same, and must still be removable; what cannot work is a
// certificate, and Present says so.
func (z zone) unserved() (string, bool) {
	why := map[string]string{
		"active":       "",
		"":             "", // not asked for
		"pending":      "whose name servers at the registrar are not Cloudflare's (yet)",
		"initializing": "which Cloudflare is still setting up",
		"moved":        "whose name servers at the registrar are no longer Cloudflare's",
		"deactivated":  "which Cloudflare has deactivated",
	}
	text, known := why[z.status]
	if known && text == "" {
		return "", false
	}
	if !known {
		text = "whose state is unknown"
	}
	return fmt.Sprintf("zone %s (%s), %s: nobody sees its records until they are %s",
		z.name, z.status, text, strings.Join(z.nameServers, " and ")), true
}

// sort tells our records, the records in wanted slots and the foreign ones apart.
// No address is given twice:
//
//   - of several records with our mark in one slot, the one that is as wanted (or the
//     oldest id) stands in it; the others are leftovers with addresses of their own,
//     which the next plan deletes;
//   - when none is ours, or ours is not as wanted and another is, the unmarked one that is as wanted stands in the slot, to be
//     adopted, or else the first, to be shown as a conflict. The rest is in its
//     attribute "others" and stays foreign;
//   - beside a record of ours, unmarked ones are foreign. Where they break the
//     slot's meaning (a second SPF or DMARC record, another address), that is said.
func (v *view) sort() ([]plan.Object, plan.Foreign) {
	records := slices.Clone(v.records)
	slices.SortFunc(records, func(a, b record) int { return cmp.Compare(a.id, b.id) })

	ours := map[plan.Address][]record{}
	rivals := map[plan.Address][]record{}
	foreign := 0
	for _, r := range records {
		m, marked := parseMark(r.comment)
		if marked && m.stack == v.stack {
			a := v.address(m)
			ours[a] = append(ours[a], r)
			continue
		}
		foreign++
		for _, s := range v.wanted {
			if s.recognises(r) {
				rivals[s.address] = append(rivals[s.address], r)
				break
			}
		}
	}

	var objects []plan.Object
	for _, a := range sortedKeys(ours) {
		s := v.slot(a)
		first, satisfied := s.choose(ours[a])
		if s != nil && !satisfied {
			if _, better := s.choose(rivals[a]); better {
				first = -1
				foreign--
				objects = append(objects, v.rival(*s, rivals[a]))
			}
		}
		for i, r := range ours[a] {
			if i == first {
				o := v.object(a, s, r)
				if len(rivals[a]) > 0 {
					o.Attrs["beside"] = contents(rivals[a])
				}
				objects = append(objects, o)
				continue
			}
			extra := v.object(plan.Addr(string(a), "duplicate", r.id), nil, r)
			extra.Protected = "" // mail still comes through the first
			objects = append(objects, extra)
		}
		var harms []string
		for _, r := range rivals[a] {
			if n, ok := s.harmedBy(r); ok && first >= 0 {
				harms = append(harms, n)
			}
		}
		if len(harms) > 0 {
			v.adviseDisturbed(a, harms)
		}
	}
	for _, s := range v.wanted {
		if len(ours[s.address]) > 0 || len(rivals[s.address]) == 0 {
			continue
		}
		foreign--
		objects = append(objects, v.rival(s, rivals[s.address]))
	}
	return objects, plan.Foreign{Scope: "zone " + v.zone.name, Count: foreign}
}

func contents(rs []record) plan.Value {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = r.content
	}
	return plan.Strings(out...)
}

// address gives the address a mark of ours stands for.
func (v *view) address(m mark) plan.Address {
	for _, s := range v.wanted {
		if m.stands(slotOf(s.address)) {
			return s.address
		}
	}
	return plan.Addr("dns", m.slot)
}

func (v *view) slot(a plan.Address) *slot {
	for i := range v.wanted {
		if v.wanted[i].address == a {
			return &v.wanted[i]
		}
	}
	return nil
}

// rival gives the object for a wanted slot in which nothing is ours.
func (v *view) rival(s slot, rs []record) plan.Object {
	first, _ := s.choose(rs)
	o := v.object(s.address, &s, rs[first])
	o.Owner = plan.Unowned
	if m, marked := parseMark(rs[first].comment); marked {
		o.Owner, o.OwnedBy = plan.OtherStack, m.stack
	}
	var others, ids []string
	for i, r := range rs {
		if i != first {
			others, ids = append(others, r.content), append(ids, r.id)
		}
	}
	if len(others) > 0 {
		o.Attrs["others"], o.Attrs["other_ids"] = plan.Strings(others...), plan.Strings(ids...)
		delete(o.Attrs, "foreign")
	}
	return o
}

// object describes a record. It is Ours unless the caller says otherwise.
func (v *view) object(a plan.Address, s *slot, r record) plan.Object {
	o := plan.Object{
		Address: a, Provider: Name, Kind: kindRecord, ID: r.id, Owner: plan.Ours,
		Attrs: plan.Attrs{
			"zone_id": plan.String(v.zone.id),
			"name":    plan.String(r.name),
			"type":    plan.String(r.kind),
			"content": plan.String(r.content),
			"ttl":     plan.Int(r.seconds()),
		},
		Forgettable: true,
	}
	if r.ttl != r.seconds() { // written back when the record is forgotten
		o.Attrs["automatic_ttl"] = plan.Bool(true)
	}
	switch r.kind {
	case "A", "AAAA", "CNAME":
		o.Attrs["proxied"] = plan.Bool(r.proxied)
	case "MX":
		o.Attrs["priority"] = plan.Int(r.priority)
		o.Protected = noMoreMail(r.name)
	case "TXT":
		if strings.Contains(r.name, "._domainkey.") && !r.modified.IsZero() {
			o.Attrs["published"] = plan.String(r.modified.UTC().Format(time.RFC3339)) // for the schedule of the signing keys
		}
		m, _ := parseMark(r.comment)
		if m.stack != v.stack {
			m = mark{}
		}
		v.text(&o, s, r, m)
	}
	return o
}

// text gives SPF records and tag lists the form in which they are compared with the
// wish. Of an SPF record that others are in, too, only our part is compared;
// theirs is kept in the attribute "foreign", which stays in whatever we write, and
// their "all" in the attribute of that name when the spec does not say it.
func (v *view) text(o *plan.Object, s *slot, r record, m mark) {
	switch {
	case isTagList(r.content):
		o.Attrs["content"] = plan.String(canonicalTags(r.content))
	case isSPF(r.content):
		rec, err := parseSPF(r.content)
		if err != nil {
			return
		}
		var want spf
		if s != nil {
			if want, err = parseSPF(s.content); err != nil {
				return
			}
		}
		left := s != nil && slices.Contains(v.anyPolicy, s.name)
		if left && (m.joined || m.stack == "" && (rec.redirect == "" || rec.all != "")) {
			o.Attrs["all"] = plan.String(rec.all)
		}
		if m.stack == "" { // not ours: what Merge would keep
			foreign := rec.others(func(t string) bool { return contains(want.terms, t) })
			if s != nil && len(foreign) > 0 && want.join(foreign).lookups() <= maxSPFLookups {
				o.Attrs["foreign"] = plan.Strings(foreign...)
			}
			return
		}
		var foreign []string
		if m.joined {
			foreign = rec.others(func(t string) bool { return m.own[termHash(t)] || contains(want.terms, t) })
			o.Attrs["foreign"] = plan.Strings(foreign...)
			// What the spec wants now, too, is still theirs when our part goes.
			o.Attrs["theirs"] = plan.Strings(rec.others(func(t string) bool { return m.own[termHash(t)] })...)
		}
		own := rec
		own.terms, own.modifiers = without(rec.terms, foreign), without(rec.modifiers, foreign)
		if left && m.joined {
			own.all = want.all
		}
		o.Attrs["content"] = plan.String(own.String())
		if s != nil && own.same(want) {
			o.Attrs["content"] = plan.String(s.content)
		}
	}
}

// dependencies says what must outlive each object, so that on the way out mail is
// refused before the server goes. What the spec still wants is asked of it; for
// leftovers it follows from the marks.
func (p *Provider) dependencies(objects []plan.Object, desired []plan.Resource) {
	wanted := map[plan.Address]plan.Resource{}
	for _, r := range desired {
		wanted[r.Address] = r
	}
	addresses := map[string]plan.Address{} // host name -> its address record
	for _, o := range objects {
		if host, ok := hostOf(o.Address); ok && host != "" {
			addresses[o.Attrs["name"].Str()] = o.Address
		}
	}
	for i := range objects {
		o := &objects[i]
		if r, ok := wanted[o.Address]; ok {
			o.DependsOn = slices.Clone(r.DependsOn)
			for _, ref := range r.Attrs.Refs() {
				o.DependsOn = append(o.DependsOn, ref.Address)
			}
			continue
		}
		seg := o.Address.Segments()
		if host, ok := hostOf(o.Address); ok {
			o.DependsOn = []plan.Address{plan.Addr("host", host, "address-link")}
		} else if len(seg) == 4 && seg[2] == "dkim" {
			o.DependsOn = []plan.Address{plan.Addr("dkim", seg[1], seg[3])}
		} else if a, ok := addresses[o.Attrs["content"].Str()]; ok && o.Attrs["type"].Str() == "MX" {
			host, _ := hostOf(a)
			o.DependsOn = []plan.Address{a, plan.Addr("server", host)}
		}
	}
}

// hostOf gives the host of an address record's address, "dns/D/a/H".
func hostOf(a plan.Address) (string, bool) {
	seg := a.Segments()
	if len(seg) == 4 && seg[0] == "dns" && seg[2] == "a" {
		return seg[3], true
	}
	return "", false
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

// remember keeps the zones for Present and CleanUp.
func (p *Provider) remember(zones []zone) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.zones = zones
}

package host

import (
	"maps"
	"slices"
	"strings"
	"time"

	"mailform/plan"
	"mailform/specs"
)

var _ plan.Scheduler = (*Provider)(nil)

// Schedule implements plan.Scheduler: it puts the signing keys that are to be
// there now, and their records, in the place of the first generation, which is
// what the spec declares. A domain whose spec says nothing of DKIM is left alone.
func (p *Provider) Schedule(in plan.Scheduling) (desired []plan.Resource, observed []plan.Object, renewed []string, diags specs.Diagnostics) {
	if in.Destroy {
		return in.Desired, in.Observed, nil, nil
	}
	in.Desired = foreignWishes(in.Desired, in.Observed)
	s := newScheduler(in)
	for _, domain := range s.domains() {
		s.domain(domain)
	}
	for _, glob := range in.Renew {
		if strings.HasPrefix(glob, "dkim/") && slices.ContainsFunc(s.known, func(a plan.Address) bool { return plan.Match(glob, a) }) {
			renewed = append(renewed, glob)
		}
	}
	return s.desired(), s.observed, renewed, nil
}

// scheduler carries the wishes through the decisions, domain by domain.
type scheduler struct {
	in       plan.Scheduling
	observed []plan.Object
	wants    map[plan.Address]plan.Resource
	found    map[plan.Address]*plan.Object
	known    []plan.Address                  // signing keys that there are or have been
	keys     map[string]map[string][]keyPlan // by host and domain
	settled  map[plan.Address]plan.Resource  // keys and records as decided
	replaced map[plan.Address]bool           // declared ones that were decided about
	awaited  map[string][]plan.Address       // by host: records that must be there before its server changes
}

func newScheduler(in plan.Scheduling) *scheduler {
	s := &scheduler{
		in: in, observed: slices.Clone(in.Observed),
		wants: map[plan.Address]plan.Resource{}, found: map[plan.Address]*plan.Object{},
		keys: map[string]map[string][]keyPlan{}, settled: map[plan.Address]plan.Resource{}, replaced: map[plan.Address]bool{},
		awaited: map[string][]plan.Address{},
	}
	for _, r := range in.Desired {
		s.wants[r.Address] = r
	}
	for i := range s.observed {
		o := &s.observed[i]
		s.found[o.Address] = o
	}
	s.believe()
	for i := range s.observed {
		o := &s.observed[i]
		s.found[o.Address] = o
		if isKey(o.Address) && o.Provider == Name {
			s.known = append(s.known, o.Address)
		}
	}
	return s
}

// home is what a host's signing keys are lost with.
func (s *scheduler) home(host string) plan.Address {
	if storage, ok := s.wants[storageAddr(host)]; ok {
		return storage.Within
	}
	return s.wants[agentAddr(host)].Within
}

func isKey(a plan.Address) bool {
	seg := a.Segments()
	return len(seg) == 3 && seg[0] == "dkim"
}

func recordAddr(domain, selector string) plan.Address {
	return plan.Addr("dns", domain, "dkim", selector)
}

// recordSelector is the selector of a signing key's record at an address.
func recordSelector(a plan.Address, domain string) (string, bool) {
	seg := a.Segments()
	if len(seg) != 4 || seg[0] != "dns" || seg[1] != domain || seg[2] != "dkim" {
		return "", false
	}
	return seg[3], true
}

// domains are those for which keys and records are declared.
func (s *scheduler) domains() []string {
	var out []string
	for a, r := range s.wants {
		if isKey(a) && r.Provider == Name {
			if d := a.Segments()[1]; s.recordTemplate(d) != nil && !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (s *scheduler) recordTemplate(domain string) *plan.Resource {
	var first *plan.Resource
	for a, r := range s.wants {
		if _, ok := recordSelector(a, domain); ok && (first == nil || a < first.Address) {
			first = &r
		}
	}
	return first
}

// domain decides about all keys of a domain.
func (s *scheduler) domain(domain string) {
	lines := map[string]*keyLine{}
	wanted := ""
	for a, r := range s.wants {
		if seg := a.Segments(); isKey(a) && r.Provider == Name && seg[1] == domain {
			l := &keyLine{host: r.Attrs["host"].Str(), selector: seg[2], algorithm: r.Attrs["algorithm"].Str(), rotate: parseDays(r.Attrs["rotate"].Str())}
			lines[kind(l.algorithm)], wanted = l, l.host
			s.replaced[a], s.replaced[recordAddr(domain, seg[2])] = true, true
		}
	}
	byKind := map[string][]keyState{}
	unsigned := true
	for _, k := range s.states(domain) {
		byKind[kind(k.algorithm)] = append(byKind[kind(k.algorithm)], k)
		unsigned = unsigned && !(k.signs && k.host == wanted && k.record != recordRevoked)
	}
	kinds := slices.Collect(maps.Keys(lines))
	for k := range byKind {
		if lines[k] == nil {
			kinds = append(kinds, k)
		}
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		w := lineWorld{
			now: s.in.Now, observed: s.lookedAt(wanted), unsigned: unsigned, line: lines[k],
			asked: func(selector string) bool {
				return slices.ContainsFunc(s.in.Renew, func(glob string) bool {
					return strings.HasPrefix(glob, "dkim/") && plan.Match(glob, dkimAddr(domain, selector))
				})
			},
		}
		for _, p := range schedule(w, byKind[k]) {
			s.settle(domain, p)
		}
	}
	for a, o := range s.found {
		// What goes now goes for a reason.
		if isKey(a) && a.Segments()[1] == domain && o.Provider == Name {
			if _, stays := s.settled[a]; !stays {
				o.Protected = ""
			}
		}
	}
}

// states are a domain's keys as host and DNS show them.
func (s *scheduler) states(domain string) []keyState {
	byName := map[string]*keyState{}
	at := func(selector string) *keyState {
		if byName[selector] == nil {
			byName[selector] = &keyState{selector: selector}
		}
		return byName[selector]
	}
	for a, o := range s.found {
		if seg := a.Segments(); isKey(a) && seg[1] == domain && o.Provider == Name {
			k := at(seg[2])
			k.algorithm, k.host, k.signs = o.Attrs["algorithm"].Str(), o.Attrs["host"].Str(), o.Attrs["signs"].True()
			k.created, k.signsSince, k.signedUntil = timeOf(o.Attrs["created"]), timeOf(o.Attrs["signs_since"]), timeOf(o.Attrs["signed_until"])
			k.instead = o.Attrs["seen_instead"].Str()
			k.seen, k.negative = o.Attrs["seen"].True(), time.Duration(o.Attrs["negative_seconds"].Num())*time.Second
		}
	}
	for a, o := range s.found {
		selector, ok := recordSelector(a, domain)
		if !ok {
			continue
		}
		text := o.Attrs["content"].Str()
		if byName[selector] == nil && o.Owner != plan.Ours {
			continue // somebody else's, in a place of which nobody here has heard
		}
		k := at(selector)
		k.published = timeOf(o.Attrs["published"])
		key := s.found[dkimAddr(domain, selector)]
		switch tags := recordTags(text); {
		case o.Owner != plan.Ours && !(key != nil && key.Outputs["txt"].Str() == text):
			k.record = recordForeign
		case tags["p"] == "":
			k.record = recordRevoked
		case key != nil && key.Outputs["txt"].Str() == text:
			k.record = recordRight
		default:
			k.record = recordOther
		}
		if k.algorithm == "" {
			k.algorithm = "rsa"
			if v := recordTags(text)["k"]; v != "" {
				k.algorithm = v
			}
		}
	}
	var out []keyState
	for _, selector := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, *byName[selector])
	}
	return out
}

// recordTags reads a key record, RFC 6376 3.6.1. Text without a p= has one that
// is not empty: it is no key record at all.
func recordTags(text string) map[string]string {
	tags := map[string]string{"p": "?"}
	for tag := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(tag, "=")
		if ok {
			tags[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return tags
}

// lookedAt reports whether a host has been asked what is on it: not when it has
// been made but has no address to be asked at, because it is switched off.
func (s *scheduler) lookedAt(host string) bool {
	agent := s.wants[agentAddr(host)]
	refs := agent.Attrs["address"].Refs(nil)
	if len(refs) == 0 || s.found[plan.Addr("host", host, "instance")] == nil {
		return true
	}
	o := s.found[refs[0].Address]
	return o != nil && !o.Outputs[refs[0].Attr].IsNull()
}

// settle turns a decision into wishes.
func (s *scheduler) settle(domain string, p keyPlan) {
	address, record := dkimAddr(domain, p.selector), recordAddr(domain, p.selector)
	s.known = append(s.known, address)
	if s.keys[p.host] == nil {
		s.keys[p.host] = map[string][]keyPlan{}
	}
	s.keys[p.host][domain] = append(s.keys[p.host][domain], p)
	if p.key {
		r := plan.Resource{
			Address: address, Provider: Name, Kind: kindKey,
			Attrs:      plan.Attrs{"host": plan.String(p.host), "algorithm": plan.String(p.algorithm), "at_once": plan.String(atOnceWhy(p))},
			CreateOnly: []string{"at_once"},
			ReplaceOn:  []string{"algorithm", "host"},
			Outputs:    []string{"txt"},
			DependsOn:  []plan.Address{agentAddr(p.host)},
			Within:     s.home(p.host),
			Protected:  keyProtected,
			Waits:      p.waits,
			Effect:     p.effect,
		}
		if declared, ok := s.wants[address]; ok {
			r.Origin, r.Effect = declared.Origin, declared.Effect
		}
		s.settled[address] = r
	}
	if p.record == recordMissing {
		return
	}
	r := *s.recordTemplate(domain)
	if declared, ok := s.wants[record]; ok {
		r = declared
	}
	r.Address, r.Attrs, r.DependsOn = record, maps.Clone(r.Attrs), slices.Clone(r.DependsOn)
	r.Attrs["name"] = plan.String(p.selector + "._domainkey." + domain)
	switch p.record {
	case recordRevoked:
		r.Attrs["content"] = plan.String(revokedText(p.algorithm))
		r.Effect = p.effect
		if p.host != "" { // only when nothing is signed with it any more
			r.DependsOn = append(r.DependsOn, serverAddr(p.host))
		}
	case recordOther:
		r.Attrs["content"] = s.found[record].Attrs["content"]
	default:
		r.Attrs["content"] = plan.Unknown(address, "txt")
	}
	s.settled[record] = r
	if o := s.found[record]; p.sign && (p.first || p.rush) && (o == nil || o.Owner == plan.Ours) {
		s.awaited[p.host] = append(s.awaited[p.host], record)
	}
}

// Why a key signs in the same run in which it is made.
const (
	onceFirst = "first" // the domain has none that signs
	onceRush  = "rush"  // the one before it must not sign any more
)

func atOnceWhy(p keyPlan) string {
	switch {
	case p.sign && p.rush:
		return onceRush
	case p.sign && p.first:
		return onceFirst
	}
	return ""
}

// desired gives all wishes, with what was decided in the place of what was declared.
func (s *scheduler) desired() []plan.Resource {
	var out []plan.Resource
	for _, r := range s.in.Desired {
		switch {
		case s.replaced[r.Address]:
			continue
		case r.Provider == Name && r.Kind == kindServer:
			r = s.server(r)
		}
		out = append(out, r)
	}
	for _, a := range slices.Sorted(maps.Keys(s.settled)) {
		out = append(out, s.settled[a])
	}
	return out
}

// server gives a host's server the keys to sign with.
func (s *scheduler) server(r plan.Resource) plan.Resource {
	host := r.Address.Segments()[1]
	r.Attrs = maps.Clone(r.Attrs)
	r.DependsOn = slices.DeleteFunc(slices.Clone(r.DependsOn), func(a plan.Address) bool { return s.replaced[a] })
	domains := map[string]plan.Value{}
	for _, name := range r.Attrs["domains"].FieldNames() {
		v := r.Attrs["domains"].Field(name)
		plans, decided := s.keys[host][name]
		if !decided {
			domains[name] = v
			continue
		}
		fields := map[string]plan.Value{}
		for _, f := range v.FieldNames() {
			fields[f] = v.Field(f)
		}
		var sign, idle []string
		for _, p := range plans {
			key := signingKey{p.selector, p.algorithm}.String()
			switch {
			case !p.key:
				continue
			case p.sign:
				sign = append(sign, key)
			default:
				idle = append(idle, key)
			}
			r.DependsOn = append(r.DependsOn, dkimAddr(name, p.selector))
		}
		fields["sign"], fields["idle"] = sorted(sign), sorted(idle)
		domains[name] = plan.Map(fields)
	}
	r.Attrs["domains"] = plan.Map(domains)
	r.DependsOn = append(r.DependsOn, s.awaited[host]...)
	return r
}

func timeOf(v plan.Value) time.Time {
	t, err := time.Parse(time.RFC3339, v.Str())
	if err != nil {
		return time.Time{}
	}
	return t
}

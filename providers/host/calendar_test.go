package host

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/agentbin"
	"mailform/server/manifest"
	"mailform/specs"
)

const (
	day         = 24 * time.Hour
	positiveTTL = 5 * time.Minute
	negativeTTL = 30 * time.Minute
	// The zone has so many name servers; all but the last learn of changes within a
	// minute. That one is a secondary that asks when its SOA says so: RFC 1035 4.3.5.
	servers = 3
	refresh = 10000*time.Second + 2400*time.Second
)

// calendar is a host, a zone with several name servers of which one lags, and resolvers
// with caches, over a long time.
type calendar struct {
	t    *testing.T
	rand *rand.Rand
	spec *specs.Spec
	p    *Provider
	now  time.Time

	keys     map[string]*calendarKey // by selector
	made     int
	applied  *manifest.Manifest
	records  map[string]*calendarRecord // by name
	caches   []map[string]cached
	letters  []letter
	signed   map[string]time.Time // selector -> last signature
	revoked  map[string]bool
	replaces []string // --replace
	log      []string
	lags     bool // the last name server
	curious  bool // everybody asks for keys that are not there yet, all the time
	verified int  // signatures that were
}

type calendarKey struct {
	manifest.DKIMPublic
	born time.Time
}

type calendarRecord struct {
	text      string
	published time.Time
	visible   [servers]time.Time // at each name server
	gone      bool
	goneAt    [servers]time.Time
}

type cached struct {
	text  string // "" for none
	until time.Time
}

// letter is a signed message that is verified later.
type letter struct {
	selector, text string
	at             time.Time
}

// sha is an agent source whose mailformd is always there.
type sha struct{}

func (sha) Agent(string) (agentbin.Binary, error) {
	return agentbin.Binary{SHA256: strings.Repeat("a", 64)}, nil
}

func newCalendar(t *testing.T, seed uint64, rotate time.Duration) *calendar {
	c := &calendar{
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		keys: map[string]*calendarKey{}, records: map[string]*calendarRecord{}, caches: make([]map[string]cached, 5),
		signed: map[string]time.Time{}, revoked: map[string]bool{}, curious: true,
	}
	for i := range c.caches {
		c.caches[i] = map[string]cached{}
	}
	c.spec = &specs.Spec{
		Stack: specs.Stack{Name: "acme-mail"},
		Hosts: []*specs.Host{{Name: "mx1", Hostname: "mail.acme.example", Address: netip.MustParseAddr(hostAddress), SSH: specs.SSH{User: "root", Port: 22}}},
		Domains: []*specs.Domain{{Name: "acme.example", Host: "mx1",
			DKIM: &specs.DKIM{Selector: "mf1", Algorithms: []string{"rsa2048", "ed25519"}, Rotate: rotate}}},
		Server: specs.Server{MaxMessageBytes: 1 << 20},
	}
	c.p = New(Config{Stack: "acme-mail", Version: "1", Agents: sha{}, Now: func() time.Time { return c.now }})
	return c
}

func recordName(selector string) string { return selector + "._domainkey.acme.example" }

// pass lets time go by: mail is signed and verified, resolvers are asked.
func (c *calendar) pass(d time.Duration) {
	end := c.now.Add(d)
	for c.now.Before(end) {
		step := min(end.Sub(c.now), max(d/6, time.Minute))
		c.now = c.now.Add(step)
		c.ask()
		c.mail()
	}
}

// ask lets all resolvers hear of keys that are made, and of those that come after them,
// and hold what they heard for as long as they may.
func (c *calendar) ask() {
	for resolver := 0; resolver < len(c.caches) && c.curious; resolver++ {
		for _, kind := range []string{"rsa", "ed25519"} {
			for n := range 4 {
				name := recordName(fmt.Sprintf("mf1-%s-%d", kind, max(2, c.made/2-1+n)))
				c.lookup(resolver, name)
			}
		}
	}
}

func (c *calendar) mail() {
	c.t.Helper()
	if c.applied == nil {
		return
	}
	n := 0
	for _, k := range signingKeysOf(c.applied) {
		n++
		key := c.keys[k]
		if key == nil {
			c.fail("signs with %s, which is not there", k)
		}
		c.signed[k] = c.now
		for resolver := range c.caches {
			c.verify(resolver, letter{k, key.TXT, c.now})
		}
		c.letters = append(c.letters, letter{k, key.TXT, c.now.Add(time.Duration(c.rand.Int64N(int64(5 * day))))})
	}
	if n == 0 {
		c.fail("nothing signs")
	}
	c.letters = slices.DeleteFunc(c.letters, func(l letter) bool {
		if l.at.After(c.now) {
			return false
		}
		c.verify(c.rand.IntN(len(c.caches)), l)
		return true
	})
}

// verify does what the receiver of a letter does.
func (c *calendar) verify(resolver int, l letter) {
	c.t.Helper()
	if c.revoked[l.selector] {
		return
	}
	if got := c.lookup(resolver, recordName(l.selector)); got != l.text {
		c.fail("a letter signed with %s cannot be verified: %q", l.selector, got)
	}
	c.verified++
}

func signingKeysOf(m *manifest.Manifest) []string {
	var out []string
	for _, k := range m.Domains[0].DKIM {
		if !k.Idle {
			out = append(out, k.Selector)
		}
	}
	return out
}

func (c *calendar) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s: %s\n%s", c.now.Format(time.DateTime), fmt.Sprintf(format, args...), strings.Join(c.log[max(0, len(c.log)-40):], "\n"))
}

// authority is what a name server answers.
func (c *calendar) authority(server int, name string) string {
	r := c.records[name]
	switch {
	case r == nil, r.gone && !c.now.Before(r.goneAt[server]), c.now.Before(r.visible[server]):
		return ""
	}
	return r.text
}

func (c *calendar) lookup(resolver int, name string) string {
	if have := c.cached(resolver, name); have != nil {
		return have.text
	}
	text := c.authority(c.rand.IntN(servers), name)
	ttl := positiveTTL
	if text == "" {
		ttl = negativeTTL
	}
	c.caches[resolver][name] = cached{text, c.now.Add(ttl)}
	return text
}

// cached is what a resolver remembers, nil for nothing.
func (c *calendar) cached(resolver int, name string) *cached {
	if have, ok := c.caches[resolver][name]; ok && c.now.Before(have.until) {
		return &have
	}
	return nil
}

// everywhere reports whether all name servers say the same.
func (c *calendar) everywhere(name, text string) bool {
	for server := range servers {
		if c.authority(server, name) != text {
			return false
		}
	}
	return true
}

// reach is when the name servers show a change that is made now.
func (c *calendar) reach() (at [servers]time.Time) {
	for i := range at {
		at[i] = c.now.Add(time.Duration(c.rand.IntN(60)) * time.Second)
	}
	if c.lags {
		at[servers-1] = c.now.Add(time.Duration(c.rand.Int64N(int64(refresh))))
	}
	return at
}

// facts is what the host tells.
func (c *calendar) facts() *manifest.Facts {
	f := &manifest.Facts{Format: manifest.Format, Arch: "amd64", Owner: &manifest.Owner{Stack: "acme-mail", Host: "mx1"}, Manifest: c.applied,
		Agent: manifest.Agent{SHA256: strings.Repeat("a", 64)}, Service: manifest.Service{Active: "active", BinarySHA256: strings.Repeat("a", 64)}}
	for _, s := range slices.Sorted(maps.Keys(c.keys)) {
		k := c.keys[s].DKIMPublic
		f.DKIM = append(f.DKIM, k)
		// As the agent tells it.
		if c.applied != nil && !k.SignsSince.IsZero() && slices.Contains(signingKeysOf(c.applied), s) != k.SignedUntil.IsZero() {
			f.Service.Drift = append(f.Service.Drift, "the use of "+s+" is not noted")
		}
	}
	return f
}

// plan is what a run of mailform does before it applies.
func (c *calendar) plan() *plan.Plan {
	c.t.Helper()
	desired, _ := c.p.Declare(c.spec)
	existing := func(a plan.Address) plan.Object {
		return plan.Object{Address: a, Provider: "elsewhere", Kind: "thing", Owner: plan.Ours}
	}
	desired = append(desired, plan.Resource{Address: "cert/mx1", Provider: "elsewhere", Kind: "thing"})
	for _, d := range c.spec.Domains {
		for _, k := range signingKeys(d) {
			desired = append(desired, plan.Resource{Address: recordAddr(d.Name, k.selector), Provider: "dns", Kind: "record",
				Attrs: plan.Attrs{"name": plan.String(k.selector + "._domainkey." + d.Name), "content": plan.Unknown(dkimAddr(d.Name, k.selector), "txt")}})
		}
	}
	target, _ := c.p.readTarget(targetInput("mx1", targetOf(c.spec.Hosts[0])))
	observed := append(c.p.objects(target, c.facts(), strings.Repeat("a", 64)), existing("cert/mx1"))
	for i := range observed {
		o := &observed[i]
		if o.Kind == kindKey && !o.Attrs["signs"].True() && o.Attrs["signed_until"].IsNull() {
			name, text := recordName(o.Address.Segments()[2]), o.Outputs["txt"].Str()
			o.Attrs["seen"] = plan.Bool(c.everywhere(name, text))
			o.Attrs["negative_seconds"] = plan.Int(int64(negativeTTL / time.Second))
		}
	}
	for name, r := range c.records {
		if selector, _, _ := strings.Cut(name, "."); !r.gone {
			observed = append(observed, plan.Object{Address: recordAddr("acme.example", selector), Provider: "dns", Kind: "record", Owner: plan.Ours,
				Attrs:     plan.Attrs{"name": plan.String(name), "content": plan.String(r.text), "published": plan.String(r.published.Format(time.RFC3339))},
				DependsOn: []plan.Address{dkimAddr("acme.example", selector)}})
		}
	}
	desired, observed, renewed, _ := c.p.Schedule(plan.Scheduling{Now: c.now, Desired: desired, Observed: observed, Renew: c.replaces})
	built, diags := plan.Build(plan.Input{Stack: "acme-mail", Desired: desired, Observed: observed, Replace: c.replaces, Renewed: renewed,
		Compilers: map[string]func([]plan.Change) []plan.Op{Name: c.p.Compile, "dns": compileRecords, "elsewhere": func([]plan.Change) []plan.Op { return nil }}})
	if diags.HasErrors() {
		c.fail("plan: %v", diags)
	}
	for _, change := range built.Changes {
		if change.Blocked != nil {
			c.fail("%s is blocked: %s", change.Address, change.Blocked.Why)
		}
	}
	return built
}

// compileRecords batches as the DNS provider does: writing, removing, and what has to
// wait for the server.
func compileRecords(changes []plan.Change) []plan.Op {
	ops := map[string]*plan.Op{}
	for _, c := range changes {
		if !c.Pending() {
			continue
		}
		kind := "dns.Write"
		if c.Action == plan.Delete {
			kind = "dns.Remove"
		} else if strings.HasSuffix(c.After["content"].Str(), "p=") {
			kind = "dns.Revoke"
		}
		if ops[kind] == nil {
			ops[kind] = &plan.Op{ID: kind, Provider: "dns", Kind: kind, Title: kind, Inputs: plan.Attrs{}}
		}
		ops[kind].Addresses = append(ops[kind].Addresses, c.Address)
		ops[kind].Inputs[string(c.Address)] = c.After["content"]
	}
	var out []plan.Op
	for _, k := range slices.Sorted(maps.Keys(ops)) {
		out = append(out, *ops[k])
	}
	return out
}

var (
	errKilled = errors.New("killed")
	errUnseen = errors.New("a name server does not show the key yet; run again")
)

// run plans and applies; it is killed at an operation when kill says so.
func (c *calendar) run(kill func() bool) (*plan.Plan, error) {
	c.t.Helper()
	p := c.plan()
	for _, ch := range p.Changes {
		if ch.Action != plan.NoOp {
			c.log = append(c.log, fmt.Sprintf("%s %s %s %s", c.now.Format(time.DateTime), ch.Action, ch.Address, ch.Reason))
		}
	}
	outputs := map[plan.Address]plan.Attrs{}
	for _, ch := range p.Changes {
		outputs[ch.Address] = ch.Outputs
	}
	done := map[string]bool{}
	for range p.Ops {
		i := slices.IndexFunc(p.Ops, func(op plan.Op) bool {
			return !done[op.ID] && !slices.ContainsFunc(op.After, func(id string) bool { return !done[id] })
		})
		op := p.Ops[i]
		done[op.ID] = true
		op.Inputs = op.Inputs.Resolve(func(r plan.Ref) (plan.Value, bool) { v, ok := outputs[r.Address][r.Attr]; return v, ok })
		if kill() {
			return p, errKilled
		}
		if err := c.do(op, outputs, kill); err != nil {
			return p, err
		}
		c.now = c.now.Add(time.Duration(1+c.rand.IntN(5)) * time.Second)
		c.mail()
		if kill() {
			return p, errKilled
		}
	}
	return p, nil
}

func (c *calendar) do(op plan.Op, outputs map[plan.Address]plan.Attrs, kill func() bool) error {
	c.t.Helper()
	switch op.Kind {
	case opKeys:
		keys, _ := wantedKeys(op.Inputs["keys"])
		for _, k := range keys {
			if c.keys[k.Selector] == nil {
				c.made++
				text := fmt.Sprintf("v=DKIM1; k=%s; p=key%d", kind(k.Algorithm), c.made)
				c.keys[k.Selector] = &calendarKey{manifest.DKIMPublic{Domain: k.Domain, Selector: k.Selector, Algorithm: k.Algorithm, TXT: text, Created: c.now}, c.now}
			}
			outputs[dkimAddr(k.Domain, k.Selector)] = plan.Attrs{"txt": plan.String(c.keys[k.Selector].TXT)}
		}
	case opConverge:
		for _, r := range op.Inputs["records"].Items() {
			for tries := 0; !c.everywhere(r.Field("name").Str(), r.Field("text").Str()); tries++ {
				if tries > 20 {
					return errUnseen
				}
				c.now = c.now.Add(10 * time.Second)
			}
		}
		req, err := c.p.convergeRequest(c.p.claim("mx1"), op.Inputs["manifest"])
		if err != nil {
			c.fail("%v", err)
		}
		for _, sel := range signingKeysOf(&req.Manifest) {
			if k := c.keys[sel]; k.SignsSince.IsZero() {
				k.SignsSince = c.now
			} else {
				k.SignedUntil = time.Time{}
			}
		}
		if kill() {
			return errKilled
		}
		c.applied = &req.Manifest
		if kill() {
			return errKilled // before the end of the old ones is noted
		}
		for sel, k := range c.keys {
			if !slices.Contains(signingKeysOf(c.applied), sel) && !k.SignsSince.IsZero() && k.SignedUntil.IsZero() {
				k.SignedUntil = c.now
			}
		}
	case opRetireKeys:
		keys, _ := wantedKeys(op.Inputs["keys"])
		for _, k := range keys {
			if slices.ContainsFunc(c.applied.Domains[0].DKIM, func(d manifest.DKIMKey) bool { return d.Selector == k.Selector }) {
				c.fail("%s is deleted while the manifest names it", k.Selector)
			}
			delete(c.keys, k.Selector)
		}
	case "dns.Write", "dns.Revoke":
		for a, text := range op.Inputs {
			selector := plan.Address(a).Segments()[3]
			if text.Str() == "" {
				c.fail("%s has no content: %v", a, text)
			}
			if old := c.records[recordName(selector)]; old != nil && old.text != text.Str() && !strings.HasSuffix(text.Str(), "p=") {
				c.fail("selector %s is used again, with another key", selector)
			}
			if strings.HasSuffix(text.Str(), "p=") {
				c.revoked[selector] = true
				if slices.Contains(signingKeysOf(c.applied), selector) {
					c.fail("%s is revoked while it signs", selector)
				}
			}
			r := &calendarRecord{text: text.Str(), published: c.now, visible: c.reach()}
			if c.revoked[selector] {
				r.visible = [servers]time.Time{}
			}
			c.records[recordName(selector)] = r
		}
	case "dns.Remove":
		for a := range op.Inputs {
			selector := plan.Address(a).Segments()[3]
			if last := c.signed[selector]; c.now.Sub(last) < 7*day && !last.IsZero() {
				c.fail("%s goes %s after its last signature", selector, c.now.Sub(last))
			}
			r := c.records[recordName(selector)]
			r.gone, r.goneAt = true, c.reach()
		}
	}
	return nil
}

func never() bool { return false }

// settle runs until there is nothing left to do but to wait.
func (c *calendar) settle() {
	c.t.Helper()
	for range 4 {
		p, err := c.run(never)
		if err != nil {
			c.fail("%v", err)
		}
		if !p.HasChanges() {
			return
		}
	}
	c.fail("it does not settle")
}

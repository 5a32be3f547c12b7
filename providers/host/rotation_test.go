package host

import (
	"context"
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
	"mailform/providers/host/hostsim"
	"mailform/server/manifest"
	"mailform/specs"
)

const (
	day         = 24 * time.Hour
	positiveTTL = 5 * time.Minute
	negativeTTL = 30 * time.Minute
)

// calendar is a host, a zone with two name servers, and resolvers with caches, over
// a long time.
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
	curious  bool // somebody asks for keys that are not there yet
}

type calendarKey struct {
	manifest.DKIMPublic
	born time.Time
}

type calendarRecord struct {
	text      string
	published time.Time
	visible   [2]time.Time // at each name server
	gone      bool
	goneAt    [2]time.Time
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
		for i := 0; i < 3 && c.curious; i++ {
			c.lookup(c.rand.IntN(len(c.caches)), recordName(fmt.Sprintf("mf1-%s-%d", []string{"rsa", "ed25519"}[c.rand.IntN(2)], 2+c.rand.IntN(6))))
		}
		c.mail()
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
		c.letters = append(c.letters, letter{k, key.TXT, c.now}, letter{k, key.TXT, c.now.Add(time.Duration(c.rand.Int64N(int64(5 * day))))})
	}
	if n == 0 {
		c.fail("nothing signs")
	}
	c.letters = slices.DeleteFunc(c.letters, func(l letter) bool {
		if l.at.After(c.now) {
			return false
		}
		if got := c.lookup(c.rand.IntN(len(c.caches)), recordName(l.selector)); got != l.text && !c.revoked[l.selector] {
			c.fail("a letter signed with %s cannot be verified: %q", l.selector, got)
		}
		return true
	})
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
	cache := c.caches[resolver]
	if have, ok := cache[name]; ok && c.now.Before(have.until) {
		return have.text
	}
	text := c.authority(c.rand.IntN(2), name)
	ttl := positiveTTL
	if text == "" {
		ttl = negativeTTL
	}
	cache[name] = cached{text, c.now.Add(ttl)}
	return text
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
			o.Attrs["seen"] = plan.Bool(c.authority(0, name) == text && c.authority(1, name) == text)
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

var errKilled = errors.New("killed")

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
			for tries := 0; c.authority(0, r.Field("name").Str()) != r.Field("text").Str() || c.authority(1, r.Field("name").Str()) != r.Field("text").Str(); tries++ {
				if tries > 20 {
					c.fail("%s is never seen", r.Field("name").Str())
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
			r := &calendarRecord{text: text.Str(), published: c.now}
			for i := range r.visible {
				r.visible[i] = c.now.Add(time.Duration(c.rand.IntN(60)) * time.Second)
			}
			if c.revoked[selector] {
				r.visible = [2]time.Time{}
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
			r.gone = true
			for i := range r.goneAt {
				r.goneAt[i] = c.now
			}
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

// A year in which mailform is run every few minutes, hours, days or weeks, and
// killed at random. No letter is signed with a key that somebody cannot find, some
// key always signs, and every key goes in time.
func TestAYearOfRotation(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c := newCalendar(t, seed, 60*day)
			if seed%3 != 0 { // the very first apply comes to its end, as a person sees to it
				if _, err := c.run(never); err != nil {
					t.Fatal(err)
				}
			}
			longest := []time.Duration{8 * time.Hour, 16 * time.Hour, 3 * day, 14 * day, 40 * day, 2 * day}[seed%6]
			start, kills, runs := c.now, 0, 0
			deadline := map[string]time.Time{}
			for c.now.Sub(start) < 365*day && runs < 4000 {
				runs++
				_, err := c.run(func() bool { return c.rand.IntN(8) == 0 })
				if errors.Is(err, errKilled) {
					kills++
				}
				c.pass(time.Minute + time.Duration(c.rand.Int64N(int64(longest))))
				for s, k := range c.keys {
					// A change takes a run for each of its phases, and one more when it is killed.
					limit := c.keys[s].born.Add(60*day + 7*day + 12*longest + day)
					if d, ok := deadline[s]; ok {
						limit = d
					}
					deadline[s] = limit
					if c.now.After(limit) {
						c.fail("%s, made on %s, is still there", s, k.born.Format(time.DateOnly))
					}
				}
			}
			c.settle()
			t.Logf("%d runs, %d killed, %d keys in %d days", runs, kills, c.made, int(c.now.Sub(start).Hours()/24))
			if want := 2 * int(c.now.Sub(start)/(60*day+4*longest)); c.made < want {
				t.Errorf("%d keys were made, want at least %d", c.made, want)
			}
		})
	}
}

// The phases as a person sees them.
func TestRotationInPlans(t *testing.T) {
	c := newCalendar(t, 1, 180*day)
	c.settle()
	changes := func() []string {
		var out []string
		for _, ch := range c.plan().Changes {
			if ch.Action != plan.NoOp {
				out = append(out, ch.Action.Glyph()+" "+string(ch.Address))
			}
		}
		return out
	}
	check := func(want ...string) {
		t.Helper()
		if got := changes(); !slices.Equal(got, want) {
			c.fail("plan: %q, want %q", got, want)
		}
	}
	check()
	c.pass(181 * day)
	check("+ dkim/acme.example/mf1-ed25519-2", "+ dkim/acme.example/mf1-rsa-2",
		"+ dns/acme.example/dkim/mf1-ed25519-2", "+ dns/acme.example/dkim/mf1-rsa-2", "~ server/mx1")
	c.run(never)
	c.pass(2 * time.Minute)
	check("… dkim/acme.example/mf1-ed25519-2", "… dkim/acme.example/mf1-rsa-2")
	p := c.plan()
	if p.HasChanges() || len(p.Ops) > 0 {
		t.Errorf("waiting is a change: %v", p.Ops)
	}
	ch, _ := p.Change("dkim/acme.example/mf1-rsa-2")
	if !strings.Contains(ch.Reason, "signs from 2026-07-01 00:3") || !strings.Contains(ch.Reason, "run again after that") {
		t.Errorf("reason: %q", ch.Reason)
	}
	c.pass(40 * time.Minute)
	check("~ server/mx1")
	c.run(never)
	check()
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"mf1-ed25519-2", "mf1-rsa-2"}) {
		t.Errorf("signs with %q", got)
	}
	c.pass(6 * day)
	check()
	c.pass(2 * day)
	check("- dkim/acme.example/mf1-ed25519", "- dkim/acme.example/mf1-rsa", "- dns/acme.example/dkim/mf1-ed25519", "- dns/acme.example/dkim/mf1-rsa", "~ server/mx1")
	c.run(never)
	check()
}

// Another algorithm, another selector, and a kind less: each in its time.
func TestRotationFollowsTheSpec(t *testing.T) {
	c := newCalendar(t, 2, 0)
	c.settle()
	dkim := c.spec.Domains[0].DKIM
	dkim.Algorithms = []string{"rsa4096", "ed25519"}
	for range 4 {
		c.settle()
		c.pass(time.Hour)
	}
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"mf1-ed25519", "mf1-rsa-2"}) || c.keys["mf1-rsa-2"].Algorithm != "rsa4096" {
		t.Errorf("another algorithm: %q", got)
	}
	dkim.Selector = "s"
	for range 4 {
		c.settle()
		c.pass(time.Hour)
	}
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"s-ed25519", "s-rsa"}) {
		t.Errorf("another selector: %q", got)
	}
	dkim.Algorithms = []string{"ed25519"}
	c.settle()
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"s-ed25519"}) || c.keys["s-rsa"] == nil {
		t.Errorf("a kind less: %q", got)
	}
	for range 9 {
		c.pass(day)
		c.settle()
	}
	if got := slices.Sorted(maps.Keys(c.keys)); !slices.Equal(got, []string{"s-ed25519"}) {
		t.Errorf("after nine days there are %q", got)
	}
}

// A key that got into wrong hands: one command, killed anywhere and repeated,
// brings in new keys, and the old ones are revoked once nothing is signed with them.
func TestEmergencyRotation(t *testing.T) {
	for at := 0; ; at++ {
		c := newCalendar(t, uint64(at), 180*day)
		c.curious = false // there is no time to wait until they forget
		c.settle()
		c.pass(day)
		c.replaces = []string{"dkim/acme.example/mf1-*"}
		n := 0
		_, err := c.run(func() bool { n++; return n == at+1 })
		if errors.Is(err, errKilled) {
			c.replaces = []string{"dkim/acme.example/mf1-rsa", "dkim/acme.example/mf1-ed25519"}
			if _, err := c.run(never); err != nil {
				c.fail("%v", err)
			}
		}
		if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"mf1-ed25519-2", "mf1-rsa-2"}) {
			c.fail("killed at %d: signs with %q", at, got)
		}
		for _, s := range []string{"mf1-rsa", "mf1-ed25519"} {
			if r := c.records[recordName(s)]; c.keys[s] != nil || !strings.HasSuffix(r.text, "; p=") || r.gone {
				c.fail("killed at %d: %s is still good: %+v", at, s, r)
			}
		}
		c.replaces = nil
		c.settle()
		for range 9 {
			c.pass(day)
			c.settle()
		}
		if len(c.keys) != 2 || !c.records[recordName("mf1-rsa")].gone {
			c.fail("killed at %d: %d keys are left", at, len(c.keys))
		}
		if err == nil {
			t.Logf("killed at %d moments", at)
			return
		}
	}
}

// The real agent notes what a key does, and the name servers are asked about the
// one that is coming up and about no other.
func TestKeysAreLookedFor(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	r := l.converge(spec)
	target, err := r.p.target("mx1")
	if err != nil {
		t.Fatal(err)
	}
	req := manifest.KeysRequest{Claim: r.p.claim("mx1"), Keys: []manifest.DKIMWanted{{Domain: "acme.example", Selector: "mf1-ed25519-2", Algorithm: "ed25519"}}}
	if _, err := r.p.agent(t.Context(), target, "make a key", paths.Binary(), "keys", req, nil); err != nil {
		t.Fatal(err)
	}
	var asked []string
	p := l.provider(spec)
	p.Published = func(ctx context.Context, records []TXT) []Sighting {
		for _, r := range records {
			asked = append(asked, r.Name)
		}
		return []Sighting{{Everywhere: ctx.Err() == nil, Negative: 30 * time.Minute}}
	}
	desired, _ := p.Declare(spec)
	got, err := p.Observe(t.Context(), scopeOf(desired))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []string{"mf1-ed25519-2._domainkey.acme.example"}) {
		t.Errorf("asked about %q", asked)
	}
	for _, o := range got.Objects {
		switch a := o.Attrs; {
		case o.Address == dkimAddr("acme.example", "mf1-ed25519-2"):
			if a["signs"].True() || !a["seen"].True() || a["negative_seconds"].Num() != 1800 || !a["signs_since"].IsNull() || timeOf(a["created"]).IsZero() {
				t.Errorf("coming up: %v", a)
			}
		case o.Kind == kindKey:
			if !a["signs"].True() || timeOf(a["signs_since"]).IsZero() || !a["signed_until"].IsNull() || !a["seen"].IsNull() {
				t.Errorf("%s: %v", o.Address, a)
			}
		}
	}
}

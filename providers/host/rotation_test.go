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
	"sync/atomic"
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

// A year in which mailform is run every few minutes, hours, days, weeks or months, and
// killed at random. One name server lags by hours, and all resolvers keep asking for keys
// that are not there yet and remember that. No letter is signed with a key that any of
// them cannot find, some key always signs, and every key goes in time, with its record.
func TestAYearOfRotation(t *testing.T) {
	const rotate = 60 * day
	intervals := []time.Duration{2 * time.Hour, 8 * time.Hour, 16 * time.Hour, 2 * day, 3 * day, 14 * day, 40 * day, 75 * day}
	var total struct{ runs, kills, keys, verified atomic.Int64 }
	t.Run("years", func(t *testing.T) {
		for seed := range uint64(3 * len(intervals)) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				c := newCalendar(t, seed, rotate)
				if seed%3 != 0 { // the very first apply comes to its end, as a person sees to it
					if _, err := c.run(never); err != nil {
						t.Fatal(err)
					}
				}
				c.lags = true
				longest := intervals[seed%uint64(len(intervals))]
				start, kills, runs := c.now, 0, 0
				for c.now.Sub(start) < 365*day && runs < 10000 {
					runs++
					_, err := c.run(func() bool { return c.rand.IntN(8) == 0 })
					switch {
					case errors.Is(err, errKilled):
						kills++
					case err != nil && c.applied != nil:
						c.fail("%v", err) // only the very first keys are waited for
					}
					c.pass(time.Minute + time.Duration(c.rand.Int64N(int64(longest))))
					// A change takes a run for each of its phases, and one more when it is killed.
					c.overdue(rotate + settle + negativeTTL + keepRetired + 12*longest + day)
				}
				if c.now.Sub(start) < 365*day {
					t.Errorf("%d runs are over before the year is", runs)
				}
				c.settle()
				t.Logf("runs within %s of each other: %d, %d killed, %d keys, %d signatures verified in %d days",
					longest, runs, kills, c.made, c.verified, int(c.now.Sub(start).Hours()/24))
				if want := 2 * int(c.now.Sub(start)/(rotate+4*longest)); c.made < want {
					t.Errorf("%d keys were made, want at least %d", c.made, want)
				}
				total.runs.Add(int64(runs))
				total.kills.Add(int64(kills))
				total.keys.Add(int64(c.made))
				total.verified.Add(int64(c.verified))
			})
		}
	})
	t.Logf("all years: %d runs, %d killed, %d keys, %d signatures verified", total.runs.Load(), total.kills.Load(), total.keys.Load(), total.verified.Load())
	if total.kills.Load() < 100 || total.verified.Load() < 10000 {
		t.Error("that was no trial")
	}
}

// overdue looks for keys and records that are older than any may be.
func (c *calendar) overdue(limit time.Duration) {
	c.t.Helper()
	for s, k := range c.keys {
		if c.now.Sub(k.born) > limit {
			c.fail("%s, made on %s, is still there", s, k.born.Format(time.DateOnly))
		}
	}
	for name, r := range c.records {
		if !r.gone && c.now.Sub(r.published) > limit {
			c.fail("%s, published on %s, is still there", name, r.published.Format(time.DateOnly))
		}
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
	if !strings.Contains(ch.Reason, "signs from 2026-07-01 04:3") || !strings.Contains(ch.Reason, "run again after that") {
		t.Errorf("reason: %q", ch.Reason)
	}
	c.pass(4 * time.Hour)
	check("… dkim/acme.example/mf1-ed25519-2", "… dkim/acme.example/mf1-rsa-2")
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
		c.pass(2 * time.Hour)
	}
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"mf1-ed25519", "mf1-rsa-2"}) || c.keys["mf1-rsa-2"].Algorithm != "rsa4096" {
		t.Errorf("another algorithm: %q", got)
	}
	dkim.Selector = "s"
	for range 4 {
		c.settle()
		c.pass(2 * time.Hour)
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

package alicloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/specs"
)

const (
	testKeyID  = "LTAI5tTestKeyId"
	testSecret = "very-secret-test-key"
	operator   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6Tf0iXxkEWiKzEZ8fBHTzmIeqcnFTRaGtwnRmWXNpZ me@laptop"
)

// cloud is a simulator behind HTTP and a provider that talks to it.
type cloud struct {
	t       *testing.T
	sim     *alicloudsim.Sim
	url     string
	checker *checker // nil when the vendor's definitions are not there
	applied int      // how often, which is the generation of what is wished for

	mu       sync.Mutex
	fault    func(alicloudsim.Call) alicloudsim.Fault
	machines []*machine
}

// machine is a computer that only remembers.
type machine struct {
	req     alicloudsim.BootRequest
	ip      netip.Addr
	stopped bool
	gone    bool
	disks   map[string]int // GiB by serial number
	pulled  bool           // a disk was taken out while it ran
}

func (m *machine) AttachDisk(serial string, gib int) error {
	if m.disks == nil {
		m.disks = map[string]int{}
	}
	m.disks[serial] = gib
	return nil
}

func (m *machine) DetachDisk(serial string) error {
	m.pulled = m.pulled || !m.stopped
	delete(m.disks, serial)
	return nil
}

func (m *machine) Attach(ip netip.Addr) { m.ip = ip }
func (m *machine) Detach()              { m.ip = netip.Addr{} }
func (m *machine) Stop() error          { m.stopped = true; return nil }
func (m *machine) Start() error         { m.stopped = false; return nil }
func (m *machine) Destroy() error       { m.gone = true; return nil }

// bootConfig is the cloud-config that a machine was booted with.
type bootConfig struct {
	SSHKeys struct {
		Private string `json:"ecdsa_private"`
		Public  string `json:"ed25519_public"`
	} `json:"ssh_keys"`
	SSHPasswordAuth bool              `json:"ssh_pwauth"`
	Users           []json.RawMessage `json:"users"`
	WriteFiles      []writeFile       `json:"write_files"`
}

func booted(t *testing.T, m *machine) bootConfig {
	t.Helper()
	var c bootConfig
	doc, ok := bytes.CutPrefix(m.req.UserData, []byte("#cloud-config\n"))
	if err := json.Unmarshal(doc, &c); !ok || err != nil {
		t.Fatalf("user data is no cloud-config in JSON: %v", err)
	}
	return c
}

// user is the account beside the image's default one.
func (c bootConfig) user(t *testing.T) cloudUser {
	t.Helper()
	var u cloudUser
	if len(c.Users) != 2 || string(c.Users[0]) != `"default"` || json.Unmarshal(c.Users[1], &u) != nil {
		t.Fatalf("users %s", c.Users)
	}
	return u
}

func newCloud(t *testing.T, change ...func(*alicloudsim.Config)) *cloud {
	t.Helper()
	c := &cloud{t: t, checker: newChecker(t)}
	cfg := alicloudsim.Config{
		AccessKeys: []alicloudsim.AccessKey{{ID: testKeyID, Secret: testSecret}},
		Boot: func(r alicloudsim.BootRequest) (alicloudsim.Machine, error) {
			m := &machine{req: r}
			c.machines = append(c.machines, m)
			return m, nil
		},
		Fault: func(call alicloudsim.Call) alicloudsim.Fault {
			c.mu.Lock()
			f := c.fault
			c.mu.Unlock()
			if f == nil {
				return alicloudsim.Fault{}
			}
			return f(call)
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	c.sim = alicloudsim.New(cfg)
	var h http.Handler = c.sim
	if c.checker != nil {
		h = c.checker.wrap(c.sim)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

func (c *cloud) inject(f func(alicloudsim.Call) alicloudsim.Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

func (c *cloud) config() Config {
	return Config{
		Region: "cn-hongkong", ECSEndpoint: c.url, VPCEndpoint: c.url, OSSEndpoint: c.url, Stack: "acme-mail",
		Credentials: func() (Credentials, error) {
			return Credentials{AccessKeyID: testKeyID, AccessKeySecret: testSecret}, nil
		},
		OperatorKeys: []string{operator},
		Sleep:        func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

func (c *cloud) provider(change ...func(*Config)) *Provider {
	c.t.Helper()
	cfg := c.config()
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// testSpec is a spec with one host, mx1.
func testSpec(change ...func(*specs.Host)) *specs.Spec {
	h := &specs.Host{
		Name: "mx1", Hostname: "mail.acme.example",
		Instance: &specs.Instance{Type: "ecs.g7.large", Image: "debian-12", Bandwidth: 10,
			SystemDisk: specs.Disk{Category: "cloud_essd", SizeGiB: 40}},
		SSH: specs.SSH{User: "root", Port: 22, From: []netip.Prefix{netip.MustParsePrefix("198.51.100.7/24")}},
	}
	for _, f := range change {
		f(h)
	}
	return &specs.Spec{Stack: specs.Stack{Name: "acme-mail"}, Hosts: []*specs.Host{h}}
}

// planFor declares, observes and builds.
func planFor(t *testing.T, p *Provider, spec *specs.Spec, change ...func(*plan.Input)) *plan.Plan {
	t.Helper()
	desired, diags := p.Declare(spec)
	if diags.HasErrors() {
		t.Fatalf("declare: %+v", diags)
	}
	seen, err := p.Observe(context.Background(), plan.Scope{Stack: "acme-mail", Desired: desired})
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	in := plan.Input{Stack: "acme-mail", Desired: desired, Observed: seen.Objects, Foreign: seen.Foreign,
		Compilers: map[string]func([]plan.Change) []plan.Op{Name: p.Compile}}
	for _, f := range change {
		f(&in)
	}
	pl, diags := plan.Build(in)
	if diags.HasErrors() {
		t.Fatalf("build: %+v", diags)
	}
	return pl
}

func prefixes(texts ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func destroy(in *plan.Input) { in.Destroy = true }

func allow(patterns ...string) func(*plan.Input) {
	return func(in *plan.Input) { in.Allow = patterns }
}

// pending lists what a plan would do: "create host/mx1/network".
func pending(pl *plan.Plan) []string {
	var out []string
	for _, c := range pl.Changes {
		if c.Action != plan.NoOp {
			s := string(c.Action) + " " + string(c.Address)
			if c.Blocked != nil {
				s += " (blocked)"
			}
			out = append(out, s)
		}
	}
	return out
}

// walk carries a plan out as apply does: in order, trying again what certainly had
// no effect and asking Resolve about what may have had one. generation makes the
// tokens of one attempt differ from another's.
func walk(p *Provider, pl *plan.Plan, generation int) (map[plan.Address]plan.Attrs, error) {
	return walkWith(p, pl, generation, step)
}

func walkWith(p *Provider, pl *plan.Plan, generation int, step func(*Provider, plan.Op, int) (plan.Result, error)) (map[plan.Address]plan.Attrs, error) {
	results := map[plan.Address]plan.Attrs{}
	known := map[plan.Address]plan.Attrs{}
	for _, c := range pl.Changes {
		known[c.Address] = c.Outputs
	}
	finished := map[string]bool{}
	for len(finished) < len(pl.Ops) {
		progressed := false
		for _, op := range pl.Ops {
			if finished[op.ID] || slices.ContainsFunc(op.After, func(id string) bool { return !finished[id] }) {
				continue
			}
			op.Inputs = op.Inputs.Resolve(func(r plan.Ref) (plan.Value, bool) {
				if v := results[r.Address][r.Attr]; !v.IsNull() {
					return v, true
				}
				v := known[r.Address][r.Attr]
				return v, !v.IsNull()
			})
			res, err := step(p, op, generation)
			if err != nil {
				return results, fmt.Errorf("%s: %w", op.ID, err)
			}
			for a, attrs := range res.Outputs {
				if results[a] == nil {
					results[a] = plan.Attrs{}
				}
				maps.Copy(results[a], attrs)
			}
			finished[op.ID] = true
			progressed = true
		}
		if !progressed {
			return results, errors.New("the operations wait for each other")
		}
	}
	return results, nil
}

func step(p *Provider, op plan.Op, generation int) (plan.Result, error) {
	ctx := context.Background()
	var last error
	for attempt := 0; attempt < 6; attempt++ {
		token := plan.Token(fmt.Sprintf("t-%x-%d", fnv(op), generation))
		res, err := p.Do(ctx, op, token, nil)
		if err == nil {
			return res, nil
		}
		last = err
		switch plan.ClassOf(err) {
		case plan.ErrTransient, plan.ErrThrottled:
		case plan.ErrSpentToken:
			generation += 100
		case plan.ErrAmbiguous:
			verdict, res, err := p.Resolve(ctx, op, token)
			switch {
			case err != nil:
				return plan.Result{}, err
			case verdict == plan.Done:
				return res, nil
			}
		default:
			return plan.Result{}, err
		}
	}
	return plan.Result{}, last
}

func fnv(op plan.Op) uint64 {
	h := uint64(14695981039346656037)
	text := op.ID
	for _, name := range op.Inputs.Names() {
		text += name + op.Inputs[name].String()
	}
	for _, b := range []byte(text) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

// apply plans and walks, and fails the test unless all is then as wanted.
func (c *cloud) apply(p *Provider, spec *specs.Spec, change ...func(*plan.Input)) map[plan.Address]plan.Attrs {
	c.t.Helper()
	results, err := walk(p, planFor(c.t, p, spec, change...), c.applied)
	c.applied++
	if err != nil {
		c.t.Fatal(err)
	}
	if left := pending(planFor(c.t, p, spec, change...)); len(left) > 0 {
		c.t.Fatalf("after applying, the plan is not empty: %v", left)
	}
	return results
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

package alicloud

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/specs"
)

// Whatever other rules are in the security group: none that is not ours is ever
// changed, and after an apply there is nothing left to do. The one exception is a
// rule of nobody's that just says what the spec wants: it gets our mark.
//
// Each case is a group with random rules of others, brought to two random specs one
// after the other; then our rules are closed, or forgotten.
func TestNoForeignRuleIsEverChanged(t *testing.T) {
	checks := 40
	if testing.Short() {
		checks = 2
	}
	start := time.Now()
	var cases, foreign atomic.Int64
	t.Run("checks", func(t *testing.T) {
		for i := range checks {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				if time.Since(start) > 8*time.Second {
					return
				}
				rapid.Check(t, func(rt *rapid.T) {
					foreign.Add(int64(oneGroup(rt)))
					cases.Add(1)
				})
			})
		}
	})
	t.Logf("%d cases with %d foreign rules", cases.Load(), foreign.Load())
}

// oneGroup gives the number of foreign rules in it.
func oneGroup(rt *rapid.T) int {
	sim := alicloudsim.New(alicloudsim.Config{AccessKeys: []alicloudsim.AccessKey{{ID: testKeyID, Secret: testSecret}}})
	p, err := New(Config{
		Region: "cn-hongkong", ECSEndpoint: "http://ecs.sim.example", VPCEndpoint: "http://vpc.sim.example", Stack: "acme-mail",
		Credentials: func() (Credentials, error) {
			return Credentials{AccessKeyID: testKeyID, AccessKeySecret: testSecret}, nil
		},
		OperatorKeys: []string{operator},
		Transport:    inProcess{sim, rapid.Bool().Draw(rt, "loud")},
		Sleep:        func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	if err != nil {
		rt.Fatal(err)
	}
	c := &groupCase{rt: rt, p: p, foreign: map[string]permission{}}
	c.converge(nil)
	first, second := anyFirewall().Draw(rt, "first"), anyFirewall().Draw(rt, "second")
	c.seed(first, second)
	n := len(c.foreign)
	c.converge(first)
	c.converge(second)
	switch rapid.SampledFrom([]string{"close", "forget", "first again"}).Draw(rt, "end") {
	case "close":
		c.converge(nil)
		if left := c.ours(); len(left) > 0 {
			rt.Fatalf("still open: %v", left)
		}
	case "forget":
		c.forget(second)
		if left := c.ours(); len(left) > 0 {
			rt.Fatalf("still marked: %v", left)
		}
	default:
		c.converge(first)
	}
	return n
}

// inProcess carries requests to a simulator without a network. A loud one writes
// protocols and IPv6 networks in other ways than it was told them.
type inProcess struct {
	sim  *alicloudsim.Sim
	loud bool
}

var (
	ipv6Source = regexp.MustCompile(`"Ipv6SourceCidrIp":"[^"]+"`)
	protocol   = regexp.MustCompile(`"IpProtocol":"[^"]+"`)
)

func (m inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	m.sim.ServeHTTP(rec, r)
	res := rec.Result()
	if m.loud {
		body := rec.Body.Bytes()
		body = protocol.ReplaceAllFunc(body, bytes.ToLower)
		body = bytes.ReplaceAll(body, []byte(`"ipprotocol"`), []byte(`"IpProtocol"`))
		body = ipv6Source.ReplaceAllFunc(body, func(field []byte) []byte {
			name, value, _ := strings.Cut(string(field), ":")
			p := netip.MustParsePrefix(strings.Trim(value, `"`))
			return fmt.Appendf(nil, `%s:"%s/%d"`, name, strings.ToUpper(p.Addr().StringExpanded()), p.Bits())
		})
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		res.Header.Set("Content-Length", fmt.Sprint(len(body)))
	}
	return res, nil
}

type groupCase struct {
	rt      *rapid.T
	p       *Provider
	group   string
	foreign map[string]permission // by id: what must stay as it is
	steps   int
}

// desired are the network and the firewall of a host. Without a host the group is
// wanted empty.
func (c *groupCase) desired(h *specs.Host) []plan.Resource {
	empty := h == nil
	s := testSpec()
	if !empty {
		s.Hosts[0] = h
	}
	all, diags := c.p.Declare(s)
	if diags.HasErrors() {
		c.rt.Fatalf("declare: %+v", diags)
	}
	out := slices.DeleteFunc(all, func(r plan.Resource) bool { return r.Kind != kindVPC && r.Kind != kindSecurityGroup })
	for _, r := range out {
		if empty && r.Kind == kindSecurityGroup {
			r.Attrs["rules"] = rulesValue(nil)
		}
	}
	return out
}

func (c *groupCase) plan(desired []plan.Resource, change func(*plan.Input)) *plan.Plan {
	seen, err := c.p.Observe(context.Background(), plan.Scope{Stack: "acme-mail", Desired: desired})
	if err != nil {
		c.rt.Fatalf("observe: %v", err)
	}
	for _, o := range seen.Objects {
		if o.Kind == kindSecurityGroup {
			c.group = o.ID
		}
	}
	in := plan.Input{Stack: "acme-mail", Desired: desired, Observed: seen.Objects, Foreign: seen.Foreign,
		Compilers: map[string]func([]plan.Change) []plan.Op{Name: c.p.Compile}}
	if change != nil {
		change(&in)
	}
	pl, diags := plan.Build(in)
	if diags.HasErrors() {
		c.rt.Fatalf("build: %+v", diags)
	}
	return pl
}

// converge brings the group to what a host wants and checks everything.
func (c *groupCase) converge(h *specs.Host) {
	desired := c.desired(h)
	wanted := map[string]bool{}
	for _, r := range desired {
		for _, u := range rulesFromValue(r.Attrs["rules"]) {
			wanted[u.key()] = true
		}
	}
	c.walk(c.plan(desired, nil))
	c.unchanged(wanted)
	open := map[string]bool{}
	for _, q := range c.rules() {
		if r, ok := fromPermission(q); ok {
			open[r.key()] = true
		}
	}
	for key := range wanted {
		if !open[key] {
			c.rt.Fatalf("not open: %s", key)
		}
	}
	again := c.plan(desired, nil)
	for _, ch := range again.Changes {
		if ch.Action != plan.NoOp {
			c.rt.Fatalf("after applying there is still %s %s: %v", ch.Action, ch.Address, ch.Fields)
		}
	}
}

func (c *groupCase) walk(pl *plan.Plan) {
	c.steps++
	if _, err := walk(c.p, pl, c.steps); err != nil {
		c.rt.Fatal(err)
	}
}

// forget takes our marks off.
func (c *groupCase) forget(h *specs.Host) {
	desired := c.desired(h)
	group := c.group
	c.walk(c.plan(desired, func(in *plan.Input) { in.Desired, in.Forget = nil, []specs.Forget{{Address: "host/**"}} }))
	c.group = group
	c.unchanged(nil)
}

// rules are all rules of the group, as the vendor has them.
func (c *groupCase) rules() []permission {
	if c.group == "" {
		return nil
	}
	all, err := (&reader{via: c.p.api}).permissions(context.Background(), c.group)
	if err != nil {
		c.rt.Fatal(err)
	}
	return all
}

// ours are the rules with our mark.
func (c *groupCase) ours() []permission {
	return slices.DeleteFunc(c.rules(), func(q permission) bool {
		return !strings.HasPrefix(q.Description, "mf1:acme-mail:") || strings.HasSuffix(q.Description, ":")
	})
}

// unchanged checks that all foreign rules are as they were. Those of nobody's that
// are wanted may have become ours.
func (c *groupCase) unchanged(wanted map[string]bool) {
	now := map[string]permission{}
	for _, q := range c.rules() {
		now[q.SecurityGroupRuleId] = q
	}
	for _, id := range slices.Sorted(maps.Keys(c.foreign)) {
		was, is := c.foreign[id], now[id]
		if is == was {
			continue
		}
		r, plain := fromPermission(was)
		_, _, marked := parseRuleMark(was.Description)
		adopted := was
		adopted.Description = is.Description
		if plain && !marked && wanted[r.key()] && is == adopted && strings.HasPrefix(is.Description, "mf1:acme-mail:") {
			delete(c.foreign, id)
			continue
		}
		c.rt.Fatalf("a foreign rule changed:\n was %+v\n is %+v", was, is)
	}
}

// seed puts rules of others into the group: any, and some that say what is wanted.
func (c *groupCase) seed(hosts ...*specs.Host) {
	list := rapid.SliceOfN(foreignRule(c.group), 0, 8).Draw(c.rt, "foreign")
	for _, h := range hosts {
		for _, r := range c.desired(h) {
			for _, u := range rulesFromValue(r.Attrs["rules"]) {
				if rapid.IntRange(0, 4).Draw(c.rt, "equal") == 0 {
					q := u.param("")
					q.Description = foreignMark().Draw(c.rt, "mark")
					if rapid.IntRange(0, 3).Draw(c.rt, "nearly") == 0 {
						q.Priority = "2"
					}
					list = append(list, q)
				}
			}
		}
	}
	for _, q := range list {
		resp := newAnswer()
		if err := c.p.api.call(context.Background(), &authorizeSecurityGroup{rpc: newRPC(ecsAuthorizeSecurityGroup), SecurityGroupId: c.group, Permissions: &[]permissionParam{q}}, &resp); err != nil {
			c.rt.Fatalf("seed %+v: %v", q, err)
		}
	}
	for _, q := range c.rules() {
		c.foreign[q.SecurityGroupRuleId] = q
	}
}

func foreignMark() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"", "", "by hand", "mf1:other:smtp", "mf1:acme-mail2:web", "mf1:acme-mail:", "MF1:acme-mail:smtp", " mf1:acme-mail:smtp", "-"})
}

func foreignRule(group string) *rapid.Generator[permissionParam] {
	return rapid.Custom(func(t *rapid.T) permissionParam {
		q := permissionParam{
			Policy:      rapid.SampledFrom([]string{"accept", "accept", "drop", "Drop"}).Draw(t, "policy"),
			Priority:    rapid.SampledFrom([]string{"1", "1", "2", "100", ""}).Draw(t, "priority"),
			IpProtocol:  rapid.SampledFrom([]string{"tcp", "TCP", "udp", "Udp", "ICMP", "ICMPv6", "GRE", "ALL"}).Draw(t, "protocol"),
			Description: foreignMark().Draw(t, "mark"),
		}
		q.PortRange = "-1/-1"
		switch strings.ToUpper(q.IpProtocol) {
		case "TCP", "UDP":
			q.PortRange = rapid.SampledFrom([]string{"25/25", "443/443", "22/22", "2222/2222", "1/65535", "8000/8100", "8000/8000"}).Draw(t, "ports")
		}
		source := rapid.SampledFrom([]string{"0.0.0.0/0", "::/0", "198.51.100.0/24", "198.51.100.7/24", "203.0.113.9", "2001:DB8:0:0::1/32", "2001:db8::25",
			"::ffff:198.51.100.0/120", "::FFFF:0.0.0.0/96", "group"}).Draw(t, "source")
		switch {
		case source == "group":
			q.SourceGroupId = group
		case strings.Contains(source, ":"):
			q.Ipv6SourceCidrIp = source
		default:
			q.SourceCidrIp = source
		}
		return q
	})
}

// anyFirewall is a host with random openings.
func anyFirewall() *rapid.Generator[*specs.Host] {
	sources := rapid.SliceOfN(rapid.SampledFrom(prefixes("0.0.0.0/0", "::/0", "198.51.100.0/24", "198.51.100.77/24", "203.0.113.9/32",
		"2001:DB8:0:0::1/32", "2001:db8::25/128", "::ffff:198.51.100.0/120")), 0, 4)
	return rapid.Custom(func(t *rapid.T) *specs.Host {
		h := testSpec().Hosts[0]
		h.SSH.Port = rapid.SampledFrom([]int{22, 2222}).Draw(t, "ssh port")
		h.SSH.From = sources.Draw(t, "ssh from")
		for i := range rapid.IntRange(0, 4).Draw(t, "allow") {
			from := rapid.SampledFrom([]int{443, 25, 8000, 8000, 22, 1}).Draw(t, "port")
			a := specs.Allow{
				Name: rapid.SampledFrom([]string{"web", "a", "b", fmt.Sprint("n", i)}).Draw(t, "name"), Protocol: rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "protocol"),
				FromPort: from, ToPort: rapid.SampledFrom([]int{from, from, max(from, 8100), 65535}).Draw(t, "to"), From: sources.Draw(t, "from"),
			}
			h.Allow = append(h.Allow, a)
		}
		return h
	})
}

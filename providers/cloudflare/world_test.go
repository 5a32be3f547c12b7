package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

const (
	testToken = "token-that-must-not-leak"
	testStack = "acme-mail"
	testIP    = "203.0.113.7"
	rsaTXT    = "v=DKIM1; k=rsa; p="
	testSPKI  = "8a9d11b9b14c4c4a1b9e7e2d4b1f0c5d8a9d11b9b14c4c4a1b9e7e2d4b1f0c5d"
)

// world is a simulated account with a provider for it. The other providers'
// resources are there already, with the outputs that records refer to.
type world struct {
	t   testing.TB
	sim *cloudflaresim.Server
	url string
	p   *Provider

	ip   string // of every host
	dkim string // text of every key
}

func newWorld(t testing.TB, cfg cloudflaresim.Config) *world {
	t.Helper()
	if cfg.Tokens == nil {
		cfg.Tokens = []cloudflaresim.Token{{Value: testToken}}
	}
	if cfg.Zones == nil {
		cfg.Zones = []cloudflaresim.Zone{{Name: "acme.example"}}
	}
	sim := cloudflaresim.New(cfg)
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	w := &world{t: t, sim: sim, url: srv.URL + "/client/v4", ip: testIP, dkim: rsaTXT + longKey}
	w.p = w.provider(testToken)
	return w
}

// memory carries requests to a simulator in the same process, without a network.
type memory struct{ sim http.Handler }

func (m memory) RoundTrip(r *http.Request) (res *http.Response, err error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			res, err = nil, io.ErrUnexpectedEOF
		default:
			panic(p)
		}
	}()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	m.sim.ServeHTTP(rec, r)
	return rec.Result(), nil
}

// newMemoryWorld is a world without a network.
func newMemoryWorld(t testing.TB, cfg cloudflaresim.Config) *world {
	t.Helper()
	cfg.Tokens = []cloudflaresim.Token{{Value: testToken}}
	sim := cloudflaresim.New(cfg)
	p, err := New(Config{Token: testToken, BaseURL: "http://sim.example/client/v4", Stack: testStack, Transport: memory{sim}})
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, sim: sim, ip: testIP, dkim: rsaTXT + longKey, p: p}
}

func (w *world) provider(token string) *Provider {
	w.t.Helper()
	p, err := New(Config{
		Token: token, BaseURL: w.url, Stack: testStack,
		Sleep: func(context.Context, time.Duration) error { return nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// testSpec is one host and one domain with everything.
func testSpec() *specs.Spec {
	return &specs.Spec{
		Stack: specs.Stack{Name: testStack},
		Hosts: []*specs.Host{{Name: "mx1", Hostname: "mail.acme.example", Instance: &specs.Instance{}}},
		Domains: []*specs.Domain{{
			Name: "acme.example", Host: "mx1",
			MX:    specs.MX{Priority: 10},
			SPF:   &specs.SPF{Include: []string{"spf.crm.example"}, IP: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, All: "fail"},
			DKIM:  &specs.DKIM{Selector: "mf1", Algorithms: []string{"rsa2048", "ed25519"}},
			DMARC: &specs.DMARC{Policy: "reject", Reports: []string{"postmaster@acme.example"}},
		}},
	}
}

// elsewhere declares and observes what other providers would.
func (w *world) elsewhere(desired []plan.Resource) ([]plan.Resource, []plan.Object) {
	outputs := map[string]plan.Attrs{
		"address-link": {"ip": plan.String(w.ip)},
		"dkim":         {"txt": plan.String(w.dkim)},
		"cert":         {"spki": plan.String(testSPKI)},
	}
	seen := map[plan.Address]bool{}
	var rs []plan.Resource
	var os []plan.Object
	add := func(a plan.Address) {
		if seen[a] || a.Kind() == "zone" || a.Kind() == "dns" {
			return
		}
		seen[a] = true
		seg := a.Segments()
		out := outputs[seg[len(seg)-1]]
		if o, ok := outputs[seg[0]]; ok {
			out = o
		}
		rs = append(rs, plan.Resource{Address: a, Provider: "elsewhere", Kind: "thing", Outputs: out.Names()})
		os = append(os, plan.Object{Address: a, Provider: "elsewhere", Kind: "thing", Owner: plan.Ours, Outputs: out})
	}
	for _, r := range desired {
		for _, a := range r.DependsOn {
			add(a)
		}
		for _, ref := range r.Attrs.Refs() {
			add(ref.Address)
		}
	}
	return rs, os
}

type how struct {
	destroy bool
	take    []string
	allow   []string
}

// plan makes a plan. A nil spec wants nothing.
func (w *world) plan(s *specs.Spec, h how) *plan.Plan {
	w.t.Helper()
	p, err := w.tryPlan(s, h)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) tryPlan(s *specs.Spec, h how) (*plan.Plan, error) {
	var desired []plan.Resource
	if s != nil {
		var diags specs.Diagnostics
		desired, diags = w.p.Declare(s)
		if diags.HasErrors() {
			return nil, fmt.Errorf("declare: %v", diags)
		}
	}
	observed, err := w.p.Observe(w.t.Context(), plan.Scope{Stack: testStack, Desired: desired})
	if err != nil {
		return nil, err
	}
	rs, os := w.elsewhere(desired)
	p, diags := plan.Build(plan.Input{
		Stack: testStack, Desired: append(desired, rs...), Observed: append(observed.Objects, os...), Foreign: observed.Foreign,
		Destroy: h.destroy, Take: h.take, Allow: h.allow,
		Compilers: map[string]func([]plan.Change) []plan.Op{Name: w.p.Compile, "elsewhere": func([]plan.Change) []plan.Op { return nil }},
		Mergers:   map[string]plan.Merger{Name: w.p},
	})
	if diags.HasErrors() {
		return nil, errors.New(diags[0].Summary + ": " + diags[0].Detail)
	}
	return p, nil
}

// run does a plan's operations in order.
func (w *world) run(p *plan.Plan) error {
	return w.runWith(p, func(_ plan.Op, err error) error { return err })
}

// runWith goes on after a failure that tolerate lets pass, without what waits for it.
func (w *world) runWith(p *plan.Plan, tolerate func(plan.Op, error) error) error {
	done, skipped := map[string]bool{}, map[string]bool{}
	for len(done)+len(skipped) < len(p.Ops) {
		before := len(done) + len(skipped)
		for _, op := range p.Ops {
			if done[op.ID] || skipped[op.ID] {
				continue
			}
			if slices.ContainsFunc(op.After, func(id string) bool { return skipped[id] }) {
				skipped[op.ID] = true
				continue
			}
			if slices.ContainsFunc(op.After, func(id string) bool { return !done[id] }) {
				continue
			}
			if _, err := w.p.Do(w.t.Context(), op, "token", nil); err != nil {
				if err := tolerate(op, err); err != nil {
					return err
				}
				skipped[op.ID] = true
				continue
			}
			done[op.ID] = true
		}
		if len(done)+len(skipped) == before {
			return errors.New("the operations wait for each other")
		}
	}
	return nil
}

// apply plans, runs, and expects that nothing is left to do.
func (w *world) apply(s *specs.Spec, h how) *plan.Plan {
	w.t.Helper()
	p := w.plan(s, h)
	if err := w.run(p); err != nil {
		w.t.Fatal(err)
	}
	again := w.plan(s, h)
	for _, c := range again.Changes {
		if c.Provider == Name && c.Action != plan.NoOp && c.Blocked == nil {
			w.t.Errorf("after apply there is still %s %s (%s): %v", c.Action, c.Address, c.Reason, c.Fields)
		}
	}
	return p
}

// pending lists what a plan would do: "create dns/…", in address order.
func pending(p *plan.Plan) []string {
	var out []string
	for _, c := range p.Changes {
		if c.Blocked != nil {
			out = append(out, "blocked "+string(c.Address))
		} else if c.Action != plan.NoOp {
			out = append(out, string(c.Action)+" "+string(c.Address))
		}
	}
	return out
}

// lines shows a zone's records as "TYPE name content [comment]".
func (w *world) lines(zone string) []string {
	var out []string
	for _, r := range w.sim.Records(zone) {
		out = append(out, line(r))
	}
	return out
}

func line(r cloudflaresim.Record) string {
	s := r.Type + " " + r.Name + " "
	if r.Priority != nil {
		s += sprint(*r.Priority) + " "
	}
	if r.Type == "TXT" {
		s += string(parseTXT(r.Content))
	} else {
		s += r.Content
	}
	if r.Comment != "" {
		s += " [" + r.Comment + "]"
	}
	return s
}

func sprint(v ...any) string { return fmt.Sprint(v...) }

// expect compares two lists line by line.
func expect(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// present puts up one challenge record, cleanUp takes it down.
func (w *world) present(ctx context.Context, fqdn, value string) error {
	return w.p.Present(ctx, map[string][]string{fqdn: {value}})[fqdn]
}

func (w *world) cleanUp(ctx context.Context, fqdn, value string) error {
	return w.p.CleanUp(ctx, map[string][]string{fqdn: {value}})
}

package cloudflare

import (
	"net/http"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/plan/style"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

// advised is what a person reads after a plan.
func advised(p *Provider) string {
	return plan.AdviceText(plan.SortAdvice(p.Advise()), 1000, style.Sheet{})
}

// Each zone of the spec is looked at once, and a person reads what is left to do
// until it is signed: the DS record as its registrar wants it. Then nothing is said.
func TestDNSSECIsAdvised(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "second.example", DNSSEC: "active"}, {Name: "elsewhere.example"}}})
	s := testSpec()
	second, inside := *s.Domains[0], *s.Domains[0]
	second.Name, inside.Name = "second.example", "team.acme.example"
	s.Domains = append(s.Domains, &second, &inside)
	for _, c := range []struct {
		status string
		says   []string
	}{
		{"disabled", []string{"advice  zone acme.example: it is not signed", "Turn DNSSEC on at Cloudflare (the zone, DNS, Settings)", "not before"}},
		{"pending", []string{"waits for the DS record", "key tag 2371, algorithm 13 ECDSAP256SHA256, digest type 2 SHA256, digest ", "as one line: acme.example. 3600 IN DS 2371 13 2 ", "may take a day"}},
		{"pending-disabled", []string{"being turned off", "take it away at the registrar of acme.example"}},
		{"error", []string{"has the status error", "Compare the DS record"}},
		{"active", nil},
	} {
		w.sim.SetDNSSEC("acme.example", c.status)
		w.sim.ResetCalls()
		w.plan(s, how{})
		got := advised(w.p)
		for _, want := range c.says {
			if !strings.Contains(got, want) {
				t.Errorf("DNSSEC %s: no %q in\n%s", c.status, want, got)
			}
		}
		if n := strings.Count(got, "advice  "); n != min(len(c.says), 1) {
			t.Errorf("DNSSEC %s: %d pieces of advice\n%s", c.status, n, got)
		}
		if n := len(w.sim.Calls()); n != 6 { // the zones; records and DNSSEC of two; what is ours in the third
			t.Errorf("%d calls, want 6", n)
		}
	}
}

// Advice is worth no failure: only what will be answered the next time is asked again.
func TestDNSSECThatCannotBeRead(t *testing.T) {
	dane := testSpec()
	dane.Domains[0].DANE = true
	for _, c := range []struct {
		status int
		spec   *specs.Spec
		fails  bool
	}{
		{403, testSpec(), false}, {404, testSpec(), false}, {503, testSpec(), true}, {429, testSpec(), true}, {403, dane, true},
	} {
		w := newWorld(t, cloudflaresim.Config{Fault: func(r *http.Request) cloudflaresim.Fault {
			if strings.HasSuffix(r.URL.Path, "/dnssec") {
				return cloudflaresim.Fault{Status: c.status}
			}
			return cloudflaresim.Fault{}
		}})
		_, err := w.tryPlan(c.spec, how{})
		if (err != nil) != c.fails {
			t.Errorf("%d: %v", c.status, err)
		}
		if got := w.p.Advise(); len(got) != 0 {
			t.Errorf("%d: %v", c.status, got)
		}
	}
}

// Every record of others that takes the meaning of ours away is named, once for each of ours.
func TestDisturbancesAreSaid(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example", DNSSEC: "active"}}})
	w.apply(testSpec(), how{})
	if got := advised(w.p); got != "" {
		t.Errorf("nothing disturbs: %s", got)
	}
	w.sim.Seed("acme.example",
		cloudflaresim.Record{Type: "A", Name: "mail.acme.example", Content: "192.0.2.1"},
		cloudflaresim.Record{Type: "A", Name: "mail.acme.example", Content: "192.0.2.2"},
		cloudflaresim.Record{Type: "TXT", Name: "_dmarc.acme.example", Content: `"v=DMARC1; p=none"`})
	w.plan(testSpec(), how{})
	got := advised(w.p)
	for _, want := range []string{"dns/acme.example/a/mx1: ", "192.0.2.1", "192.0.2.2", "dns/acme.example/dmarc: ", "makes receivers ignore both", "delete it at Cloudflare"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "advice  "); n != 2 {
		t.Errorf("%d pieces of advice for two records", n)
	}
}

// Where a host is open to Cloudflare's proxies alone, their networks are compared with
// those that are let in. Nobody else is asked.
func TestNetworksOfTheProxies(t *testing.T) {
	known := specs.CloudflareNetworks()
	proxied := func() *specs.Spec {
		s := testSpec()
		s.Zones = []*specs.Zone{{Name: "acme.example", Web: []specs.Web{{Name: "www", Host: "mx1", Proxied: true}}}}
		return s
	}
	direct := proxied()
	direct.Domains[0].Discovery = true // everybody may reach it anyway
	asked := func(w *world) (n int) {
		for _, c := range w.sim.Calls() {
			if strings.HasSuffix(c.Path, "/ips") {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name     string
		networks []string
		spec     *specs.Spec
		asked    int
		says     []string
	}{
		{"the same", nil, proxied(), 1, nil},
		{"not proxied", []string{"192.0.2.0/24"}, testSpec(), 0, nil},
		{"open to everybody", []string{"192.0.2.0/24"}, direct, 0, nil},
		{"a new one", append([]string{"192.0.2.0/24", "2001:db8::/32"}, known...), proxied(), 1, []string{"through 192.0.2.0/24, 2001:db8::/32 cannot reach", `from = ["192.0.2.0/24", "2001:db8::/32"]`}},
		{"one that is given up", known[1:], proxied(), 1, []string{"still open to " + known[0]}},
		{"nonsense", []string{"0.0.0.0/0"}, proxied(), 1, nil},
	} {
		w := newWorld(t, cloudflaresim.Config{Networks: c.networks, Zones: []cloudflaresim.Zone{{Name: "acme.example", DNSSEC: "active"}}})
		w.plan(c.spec, how{})
		got := advised(w.p)
		for _, want := range c.says {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %s", c.name, want, got)
			}
		}
		if asked(w) != c.asked || (got == "") != (c.says == nil) {
			t.Errorf("%s: asked %d times: %s", c.name, asked(w), got)
		}
	}
	w := newWorld(t, cloudflaresim.Config{Fault: func(r *http.Request) cloudflaresim.Fault {
		if strings.HasSuffix(r.URL.Path, "/ips") {
			return cloudflaresim.Fault{Status: 503}
		}
		return cloudflaresim.Fault{}
	}})
	if _, err := w.tryPlan(proxied(), how{}); err != nil {
		t.Errorf("a failure to ask: %v", err)
	}
}

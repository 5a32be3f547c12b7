package cloudflare

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

// fullSpec has everything that a domain can publish.
func fullSpec() *specs.Spec {
	s := testSpec()
	d := s.Domains[0]
	d.MTASTS = &specs.MTASTS{Mode: "enforce", MaxAge: 7 * 24 * time.Hour}
	d.TLSRPT = &specs.TLSRPT{Reports: []string{"tls@acme.example", "a,b@acme.example"}}
	d.Discovery, d.DANE = true, true
	s.Zones = []*specs.Zone{{
		Name: "acme.example", CAA: []string{"pki.goog"},
		SecurityLevel: "high", SSL: "strict", MinTLS: "1.2",
		Web:   []specs.Web{{Name: "www", Host: "mx1", Proxied: true}, {Name: "@", Host: "mx1"}},
		Rules: []specs.ZoneRule{{Name: "admin", Expression: `(http.request.uri.path eq "/admin")`, Action: "managed_challenge"}},
	}}
	return s
}

func TestEverythingADomainCanPublish(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	p := w.apply(fullSpec(), how{})
	have := w.lines("acme.example")
	for _, want := range []string{
		"TXT _mta-sts.acme.example v=STSv1; id=" + policyID(fullSpec().Domains[0].MTASTS, "mail.acme.example") + " [mf1:acme-mail:acme.example/mta-sts]",
		"A mta-sts.acme.example 203.0.113.7 [mf1:acme-mail:acme.example/mta-sts-host]",
		"TXT _smtp._tls.acme.example v=TLSRPTv1; rua=mailto:tls@acme.example,mailto:a%2Cb@acme.example [mf1:acme-mail:acme.example/tls-rpt]",
		"SRV _submissions._tcp.acme.example 0 1 465 mail.acme.example [mf1:acme-mail:acme.example/srv/submissions]",
		"SRV _submission._tcp.acme.example 10 1 587 mail.acme.example [mf1:acme-mail:acme.example/srv/submission]",
		"SRV _imaps._tcp.acme.example 0 1 993 mail.acme.example [mf1:acme-mail:acme.example/srv/imaps]",
		"SRV _imap._tcp.acme.example 10 1 143 mail.acme.example [mf1:acme-mail:acme.example/srv/imap]",
		"SRV _pop3._tcp.acme.example 0 0 0 . [mf1:acme-mail:acme.example/srv/pop3]",
		"SRV _pop3s._tcp.acme.example 0 0 0 . [mf1:acme-mail:acme.example/srv/pop3s]",
		"A autoconfig.acme.example 203.0.113.7 [mf1:acme-mail:acme.example/autoconfig]",
		"A autodiscover.acme.example 203.0.113.7 [mf1:acme-mail:acme.example/autodiscover]",
		`CAA acme.example 0 issue "pki.goog" [mf1:acme-mail:acme.example/caa/pki.goog]`,
		`CAA acme.example 0 issue "letsencrypt.org" [mf1:acme-mail:acme.example/caa/letsencrypt.org]`,
		"TLSA _25._tcp.mail.acme.example 3 1 1 " + testSPKI + " [mf1:acme-mail:acme.example/tlsa/mx1]",
		"A www.acme.example 203.0.113.7 [mf1:acme-mail:acme.example/web/www]",
		"A acme.example 203.0.113.7 [mf1:acme-mail:acme.example/web/@]",
	} {
		if !contains(have, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if len(have) != 6+16 {
		t.Errorf("%d records:\n%s", len(have), strings.Join(have, "\n"))
	}
	for _, r := range w.sim.Records("acme.example") {
		if r.Proxied != (r.Name == "www.acme.example") {
			t.Errorf("%s %s: proxied %v", r.Type, r.Name, r.Proxied)
		}
	}
	// What speaks of the server waits for it, and nothing waits for that.
	for _, c := range p.Changes {
		waits := slices.Contains(c.DependsOn, plan.Addr("server", "mx1"))
		if speaks := announces(c.Address) || c.Address == "dns/acme.example/mx"; c.Kind == kindRecord && waits != speaks {
			t.Errorf("%s depends on %v", c.Address, c.DependsOn)
		}
		if c.Address == "dns/acme.example/mta-sts" && !slices.Contains(c.DependsOn, plan.Addr("cert", "mx1")) {
			t.Errorf("the policy is announced before it is served under a certificate: %v", c.DependsOn)
		}
	}
	for _, op := range p.Ops {
		if op.Kind == opWrite && len(op.After) > 0 {
			t.Errorf("%s waits for %v", op.ID, op.After)
		}
		if slices.ContainsFunc(op.After, func(id string) bool { return strings.Contains(id, opAnnounce) }) {
			t.Errorf("%s waits for what is announced", op.ID)
		}
	}
	// Without the blocks all of it goes again.
	w.apply(testSpec(), how{allow: []string{"**"}})
	if n := len(w.lines("acme.example")); n != 6 {
		t.Errorf("%d records are left, want 6: %v", n, w.lines("acme.example"))
	}
}

// Senders keep a policy until its id changes (RFC 8461 5.1).
func TestPolicyIDFollowsThePolicy(t *testing.T) {
	week := 7 * 24 * time.Hour
	base := policyID(&specs.MTASTS{Mode: "enforce", MaxAge: week}, "mail.acme.example")
	if base != policyID(&specs.MTASTS{Mode: "enforce", MaxAge: week, Range: specs.Range{Line: 7}}, "mail.acme.example") {
		t.Error("the id changed without the policy")
	}
	for _, other := range []string{
		policyID(&specs.MTASTS{Mode: "testing", MaxAge: week}, "mail.acme.example"),
		policyID(&specs.MTASTS{Mode: "enforce", MaxAge: 2 * week}, "mail.acme.example"),
		policyID(&specs.MTASTS{Mode: "enforce", MaxAge: week}, "mx.acme.example"),
	} {
		if other == base {
			t.Error("the policy changed without the id")
		}
	}
	for _, c := range base {
		if !strings.ContainsRune("0123456789abcdef", c) || len(base) > 32 {
			t.Errorf("%q is not an id of RFC 8461 3.1", base)
		}
	}
}

func TestLiteralIPv6Host(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	s := fullSpec()
	s.Hosts[0].Instance, s.Hosts[0].Address = nil, netip.MustParseAddr("2001:db8::25")
	w.apply(s, how{})
	for _, r := range w.sim.Records("acme.example") {
		if r.Type == "A" || r.Type == "AAAA" && r.Content != "2001:db8::25" {
			t.Errorf("unexpected %s", line(r))
		}
	}
}

// One name, one place to go.
func TestNamesThatAreWantedTwice(t *testing.T) {
	p := newWorld(t, cloudflaresim.Config{}).p
	declare := func(web ...specs.Web) ([]plan.Resource, specs.Diagnostics) {
		s := testSpec()
		s.Zones = []*specs.Zone{{Name: "acme.example", Web: web}}
		return p.Declare(s)
	}
	plain, _ := declare()
	same, diags := declare(specs.Web{Name: "mail", Host: "mx1"})
	if len(diags) > 0 || len(same) != len(plain) {
		t.Errorf("the host's own name as a web name needs no second record: %d and %d, %v", len(same), len(plain), diags)
	}
	_, diags = declare(specs.Web{Name: "mail", Host: "mx1", Proxied: true})
	if !diags.HasErrors() || diags[0].Code != "MF5230" || !strings.Contains(diags[0].Detail, "dns/acme.example/web/mail") {
		t.Errorf("a mail host behind the proxies: %v", diags)
	}
}

func TestCAANeverLocksUsOut(t *testing.T) {
	note := func(w *world, s *specs.Spec) string {
		w.plan(s, how{})
		return advised(w.p)
	}
	caa := func(name, content string) cloudflaresim.Record {
		words := strings.SplitN(content, " ", 3)
		return cloudflaresim.Record{Type: "CAA", Name: name, Content: content,
			Data: []byte(`{"flags":"` + words[0] + `","tag":"` + words[1] + `","value":` + words[2] + `}`)}
	}
	for _, c := range []struct {
		name, content string
		locked        bool
	}{
		{"acme.example", `0 issue "ca.example"`, true},
		{"mail.acme.example", `0 issue ";"`, true},
		{"acme.example", `0 issue "LetsEncrypt.org; validationmethods=dns-01"`, false},
		{"acme.example", `0 issuewild "ca.example"`, false},
		{"acme.example", `0 iodef "mailto:x@acme.example"`, false},
		{"www.acme.example", `0 issue "ca.example"`, false},
	} {
		w := newWorld(t, cloudflaresim.Config{})
		w.sim.Seed("acme.example", caa(c.name, c.content))
		if got := note(w, testSpec()); strings.Contains(got, "do not let letsencrypt.org issue") != c.locked {
			t.Errorf("CAA %s %s: %q", c.name, c.content, got)
		}
	}
	// With caa in the zone block our CA's record comes along.
	w := newWorld(t, cloudflaresim.Config{})
	w.sim.Seed("acme.example", caa("acme.example", `0 issue "ca.example"`))
	s := testSpec()
	s.Zones = []*specs.Zone{{Name: "acme.example", CAA: []string{"pki.goog"}}}
	if got := note(w, s); strings.Contains(got, "do not let") {
		t.Errorf("said although it is about to be right: %s", got)
	}
	w.apply(s, how{})

	s.ACME.Directory = "https://ca.internal/dir"
	_, diags := w.p.Declare(s)
	if len(diags) != 1 || diags[0].Code != "MF5231" || diags.HasErrors() {
		t.Errorf("a CA whose name is not known: %v", diags)
	}
	for directory, want := range map[string]string{
		"": "letsencrypt.org", "https://acme-staging-v02.api.letsencrypt.org/directory": "letsencrypt.org",
		"https://acme.zerossl.com/v2/DV90": "sectigo.com", "https://127.0.0.1:14000/dir": "",
	} {
		if got := specs.IssuerOf(directory); got != want {
			t.Errorf("issuer of %q: %q, want %q", directory, got, want)
		}
	}
}

// TLSA records are published whether or not the zone is signed, because senders
// ignore unsigned ones; the advice says so as long as it is so.
func TestDANEWithoutDNSSEC(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	s := testSpec()
	s.Domains[0].DANE = true
	for status, says := range map[string]bool{"disabled": true, "pending": true, "active": false} {
		w.sim.SetDNSSEC("acme.example", status)
		w.plan(s, how{})
		if got := advised(w.p); strings.Contains(got, "no sender uses DANE") != says {
			t.Errorf("DNSSEC %s: %s", status, got)
		}
	}
	// The MX record of a domain in another zone must be signed as well.
	w = newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example", DNSSEC: "active"}, {Name: "second.example"}}})
	second := *s.Domains[0]
	second.Name = "second.example"
	s.Domains = append(s.Domains, &second)
	w.plan(s, how{})
	var said []string
	for _, a := range w.p.Advise() {
		if strings.Contains(a.Text, "DANE") {
			said = append(said, a.About)
		}
	}
	if len(said) != 1 || said[0] != "zone second.example" {
		t.Errorf("said: %v", said)
	}
}

// Records of others in the places of new ones: what differs is blocked by itself,
// what is equal is adopted, and what does no harm is left alone.
func TestNewSlotsInUse(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	data := func(kind, name, content, json string) cloudflaresim.Record {
		return cloudflaresim.Record{Type: kind, Name: name, Content: content, Data: []byte(json)}
	}
	w.sim.Seed("acme.example",
		cloudflaresim.Record{Type: "TXT", Name: "_mta-sts.acme.example", Content: `"v=STSv1; id=20200101T000000;"`},
		cloudflaresim.Record{Type: "TXT", Name: "_smtp._tls.acme.example", Content: `v=TLSRPTv1;rua=mailto:tls@acme.example,mailto:a%2Cb@acme.example;`},
		cloudflaresim.Record{Type: "CNAME", Name: "autoconfig.acme.example", Content: "elsewhere.example"},
		data("SRV", "_imaps._tcp.acme.example", "0 1 993 mail.acme.example", `{"priority":0,"weight":1,"port":993,"target":"Mail.acme.example."}`),
		data("SRV", "_imap._tcp.acme.example", "5 0 143 imap.elsewhere.example", `{"priority":5,"weight":0,"port":143,"target":"imap.elsewhere.example"}`),
		data("CAA", "acme.example", `0 issue "pki.goog"`, `{"flags":0,"tag":"issue","value":"PKI.goog"}`),
		data("CAA", "acme.example", `0 iodef "mailto:x@acme.example"`, `{"flags":0,"tag":"iodef","value":"mailto:x@acme.example"}`),
		data("TLSA", "_25._tcp.mail.acme.example", "2 0 1 ab", `{"usage":2,"selector":0,"matching_type":1,"certificate":"ab"}`),
	)
	p := w.apply(fullSpec(), how{})
	for address, want := range map[plan.Address]plan.Action{
		"dns/acme.example/tls-rpt": plan.Adopt, "dns/acme.example/srv/imaps": plan.Adopt, "dns/acme.example/caa/pki.goog": plan.Adopt,
		"dns/acme.example/tlsa/mx1": plan.Create, "dns/acme.example/autodiscover": plan.Create,
	} {
		if c := change(p, address); c.Action != want || c.Blocked != nil {
			t.Errorf("%s: %s, blocked %v, want %s", address, c.Action, c.Blocked, want)
		}
	}
	for _, address := range []plan.Address{"dns/acme.example/mta-sts", "dns/acme.example/autoconfig", "dns/acme.example/srv/imap"} {
		if c := change(p, address); c.Blocked == nil || c.Blocked.Allow != "--take "+string(address) {
			t.Errorf("%s is not blocked: %+v", address, c)
		}
	}
	w.apply(fullSpec(), how{take: []string{"dns/acme.example/mta-sts", "dns/acme.example/autoconfig", "dns/acme.example/srv/imap"}})
	if n := len(w.lines("acme.example")); n != 22+2 {
		t.Errorf("%d records, want ours and two of others: %v", n, w.lines("acme.example"))
	}
}

func change(p *plan.Plan, a plan.Address) plan.Change {
	for _, c := range p.Changes {
		if c.Address == a {
			return c
		}
	}
	return plan.Change{}
}

// The record that is taken over differs; the one beside it already is as wanted, which
// is known only once the address is. Both cannot say the same.
func TestTakeOverBesideAnEqualRecord(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.sim.Seed("acme.example",
		cloudflaresim.Record{ID: strings.Repeat("0", 32), Type: "A", Name: "mail.acme.example", Content: "192.0.2.1"},
		cloudflaresim.Record{ID: strings.Repeat("1", 32), Type: "A", Name: "mail.acme.example", Content: testIP},
	)
	w.apply(testSpec(), how{take: []string{"dns/acme.example/a/mx1"}})
	expect(t, "left", slices.DeleteFunc(w.lines("acme.example"), func(l string) bool { return !strings.HasPrefix(l, "A ") }),
		[]string{"A mail.acme.example 203.0.113.7 [mf1:acme-mail:acme.example/a/mx1]"})
}

// Forgetting takes our mark off. Everything else stays byte for byte, whatever form
// it has.
func TestForget(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Content: `"v=spf1 include:_spf.shop.example ~all"`})
	w.apply(fullSpec(), how{})
	mark := func(slot string) string { return comment(testStack, slot) }
	w.sim.Seed("acme.example",
		cloudflaresim.Record{Type: "TXT", Name: "x._domainkey.acme.example", Content: `v=DKIM1; p=un"quoted`, TTL: 1, Comment: mark("acme.example/dkim/x")},
		cloudflaresim.Record{Type: "TXT", Name: "y._domainkey.acme.example", Content: `"v=DKIM1; " "p=split"`, TTL: 3600, Comment: mark("acme.example/dkim/y")},
	)
	before := w.sim.Records("acme.example")
	desired, _ := w.p.Declare(fullSpec())
	observed, err := w.p.Observe(t.Context(), plan.Scope{Stack: testStack, Desired: desired})
	if err != nil {
		t.Fatal(err)
	}
	var changes []plan.Change
	for _, o := range observed.Objects {
		if o.Kind == kindRecord {
			if !o.Forgettable {
				t.Errorf("%s cannot be forgotten", o.Address)
			}
			changes = append(changes, plan.Change{Address: o.Address, Provider: Name, Kind: o.Kind, Action: plan.Forget, ID: o.ID, Before: o.Attrs})
		}
	}
	ops := w.p.Compile(changes)
	if len(ops) != 1 || ops[0].Kind != opForget {
		t.Fatalf("operations: %v", ops)
	}
	if v, _, err := w.p.Resolve(t.Context(), ops[0], ""); v != plan.NotDone || err != nil {
		t.Errorf("before it is done: %v, %v", v, err)
	}
	if _, err := w.p.Do(t.Context(), ops[0], "", nil); err != nil {
		t.Fatal(err)
	}
	if v, _, err := w.p.Resolve(t.Context(), ops[0], ""); v != plan.Done || err != nil {
		t.Errorf("after it is done: %v, %v", v, err)
	}
	after := w.sim.Records("acme.example")
	for i, is := range after {
		was := before[i]
		if is.Comment != "" {
			t.Errorf("%s still has a mark", line(is))
		}
		was.Comment, is.Comment = "", ""
		was.Modified, is.Modified = time.Time{}, time.Time{}
		was.Priority, is.Priority = nil, nil
		if sprint(is) != sprint(was) || w.lines("acme.example")[i] == "" {
			t.Errorf("%v became %v", was, is)
		}
	}
	// The next plan finds them all in place and adopts those that are as wanted.
	for _, c := range w.plan(fullSpec(), how{}).Changes {
		if c.Provider == Name && c.Kind == kindRecord && c.Action != plan.Adopt && c.Action != plan.Update {
			t.Errorf("%s %s after it was forgotten", c.Action, c.Address)
		}
	}
}

// Reports about one domain to an address at another are sent only where that one
// agrees: the domains and zones of the spec do, by a record that comes and goes with
// the wish.
func TestDMARCReportsElsewhere(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "second.example"}, {Name: "reports.example"}}})
	s := testSpec()
	second := *s.Domains[0]
	second.Name = "second.example"
	second.DMARC = &specs.DMARC{Policy: "reject", Reports: []string{"rua@acme.example", "more@acme.example", "x@sub.second.example", "rua@in.reports.example", "rua@elsewhere.example"}}
	s.Domains = append(s.Domains, &second)
	s.Zones = []*specs.Zone{{Name: "reports.example", Web: []specs.Web{{Name: "www", Host: "mx1"}}}}
	agreements := func() (out []string) {
		for _, zone := range []string{"acme.example", "second.example", "reports.example"} {
			for _, line := range w.lines(zone) {
				if strings.Contains(line, "_report.") {
					out = append(out, line)
				}
			}
		}
		return out
	}
	// One that somebody has written already is as good.
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Name: "second.example._report._dmarc.acme.example", Content: `"v=DMARC1;"`, TTL: 300})
	w.apply(s, how{})
	expect(t, "agreements", agreements(), []string{
		"TXT second.example._report._dmarc.acme.example v=DMARC1; [mf1:acme-mail:acme.example/dmarc-report/acme.example/second.example]",
		"TXT second.example._report._dmarc.in.reports.example v=DMARC1 [mf1:acme-mail:reports.example/dmarc-report/in.reports.example/second.example]",
	})
	second.DMARC.Reports = nil
	w.apply(s, how{})
	expect(t, "without reports", agreements(), nil)
}

// What says something about a server goes before it, and what the server needed goes
// after it, in every zone: two zones with both must not wait for each other.
func TestTwoZonesWithWebAndCAAGo(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "second.example"}}})
	s := testSpec()
	for _, name := range []string{"acme.example", "second.example"} {
		s.Zones = append(s.Zones, &specs.Zone{Name: name, CAA: []string{"letsencrypt.org"}, Web: []specs.Web{{Name: "www", Host: "mx1"}}})
	}
	s.Domains[0].MTASTS = &specs.MTASTS{Mode: "enforce", MaxAge: 24 * time.Hour}
	desired, _ := w.p.Declare(s)
	w.apply(s, how{})
	observed, err := w.p.Observe(t.Context(), plan.Scope{Stack: testStack, Desired: desired})
	if err != nil {
		t.Fatal(err)
	}
	rs, os := w.elsewhere(desired)
	for i := range rs {
		if rs[i].Address == "cert/mx1" { // as the provider of certificates wants it
			rs[i].DependsOn = []plan.Address{"dns/acme.example/caa/letsencrypt.org", "dns/second.example/caa/letsencrypt.org"}
		}
	}
	p, diags := plan.Build(plan.Input{
		Stack: testStack, Desired: append(desired, rs...), Observed: append(observed.Objects, os...), Destroy: true,
		Compilers: map[string]func([]plan.Change) []plan.Op{Name: w.p.Compile, "elsewhere": func([]plan.Change) []plan.Op { return nil }},
	})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if err := w.run(p); err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"acme.example", "second.example"} {
		expect(t, "left", w.lines(zone), nil)
	}
}

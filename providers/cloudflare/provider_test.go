package cloudflare

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

var longKey = strings.Repeat("MIIBIjANBgkqhkiG9w0BAQEFAAOC", 15)

func TestEverythingADomainNeeds(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	p := w.apply(testSpec(), how{})
	expect(t, "records", w.lines("acme.example"), []string{
		"A mail.acme.example 203.0.113.7 [mf1:acme-mail:acme.example/a/mx1]",
		"MX acme.example 10 mail.acme.example [mf1:acme-mail:acme.example/mx]",
		"TXT _dmarc.acme.example v=DMARC1; p=reject; rua=mailto:postmaster@acme.example [mf1:acme-mail:acme.example/dmarc]",
		"TXT acme.example v=spf1 mx include:spf.crm.example ip4:198.51.100.0/24 -all [mf1:acme-mail:acme.example/spf]",
		"TXT mf1-ed25519._domainkey.acme.example " + rsaTXT + longKey + " [mf1:acme-mail:acme.example/dkim/mf1-ed25519]",
		"TXT mf1-rsa._domainkey.acme.example " + rsaTXT + longKey + " [mf1:acme-mail:acme.example/dkim/mf1-rsa]",
	})
	for _, r := range w.sim.Records("acme.example") {
		if r.Type == "TXT" && !strings.HasPrefix(r.Content, `"`) {
			t.Errorf("%s is written without quotes: %s", r.Name, r.Content)
		}
		if r.TTL != recordTTL || r.Proxied {
			t.Errorf("%s has TTL %d, proxied %v", r.Name, r.TTL, r.Proxied)
		}
	}
	if len(p.Ops) != 2 || p.Ops[0].Kind != opPublishMX || p.Ops[1].Kind != opWrite {
		t.Fatalf("want one transaction for MX and one for the rest, have %v", p.Ops)
	}
	if len(p.Ops[0].After) != 1 || p.Ops[0].After[0] != p.Ops[1].ID {
		t.Errorf("the MX record must come after its host's address, waits for %v", p.Ops[0].After)
	}
}

func TestPlanCostsThreeCalls(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{RecordQuota: 9000})
	w.apply(testSpec(), how{})
	for i := range 2000 {
		w.sim.Seed("acme.example", cloudflaresim.Record{Type: "A", Name: sprint("h", i, ".acme.example"), Content: "192.0.2.1"})
	}
	w.sim.ResetCalls()
	desired, _ := w.p.Declare(testSpec())
	observed, err := w.p.Observe(t.Context(), plan.Scope{Stack: testStack, Desired: desired})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(w.sim.Calls()); n != 3 || observed.Calls != 3 {
		t.Errorf("%d calls for a zone of 2,006 records, %d counted; want 3", n, observed.Calls)
	}
	if f := observed.Foreign; len(f) != 1 || f[0].Count != 2000 {
		t.Errorf("foreign: %v, want 2000", f)
	}
}

func TestLongListsArePaged(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	for i := range recordsPerPage + 3 {
		w.sim.Seed("acme.example", cloudflaresim.Record{Type: "A", Name: sprint("h", i, ".acme.example"), Content: "192.0.2.1"})
	}
	for i := range zonesPerPage + 1 {
		w.sim.AddZone(cloudflaresim.Zone{Name: sprint("z", i, ".example")})
	}
	zones, calls, err := w.p.api.listZones(t.Context())
	if err != nil || len(zones) != zonesPerPage+2 || calls != 2 {
		t.Fatalf("%d zones in %d calls: %v", len(zones), calls, err)
	}
	z, _ := zoneFor(zones, "acme.example")
	records, calls, err := w.p.api.listRecords(t.Context(), z, "")
	if err != nil || len(records) != recordsPerPage+3 || calls != 2 {
		t.Fatalf("%d records in %d calls: %v", len(records), calls, err)
	}
}

func TestEqualRecordsAreAdopted(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	ten := 10
	w.sim.Seed("acme.example",
		cloudflaresim.Record{Type: "A", Name: "mail.acme.example", Content: testIP},
		cloudflaresim.Record{Type: "MX", Content: "mail.acme.example", Priority: &ten},
		cloudflaresim.Record{Type: "TXT", Name: "_dmarc.acme.example", Content: "v=DMARC1;p=reject;rua=mailto:postmaster@acme.example;"},
		cloudflaresim.Record{Type: "TXT", Content: `"v=spf1 mx include:spf.crm.example ip4:198.51.100.0/24 -all"`},
	)
	p := w.apply(testSpec(), how{})
	expect(t, "plan", pending(p), []string{
		"adopt dns/acme.example/a/mx1",
		"create dns/acme.example/dkim/mf1-ed25519", "create dns/acme.example/dkim/mf1-rsa",
		"adopt dns/acme.example/dmarc", "adopt dns/acme.example/mx", "adopt dns/acme.example/spf",
	})
	for _, r := range w.sim.Records("acme.example") {
		if !strings.HasPrefix(r.Comment, "mf1:acme-mail:") {
			t.Errorf("%s %s has no mark", r.Type, r.Name)
		}
	}
}

func TestWhatIsInTheWayIsNotTouched(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	ten := 10
	w.sim.Seed("acme.example",
		cloudflaresim.Record{Type: "A", Name: "mail.acme.example", Content: "192.0.2.99"},
		cloudflaresim.Record{Type: "MX", Content: "route1.mx.elsewhere.example", Priority: &ten},
		cloudflaresim.Record{Type: "MX", Content: "route2.mx.elsewhere.example", Priority: &ten},
		cloudflaresim.Record{Type: "CNAME", Name: "_dmarc.acme.example", Content: "dmarc.elsewhere.example"},
		cloudflaresim.Record{Type: "TXT", Content: `"v=spf1 mx -all"`, Comment: "mf1:other-stack:acme.example/spf"},
	)
	before := w.lines("acme.example")
	p := w.apply(testSpec(), how{})
	expect(t, "plan", pending(p), []string{
		"blocked dns/acme.example/a/mx1",
		"create dns/acme.example/dkim/mf1-ed25519", "create dns/acme.example/dkim/mf1-rsa",
		"blocked dns/acme.example/dmarc", "blocked dns/acme.example/mx", "blocked dns/acme.example/spf",
	})
	after := w.lines("acme.example")
	for _, l := range before {
		if !contains(after, l) {
			t.Errorf("gone or changed: %s", l)
		}
	}

	// The person takes the address over; the CNAME makes room for the policy.
	w.apply(testSpec(), how{take: []string{"dns/acme.example/a/mx1", "dns/acme.example/dmarc"}})
	for _, r := range w.sim.Records("acme.example") {
		if r.Type == "A" && r.Content != testIP || r.Type == "CNAME" {
			t.Errorf("still there after it was taken over: %s", line(r))
		}
	}
}

func TestLeftoversAndDuplicatesGo(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.apply(testSpec(), how{})
	ten := 10
	w.sim.Seed("acme.example",
		cloudflaresim.Record{Type: "TXT", Name: "_acme-challenge.mail.acme.example", Content: `"x"`, TTL: 60,
			Comment: "mf1:acme-mail:acme.example/acme-challenge/mail.acme.example"},
		cloudflaresim.Record{Type: "MX", Content: "old.acme.example", Priority: &ten, Comment: "mf1:acme-mail:acme.example/mx"},
		cloudflaresim.Record{Type: "TXT", Name: "keep.acme.example", Content: `"x"`, Comment: "mf1:another:acme.example/acme-challenge/keep"},
	)
	p := w.plan(testSpec(), how{})
	var deletes []string
	for _, d := range pending(p) {
		if strings.HasPrefix(d, "delete ") {
			if head, _, ok := strings.Cut(d, "/duplicate/"); ok {
				d = head + "/duplicate/…"
			}
			deletes = append(deletes, d)
		}
	}
	expect(t, "deletes", deletes, []string{"delete dns/acme.example/acme-challenge/mail.acme.example", "delete dns/acme.example/mx/duplicate/…"})
	w.apply(testSpec(), how{allow: []string{"dns/**", "dns/acme.example/mx/duplicate/*"}})
	if n := len(w.sim.Records("acme.example")); n != 7 {
		t.Errorf("%d records are left, want 6 of ours and 1 of another stack", n)
	}
}

// A host gets another name in the spec and keeps its host name: its record is
// deleted and made in one transaction, because both cannot be there at once.
func TestRenamedHost(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.apply(testSpec(), how{})
	s := testSpec()
	s.Hosts[0].Name, s.Domains[0].Host = "mx2", "mx2"
	w.sim.ResetCalls()
	w.apply(s, how{})
	batches := 0
	for _, c := range w.sim.Calls() {
		if c.Method == "POST" {
			batches++
		}
	}
	if batches != 1 {
		t.Errorf("%d transactions, want 1", batches)
	}
}

// A zone's changes are as few transactions as its plan lets them be.
func TestTransactionsByPlan(t *testing.T) {
	const names = 250
	s := testSpec()
	z := &specs.Zone{Name: "acme.example"}
	for i := range names {
		z.Web = append(z.Web, specs.Web{Name: fmt.Sprintf("w%03d", i), Host: "mx1"})
	}
	s.Zones = []*specs.Zone{z}
	challenges := map[string][]string{}
	for i := range names {
		challenges[fmt.Sprintf("_acme-challenge.w%03d.acme.example", i)] = []string{"x"}
	}
	for paid, want := range map[string]int{"free": 2, "pro": 1, "enterprise": 1, "something new": 2} {
		t.Run(paid, func(t *testing.T) {
			w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example", Plan: paid}}})
			p := w.apply(s, how{})
			batches, records := 0, 0
			for _, op := range p.Ops {
				if op.Kind == opAnnounce {
					batches++
					records += len(op.Addresses)
				}
			}
			if batches != want || records < names {
				t.Errorf("%d records in %d transactions, want %d", records, batches, want)
			}
			transactions := func() (n int) {
				for _, c := range w.sim.Calls() {
					if strings.HasSuffix(c.Path, "/dns_records/batch") {
						n++
					}
				}
				return n
			}
			w.sim.ResetCalls()
			if errs := w.p.Present(t.Context(), challenges); len(errs) > 0 || transactions() != want {
				t.Errorf("challenges went up in %d transactions, want %d: %v", transactions(), want, errs)
			}
			w.sim.ResetCalls()
			if err := w.p.CleanUp(t.Context(), challenges); err != nil || transactions() != want {
				t.Errorf("and came down in %d: %v", transactions(), err)
			}
		})
	}
	if batchLimit("") != 200 || batchLimit("partners_free") != 200 || batchLimit("partners_business") != 3500 {
		t.Error("what is not known to be paid for is not taken for free")
	}
}

func TestDestroyStopsMailFirst(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "A", Name: "www.acme.example", Content: "192.0.2.1"})
	s := testSpec()
	s.Domains[0].Mailboxes = []*specs.Mailbox{{Local: "alice"}}
	w.apply(s, how{})
	p := w.apply(s, how{destroy: true, allow: []string{"**"}})
	if len(p.Ops) != 2 || p.Ops[0].Kind != opRemove || p.Ops[1].Kind != opWithdrawMX ||
		len(p.Ops[0].After) != 1 || p.Ops[0].After[0] != p.Ops[1].ID {
		t.Errorf("MX must go first: %+v", p.Ops)
	}
	expect(t, "left", w.lines("acme.example"), []string{"A www.acme.example 192.0.2.1"})
}

// A domain that is no longer in the spec leaves nothing behind, even when its
// zone is not in the spec any more either.
func TestRemovedDomain(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "second.example"}, {Name: "private.example"}}})
	s := testSpec()
	second := *s.Domains[0]
	second.Name = "second.example"
	s.Domains = append(s.Domains, &second)
	w.sim.Seed("private.example", cloudflaresim.Record{Type: "A", Content: "192.0.2.1"})
	w.apply(s, how{})
	if n := len(w.sim.Records("second.example")); n != 5 {
		t.Fatalf("%d records in the second zone, want 5", n)
	}
	w.apply(testSpec(), how{allow: []string{"**"}})
	expect(t, "second.example", w.lines("second.example"), nil)
	expect(t, "private.example", w.lines("private.example"), []string{"A private.example 192.0.2.1"})
}

func TestZoneIsTheLongestSuffix(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{
		{Name: "example"}, {Name: "acme.example"}, {Name: "cme.example"}, {Name: "mail.acme.example", Status: "moved"}, {Name: "mail.acme.example"},
	}})
	zones, _, err := w.p.api.listZones(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"acme.example": "acme.example active", "x.acme.example": "acme.example active", "mail.acme.example": "mail.acme.example active",
		"other.example": "example active", "elsewhere.test": " ",
	} {
		z, _ := zoneFor(zones, name)
		if got := z.name + " " + z.status; got != want {
			t.Errorf("%s is in %q, want %q", name, got, want)
		}
	}
}

func TestSubdomainInItsParentsZone(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	s := testSpec()
	s.Hosts[0].Hostname = "mail.team.acme.example"
	s.Domains[0].Name = "team.acme.example"
	w.apply(s, how{})
	for _, r := range w.sim.Records("acme.example") {
		if !under(r.Name, "team.acme.example") || !strings.Contains(r.Comment, ":team.acme.example/") {
			t.Errorf("unexpected %s", line(r))
		}
	}
}

// A zone whose name servers are elsewhere: its records can be prepared and removed,
// the plan says that nobody sees them, and no certificate is asked for.
func TestZoneThatIsNotServed(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example", Status: "pending"}}})
	p := w.apply(testSpec(), how{})
	if got := advised(w.p); !strings.Contains(got, "(pending)") || !strings.Contains(got, "ada.ns.cloudflare.example and bob.ns.cloudflare.example") || strings.Contains(got, "DNSSEC") {
		t.Errorf("the advice must say that the zone is not served, and that alone: %s", got)
	}
	if len(p.Foreign) != 1 || p.Foreign[0].Count != 0 {
		t.Errorf("nothing is foreign here: %v", p.Foreign)
	}
	err := w.present(t.Context(), "_acme-challenge.mail.acme.example.", "x")
	var e *plan.Error
	if !errors.As(err, &e) || !strings.Contains(e.Fix, "ada.ns.cloudflare.example and bob.ns.cloudflare.example") {
		t.Errorf("the error must name the name servers: %v", err)
	}
	w.sim.SetZoneStatus("acme.example", "active")
	if err := w.present(t.Context(), "_acme-challenge.mail.acme.example.", "x"); err != nil {
		t.Errorf("once the zone is active: %v", err)
	}
	w.sim.SetZoneStatus("acme.example", "moved")
	w.apply(testSpec(), how{destroy: true, allow: []string{"**"}})
	expect(t, "left", w.lines("acme.example"), nil)
}

func TestZoneThatIsMissing(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "other.example"}}})
	_, err := w.tryPlan(testSpec(), how{})
	if err == nil || !strings.Contains(err.Error(), "zone/acme.example is not there") {
		t.Errorf("got %v", err)
	}
	if p := w.plan(testSpec(), how{destroy: true}); len(p.Ops) != 0 {
		t.Errorf("a stack whose zone is gone must still be destroyable: %v", p.Ops)
	}
}

func TestLongNamesGetHashedMarks(t *testing.T) {
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example"
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: long}}})
	s := testSpec()
	s.Hosts[0].Hostname, s.Domains[0].Name = "mail."+long, long
	w.apply(s, how{})
	for _, r := range w.sim.Records(long) {
		if len(r.Comment) > maxComment || !strings.Contains(r.Comment, "~") {
			t.Errorf("comment %q", r.Comment)
		}
	}
	w.apply(s, how{destroy: true, allow: []string{"**"}})
	expect(t, "left", w.lines(long), nil)
}

func TestManyRecordsAreSplit(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	s := testSpec()
	for i := range 100 {
		d := *s.Domains[0]
		d.Name = sprint("d", i, ".acme.example")
		s.Domains = append(s.Domains, &d)
	}
	p := w.apply(s, how{})
	if len(p.Ops) != 4 { // 4×101+1 others in 3 transactions, 101 MX in one
		t.Errorf("%d transactions, want 4", len(p.Ops))
	}
	if n := len(w.sim.Records("acme.example")); n != 506 {
		t.Errorf("%d records, want 506", n)
	}
}

// The spec moves mail to where somebody already pointed a second, unmarked MX
// record: that one is adopted, and ours goes in the same transaction.
func TestUnmarkedRecordThatIsAsWantedTakesTheSlot(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.apply(testSpec(), how{})
	ten := 10
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "MX", Content: "mx.acme.example", Priority: &ten})
	if n := w.plan(testSpec(), how{}); len(pending(n)) != 0 || n.Foreign[0].Count != 1 {
		t.Errorf("a second MX record is nobody's business: %v %v", pending(n), n.Foreign)
	}
	s := testSpec()
	s.Hosts[0].Hostname = "mx.acme.example"
	w.apply(s, how{})
	var mx []string
	for _, l := range w.lines("acme.example") {
		if strings.HasPrefix(l, "MX") {
			mx = append(mx, l)
		}
	}
	expect(t, "MX", mx, []string{"MX acme.example 10 mx.acme.example [mf1:acme-mail:acme.example/mx]"})
}

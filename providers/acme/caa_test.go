package acme

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

// caaRecord is a CAA record as somebody writes it by hand.
func caaRecord(name, content string) cloudflaresim.Record {
	words := strings.SplitN(content, " ", 3)
	return cloudflaresim.Record{Type: "CAA", Name: name, Content: content, TTL: 300,
		Data: fmt.Appendf(nil, `{"flags":%s,"tag":%q,"value":%s}`, words[0], words[1], words[2])}
}

// CAA records of others that forbid the CA are found before it is asked for anything,
// wherever the closest of them stand.
func TestCAAThatForbidsTheCA(t *testing.T) {
	for _, c := range []struct {
		name    string
		records []cloudflaresim.Record
		got     string // "" when the certificate is issued
	}{
		{"another CA's", []cloudflaresim.Record{caaRecord("acme.example", `0 issue "pki.goog"`)}, "the CAA records of acme.example let only pki.goog"},
		{"nobody's, closer", []cloudflaresim.Record{caaRecord("acme.example", `0 issue "ca.example"`), caaRecord("mail.acme.example", `0 issue ";"`)}, "the CAA records of mail.acme.example let nobody"},
		{"ours, closer", []cloudflaresim.Record{caaRecord("acme.example", `0 issue "pki.goog"`), caaRecord("mail.acme.example", `0 issue "CA.example"`)}, ""},
		{"ours beside it", []cloudflaresim.Record{caaRecord("acme.example", `0 issue "pki.goog"`), caaRecord("acme.example", `0 issue "ca.example; x=y"`)}, ""},
		{"ours by another method", []cloudflaresim.Record{caaRecord("acme.example", `0 issue "ca.example; validationmethods=http-01"`)}, "let only ca.example (not by dns-01)"},
		{"for wildcards only", []cloudflaresim.Record{caaRecord("acme.example", `0 issuewild "pki.goog"`)}, ""},
		{"critical and unknown", []cloudflaresim.Record{caaRecord("acme.example", `128 future "x"`)}, `have a critical property "future"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, acmesim.Config{})
			w.sim.Seed("acme.example", c.records...)
			err := w.run(w.plan(testSpec()))
			if c.got == "" {
				if err != nil {
					t.Fatal(err)
				}
				w.verify()
				return
			}
			e := asError(t, err)
			if e.Class != plan.ErrBlocked || e.Code != "MF5315" || !strings.Contains(e.Got, c.got) || !strings.Contains(e.Fix, `CAA 0 issue "ca.example"`) {
				t.Errorf("class %q: %v\n%s", e.Class, e, e.Fix)
			}
			if n := w.ca.Counts().Orders; n != 0 {
				t.Errorf("%d orders were made", n)
			}
		})
	}
}

// A record of ours may have been written a moment ago.
func TestCAAThatIsJustBeingWritten(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.sim.Seed("acme.example", caaRecord("acme.example", `0 issue "pki.goog"`))
	var slept atomic.Int32 // by the one who gathers orders, too
	w.p = w.provider(func(c *Config) {
		c.Sleep = func(ctx context.Context, d time.Duration) error {
			if slept.Add(1) == 2 {
				w.sim.Seed("acme.example", caaRecord("acme.example", `0 issue "ca.example"`))
			}
			return noSleep(ctx, d)
		}
	})
	w.apply(testSpec())
	w.verify()
}

// What the same plan writes about who may issue is written before.
func TestCertificatesWaitForCAARecords(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	s := testSpec()
	s.ACME.Issuer = "ca.example"
	s.Zones = []*specs.Zone{{Name: "acme.example", CAA: []string{"pki.goog"}}, {Name: "other.example", CAA: []string{"pki.goog"}}}
	desired, _ := w.p.Declare(s)
	records, diags := w.dns.Declare(s)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	got, _, _, _ := w.p.Schedule(plan.Scheduling{Now: w.now, Desired: slices.Concat(desired, records)})
	var waits []string
	for _, r := range got {
		for _, a := range r.DependsOn {
			if r.Address == "cert/mx1" && strings.Contains(string(a), "/caa/") {
				waits = append(waits, string(a))
			}
		}
	}
	if fmt.Sprint(waits) != "[dns/acme.example/caa/ca.example dns/acme.example/caa/pki.goog]" {
		t.Errorf("the certificate waits for %v", waits)
	}
}

// An alias leads to the records of its target (RFC 8659 3), and servers that say
// nothing forbid nothing.
func TestCAABehindAnAlias(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.sim.Seed("acme.example",
		cloudflaresim.Record{Type: "CNAME", Name: "mail.acme.example", Content: "edge.acme.example", TTL: 300},
		caaRecord("edge.acme.example", `0 issue "pki.goog"`))
	look := func(p *Provider) (string, int) {
		at, records := (&caaLook{watcher: p.visible, known: map[string]func() []*dns.CAA{}}).relevant(t.Context(), "mail.acme.example")
		return at, len(records)
	}
	if at, n := look(w.p); at != "mail.acme.example" || n != 1 {
		t.Errorf("%d records at %s", n, at)
	}
	dead := w.provider(func(c *Config) { c.Resolver = "127.0.0.1:1" })
	if at, n := look(dead); at != "" || n != 0 {
		t.Errorf("%d records at %s from nobody", n, at)
	}
}

func FuzzIssue(f *testing.F) {
	f.Add("letsencrypt.org; validationmethods=dns-01,http-01", "issue", uint8(0))
	f.Add(";", "issuewild", uint8(128))
	f.Fuzz(func(t *testing.T, value, tag string, flag uint8) {
		records := []*dns.CAA{{Flag: flag, Tag: tag, Value: value}}
		ok, why := lets(records, []string{"ca.example"}, false)
		if ok != (why == "") {
			t.Errorf("%v %q", ok, why)
		}
		name, dns01 := readIssue(value)
		if strings.EqualFold(tag, "issue") && ok != (name == "ca.example" && dns01) {
			t.Errorf("%q: %v, names %q", value, ok, name)
		}
	})
}

package cloudflare

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

func TestParseSPF(t *testing.T) {
	for text, want := range map[string]string{
		"v=spf1":                             "v=spf1",
		"V=SPF1  MX +a:Mail.Example/24 -ALL": "v=spf1 mx a:mail.example/24 -all",
		"v=spf1 ip4:192.0.2.1/32 ip6:2001:db8::1/128 ?all": "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ?all",
		"v=spf1 include:x.example redirect=Y.example":      "v=spf1 include:x.example redirect=y.example",
		"v=spf1 exists:%{i}.x.example exp=why.example all": "v=spf1 exists:%{i}.x.example exp=why.example +all",
	} {
		s, err := parseSPF(text)
		if err != nil || s.String() != want {
			t.Errorf("%q: %q %v, want %q", text, s, err, want)
		}
	}
	for _, bad := range []string{"", "v=spf10 -all", "v=spf1 -all mx", "v=spf1 include", "v=spf1 ip5:1", "v=spf1 all:x", "v=spf1 -"} {
		if s, err := parseSPF(bad); err == nil {
			t.Errorf("%q is read as %q", bad, s)
		}
	}
}

func FuzzParseSPF(f *testing.F) {
	for _, s := range []string{"v=spf1 mx -all", "v=spf1 redirect=a exp=b", "v=spf1 -", "v=spf1 =", "v=spf1 a=b:c/d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSPF(text)
		if err != nil {
			return
		}
		again, err := parseSPF(s.String())
		if err != nil || !again.same(s) {
			t.Fatalf("%q is written as %q and read as %q: %v", text, s, again, err)
		}
	})
}

// spf returns the text and the comment of the SPF record.
func (w *world) spf() (text, comment string) {
	w.t.Helper()
	for _, r := range w.sim.Records("acme.example") {
		if r.Type == "TXT" && r.Name == "acme.example" {
			return string(parseTXT(r.Content)), r.Comment
		}
	}
	return "", ""
}

// The life of an SPF record that another service is in: joined, kept through
// changes of the spec and by the other service, and handed back.
func TestSPFWithOthersInIt(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Content: `"v=spf1 include:_spf.shop.example ~all"`})
	s := testSpec()
	s.Domains[0].SPF = &specs.SPF{Include: []string{"spf.crm.example"}, All: "fail"}
	p := w.apply(s, how{})
	i := slices.IndexFunc(p.Changes, func(c plan.Change) bool { return c.Address == "dns/acme.example/spf" })
	if c := p.Changes[i]; c.Action != plan.Update || c.After["content"].Str() != "v=spf1 mx include:spf.crm.example include:_spf.shop.example -all" {
		t.Errorf("the plan shows %s %v", c.Action, c.After["content"])
	}
	want := func(text string) {
		t.Helper()
		if got, _ := w.spf(); got != text {
			t.Errorf("the record is %q, want %q", got, text)
		}
	}
	want("v=spf1 mx include:spf.crm.example include:_spf.shop.example -all")

	// The other service changes its part: not our business.
	for _, r := range w.sim.Records("acme.example") {
		if text, _ := w.spf(); r.Type == "TXT" && string(parseTXT(r.Content)) == text {
			w.edit(r.ID, "v=spf1 include:_spf2.shop.example mx include:spf.crm.example -all")
		}
	}
	expect(t, "plan", pending(w.plan(s, how{})), nil)

	// We drop ours: theirs stays.
	s.Domains[0].SPF.Include = nil
	s.Domains[0].SPF.All = "softfail"
	w.apply(s, how{})
	want("v=spf1 mx include:_spf2.shop.example ~all")

	// We go: theirs stays, without our mark.
	s.Domains[0].SPF = nil
	w.apply(s, how{})
	want("v=spf1 include:_spf2.shop.example ~all")
	if _, comment := w.spf(); comment != "" {
		t.Errorf("the mark is still there: %q", comment)
	}
}

// TestSPFPolicyOfOthers: whoever had a record said what to think of everyone else.
// That stays, until the spec says something about it.
func TestSPFPolicyOfOthers(t *testing.T) {
	for theirs, want := range map[string]string{
		"v=spf1 include:_spf.shop.example ~all":     "v=spf1 mx include:_spf.shop.example ~all",
		"v=spf1 include:_spf.shop.example ?all":     "v=spf1 mx include:_spf.shop.example ?all",
		"v=spf1 include:_spf.shop.example":          "v=spf1 mx include:_spf.shop.example",
		"v=spf1 redirect=_spf.shop.example":         "v=spf1 mx include:_spf.shop.example -all",
		"v=spf1 mx include:_spf.shop.example ~all":  "v=spf1 mx include:_spf.shop.example ~all",
		"v=spf1 +mx include:_spf.shop.example -all": "v=spf1 +mx include:_spf.shop.example -all", // already says it
	} {
		t.Run(theirs, func(t *testing.T) {
			w := newWorld(t, cloudflaresim.Config{})
			w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Content: quoteTXT([]byte(theirs))})
			s := testSpec()
			s.Domains[0].SPF = &specs.SPF{All: "fail", AllUnset: true}
			is := func(want string) {
				t.Helper()
				if got, _ := w.spf(); got != want {
					t.Errorf("the record is %q, want %q", got, want)
				}
				expect(t, "a second plan", pending(w.plan(s, how{})), nil)
			}
			w.apply(s, how{})
			is(want)
			// What is ours changes, theirs stays as it is.
			s.Domains[0].SPF.Include = []string{"spf.crm.example"}
			w.apply(s, how{})
			all := ""
			if parsed, err := parseSPF(want); err == nil && parsed.all != "" {
				all = " " + parsed.all
			}
			is("v=spf1 mx include:spf.crm.example include:_spf.shop.example" + all)
			w.apply(s, how{destroy: true, allow: []string{"**"}})
			if got, _ := w.spf(); !strings.HasSuffix(got, "include:_spf.shop.example"+all) {
				t.Errorf("what is left is %q", got)
			}
			// The spec says it.
			s.Domains[0].SPF = &specs.SPF{All: "fail"}
			w.apply(s, how{})
			if got, _ := w.spf(); !strings.HasSuffix(got, " -all") {
				t.Errorf("the spec says fail, the record %q", got)
			}
		})
	}
}

// A record that says no more than ours, but for its policy, is theirs as well.
func TestSPFPolicyAlone(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Content: `"v=spf1 mx ~all"`})
	s := testSpec()
	s.Domains[0].SPF = &specs.SPF{All: "fail", AllUnset: true}
	w.apply(s, how{})
	expect(t, "a second plan", pending(w.plan(s, how{})), nil)
	if got, comment := w.spf(); got != "v=spf1 mx ~all" || comment == "" {
		t.Errorf("the record is %q, its mark %q", got, comment)
	}
}

// edit changes a record as somebody else would, leaving its comment alone.
func (w *world) edit(id, content string) {
	w.t.Helper()
	zones, _, err := w.p.api.listZones(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	records, _, err := w.p.api.listRecords(w.t.Context(), zones[0], "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range records {
		if r.id == id {
			r.content = content
			if _, _, err := w.p.api.batch(w.t.Context(), "edit", zones[0].id, batch{patches: []record{r}}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func TestSPFThatCannotBeJoined(t *testing.T) {
	for name, records := range map[string][]string{
		"two records":      {"v=spf1 include:a.example -all", "v=spf1 include:b.example -all"},
		"too many lookups": {"v=spf1 include:a1 include:a2 include:a3 include:a4 include:a5 include:a6 include:a7 include:a8 include:a9 -all"},
		"not understood":   {"v=spf1 frobnicate:x -all"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cloudflaresim.Config{})
			for _, r := range records {
				w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Content: quoteTXT([]byte(r))})
			}
			p := w.apply(testSpec(), how{})
			if !contains(pending(p), "blocked dns/acme.example/spf") {
				t.Errorf("plan: %v", pending(p))
			}
		})
	}
}

func TestSecondSPFRecordIsSaid(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.apply(testSpec(), how{})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Content: `"v=spf1 include:shop.example ~all"`})
	p := w.plan(testSpec(), how{})
	if got := advised(w.p); !strings.Contains(got, "dns/acme.example/spf") || !strings.Contains(got, "second SPF record") {
		t.Errorf("advice: %s", got)
	}
	if len(p.Foreign) != 1 || p.Foreign[0].Count != 1 {
		t.Errorf("one foreign record is one: %v", p.Foreign)
	}
}

// Joining never loses a mechanism, whoever has it, and is stable.
func TestJoinKeepsEverything(t *testing.T) {
	term := rapid.SampledFrom([]string{"mx", "a", "include:a.example", "include:b.example", "ip4:192.0.2.1", "?include:c.example", "-ip4:192.0.2.9", "exists:%{i}.example"})
	terms := rapid.SliceOfNDistinct(term, 0, 8, rapid.ID[string])
	rapid.Check(t, func(t *rapid.T) {
		own := spf{terms: terms.Draw(t, "own"), all: "-all"}
		theirs := spf{terms: terms.Draw(t, "theirs"), all: rapid.SampledFrom([]string{"", "~all", "-all"}).Draw(t, "all")}
		isOurs := func(s string) bool { return slices.Contains(own.terms, s) }
		joined := own.join(theirs.others(isOurs))
		for _, s := range append(slices.Clone(own.terms), theirs.terms...) {
			if !slices.Contains(joined.terms, s) {
				t.Fatalf("%q + %q = %q lost %q", own, theirs, joined, s)
			}
		}
		if joined.all != own.all {
			t.Fatalf("the spec's policy became %q", joined.all)
		}
		if again := own.join(joined.others(isOurs)); !again.same(joined) {
			t.Fatalf("joined again: %q, then %q", joined, again)
		}
	})
}

// Somebody's mechanism that the spec comes to want as well stays theirs: when the
// stack goes, it stays.
func TestWantedMechanismOfOthersOutlivesUs(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Content: `"v=spf1 include:_spf.shop.example ~all"`})
	w.apply(testSpec(), how{})
	s := testSpec()
	s.Domains[0].SPF.Include = append(s.Domains[0].SPF.Include, "_spf.shop.example")
	w.apply(s, how{})
	s.Domains[0].SPF.All = "softfail"
	w.apply(s, how{})
	w.apply(s, how{destroy: true, allow: []string{"**"}})
	expect(t, "left", w.lines("acme.example"), []string{"TXT acme.example v=spf1 include:_spf.shop.example ~all"})
}

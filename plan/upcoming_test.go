package plan

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// What renews by itself is said beside a plan and does not change it: the same
// plan, byte for byte, while time passes.
func TestUpcoming(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	desired := sampleDesired("alice")
	in := sampleInput(desired, applied(desired))
	found := 0
	for i, o := range in.Observed {
		if o.Address.Kind() == "cert" {
			found++
			in.Observed[i].Renews, in.Observed[i].RenewsWhy = now.Add(12*24*time.Hour+time.Hour), "the CA asks for it"
		}
	}
	if found != 1 {
		t.Fatalf("%d certificates in the sample", found)
	}
	p, diags := Build(in)
	if diags.HasErrors() || p.HasChanges() {
		t.Fatalf("%v, changes %v", diags, p.HasChanges())
	}
	show := func(now time.Time) (text, markdown, document string) {
		var a, b, c bytes.Buffer
		e := Estimate{Upcoming: FindUpcoming(in.Observed, p, now)}
		if err := RenderText(&a, p, TextOptions{Estimate: e}); err != nil {
			t.Fatal(err)
		}
		if err := RenderMarkdown(&b, p, e); err != nil {
			t.Fatal(err)
		}
		if err := RenderJSON(&c, p, e, nil); err != nil {
			t.Fatal(err)
		}
		return a.String(), b.String(), c.String()
	}
	text, markdown, document := show(now)
	for _, s := range []string{text, markdown} {
		if !strings.Contains(s, "cert/mx1 renews in 12 days, on 2026-12-04") {
			t.Errorf("it does not say when the certificate renews:\n%s", s)
		}
	}
	if !strings.Contains(document, `"at": "2026-12-04T13:00:00Z"`) {
		t.Errorf("no renewal in %s", document)
	}
	later, _, same := show(now.Add(11 * 24 * time.Hour))
	if !strings.Contains(later, "renews in 25 hours") || same != document {
		t.Errorf("eleven days later: %s\n%v", later, same == document)
	}
	var views bytes.Buffer
	if err := RenderViews(&views, Views(in, p), TextOptions{Now: now}); err != nil || !strings.Contains(views.String(), "renews in 12 days") {
		t.Errorf("%v\n%s", err, &views)
	}
	for i := range in.Observed {
		in.Observed[i].Due = "expires soon"
	}
	if p, _ = Build(in); len(FindUpcoming(in.Observed, p, now)) != 0 {
		t.Error("what is renewed now is also to come")
	}
}

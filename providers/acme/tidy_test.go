package acme

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
	"mailform/providers/cloudflare"
	"mailform/providers/cloudflare/cloudflaresim"
)

// takeDowns injects a fault into the first n requests that only delete records.
func (w *world) takeDowns(n int, f cloudflaresim.Fault) {
	w.sim.SetFault(func(r *http.Request) cloudflaresim.Fault {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if r.Method != http.MethodPost || !strings.Contains(string(body), `"deletes"`) || strings.Contains(string(body), `"posts"`) || n == 0 {
			return cloudflaresim.Fault{}
		}
		n--
		return f
	})
}

// challenges are the challenge records that are there.
func (w *world) challenges() (n int) {
	for _, r := range w.sim.Records("acme.example") {
		if strings.HasPrefix(r.Name, "_acme-challenge.") {
			n++
		}
	}
	return n
}

// The DNS vendor wants a rest when the challenge records are to be taken down: the
// certificate is installed without waiting for that, then it is tried again as late
// as the vendor wants, and nothing is left.
func TestThrottledCleanUpIsTriedAgain(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	var waited []time.Duration
	installed := false
	w.p = w.provider(func(c *Config) {
		c.Sleep = func(ctx context.Context, d time.Duration) error {
			if d >= 5*time.Minute {
				waited, installed = append(waited, d), w.hosts.installs == 1
			}
			return noSleep(ctx, d)
		}
	})
	w.takeDowns(2, cloudflaresim.Fault{Status: 429, RetryAfter: 300})
	w.apply(testSpec())
	w.verify()
	if n := w.challenges(); n != 0 {
		t.Errorf("%d challenge records are left", n)
	}
	if len(waited) != 2 || waited[0] != 5*time.Minute || !installed {
		t.Errorf("waited %v, the certificate was installed before: %v", waited, installed)
	}
	if got := w.p.Advise(); len(got) != 0 {
		t.Errorf("advice about nothing: %v", got)
	}
}

// A vendor that goes on refusing, or for longer than anybody waits: apply succeeds,
// what is left is told, and the next plan deletes it.
func TestCleanUpThatFailsIsToldAndMadeUpFor(t *testing.T) {
	for name, fault := range map[string]cloudflaresim.Fault{
		"throttled for ever":   {Status: 429, RetryAfter: 300},
		"for longer than that": {Status: 429, RetryAfter: 3600},
		"not permitted":        {Status: 403},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, acmesim.Config{})
			w.takeDowns(-1, fault)
			w.apply(testSpec())
			w.verify()
			got := w.p.Advise()
			if w.challenges() != 1 || len(got) != 1 || got[0].Code != "challenge-records-left" ||
				!strings.Contains(got[0].Text, "_acme-challenge.mail.acme.example") || !strings.Contains(got[0].Text, "The next plan shows them as to be deleted") {
				t.Fatalf("%d records are left; advice %+v", w.challenges(), got)
			}

			w.sim.SetFault(nil)
			next, err := cloudflare.New(cloudflare.Config{Token: "token", BaseURL: w.api, Stack: "acme-mail", Sleep: noSleep})
			if err != nil {
				t.Fatal(err)
			}
			observed, err := next.Observe(t.Context(), plan.Scope{Stack: "acme-mail"})
			if err != nil {
				t.Fatal(err)
			}
			p, diags := plan.Build(plan.Input{Stack: "acme-mail", Observed: observed.Objects,
				Compilers: map[string]func([]plan.Change) []plan.Op{cloudflare.Name: next.Compile}})
			if diags.HasErrors() || actions(p) != "delete dns/acme.example/acme-challenge/mail.acme.example" {
				t.Fatalf("the next plan: %s %v", actions(p), diags)
			}
			for _, op := range p.Ops {
				if _, err := next.Do(t.Context(), op, "token", nil); err != nil {
					t.Error(err)
				}
			}
			if n := w.challenges(); n != 0 {
				t.Errorf("%d challenge records are left", n)
			}
		})
	}
}

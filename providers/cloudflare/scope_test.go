package cloudflare

import (
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

func permissionList(list []Permission) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Name)
	}
	return out
}

func TestScope(t *testing.T) {
	expect(t, "for everything", permissionList(Scope(false)), []string{"DNS:Edit", "Zone:Read", "Zone Settings:Edit", "Zone WAF:Edit"})
	expect(t, "for looking", permissionList(Scope(true)), []string{"DNS:Read", "Zone:Read", "Zone Settings:Read", "Zone WAF:Read"})
	if got := permissionNames(Scope(false)); !strings.Contains(got, "DNS:Edit, Zone:Read, Zone Settings:Edit (for a zone block") {
		t.Errorf("in words: %s", got)
	}
}

// life makes every request there is: a stack comes, changes, gets a certificate, and goes.
func life(t *testing.T, w *world) error {
	t.Helper()
	s := fullSpec()
	for i, step := range []how{{}, {}, {destroy: true, allow: []string{"**"}}} {
		p, err := w.tryPlan(s, step)
		if err != nil {
			return err
		}
		if err := w.p.Check(t.Context(), p.Ops); err != nil {
			return err
		}
		if err := w.run(p); err != nil {
			return err
		}
		if !step.destroy {
			if err := w.present(t.Context(), "_acme-challenge.mail.acme.example", "x"); err != nil {
				return err
			}
			if err := w.cleanUp(t.Context(), "_acme-challenge.mail.acme.example", "x"); err != nil {
				return err
			}
		}
		if i > 0 {
			continue
		}
		z := *s.Zones[0]
		z.SSL, z.Rules = "full", append([]specs.ZoneRule{{Name: "first", Expression: "x", Action: "block"}}, z.Rules...)
		z.Rules[1].Action = "block"
		s.Zones = []*specs.Zone{&z}
	}
	w.p.adviseRanges(t.Context())
	// The zone is as empty as at first. By its id it can still be found.
	if _, err := w.tryPlan(w.withIDs(testSpec(), "acme.example"), how{}); err != nil {
		return err
	}
	return nil
}

// The list of requests, and so the list of permissions, is exactly what is made.
func TestScopeIsWhatIsUsed(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Tokens: []cloudflaresim.Token{{Value: testToken, Permissions: permissionList(Scope(false))}, {Value: "nothing", Permissions: []string{"None:Read"}}}})
	if err := life(t, w); err != nil {
		t.Fatal(err)
	}
	w.provider("nothing").Observe(t.Context(), plan.Scope{Stack: testStack})
	used := map[int]bool{}
	for _, c := range w.sim.Calls() {
		p, _, _ := strings.Cut(strings.TrimPrefix(c.Path, "/client/v4/"), "?")
		i := slices.IndexFunc(requests, func(r struct{ method, path, permission, when string }) bool {
			ok, err := path.Match(r.path, p)
			return err == nil && ok && r.method == c.Method
		})
		if i < 0 {
			t.Errorf("%s %s is not in the list", c.Method, p)
		}
		used[i] = true
	}
	for i, r := range requests {
		if !used[i] {
			t.Errorf("%s %s is in the list and was never made", r.method, r.path)
		}
	}
}

// Without one of the permissions it does not work, and the error names the one.
func TestMissingPermissionIsNamed(t *testing.T) {
	for _, missing := range permissionList(Scope(false)) {
		have := slices.DeleteFunc(permissionList(Scope(false)), func(s string) bool { return s == missing })
		for _, have := range [][]string{have, append(slices.Clone(have), strings.Replace(missing, ":Edit", ":Read", 1))} {
			if slices.Contains(have, missing) {
				continue // it is one for reading
			}
			w := newWorld(t, cloudflaresim.Config{Tokens: []cloudflaresim.Token{{Value: testToken, Permissions: have}}})
			err := life(t, w)
			name, _, _ := strings.Cut(missing, ":")
			var e *plan.Error
			if !errors.As(err, &e) || e.Class != plan.ErrCredentials || !strings.Contains(e.Fix, "lacks the permission "+name+":") {
				t.Errorf("with %v: %v", have, err)
			}
		}
	}
	// To look, permissions to read are enough.
	w := newWorld(t, cloudflaresim.Config{Tokens: []cloudflaresim.Token{{Value: testToken, Permissions: permissionList(Scope(true))}}})
	if _, err := w.tryPlan(fullSpec(), how{}); err != nil {
		t.Errorf("a plan with a token for reading: %v", err)
	}
}

// The token ends in the middle: what happened so far stays, and a new one continues.
func TestTokenExpiresMidRun(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Tokens: []cloudflaresim.Token{{Value: testToken}, {Value: "second"}}})
	p := w.plan(fullSpec(), how{})
	made := 0
	w.sim.SetFault(func(r *http.Request) cloudflaresim.Fault {
		if r.Method != http.MethodGet {
			if made++; made == 2 {
				w.sim.SetTokenStatus(testToken, "expired")
			}
		}
		return cloudflaresim.Fault{}
	})
	err := w.run(p)
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrCredentials || !strings.Contains(e.Got, "it has expired") || strings.Contains(err.Error()+e.Fix, testToken) {
		t.Errorf("got %v", err)
	}
	w.sim.SetFault(nil)
	verifies := 0
	for _, c := range w.sim.Calls() {
		if strings.HasSuffix(c.Path, "/user/tokens/verify") {
			verifies++
		}
	}
	if verifies != 1 {
		t.Errorf("the token was asked about %d times", verifies)
	}
	w.p = w.provider("second")
	w.apply(fullSpec(), how{})
	if n := len(w.sim.Records("acme.example")); n != 22 {
		t.Errorf("%d records, want 22", n)
	}
}

// When the headers say that no call is left, none is made until there is.
func TestRateLimitHeadersAreObeyed(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	w := newWorld(t, cloudflaresim.Config{CallLimit: 3, Now: clock})
	p, err := New(Config{Token: testToken, BaseURL: w.url, Stack: testStack, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	w.p = p
	if _, err := w.tryPlan(testSpec(), how{}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(10 * time.Second)
	_, err = w.tryPlan(testSpec(), how{})
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrThrottled || e.RetryAfter != 290*time.Second || !strings.Contains(e.Got, "not sent") {
		t.Errorf("got %v", err)
	}
	if n := len(w.sim.Calls()); n != 3 {
		t.Errorf("%d calls were made, want 3", n)
	}
	now = now.Add(e.RetryAfter)
	if _, err := w.tryPlan(testSpec(), how{}); err != nil {
		t.Errorf("after the wait: %v", err)
	}
}

func FuzzRateLimit(f *testing.F) {
	f.Add(`"default";r=50;t=30`)
	f.Add(`"default";r=0;t=99999999999999`)
	f.Add(`r=;t==;;"`)
	f.Fuzz(func(t *testing.T, header string) {
		left, reset, ok := rateLimit(header)
		if ok && (left < 0 || reset < 0 || reset > time.Hour) {
			t.Errorf("%q: %d left, more after %v", header, left, reset)
		}
	})
}

// A list that stops half-way is an error: from what is not in it nothing follows.
func TestHalfAPage(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	w.apply(testSpec(), how{})
	w.sim.SetFault(func(r *http.Request) cloudflaresim.Fault {
		return cloudflaresim.Fault{HalfPage: strings.HasSuffix(r.URL.Path, "/dns_records")}
	})
	if _, err := w.tryPlan(testSpec(), how{}); plan.ClassOf(err) != plan.ErrTransient || !strings.Contains(err.Error(), "3 of 6 records") {
		t.Errorf("got %v", err)
	}
	w.sim.SetFault(func(r *http.Request) cloudflaresim.Fault {
		return cloudflaresim.Fault{HalfPage: strings.HasSuffix(r.URL.Path, "/zones")}
	})
	if _, err := w.tryPlan(testSpec(), how{}); plan.ClassOf(err) != plan.ErrTransient || !strings.Contains(err.Error(), "0 of 1 zones") {
		t.Errorf("half a list of zones: %v", err)
	}
}

// Reads lag behind writes: a second run that sees nothing of the first makes no
// record twice, and once the world is consistent there is nothing to do.
func TestEventualConsistency(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newWorld(t, cloudflaresim.Config{Lag: 20 * time.Second, Now: func() time.Time { return now }})
	first := w.plan(testSpec(), how{})
	if err := w.run(first); err != nil {
		t.Fatal(err)
	}
	again := w.plan(testSpec(), how{})
	if len(again.Ops) == 0 {
		t.Fatal("the second run sees the first at once")
	}
	if err := w.run(again); plan.ClassOf(err) != plan.ErrStale {
		t.Errorf("the second run: %v", err)
	}
	if n := len(w.sim.Records("acme.example")); n != 6 {
		t.Errorf("%d records, want 6", n)
	}
	now = now.Add(21 * time.Second)
	if p := w.plan(testSpec(), how{}); len(p.Ops) != 0 {
		t.Errorf("in the end: %v", pending(p))
	}
}

// The quota of the zone is full: the reason and the way out are said, and nothing
// was done by halves.
func TestQuota(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{RecordQuota: 3})
	err := w.run(w.plan(testSpec(), how{}))
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrFatal || !strings.Contains(e.Fix, "as many records as its Cloudflare plan allows") {
		t.Errorf("got %v", err)
	}
	if n := len(w.sim.Records("acme.example")); n != 0 {
		t.Errorf("%d records of a transaction that was refused", n)
	}
}

// A plan for which a zone has no room is refused before anything is changed, and says
// how many records there are, may be and would come. Plans that make none ask nothing.
func TestQuotaIsCheckedBeforeApply(t *testing.T) {
	check := func(w *world, s *specs.Spec) (int, error) {
		p := w.plan(s, how{})
		w.sim.ResetCalls()
		err := w.p.Check(t.Context(), p.Ops)
		return len(w.sim.Calls()), err
	}
	w := newWorld(t, cloudflaresim.Config{RecordQuota: 8})
	for i := range 4 {
		w.sim.Seed("acme.example", cloudflaresim.Record{Type: "A", Name: sprint("n", i, ".acme.example"), Content: "192.0.2.1"})
	}
	calls, err := check(w, testSpec())
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrBlocked || e.Code != "MF5223" || calls != 1 ||
		!strings.Contains(e.Got, "it has 4 of the 8 records") || !strings.Contains(e.Got, "creates 6 and deletes 0: 2 too many") ||
		!strings.Contains(e.Fix, "delete at least 2 records") || !strings.Contains(e.Sent, "/dns_records/usage") {
		t.Errorf("%d calls: %v\n%+v", calls, err, e)
	}
	// One that a lost permission, an outage or another API leaves unasked goes on.
	w.sim.SetFault(func(r *http.Request) cloudflaresim.Fault {
		if strings.HasSuffix(r.URL.Path, "/usage") {
			return cloudflaresim.Fault{Status: 503}
		}
		return cloudflaresim.Fault{}
	})
	if _, err := check(w, testSpec()); err != nil {
		t.Error(err)
	}
	w = newWorld(t, cloudflaresim.Config{RecordQuota: 6})
	if calls, err := check(w, testSpec()); err != nil || calls != 1 {
		t.Errorf("just enough room: %v, %d calls", err, calls)
	}
	w.apply(testSpec(), how{})
	changed := testSpec()
	changed.Domains[0].DMARC.Policy = "none"      // written over
	changed.Hosts[0].Hostname = "mx.acme.example" // one for another
	if calls, err := check(w, changed); err != nil || calls != 0 {
		t.Errorf("nothing is added: %v, %d calls", err, calls)
	}
	w = newWorld(t, cloudflaresim.Config{RecordQuota: -1}) // counted over the whole account
	if _, err := check(w, testSpec()); err != nil {
		t.Error(err)
	}
}

package cloudflare

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
)

// writes injects a fault into requests that change something.
func writes(f cloudflaresim.Fault) func(*http.Request) cloudflaresim.Fault {
	return func(r *http.Request) cloudflaresim.Fault {
		if r.Method == http.MethodGet {
			return cloudflaresim.Fault{}
		}
		return f
	}
}

func TestFaultsOfTransactions(t *testing.T) {
	for _, c := range []struct {
		name    string
		fault   cloudflaresim.Fault
		class   plan.ErrorClass
		verdict plan.Verdict
	}{
		{"lost before it happened", cloudflaresim.Fault{Drop: true}, plan.ErrAmbiguous, plan.NotDone},
		{"answer lost", cloudflaresim.Fault{Lose: true}, plan.ErrAmbiguous, plan.Done},
		{"answer garbled", cloudflaresim.Fault{Garble: true}, plan.ErrAmbiguous, plan.Done},
		{"server error", cloudflaresim.Fault{Status: 502}, plan.ErrAmbiguous, plan.NotDone},
		{"throttled", cloudflaresim.Fault{Status: 429, RetryAfter: 17}, plan.ErrThrottled, plan.NotDone},
		{"refused", cloudflaresim.Fault{Status: 403}, plan.ErrCredentials, plan.NotDone},
		{"bad request", cloudflaresim.Fault{Status: 400, Code: 1004}, plan.ErrFatal, plan.NotDone},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, cloudflaresim.Config{})
			w.apply(testSpec(), how{})
			// One of each: a record is written anew, one changes, one goes.
			s := testSpec()
			s.Hosts[0].Hostname = "mx.acme.example"
			s.Domains[0].DMARC.Policy = "none"
			s.Domains[0].DKIM.Algorithms = []string{"rsa2048"}
			p := w.plan(s, how{})
			w.sim.SetFault(writes(c.fault))
			for _, op := range p.Ops {
				_, err := w.p.Do(t.Context(), op, "token", nil)
				var e *plan.Error
				if !errors.As(err, &e) || e.Class != c.class {
					t.Fatalf("%s: class %q, want %q: %v", op.ID, plan.ClassOf(err), c.class, err)
				}
				if e.Step == "" || e.Fix == "" || e.Code == "" || !strings.Contains(e.Sent, "POST http://") {
					t.Errorf("the error lacks something: %#v", e)
				}
				if strings.Contains(err.Error()+e.Fix, testToken) {
					t.Errorf("the token is in %v", err)
				}
				if c.fault.RetryAfter > 0 && e.RetryAfter != 17*time.Second {
					t.Errorf("retry after %v", e.RetryAfter)
				}
				verdict, _, err := w.p.Resolve(t.Context(), op, "token")
				if err != nil || verdict != c.verdict {
					t.Errorf("%s: resolved as %q (%v), want %q", op.ID, verdict, err, c.verdict)
				}
			}
			w.sim.SetFault(nil)
			w.apply(s, how{})
		})
	}
}

// Somebody else undid half of it in between: only the next observation can tell.
func TestResolveThatCannotTell(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	p := w.plan(testSpec(), how{})
	if err := w.run(p); err != nil {
		t.Fatal(err)
	}
	for _, r := range w.sim.Records("acme.example") {
		if r.Type == "A" {
			z, _ := zoneFor(w.p.zones, "acme.example")
			if _, _, err := w.p.api.batch(t.Context(), "undo", z.id, batch{deletes: []string{r.ID}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	verdict, _, err := w.p.Resolve(t.Context(), p.Ops[1], "token")
	if err != nil || verdict != plan.Undecidable {
		t.Errorf("resolved as %q, %v", verdict, err)
	}
}

func TestReadsAreNeverAmbiguous(t *testing.T) {
	for _, f := range []cloudflaresim.Fault{{Drop: true}, {Garble: true}, {Status: 500}} {
		w := newWorld(t, cloudflaresim.Config{Fault: func(*http.Request) cloudflaresim.Fault { return f }})
		_, err := w.p.Observe(t.Context(), plan.Scope{Stack: testStack})
		if plan.ClassOf(err) != plan.ErrTransient {
			t.Errorf("%+v: class %q: %v", f, plan.ClassOf(err), err)
		}
	}
}

func TestCredentials(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{Tokens: []cloudflaresim.Token{
		{Value: testToken}, {Value: "expired", Status: "expired"}, {Value: "reader", ReadOnly: true},
	}})
	for _, token := range []string{"unknown", "expired"} {
		_, err := w.provider(token).Observe(t.Context(), plan.Scope{Stack: testStack})
		var e *plan.Error
		if !errors.As(err, &e) || e.Class != plan.ErrCredentials || !strings.Contains(e.Fix, "CLOUDFLARE_API_TOKEN") {
			t.Errorf("token %q: %v", token, err)
		}
	}
	w.p = w.provider("reader")
	if err := w.run(w.plan(testSpec(), how{})); plan.ClassOf(err) != plan.ErrCredentials {
		t.Errorf("a token that may only read: %v", err)
	}
	_, err := New(Config{Stack: testStack})
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrCredentials || !strings.Contains(e.Error(), "CLOUDFLARE_API_TOKEN") {
		t.Errorf("without a token: %v", err)
	}
	if _, err := New(Config{Token: "x", BaseURL: "api.cloudflare.com"}); plan.ClassOf(err) != plan.ErrSpec {
		t.Errorf("with a base URL that is none: %v", err)
	}
}

// Whoever answers 200 with "success": false has not done it.
func TestUnsuccessfulSuccess(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"success": false, "errors": [{"code": 7003, "message": "nope"}], "result": []}`))
	}))
	defer srv.Close()
	p, err := New(Config{Token: "x", BaseURL: srv.URL, Stack: testStack})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Observe(t.Context(), plan.Scope{}); err == nil || !strings.Contains(err.Error(), "7003 nope") {
		t.Errorf("got %v", err)
	}
}

// An answer that names other records than were asked for is not trusted.
func TestAnswerAboutSomethingElse(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	p := w.plan(testSpec(), how{})
	other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		rw.Write([]byte(`{"success": true, "errors": [], "result": {"posts": [{"id": "x", "type": "MX", "name": "evil.example", "content": "a", "ttl": 1}]}}`))
	}))
	defer other.Close()
	wrong, err := New(Config{Token: "x", BaseURL: other.URL, Stack: testStack})
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range p.Ops {
		if _, err := wrong.Do(t.Context(), op, "token", nil); plan.ClassOf(err) != plan.ErrAmbiguous {
			t.Errorf("%s: %v", op.ID, err)
		}
	}
}

// A request that never left has certainly had no effect.
func TestNothingListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	w := newWorld(t, cloudflaresim.Config{})
	p := w.plan(testSpec(), how{})
	dead, err := New(Config{Token: "x", BaseURL: "http://" + l.Addr().String(), Stack: testStack})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dead.Do(t.Context(), p.Ops[0], "token", nil); plan.ClassOf(err) != plan.ErrTransient {
		t.Errorf("class %q: %v", plan.ClassOf(err), err)
	}
}

func TestCancelledWriteIsAmbiguous(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	p := w.plan(testSpec(), how{})
	ctx, cancel := context.WithCancel(t.Context())
	w.sim.SetFault(func(*http.Request) cloudflaresim.Fault { cancel(); return cloudflaresim.Fault{} })
	if _, err := w.p.Do(ctx, p.Ops[1], "token", nil); err != nil && plan.ClassOf(err) != plan.ErrAmbiguous {
		t.Errorf("class %q: %v", plan.ClassOf(err), err)
	}
}

func TestWorldMovedSincePlan(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	p := w.plan(testSpec(), how{})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Content: `"v=spf1 mx include:spf.crm.example ip4:198.51.100.0/24 -all"`, TTL: recordTTL})
	err := w.run(p)
	var e *plan.Error
	if !errors.As(err, &e) || e.Class != plan.ErrStale || !strings.Contains(e.Got, "81058") {
		t.Errorf("got %v", err)
	}
	if n := len(w.sim.Records("acme.example")); n != 1 {
		t.Errorf("%d records: the transaction was not all or nothing", n)
	}
	w.apply(testSpec(), how{})
}

func TestChallengeRecords(t *testing.T) {
	const name = "_acme-challenge.Mail.acme.example."
	w := newWorld(t, cloudflaresim.Config{})
	faults := []cloudflaresim.Fault{{Lose: true}, {Status: 503}, {Drop: true}, {Status: 429, RetryAfter: 2}}
	w.sim.SetFault(func(r *http.Request) cloudflaresim.Fault {
		if r.Method == http.MethodGet || len(faults) == 0 {
			return cloudflaresim.Fault{}
		}
		f := faults[0]
		faults = faults[1:]
		return f
	})
	if err := w.present(t.Context(), name, "value-1"); err != nil {
		t.Fatal(err)
	}
	if err := w.present(t.Context(), name, "value-2"); err != nil { // a wildcard beside its base
		t.Fatal(err)
	}
	if err := w.present(t.Context(), name, "value-2"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	expect(t, "presented", w.lines("acme.example"), []string{
		"TXT _acme-challenge.mail.acme.example value-1 [mf1:acme-mail:acme.example/acme-challenge/mail.acme.example]",
		"TXT _acme-challenge.mail.acme.example value-2 [mf1:acme-mail:acme.example/acme-challenge/mail.acme.example]",
	})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Name: "_acme-challenge.mail.acme.example", Content: `"value-3"`})
	for _, v := range []string{"value-1", "value-2", "value-3", "value-4"} {
		if err := w.cleanUp(t.Context(), name, v); err != nil {
			t.Errorf("clean up %s: %v", v, err)
		}
	}
	expect(t, "left", w.lines("acme.example"), []string{"TXT _acme-challenge.mail.acme.example value-3"})

	err := w.present(t.Context(), "_acme-challenge.mail.elsewhere.example", "x")
	if plan.ClassOf(err) != plan.ErrCredentials || !strings.Contains(err.Error(), "acme.example") {
		t.Errorf("a name outside every zone: %v", err)
	}
}

// A vendor that wants a moment of rest gets it: an order that went well leaves no
// record behind. For minutes nobody waits with an order open.
func TestChallengeRecordsWhileThrottled(t *testing.T) {
	const name = "_acme-challenge.mail.acme.example"
	for _, rest := range []int{2, 300} {
		w := newWorld(t, cloudflaresim.Config{})
		if err := w.present(t.Context(), name, "x"); err != nil {
			t.Fatal(err)
		}
		asked := 0
		w.sim.SetFault(func(r *http.Request) cloudflaresim.Fault {
			if asked++; r.Method == http.MethodPost && asked == 1 {
				return cloudflaresim.Fault{Status: 429, RetryAfter: rest}
			}
			return cloudflaresim.Fault{}
		})
		err := w.cleanUp(t.Context(), name, "x")
		if short := rest == 2; short != (err == nil) || short != (len(w.sim.Records("acme.example")) == 0) {
			t.Errorf("Retry-After %d: %v, left %v", rest, err, w.lines("acme.example"))
		}
	}
}

// What one run put up and did not take down is found by the next one.
func TestChallengeLeftByACrash(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	if err := w.present(t.Context(), "_acme-challenge.mail.acme.example", "x"); err != nil {
		t.Fatal(err)
	}
	w.p = w.provider(testToken) // the next process
	expect(t, "plan", pending(w.plan(nil, how{})), []string{"delete dns/acme.example/acme-challenge/mail.acme.example"})
	if err := w.cleanUp(t.Context(), "_acme-challenge.mail.acme.example", "x"); err != nil {
		t.Fatal(err)
	}
	expect(t, "left", w.lines("acme.example"), nil)
}

// A renewal, which changes no records, takes down what an interrupted one had put up for
// the same name: the value of its order is another one. What others put there stays,
// and so does what is gone already.
func TestRenewalTakesDownWhatACrashLeft(t *testing.T) {
	const name = "_acme-challenge.mail.acme.example"
	for _, gone := range []bool{false, true} {
		w := newWorld(t, cloudflaresim.Config{})
		if err := w.present(t.Context(), name, "old"); err != nil {
			t.Fatal(err)
		}
		if err := w.present(t.Context(), "_acme-challenge.other.acme.example", "old"); err != nil {
			t.Fatal(err)
		}
		w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Name: name, Content: `"theirs"`})
		w.p = w.provider(testToken) // the next process
		w.plan(testSpec(), how{})
		if gone {
			before := w.p
			w.p = w.provider(testToken)
			if err := w.cleanUp(t.Context(), name, "old"); err != nil {
				t.Fatal(err)
			}
			w.p = before
		}
		if err := w.present(t.Context(), name, "new"); err != nil {
			t.Fatal(err)
		}
		if err := w.cleanUp(t.Context(), name, "new"); err != nil {
			t.Fatal(err)
		}
		expect(t, "left", w.lines("acme.example"), []string{
			"TXT _acme-challenge.mail.acme.example theirs",
			"TXT _acme-challenge.other.acme.example old [mf1:acme-mail:acme.example/acme-challenge/other.acme.example]",
		})
	}
}

// The challenge record of an interrupted order: planned to be deleted, taken down by
// the order that was begun again, and nobody minds.
func TestDeletingWhatIsGone(t *testing.T) {
	const name = "_acme-challenge.mail.acme.example"
	w := newWorld(t, cloudflaresim.Config{})
	w.apply(testSpec(), how{})
	if err := w.present(t.Context(), name, "x"); err != nil {
		t.Fatal(err)
	}
	s := testSpec()
	s.Domains[0].DMARC = nil
	p := w.plan(s, how{})
	if err := w.cleanUp(t.Context(), name, "x"); err != nil {
		t.Fatal(err)
	}
	if err := w.run(p); err != nil {
		t.Error(err)
	}
	if err := w.run(p); err != nil {
		t.Errorf("again: %v", err)
	}
	if n := len(w.sim.Records("acme.example")); n != 5 {
		t.Errorf("%d records, want 5", n)
	}
}

// TestLateLists: answers are lost, and for twenty seconds the list of records shows
// neither what was written nor that something was deleted.
func TestLateLists(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newWorld(t, cloudflaresim.Config{Lag: 20 * time.Second, Now: func() time.Time { return now }})
	p, err := New(Config{
		Token: testToken, BaseURL: w.url, Stack: testStack,
		Sleep: func(_ context.Context, d time.Duration) error { now = now.Add(d); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.p = p
	twice := func(pl *plan.Plan) {
		t.Helper()
		for _, op := range pl.Ops {
			if op.Provider != Name {
				continue
			}
			w.sim.SetFault(writes(cloudflaresim.Fault{Lose: true}))
			if _, err := p.Do(t.Context(), op, "token", nil); plan.ClassOf(err) != plan.ErrAmbiguous {
				t.Fatalf("%s: %v", op.ID, err)
			}
			w.sim.SetFault(nil)
			if verdict, _, err := p.Resolve(t.Context(), op, "token"); verdict != plan.NotDone || err != nil {
				t.Fatalf("%s: %s, %v: the list is not late", op.ID, verdict, err)
			}
			if _, err := p.Do(t.Context(), op, "token", nil); err != nil {
				t.Errorf("%s, again: %v", op.ID, err)
			}
		}
		now = now.Add(time.Minute)
	}
	twice(w.plan(testSpec(), how{}))
	if n := len(w.sim.Records("acme.example")); n != 6 {
		t.Errorf("%d records, want 6: %q", n, w.lines("acme.example"))
	}
	twice(w.plan(testSpec(), how{destroy: true}))
	expect(t, "left", w.lines("acme.example"), nil)

	// A record like ours that is somebody else's is not waited for.
	pl := w.plan(testSpec(), how{})
	w.sim.Seed("acme.example", cloudflaresim.Record{Type: "TXT", Name: "_dmarc.acme.example", Content: `"v=DMARC1; p=reject; rua=mailto:postmaster@acme.example"`, TTL: 300})
	before := now.Add(21 * time.Second)
	now = before
	for _, op := range pl.Ops {
		_, err := p.Do(t.Context(), op, "token", nil)
		if refused := plan.ClassOf(err) == plan.ErrStale; err != nil && (!refused || now != before) {
			t.Errorf("%s: %v, after %s", op.ID, err, now.Sub(before))
		}
	}
}

// A web page in place of an answer: of the vendor's front, of a proxy, of a network
// that wants its guests to log in. A person reads its title and what to do.
func TestPagesInsteadOfAnswers(t *testing.T) {
	w := newWorld(t, cloudflaresim.Config{})
	p := w.plan(testSpec(), how{})
	for _, c := range []struct {
		status      int
		title       string
		read, write plan.ErrorClass
		got, fix    string
	}{
		{503, "Sorry", plan.ErrTransient, plan.ErrAmbiguous, `503 Service Unavailable: a web page in place of the API's answer, "Sorry"`, "cloudflarestatus.com"},
		{200, "Hotel", plan.ErrFatal, plan.ErrAmbiguous, `200 OK: a web page in place of the API's answer, "Hotel"`, "log in to the network"},
		{403, "Blocked", plan.ErrFatal, plan.ErrAmbiguous, `403 Forbidden: a web page`, "HTTPS_PROXY"},
		{429, "Slow", plan.ErrThrottled, plan.ErrThrottled, `429 Too Many Requests: a web page`, "wait"},
	} {
		page := "<html><head><title>" + c.title + "</title></head>" + strings.Repeat("<p>words</p>", 10000) + "</html>"
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			rw.WriteHeader(c.status)
			rw.Write([]byte(page))
		}))
		defer srv.Close()
		behind, err := New(Config{Token: testToken, BaseURL: srv.URL, Stack: testStack})
		if err != nil {
			t.Fatal(err)
		}
		_, err = behind.Observe(t.Context(), plan.Scope{Stack: testStack})
		_, errWrite := behind.Do(t.Context(), p.Ops[0], "token", nil)
		for i, err := range []error{err, errWrite} {
			var e *plan.Error
			if !errors.As(err, &e) || e.Class != []plan.ErrorClass{c.read, c.write}[i] || !strings.Contains(e.Got, c.got) || !strings.Contains(e.Fix, c.fix) {
				t.Errorf("%d: %v\n%+v", c.status, err, e)
				continue
			}
			if text := e.Error() + e.Fix; len(text) > 700 || strings.Contains(text, "<p>") {
				t.Errorf("%d: %d bytes: %.200s", c.status, len(text), text)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "17": 17 * time.Second, "-1": 0, "soon": 0, "9999999": 0,
		"Thu, 01 Jan 2026 00:05:00 GMT": 5 * time.Minute, "Wed, 31 Dec 2025 00:00:00 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

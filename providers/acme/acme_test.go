package acme

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/server/manifest"
	"mailform/specs"
)

func TestFirstCertificate(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	p := w.plan(testSpec())
	if got := actions(p); got != "create cert/mx1" || len(p.Ops) != 3 {
		t.Fatalf("plan: %s with %d operations", got, len(p.Ops))
	}
	if err := w.run(p); err != nil {
		t.Fatal(err)
	}
	w.verify()
	if again := w.plan(testSpec()); actions(again) != "" {
		t.Errorf("after apply there is still %s: %v", actions(again), again.Changes[0].Fields)
	}
	if left := w.sim.Records("acme.example"); len(left) != 0 {
		t.Errorf("challenge records are left: %v", left)
	}
}

// Good nonces are refused now and then, as RFC 8555 6.5 allows.
func TestRefusedNonces(t *testing.T) {
	w := newWorld(t, acmesim.Config{RejectNonces: 20})
	w.apply(testSpec())
	w.verify()
}

func TestRSA(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	s := testSpec()
	s.TLS.Key = "rsa2048"
	w.apply(s)
	w.verify()
	if got := actions(w.plan(s)); got != "" {
		t.Errorf("after apply there is still %s", got)
	}
}

func TestRenewal(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(testSpec())
	old := w.hosts.cert.SerialHex

	w.now = w.hosts.cert.NotAfter.Add(-32 * 24 * time.Hour)
	if got := actions(w.plan(testSpec())); got != "" {
		t.Errorf("32 days before its end: %s", got)
	}
	w.now = w.hosts.cert.NotAfter.Add(-12*24*time.Hour - time.Hour)
	p := w.plan(testSpec())
	if got := actions(p); got != "rotate cert/mx1" || p.Changes[0].Reason != "expires in 12 days" {
		t.Fatalf("12 days before its end: %s (%s)", got, p.Changes[0].Reason)
	}
	if err := w.run(p); err != nil {
		t.Fatal(err)
	}
	w.verify()
	if w.hosts.cert.SerialHex == old {
		t.Error("it is still the old certificate")
	}
}

// A TLSA record names the key (RFC 7671 5.1), so renewals of a host that serves a
// domain with DANE keep it, and it is an output.
func TestPublishedKeyIsKept(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(testSpec())
	first := w.hosts.cert.SPKI
	s := testSpec()
	s.Domains[0].DANE = true
	if got := actions(w.plan(s)); got != "" {
		t.Fatalf("the certificate changes with DANE: %s", got)
	}
	renew := func(s *specs.Spec) plan.Attrs {
		t.Helper()
		serial := w.hosts.cert.SerialHex
		w.now = w.hosts.cert.NotAfter.Add(-12 * 24 * time.Hour)
		p := w.plan(s)
		if got := actions(p); got != "rotate cert/mx1" || p.Changes[0].Outputs["spki"].Str() != w.hosts.cert.SPKI {
			t.Fatalf("plan: %s, %v", got, p.Changes[0].Outputs)
		}
		if err := w.run(p); err != nil {
			t.Fatal(err)
		}
		w.verify()
		if w.hosts.cert.SerialHex == serial {
			t.Fatal("it is still the old certificate")
		}
		install := p.Ops[slices.IndexFunc(p.Ops, func(op plan.Op) bool { return op.Kind == opInstall })]
		install.Inputs["chain"] = plan.String(string(w.hosts.chain))
		_, res, err := w.p.Resolve(t.Context(), install, "")
		if err != nil {
			t.Fatal(err)
		}
		return res.Outputs["cert/mx1"]
	}
	if out := renew(s); w.hosts.cert.SPKI != first || out["spki"].Str() != first {
		t.Errorf("the key is %s, outputs %v, expected %s", w.hosts.cert.SPKI, out, first)
	}
	// Another kind of key is another certificate, which the record follows.
	s.TLS.Key = "rsa2048"
	if got := actions(w.plan(s)); got != "replace cert/mx1" {
		t.Errorf("another kind of key: %s", got)
	}
	if out := renew(testSpec()); w.hosts.cert.SPKI == first || out["spki"].Str() != w.hosts.cert.SPKI {
		t.Errorf("without DANE the key is still the first one, or the output %v is not its hash", out)
	}
}

func TestChangedNamesAndDirectory(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(testSpec())
	s := testSpec()
	s.Hosts[0].Hostname = "mx.acme.example"
	p := w.plan(s)
	if got := actions(p); got != "update cert/mx1" || len(p.Changes[0].Fields) != 1 {
		t.Errorf("plan: %s %v", got, p.Changes[0].Fields)
	}
	w.apply(s)
	if got := w.hosts.cert.Names; len(got) != 1 || got[0] != "mx.acme.example" {
		t.Errorf("names %v", got)
	}
	other := httptest.NewServer(w.ca.Handler()) // the same CA without TLS
	defer other.Close()
	w.p = w.provider(func(c *Config) { c.Directory = other.URL + "/dir" })
	if got := actions(w.plan(s)); got != "update cert/mx1" {
		t.Errorf("another directory: %s", got)
	}
	w.apply(s)
	if w.hosts.cert.Directory != other.URL+"/dir" {
		t.Errorf("directory %s", w.hosts.cert.Directory)
	}
}

// The record does not show where mailform looks: the CA is not even asked.
func TestWrongDNS(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	elsewhere := cloudflaresim.New(cloudflaresim.Config{Static: []cloudflaresim.StaticZone{{Origin: "acme.example"}}})
	names, err := elsewhere.ListenDNS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	w.p = w.provider(func(c *Config) { c.Resolver = names.Addr() })
	e := asError(t, w.run(w.plan(testSpec())))
	if e.Code != "MF5310" || !strings.Contains(e.Error(), names.Addr()) || !strings.Contains(e.Error(), "no TXT record") ||
		!strings.Contains(e.Fix, "dig NS mail.acme.example") {
		t.Errorf("%v\n%s", e, e.Fix)
	}
	if left := w.sim.Records("acme.example"); len(left) != 0 {
		t.Errorf("challenge records are left: %v", left)
	}
}

// The record shows here and not there: the CA's own words are passed on.
func TestCASeesAnotherDNS(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	blind := cloudflaresim.New(cloudflaresim.Config{})
	names, err := blind.ListenDNS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	ca, err := acmesim.New(acmesim.Config{ResolverAddr: names.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	w.ca = ca
	w.p = w.provider(nil)
	e := asError(t, w.run(w.plan(testSpec())))
	if e.Class != plan.ErrFatal || !strings.Contains(e.Got, "urn:ietf:params:acme:error:") || !strings.Contains(e.Fix, "name servers") {
		t.Errorf("%v\n%s", e, e.Fix)
	}
	if left := w.sim.Records("acme.example"); len(left) != 0 {
		t.Errorf("challenge records are left: %v", left)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name      string
		path      string
		status    int
		body      string
		class     plan.ErrorClass
		fix       string
		wait      time.Duration
		retryHead string
	}{
		{name: "rate limit", path: "/order-plz", status: 429, retryHead: "3600", wait: time.Hour,
			body:  `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates (50) already issued for \"acme.example\" in the last 168h0m0s, retry after ` + inMinutes(30) + `: see https://letsencrypt.org/docs/rate-limits/","status":429}`,
			class: plan.ErrThrottled, fix: "50 certificates a week for all names under one registered domain"},
		{name: "duplicates", path: "/order-plz", status: 429, wait: 90 * time.Minute,
			body:  `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after ` + inMinutes(90) + `: see https://letsencrypt.org/docs/rate-limits/#x","status":429}`,
			class: plan.ErrThrottled, fix: "exactly the same names"},
		{name: "failed validations", path: "/order-plz", status: 429, wait: time.Hour,
			body:  `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many failed authorizations (5) for \"mail.acme.example\" in the last 1h0m0s","status":429}`,
			class: plan.ErrThrottled, fix: "It does not say when that ends: run the same command again in an hour"},
		{name: "a limit without a document", path: "/order-plz", status: 429, retryHead: "7200", wait: 2 * time.Hour, body: `<html>slow down</html>`,
			class: plan.ErrThrottled, fix: "in 2 hours (at "},
		{name: "too busy", path: "/order-plz", status: 503, retryHead: "600", wait: 10 * time.Minute,
			body:  `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"Service busy; retry later.","status":503}`,
			class: plan.ErrThrottled, fix: "too much to do"},
		{name: "CAA", path: "/finalize-order/", status: 403,
			body:  `{"type":"urn:ietf:params:acme:error:caa","detail":"CAA record prevents issuance","status":403}`,
			class: plan.ErrFatal, fix: "CAA record"},
		{name: "maintenance", path: "/order-plz", status: 503,
			body:  `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"down for maintenance","status":503}`,
			class: plan.ErrTransient, fix: "later"},
		{name: "contact", path: "/sign-me-up", status: 400,
			body:  `{"type":"urn:ietf:params:acme:error:invalidContact","detail":"no such domain","status":400}`,
			class: plan.ErrFatal, fix: "contact"},
		{name: "not a problem document", path: "/order-plz", status: 502, body: `<html>`, class: plan.ErrTransient, fix: "again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, acmesim.Config{Intercept: problem(c.path, c.status, c.body, "Retry-After", c.retryHead)})
			e := asError(t, w.run(w.plan(testSpec())))
			if e.Class != c.class || !strings.Contains(e.Fix, c.fix) || e.RetryAfter != c.wait {
				t.Errorf("class %q, wait %v, fix %q: %v", e.Class, e.RetryAfter, e.Fix, e)
			}
		})
	}
}

// inMinutes is a time as Let's Encrypt writes it.
func inMinutes(n int) string {
	return testNow.Add(time.Duration(n) * time.Minute).UTC().Format("2006-01-02 15:04:05 UTC")
}

func TestRefusedName(t *testing.T) {
	w := newWorld(t, acmesim.Config{Refuse: []string{"acme.example"}})
	e := asError(t, w.run(w.plan(testSpec())))
	if e.Class != plan.ErrFatal || !strings.Contains(e.Got, "rejectedIdentifier") {
		t.Errorf("%v", e)
	}
}

func TestUntrustedDirectory(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	other := newWorld(t, acmesim.Config{})
	w.p = w.provider(func(c *Config) { c.Roots = other.roots() })
	e := asError(t, w.run(w.plan(testSpec())))
	if e.Class != plan.ErrFatal || !strings.Contains(e.Fix, "MAILFORM_CA_BUNDLE") {
		t.Errorf("%v", e)
	}
}

// Killed between any two steps, the next run gets its certificate.
func TestRerunAfterEachStep(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	p := w.plan(testSpec())
	for stop := 1; stop <= 2; stop++ {
		short := *p
		short.Ops = nil
		for _, kind := range []string{opRequest, opObtain}[:stop] {
			for _, op := range p.Ops {
				if op.Kind == kind {
					short.Ops = append(short.Ops, op)
				}
			}
		}
		if err := w.run(&short); err != nil {
			t.Fatal(err)
		}
	}
	w.apply(testSpec())
	w.verify()
	if w.hosts.installs != 1 {
		t.Errorf("%d installs, want 1", w.hosts.installs)
	}
}

func TestResolve(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	p := w.plan(testSpec())
	for _, op := range p.Ops { // begun with references unresolved: nothing was sent
		if v, _, err := w.p.Resolve(t.Context(), op, ""); err != nil || v != plan.NotDone {
			t.Errorf("%s: %s %v", op.ID, v, err)
		}
	}
	w.apply(testSpec())
	for _, op := range p.Ops {
		if op.Kind != opInstall {
			continue
		}
		op.Inputs = op.Inputs.Resolve(func(plan.Ref) (plan.Value, bool) { return plan.String(string(w.hosts.chain)), true })
		v, res, err := w.p.Resolve(t.Context(), op, "")
		if err != nil || v != plan.Done || res.Outputs["cert/mx1"]["serial"].Str() != w.hosts.cert.SerialHex {
			t.Errorf("%s %v %v", v, res, err)
		}
	}
}

// Stopped while the CA is at it: the run ends soon and leaves no record.
func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld(t, acmesim.Config{Intercept: func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/chalZ/") {
			cancel()
		}
		return false
	}})
	p := w.plan(testSpec())
	var csr string
	for _, kind := range []string{opRequest, opObtain} {
		for _, op := range p.Ops {
			if op.Kind != kind {
				continue
			}
			op.Inputs = op.Inputs.Resolve(func(plan.Ref) (plan.Value, bool) { return plan.String(csr), true })
			res, err := w.p.Do(ctx, op, "token", nil)
			csr = res.Outputs["cert/mx1"]["csr"].Str()
			if kind == opObtain && err == nil {
				t.Error("it went on")
			}
		}
	}
	if left := w.sim.Records("acme.example"); len(left) != 0 {
		t.Errorf("challenge records are left: %v", left)
	}
}

func TestHostNotThereYet(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.p = w.provider(func(c *Config) { c.Hosts = unseen{w.hosts} })
	if got := actions(w.plan(testSpec())); got != "create cert/mx1" {
		t.Errorf("plan: %s", got)
	}
}

type unseen struct{ *hosts }

func (unseen) Certificates(string) ([]manifest.Certificate, bool) { return nil, false }

func FuzzParse(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if leaf, err := parseChain(b); err == nil && leaf == nil {
			t.Fatal("no leaf and no error")
		}
		if csr, err := parseRequest(b, nil); err == nil && csr == nil {
			t.Fatal("no request and no error")
		}
		if key, err := parseKey(b); err == nil && key == nil {
			t.Fatal("no key and no error")
		}
	})
}

// A host that answers HTTPS has its web names in its certificate, and a plan
// after that is quiet.
func TestWebNames(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	s := testSpec()
	s.Domains[0].MTASTS = &specs.MTASTS{Mode: "enforce"}
	s.Domains[0].Discovery = true
	s.Zones = []*specs.Zone{{Name: "acme.example", Web: []specs.Web{{Name: "www", Host: "mx1", Proxied: true}, {Name: "@", Host: "mx1"}, {Name: "else", Host: "mx2"}}}}
	w.apply(s)
	want := "acme.example autoconfig.acme.example autodiscover.acme.example mail.acme.example mta-sts.acme.example www.acme.example"
	if got := strings.Join(w.hosts.cert.Names, " "); got != want {
		t.Errorf("names: %s\n want: %s", got, want)
	}
	if got := actions(w.plan(s)); got != "" {
		t.Errorf("after apply there is still %s", got)
	}
}

// Whatever stands in the CA's place, a person reads one line of it, and what to do.
func TestPagesInsteadOfAnswers(t *testing.T) {
	page := "<!DOCTYPE html><html><head><title>Down for\n maintenance</title></head><body>" + strings.Repeat("<p>nothing to see</p>\n", 5000) + "</body></html>"
	for _, c := range []struct {
		name, path, kind, body string
		status                 int
		class                  plan.ErrorClass
		got, fix               string
	}{
		{"the CA's front", "/order-plz", "text/html", page, 503, plan.ErrTransient, `503 Service Unavailable: a web page in place of the API's answer, "Down for maintenance"`, "the CA has a problem or is being maintained"},
		{"a guest network", "/dir", "text/html; charset=utf-8", strings.Replace(page, "Down for", "Log in for", 1), 200, plan.ErrFatal, `200 OK: a web page in place of the API's answer, "Log in for maintenance"`, "log in to the network"},
		{"a proxy", "/dir", "text/html", "<h1>Access denied</h1>", 403, plan.ErrFatal, `403 Forbidden: a web page in place of the API's answer, "Access denied"`, "HTTPS_PROXY"},
		{"plain words", "/order-plz", "text/plain", "no healthy upstream\n", 502, plan.ErrTransient, `502 Bad Gateway: "no healthy upstream" in place of the API's answer`, "later"},
		{"nothing", "/order-plz", "", "", 500, plan.ErrTransient, "500 Internal Server Error", "later"},
		{"no end of JSON", "/order-plz", "application/json", `{"x":"` + strings.Repeat("y", 100000), 200, plan.ErrTransient, "yyyy", "run the same command again"},
	} {
		w := newWorld(t, acmesim.Config{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != c.path || r.Method == http.MethodHead {
				return false
			}
			w.Header().Set("Content-Type", c.kind)
			w.WriteHeader(c.status)
			w.Write([]byte(c.body))
			return true
		}})
		e := asError(t, w.run(w.plan(testSpec())))
		if e.Class != c.class || !strings.Contains(e.Got, c.got) || !strings.Contains(e.Fix, c.fix) {
			t.Errorf("%s: class %q\n got %s\nwant %s\n fix %s", c.name, e.Class, e.Got, c.got, e.Fix)
		}
		if text := e.Error() + e.Fix; len(text) > 900 || strings.Contains(text, "\n") || strings.Contains(text, "<p>") {
			t.Errorf("%s: %d bytes: %.300s", c.name, len(text), text)
		}
	}
}

package acme

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"mailform/providers/acme/acmesim"
	"mailform/server/manifest"
)

const day = 24 * time.Hour

func TestSchedule(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *window { return &window{start: start.Add(d), end: start.Add(d + 2*day)} }
	moved := &window{start: start.Add(5 * day), end: start.Add(6 * day), explanation: "https://ca.example/why"}
	for _, c := range []struct {
		name              string
		life, before, age time.Duration
		window            *window
		want              string
	}{
		{"before its time", 90 * day, 30 * day, 59 * day, nil, ""},
		{"renew_before", 90 * day, 30 * day, 60 * day, nil, "expires in 30 days"},
		{"last day", 90 * day, 30 * day, 89 * day, nil, "expires in 24 hours"},
		{"over", 90 * day, 30 * day, 91 * day, nil, "expired on 2026-04-01"},
		{"short-lived, before its time", 6 * day, 30 * day, 3 * day, nil, ""},
		{"short-lived", 6 * day, 30 * day, 4 * day, nil, "expires in 2 days"},
		{"the CA's word counts, not renew_before", 90 * day, 60 * day, 50 * day, at(60 * day), ""},
		{"its window is over", 90 * day, 20 * day, 62 * day, at(60 * day), "expires in 28 days"},
		{"a window after the end is not meant", 90 * day, 30 * day, 60 * day, at(95 * day), "expires in 30 days"},
		{"moved", 90 * day, 30 * day, 6 * day, moved, "the CA asks for an early renewal: it may revoke the certificate, see https://ca.example/why"},
		{"moved, and too late", 90 * day, 30 * day, 91 * day, moved, "expired on 2026-04-01, see https://ca.example/why"},
	} {
		cert := manifest.Certificate{NotBefore: start, NotAfter: start.Add(c.life), RenewalInfo: "https://ca.example/renewal/a.b"}
		if got := schedule(cert, c.window, c.before, start.Add(c.age)); got.Due != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.Due, c.want)
		}
	}
}

// Many certificates are spread over a window, and each has its place there.
func TestPointInWindow(t *testing.T) {
	w := window{start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), end: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)}
	quarters := map[int]int{}
	for i := range 400 {
		id := strings.Repeat("x", i)
		p := w.point(id)
		if p.Before(w.start) || !p.Before(w.end) || !p.Equal(w.point(id)) {
			t.Fatalf("%v is outside the window or not always the same", p)
		}
		quarters[int(p.Sub(w.start)/(12*time.Hour))]++
	}
	for q, n := range quarters {
		if n < 60 {
			t.Errorf("quarter %d of the window has %d of 400", q, n)
		}
	}
}

// RFC 9773 4.1: a serial number that begins with a one bit has a zero byte before it.
func TestCertID(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(testSpec())
	leaf, err := parseChain(w.hosts.chain)
	if err != nil {
		t.Fatal(err)
	}
	leaf.AuthorityKeyId = []byte{0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0, 0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4}
	leaf.SerialNumber, _ = new(big.Int).SetString("8765432100", 16)
	if got := certID(leaf); got != "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyEA" {
		t.Errorf("got %s", got)
	}
}

// The CA's window decides, in a plan that asks one question about the certificate.
func TestRenewalWindow(t *testing.T) {
	var asked, orders []string
	w := newWorld(t, acmesim.Config{Intercept: func(_ http.ResponseWriter, r *http.Request) bool {
		asked = append(asked, r.Method+" "+r.URL.Path)
		if r.URL.Path == "/order-plz" {
			orders = append(orders, payload(t, r))
		}
		return false
	}})
	w.apply(testSpec())
	first := w.hosts.cert.SerialHex
	asked = nil
	if got := actions(w.plan(testSpec())); got != "" {
		t.Fatalf("after apply there is still %s", got)
	}
	if len(asked) != 1 || !strings.HasPrefix(asked[0], "GET /draft-ietf-acme-ari-03/renewalInfo/") {
		t.Errorf("a plan asks the CA %v", asked)
	}
	renews := w.renewals()[0]
	if left := w.hosts.cert.NotAfter.Sub(renews.At); left < 28*day || left > 32*day || !strings.Contains(renews.Why, "the CA asks for it between") {
		t.Errorf("it renews %v before the end: %s", left, renews.Why)
	}

	if err := w.ca.MoveWindow(first, w.now.Add(-2*time.Hour), w.now.Add(-time.Hour), "https://ca.example/incident"); err != nil {
		t.Fatal(err)
	}
	p := w.plan(testSpec())
	if got := actions(p); got != "rotate cert/mx1" || p.Changes[0].Reason != "the CA asks for an early renewal: it may revoke the certificate, see https://ca.example/incident" {
		t.Fatalf("plan: %s (%s)", got, p.Changes[0].Reason)
	}
	if err := w.run(p); err != nil {
		t.Fatal(err)
	}
	w.verify()
	if w.hosts.cert.SerialHex == first {
		t.Error("it is still the old certificate")
	}
	if got := actions(w.plan(testSpec())); got != "" {
		t.Errorf("after the renewal there is still %s", got)
	}
	// The order says which certificate it replaces.
	if strings.Contains(orders[0], "replaces") || !strings.Contains(orders[len(orders)-1], `"replaces":"`+replacedID(asked[0])+`"`) {
		t.Errorf("the orders are %v", orders)
	}
}

// payload is what a signed request says.
func payload(t *testing.T, r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var jws struct{ Payload string }
	if err := json.Unmarshal(body, &jws); err != nil {
		t.Error(err)
	}
	text, err := base64.RawURLEncoding.DecodeString(jws.Payload)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// A CA that is down, has no such service or talks nonsense leaves it to renew_before.
func TestRenewalWithoutTheCAsWord(t *testing.T) {
	var answer func(http.ResponseWriter)
	w := newWorld(t, acmesim.Config{Intercept: func(rw http.ResponseWriter, r *http.Request) bool {
		if answer == nil || !strings.Contains(r.URL.Path, "/renewalInfo/") {
			return false
		}
		answer(rw)
		return true
	}})
	w.apply(testSpec())
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		says   string
	}{
		"down":     {func(w http.ResponseWriter) { w.WriteHeader(503) }, "503 Service Unavailable"},
		"hangs up": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "the CA does not answer"},
		"nonsense": {func(w http.ResponseWriter) { w.Write([]byte("<html>")) }, "not a renewal window"},
		"backwards": {func(w http.ResponseWriter) {
			w.Write([]byte(`{"suggestedWindow":{"start":"2026-01-02T00:00:00Z","end":"2026-01-01T00:00:00Z"}}`))
		}, "ends before it begins"},
		"endless": {func(w http.ResponseWriter) { w.Write(bytes.Repeat([]byte(" "), maxRenewalInfo+2)) }, "too long"},
	} {
		answer = c.answer
		r := w.renewals()[0]
		if want := w.hosts.cert.NotAfter.Add(-30 * day).Add(-time.Second); r.At.Before(want) || r.At.After(want.Add(2*time.Second)) || !strings.Contains(r.Why, c.says) || r.Due != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	w.now = w.hosts.cert.NotAfter.Add(-20 * day)
	if got := actions(w.plan(testSpec())); got != "rotate cert/mx1" {
		t.Errorf("20 days before the end, and the CA says nothing: %s", got)
	}
}

// memory is a cache of answers.
type memory struct {
	now  func() time.Time
	kept map[string]Answer
}

func (m *memory) Load(key string) ([]byte, bool) {
	a, ok := m.kept[key]
	return a.Text, ok && m.now().Before(a.Until)
}

func (m *memory) Store(answers []Answer) {
	for _, a := range answers {
		m.kept[a.Key] = a
	}
}

// The CA is not asked before the time it names, and then it is.
func TestRetryAfterOfWindows(t *testing.T) {
	asked := 0
	w := newWorld(t, acmesim.Config{AskAgain: 3 * time.Hour, Intercept: func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/renewalInfo/") {
			asked++
		}
		return false
	}})
	m := &memory{now: func() time.Time { return w.now }, kept: map[string]Answer{}}
	w.p = w.provider(func(c *Config) { c.Answers = m })
	w.apply(testSpec())
	first := w.renewals()[0]
	w.now = w.now.Add(3*time.Hour - time.Second)
	if second := w.renewals()[0]; asked != 1 || second != first {
		t.Errorf("asked %d times; %+v, then %+v", asked, first, second)
	}
	w.now = w.now.Add(time.Second)
	if w.renewals(); asked != 2 {
		t.Errorf("asked %d times after its time is over", asked)
	}
	for key := range m.kept {
		m.kept[key] = Answer{key, []byte("rubbish"), w.now.Add(time.Hour)}
	}
	if again := w.renewals()[0]; asked != 3 || again != first {
		t.Errorf("with a spoilt cache: asked %d times, %+v", asked, again)
	}
}

// A host cannot make us ask somebody else.
func TestForeignRenewalURL(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(testSpec())
	asked := false
	w.p.cfg.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
		asked = true
		return nil, http.ErrHandlerTimeout
	})
	for _, url := range []string{"http://169.254.169.254/latest", "https://elsewhere.example/renewal/a.b", "file:///etc/passwd", "::"} {
		w.hosts.cert.RenewalInfo = url
		if r := w.renewals()[0]; asked || r.Due != "" {
			t.Errorf("%s: asked %v, %+v", url, asked, r)
		}
	}
}

// An order that may not replace the old certificate is made without that word.
func TestReplacesIsRefused(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	w.apply(testSpec())
	// Another host's account: the CA refuses to let it replace this certificate.
	w.hosts.account = nil
	w.now = w.hosts.cert.NotAfter.Add(-12 * day)
	w.apply(testSpec())
	w.verify()
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func FuzzWindow(f *testing.F) {
	f.Add([]byte(`{"suggestedWindow":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"},"explanationURL":"https://ca.example"}`))
	f.Add([]byte(`{"suggestedWindow":{"start":"0001-01-01T00:00:00Z","end":"9999-12-31T23:59:59Z"}}`))
	f.Add([]byte(`{"explanationURL":"javascript:alert(1)"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := parseWindow(body)
		if err != nil {
			return
		}
		if p := w.point("id"); p.Before(w.start.Truncate(time.Second)) || p.After(w.end) {
			t.Fatalf("%v is not between %v and %v", p, w.start, w.end)
		}
		if text, err := json.Marshal(w.explanation); err != nil || strings.ContainsAny(w.explanation, "\n\r\x1b") {
			t.Fatalf("explanation %s %v", text, err)
		}
	})
}

func (w *world) renewals() []Renewal {
	w.t.Helper()
	out, _ := w.p.Renewals(w.t.Context(), []manifest.Certificate{*w.hosts.cert}, 30*day)
	return out
}

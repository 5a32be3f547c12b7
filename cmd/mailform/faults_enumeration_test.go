package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// vendorFault is one way in which a call to a vendor goes wrong.
type vendorFault struct {
	name string
	// effect says that the call is carried out all the same.
	effect bool
	// answer spoils the answer; carriedOut is what it would have been.
	answer func(w http.ResponseWriter, r *http.Request, vendor string, carriedOut *httptest.ResponseRecorder)
}

// timeoutDone is told from "timeout, not done" by what a call has changed only.
const timeoutDone = "timeout, done"

var vendorFaults = []vendorFault{
	{"timeout, not done", false, neverAnswered},
	{timeoutDone, true, neverAnswered},
	{"429 with Retry-After", false, func(w http.ResponseWriter, _ *http.Request, vendor string, _ *httptest.ResponseRecorder) {
		w.Header().Set("Retry-After", "2")
		w.Header().Set("Content-Type", map[string]string{"ca": "application/problem+json"}[vendor])
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, map[string]string{
			"cloud": `{"RequestId":"3F1B2C4D","Code":"Throttling.User","Message":"Request was denied due to user flow control."}`,
			"dns":   `{"success":false,"errors":[{"code":971,"message":"Please wait and consider throttling your request speed"}],"messages":[],"result":null}`,
			"ca":    `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many requests","status":429}`,
		}[vendor])
	}},
	{"502 from a proxy", false, func(w http.ResponseWriter, _ *http.Request, _ string, _ *httptest.ResponseRecorder) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "<html><body><h1>502 Bad Gateway</h1></body></html>")
	}},
	{"connection reset", false, func(w http.ResponseWriter, _ *http.Request, _ string, _ *httptest.ResponseRecorder) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}},
	{"half an answer, done", true, func(w http.ResponseWriter, _ *http.Request, _ string, carriedOut *httptest.ResponseRecorder) {
		body := carriedOut.Body.Bytes()
		carriedOut.Header().Del("Content-Length")
		carriedOut.Body.Truncate(len(body) / 2)
		deliver(w, carriedOut)
	}},
}

// neverAnswered lets the client wait until its patience is over, which is at once.
func neverAnswered(w http.ResponseWriter, r *http.Request, _ string, _ *httptest.ResponseRecorder) {
	w.WriteHeader(http.StatusEarlyHints)
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// spoil makes a turnstile's fault: the call with that name goes wrong.
func (f vendorFault) spoil(target string) func(string, http.ResponseWriter, *http.Request, http.Handler) bool {
	var once sync.Once
	return func(call string, w http.ResponseWriter, r *http.Request, api http.Handler) bool {
		hit := false
		if call == target {
			once.Do(func() { hit = true })
		}
		if !hit {
			return false
		}
		carriedOut := httptest.NewRecorder()
		if f.effect {
			api.ServeHTTP(carriedOut, r)
		}
		vendor, _, _ := strings.Cut(call, " ")
		f.answer(w, r, vendor, carriedOut)
		return true
	}
}

// TestFaultEnumeration gives each call that the program makes to a vendor, in a
// whole life of an example, each kind of bad answer. The command comes to a good
// end, or says what went wrong and that running it again continues, and running it
// again leads to the world of a faultless run.
func TestFaultEnumeration(t *testing.T) {
	th := newTheater(t)
	for _, example := range []string{"quickstart", large} {
		t.Run(example, func(t *testing.T) {
			for _, s := range th.life(t, example, "../../examples/"+example) {
				t.Run(s.act, func(t *testing.T) { th.spoilAll(t, s) })
			}
		})
	}
}

// spoilAll gives each call of a stage's command each kind of bad answer.
func (th *theater) spoilAll(t *testing.T, s *stage) {
	start := time.Now()
	want, calls := th.faultless(t, s)
	type target struct {
		call  string
		fault vendorFault
	}
	targets := map[string]target{}
	var names []string
	for _, call := range calls {
		for _, f := range vendorFaults {
			if f.name == timeoutDone && onlyReads(call) {
				continue
			}
			name := call + ": " + f.name
			targets[name] = target{call, f}
			names = append(names, name)
		}
	}
	all := len(names)
	names, note := sample(s.example, ofFaults, names)
	var mu sync.Mutex
	good, codes := 0, map[int]int{}
	parallel(names, func(name string) {
		code, err := th.spoiled(s, targets[name].call, targets[name].fault, want)
		mu.Lock()
		defer mu.Unlock()
		codes[code]++
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		good++
	})
	t.Logf("faults: %d/%d of %d end in the world of a faultless run, %d of them without a second run; exit codes of the first %v (%s)%s",
		good, len(names), all, codes[0], codes, time.Since(start).Round(time.Second), note)
}

// faultless runs a stage's command, and names the calls it makes.
func (th *theater) faultless(t *testing.T, s *stage) (want, calls []string) {
	t.Helper()
	p, err := th.raise(s, &turnstile{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.must(s.command...); err != nil {
		t.Fatal(err)
	}
	if want, err = p.world.Describe(); err != nil {
		t.Fatal(err)
	}
	calls = slices.Clone(p.gate.calls)
	slices.Sort(calls)
	return want, slices.Compact(calls)
}

// spoiled runs a stage's command with one fault.
func (th *theater) spoiled(s *stage, call string, f vendorFault, want []string) (code int, err error) {
	g := &turnstile{}
	p, err := th.raise(s, g, false)
	if err != nil {
		return -1, err
	}
	defer p.close()
	g.mu.Lock()
	g.fault = f.spoil(call)
	g.mu.Unlock()
	first, err := p.run(s.command...)
	if err != nil {
		return -1, err
	}
	code = first.code()
	g.mu.Lock()
	made := slices.Contains(g.calls, call)
	g.fault = nil
	g.mu.Unlock()
	said := first.output.String()
	switch {
	case !made:
		return code, fmt.Errorf("the call was not made:\n%s", said)
	case strings.Contains(said, "panic") || strings.Contains(said, "goroutine "):
		return code, fmt.Errorf("it panics:\n%s", said)
	case code != exitOK && code != exitIncomplete && !(code == exitRateLimited && strings.HasPrefix(f.name, "429")):
		return code, fmt.Errorf("exit code %d:\n%s", code, said)
	case code != exitOK && !strings.Contains(said, "Error"):
		return code, fmt.Errorf("exit code %d without a message:\n%s", code, said)
	}
	again := &process{}
	if code != exitOK {
		if again, err = p.run(s.command...); err != nil {
			return code, err
		}
		if again.code() != exitOK {
			return code, fmt.Errorf("run again, it ends with %d:\n%s\nThe first run:\n%s", again.code(), again.end(), first.end())
		}
	}
	got, err := p.world.Describe()
	if err != nil {
		return code, err
	}
	if d := difference(got, want); d != "" {
		return code, fmt.Errorf("exit code %d, and the world is another one:\n%s\nThe first run:\n%s\nThe second:\n%s", code, d, first.end(), again.end())
	}
	return code, nil
}

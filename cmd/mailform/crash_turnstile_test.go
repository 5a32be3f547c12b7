package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"mailform/providers/host/hostsim"
)

// turnstile stands in all of a world's conversations with the program: it names their
// steps, notes them, and at one of them has the program killed.
type turnstile struct {
	target string // the step to kill at; "" for none
	kill   func() // kills the program and returns once it is gone

	// pause is called at every step while the conversation stands still; nil never is.
	// What is said meanwhile by others is not looked at.
	pause func(step string)
	// fault may answer a call to a vendor in the vendor's place; nil never does.
	fault func(call string, w http.ResponseWriter, r *http.Request, api http.Handler) bool

	mu    sync.Mutex
	notes io.Writer // takes the steps that are passed, one a line; nil for none
	calls []string  // calls to vendors, in order
	steps []string  // all steps, in order
	seen  map[string]int
	authz map[string]int // authorizations of the CA, by path
	hit   bool
	off   bool // what comes is not looked at any more
}

// visit notes a step and reports whether the conversation goes on.
func (g *turnstile) visit(step string) bool {
	g.mu.Lock()
	if g.off {
		g.mu.Unlock()
		return true
	}
	g.steps = append(g.steps, step)
	if g.notes != nil {
		fmt.Fprintln(g.notes, step)
	}
	die := step == g.target && !g.hit
	g.hit = g.hit || die
	kill, pause := g.kill, g.pause
	g.off = pause != nil
	g.mu.Unlock()
	if die {
		kill()
	}
	if pause != nil {
		pause(step)
		g.mu.Lock()
		g.off = false
		g.mu.Unlock()
	}
	return !die
}

// nth makes a name unique within a run.
func (g *turnstile) nth(name string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen == nil {
		g.seen, g.authz = map[string]int{}, map[string]int{}
	}
	g.seen[name]++
	return fmt.Sprintf("%s #%d", name, g.seen[name])
}

// front is world.Config.Front.
func (g *turnstile) front(vendor string, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client went away
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		call := g.call(vendor, r, body)
		g.mu.Lock()
		g.calls = append(g.calls, call)
		fault := g.fault
		g.mu.Unlock()
		if !g.visit(call + ": asked") {
			panic(http.ErrAbortHandler)
		}
		if fault != nil && fault(call, w, r, api) {
			return
		}
		answer := httptest.NewRecorder()
		api.ServeHTTP(answer, r)
		if !g.visit(call + ": done, not answered") {
			panic(http.ErrAbortHandler)
		}
		deliver(w, answer)
	})
}

func deliver(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// recordID is an id in a DNS path; two runs may give it to different records.
var recordID = regexp.MustCompile(`dns_records/[0-9a-f]{32}`)

// call names a call.
func (g *turnstile) call(vendor string, r *http.Request, body []byte) string {
	switch vendor {
	case "cloud":
		form := r.URL.Query()
		if more, err := url.ParseQuery(string(body)); err == nil {
			for k, v := range more {
				form[k] = v
			}
		}
		action := form.Get("Action")
		if action == "" { // OSS has methods
			action = "oss " + r.Method
		}
		return g.nth("cloud " + action)
	case "dns":
		return g.nth("dns " + r.Method + " " + recordID.ReplaceAllString(strings.TrimPrefix(r.URL.Path, "/client/v4"), "dns_records/ID"))
	}
	return g.caCall(r, body)
}

// caCall names a call to the CA. How often a client has to look at an
// authorization or an order before it is ready is up to chance; between two looks
// nothing changes but by the CA's own doing, so that all of them are one step.
func (g *turnstile) caCall(r *http.Request, body []byte) string {
	path := strings.TrimPrefix(r.URL.Path, "/")
	kind, rest, _ := strings.Cut(path, "/")
	var jws struct{ Payload string }
	json.Unmarshal(body, &jws)
	payload, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
	if r.Method != http.MethodPost || len(payload) > 0 || rest == "" {
		return g.nth("ca " + r.Method + " " + kind)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen == nil {
		g.seen, g.authz = map[string]int{}, map[string]int{}
	}
	if _, known := g.authz[path]; !known {
		g.seen[kind+" looks"]++
		g.authz[path] = g.seen[kind+" looks"]
	}
	return fmt.Sprintf("ca look at %s #%d", kind, g.authz[path])
}

// digest is a program's, in a path.
var digest = regexp.MustCompile(`[0-9a-f]{64}`)

// watch is world.Config.Watch.
func (g *turnstile) watch() func(hostsim.Step) bool {
	return func(s hostsim.Step) bool {
		// Who waits for the whole answer does not heed how much of it has come.
		if s.At == hostsim.Said && s.N > 1 && !strings.HasSuffix(s.Command, " converge") {
			return true
		}
		// When a lease is renewed is the clock's to say, and a run that dies then is
		// one that dies a moment before or after.
		if strings.HasSuffix(s.Command, " lease renew") {
			return true
		}
		name := fmt.Sprintf("ssh %s: %s", digest.ReplaceAllString(s.Command, "SHA"), s.At)
		if s.N > 0 {
			name += fmt.Sprintf(" (%d)", s.N)
		}
		return g.visit(g.nth(name))
	}
}

// forget begins to count anew.
func (g *turnstile) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls, g.steps, g.seen = nil, nil, nil
}

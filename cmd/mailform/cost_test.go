package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/world"
	"mailform/server/account"
)

// rounds counts how often a command waits for vendors: calls that are on their
// way at the same time are one round. Every call is held until no other has come
// for a while; a busy machine can only make the count too high.
type rounds struct {
	mu    sync.Mutex
	on    bool
	count int
	calls int
	last  time.Time
	gate  chan struct{}
}

const quiet = 200 * time.Millisecond

// begin counts anew.
func (r *rounds) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on, r.calls, r.count = true, 0, 0
}

// end lets all calls through again.
func (r *rounds) end() (calls, trips int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = false
	return r.calls, r.count
}

func (r *rounds) hold() {
	r.mu.Lock()
	if !r.on {
		r.mu.Unlock()
		return
	}
	r.calls++
	r.last = time.Now()
	gate := r.gate
	if gate == nil {
		gate = make(chan struct{})
		r.gate = gate
		r.count++
		go r.release(gate)
	}
	r.mu.Unlock()
	<-gate
}

func (r *rounds) release(gate chan struct{}) {
	for {
		r.mu.Lock()
		wait := quiet - time.Since(r.last)
		if wait <= 0 {
			r.gate = nil
			r.mu.Unlock()
			close(gate)
			return
		}
		r.mu.Unlock()
		<-time.After(wait)
	}
}

// front stands before an endpoint and holds what goes to it.
func (r *rounds) front(t *testing.T, endpoint string) string {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: u.Scheme, Host: u.Host})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.hold()
		behind.ServeHTTP(w, req)
	}))
	t.Cleanup(front.Close)
	return front.URL + u.Path
}

// cost is what plan --stats says.
type cost struct {
	Calls map[string]int `json:"calls"`
	Depth int            `json:"depth"`
}

func planCost(t *testing.T, s shell) cost {
	t.Helper()
	stdout, _ := s.must(t, 0, "plan", "--detailed-exitcode", "--json", "--stats")
	var doc struct{ Stats cost }
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || len(doc.Stats.Calls) == 0 {
		t.Fatalf("plan --json --stats: %v\n%s", err, stdout)
	}
	return doc.Stats
}

// TestPlanCost: what a plan without changes reads depends neither on the size of
// the zone nor on the number of rules or mailboxes.
func TestPlanCost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := &rounds{}
	w, err := world.Start(context.Background(), world.Config{Shim: hostshim(), Dir: filepath.Join(dir, "world"), Zones: []string{"example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	s := shell{dir: filepath.Join(dir, "stack"), env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "USER=tester"}}
	for name, value := range w.Environment() {
		switch name {
		case "ALIBABA_CLOUD_ECS_ENDPOINT", "ALIBABA_CLOUD_VPC_ENDPOINT", "CLOUDFLARE_BASE_URL":
			value = r.front(t, value)
		}
		s.env = append(s.env, name+"="+value)
	}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	hash, err := account.HashPassword("one password for all of them")
	if err != nil {
		t.Fatal(err)
	}
	s.spec(t, hash, 10, 5)
	s.must(t, 0, "apply", "--auto-approve")
	// One question for each certificate, and none until the CA wants to be asked again.
	if first := planCost(t, s); first.Calls["acme"] != 1 {
		t.Errorf("the CA is asked %d times about one certificate", first.Calls["acme"])
	}
	small := planCost(t, s)
	if small.Calls["acme"] != 0 {
		t.Errorf("the CA is asked again at once, %d times", small.Calls["acme"])
	}
	t.Logf("calls of a plan without changes: %v", small.Calls)
	if small.Calls["alicloud"] > 9 || small.Calls["cloudflare"] > 3 {
		t.Errorf("calls: %v; at most 9 to the cloud and 3 to DNS are right", small.Calls)
	}

	block := filepath.Join(s.dir, "zone.hcl")
	if err := os.WriteFile(block, fmt.Appendf(nil, "zone \"example.com\" {\n  id = %q\n}\n", zoneID(t, w)), 0o644); err != nil {
		t.Fatal(err)
	}
	if known := planCost(t, s); known.Calls["cloudflare"] != 2 || known.Calls["alicloud"] != small.Calls["alicloud"] {
		t.Errorf("calls with the zone's id in the spec: %v; 2 to DNS are right", known.Calls)
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}

	// The least of some tries is nearest to the truth.
	least := 0
	for try := 0; try == 0 || try < 5 && least > 6; try++ {
		r.begin()
		if slow := planCost(t, s); slow.Calls["alicloud"] != small.Calls["alicloud"] {
			t.Errorf("a slow vendor is asked %d times, a fast one %d times", slow.Calls["alicloud"], small.Calls["alicloud"])
		}
		calls, trips := r.end()
		t.Logf("%d calls to vendors in %d sequential round trips", calls, trips)
		if try == 0 || trips < least {
			least = trips
		}
	}
	if least > 6 || least == 0 {
		t.Errorf("%d sequential round trips, at most 6 are right", least)
	}

	foreign := make([]cloudflaresim.Record, 2000)
	for i := range foreign {
		foreign[i] = cloudflaresim.Record{Type: "A", Name: fmt.Sprintf("n%d.example.com", i), Content: fmt.Sprintf("203.0.113.%d", i%250+1), TTL: 300}
	}
	w.DNS().Seed("example.com", foreign...)
	s.spec(t, hash, 180, 5000)
	s.must(t, 0, "apply", "--auto-approve")
	if large := planCost(t, s); fmt.Sprint(large) != fmt.Sprint(small) {
		t.Errorf("a small stack costs %v, a large one %v", small, large)
	}
	for _, args := range [][]string{{"validate"}, {"plan"}} {
		c := s.command(args...)
		begun := time.Now()
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		kib := c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
		t.Logf("%s of 5,000 mailboxes: %.1f s, %.1f s of CPU, %d MiB", args[0], time.Since(begun).Seconds(),
			(c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds(), kib>>10)
		if kib>>10 > 300 {
			t.Errorf("%s of 5,000 mailboxes took %d MiB of memory, at most 300 are right", args[0], kib>>10)
		}
	}
}

// zoneID asks for the id of the world's only zone.
func zoneID(t *testing.T, w *world.World) string {
	t.Helper()
	env := w.Environment()
	req, err := http.NewRequest(http.MethodGet, env["CLOUDFLARE_BASE_URL"]+"/zones", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+env["CLOUDFLARE_API_TOKEN"])
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var list struct{ Result []struct{ ID string } }
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil || len(list.Result) != 1 {
		t.Fatalf("zones: %v %v", list, err)
	}
	return list.Result[0].ID
}

// spec writes a spec with that many further ports and mailboxes.
func (s shell) spec(t *testing.T, hash string, ports, mailboxes int) {
	t.Helper()
	var b strings.Builder
	b.WriteString("stack \"large\" {\n  contact = \"m1@example.com\"\n}\n\nhost \"mx1\" {\n  hostname = \"mail.example.com\"\n  instance {}\n  ssh {\n    from = [\"0.0.0.0/0\"]\n  }\n")
	for i := range ports {
		fmt.Fprintf(&b, "  allow \"p%d\" {\n    port = %d\n    from = [\"198.51.100.0/24\"]\n  }\n", i, 8000+i)
	}
	b.WriteString("}\n\nlocals {\n  people = csvdecode(file(\"people.csv\"))\n}\n\ndomain \"example.com\" {\n  dynamic \"mailbox\" {\n    for_each = local.people\n" +
		"    labels = [mailbox.value.login]\n    content {\n      password_hash = mailbox.value.hash\n    }\n  }\n}\n")
	if err := os.WriteFile(filepath.Join(s.dir, "mail.hcl"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	b.WriteString("login,hash\n")
	for i := range mailboxes {
		fmt.Fprintf(&b, "m%d,\"%s\"\n", i+1, hash)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "people.csv"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

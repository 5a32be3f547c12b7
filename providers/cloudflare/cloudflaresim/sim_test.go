package cloudflaresim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

type api struct {
	t   *testing.T
	sim *Server
	url string
	tok string
}

func newAPI(t *testing.T, cfg Config) *api {
	t.Helper()
	if cfg.Tokens == nil {
		cfg.Tokens = []Token{{Value: "good"}, {Value: "off", Status: "disabled"}, {Value: "narrow", Zones: []string{"b.example"}}, {Value: "reader", ReadOnly: true}}
	}
	if cfg.Zones == nil {
		cfg.Zones = []Zone{{Name: "a.example"}, {Name: "b.example", Status: "pending"}}
	}
	sim := New(cfg)
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	return &api{t: t, sim: sim, url: srv.URL + "/client/v4", tok: "good"}
}

type answer struct {
	Status  int
	Header  http.Header
	Success bool            `json:"success"`
	Errors  []message       `json:"errors"`
	Result  json.RawMessage `json:"result"`
	Info    resultInfo      `json:"result_info"`
}

// codes gives the innermost codes of the answer's errors.
func (a answer) codes() string {
	var out []string
	for _, e := range a.Errors {
		for len(e.Chain) > 0 {
			e = e.Chain[0]
		}
		out = append(out, fmt.Sprint(e.Code))
	}
	return fmt.Sprint(a.Status, " ", strings.Join(out, " "))
}

func (a *api) call(method, path, body string) answer {
	a.t.Helper()
	req, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if a.tok != "" {
		req.Header.Set("Authorization", "Bearer "+a.tok)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	out := answer{Status: res.StatusCode, Header: res.Header}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		a.t.Fatal(err)
	}
	if out.Success != (res.StatusCode < 300) || out.Success != (len(out.Errors) == 0) {
		a.t.Errorf("%s %s: %d with success %v and errors %v", method, path, res.StatusCode, out.Success, out.Errors)
	}
	return out
}

func (a *api) zone(name string) string {
	for _, z := range a.sim.zones {
		if z.Name == name {
			return "/zones/" + z.id + "/dns_records"
		}
	}
	a.t.Fatalf("no zone %s", name)
	return ""
}

// The vendor's refusals, by the code a client has to look for.
func TestValidation(t *testing.T) {
	for _, c := range []struct{ want, body string }{
		{"200 ", `{"type":"A","name":"x","content":"192.0.2.1","ttl":300}`},
		{"200 ", `{"type":"MX","name":"@","content":"Mail.A.example.","priority":10}`},
		{"400 9004", `{"type":"MX","name":"@","content":"mail.a.example","priority":10,"proxied":true}`},
		{"400 9004", `{"type":"TXT","name":"@","content":"x","proxied":true}`},
		{"400 9021", `{"type":"A","name":"x","content":"192.0.2.1","ttl":30}`},
		{"400 9021", `{"type":"A","name":"x","content":"192.0.2.1","ttl":86401}`},
		{"400 9005", `{"type":"A","name":"x","content":"2001:db8::1"}`},
		{"400 9006", `{"type":"AAAA","name":"x","content":"192.0.2.1"}`},
		{"400 9007", `{"type":"CNAME","name":"x","content":""}`},
		{"400 9101", `{"type":"MX","name":"@","content":"mail.a.example"}`},
		{"400 9011", `{"type":"TXT","name":"@","content":""}`},
		{"400 9101", `{"type":"SRV","name":"_imaps._tcp","content":"x"}`},
		{"200 ", `{"type":"SRV","name":"_imaps._tcp","data":{"priority":0,"weight":1,"port":993,"target":"mail.a.example"}}`},
		{"400 9012", `{"type":"FOO","name":"x","content":"x"}`},
		{"400 9000", `{"type":"A","content":"192.0.2.1"}`},
		{"400 9313", `{"type":"A","name":"x","content":"192.0.2.1","comment":"` + strings.Repeat("c", 101) + `"}`},
		{"400 9207", `{`},
	} {
		a := newAPI(t, Config{})
		if got := a.call("POST", a.zone("a.example"), c.body); got.codes() != c.want {
			t.Errorf("%s: %s, want %s", c.body, got.codes(), c.want)
		}
	}
}

func TestConflicts(t *testing.T) {
	const addr = `{"type":"A","name":"x","content":"192.0.2.1","ttl":300}`
	const alias = `{"type":"CNAME","name":"x","content":"y.example","ttl":300}`
	for _, c := range []struct{ first, second, want string }{
		{addr, addr, "400 81058"},
		{addr, `{"type":"A","name":"X.a.example.","content":"192.0.2.1","ttl":60}`, "400 81057"},
		{addr, `{"type":"A","name":"x","content":"192.0.2.2"}`, "200 "},
		{addr, alias, "400 81053"},
		{alias, addr, "400 81054"},
		{alias, `{"type":"TXT","name":"x","content":"t"}`, "200 "},
		{addr, `{"type":"NS","name":"x","content":"ns.y.example"}`, "400 81056"},
	} {
		a := newAPI(t, Config{})
		a.call("POST", a.zone("a.example"), c.first)
		if got := a.call("POST", a.zone("a.example"), c.second); got.codes() != c.want {
			t.Errorf("%s after %s: %s, want %s", c.second, c.first, got.codes(), c.want)
		}
	}
	a := newAPI(t, Config{RecordQuota: 1})
	a.call("POST", a.zone("a.example"), addr)
	if got := a.call("POST", a.zone("a.example"), `{"type":"A","name":"y","content":"192.0.2.1"}`); got.codes() != "400 81045" {
		t.Errorf("above the quota: %s", got.codes())
	}
}

func TestStoredForm(t *testing.T) {
	a := newAPI(t, Config{})
	long := strings.Repeat("k", 300)
	for _, c := range []struct{ body, content string }{
		{`{"type":"TXT","name":"q","content":"\"short\""}`, `"short"`},
		{`{"type":"TXT","name":"l","content":"\"` + long + `\""}`, `"` + long[:255] + `" "` + long[255:] + `"`},
		{`{"type":"TXT","name":"u","content":"v=spf1 -all"}`, `v=spf1 -all`},
		{`{"type":"MX","name":"@","content":"Mail.Example.","priority":5}`, `mail.example`},
		{`{"type":"AAAA","name":"s","content":"2001:DB8:0::1"}`, `2001:db8::1`},
		{`{"type":"CAA","name":"@","data":{"flags":0,"tag":"issue","value":"letsencrypt.org"}}`, `0 issue "letsencrypt.org"`},
	} {
		var rec struct {
			ID, Name, Content string
			TTL               int
			Comment           *string
		}
		got := a.call("POST", a.zone("a.example"), c.body)
		json.Unmarshal(got.Result, &rec)
		if rec.Content != c.content || rec.TTL != 1 || rec.Comment != nil || len(rec.ID) != 32 || !strings.HasSuffix(rec.Name, "a.example") {
			t.Errorf("%s is stored as %s", c.body, got.Result)
		}
	}
}

func TestRecordLife(t *testing.T) {
	a := newAPI(t, Config{})
	made := a.call("POST", a.zone("a.example"), `{"type":"A","name":"x","content":"192.0.2.1","ttl":300,"comment":"mine"}`)
	var rec struct{ ID string }
	json.Unmarshal(made.Result, &rec)
	path := a.zone("a.example") + "/" + rec.ID
	if got := a.call("PATCH", path, `{"content":"192.0.2.2"}`); got.codes() != "400 9000" {
		t.Errorf("a patch without name, type and ttl: %s", got.codes())
	}
	if got := a.call("PATCH", path, `{"type":"A","name":"x","ttl":60,"content":"192.0.2.2"}`); !bytes.Contains(got.Result, []byte(`"comment":"mine"`)) {
		t.Errorf("patched: %s", got.Result)
	}
	if got := a.call("PUT", path, `{"type":"A","name":"x","content":"192.0.2.3"}`); !bytes.Contains(got.Result, []byte(`"comment":null`)) {
		t.Errorf("overwritten: %s", got.Result)
	}
	if got := a.call("GET", path, ""); got.codes() != "200 " {
		t.Errorf("read: %s", got.codes())
	}
	if got := a.call("DELETE", path, ""); got.codes() != "200 " {
		t.Errorf("deleted: %s", got.codes())
	}
	for _, method := range []string{"GET", "DELETE"} {
		if got := a.call(method, path, ""); got.codes() != "404 81044" {
			t.Errorf("%s of what is gone: %s", method, got.codes())
		}
	}
}

// All or nothing, in the order deletes, patches, puts, posts.
func TestBatch(t *testing.T) {
	a := newAPI(t, Config{BatchLimit: 3})
	made := a.call("POST", a.zone("a.example"), `{"type":"A","name":"x","content":"192.0.2.1","ttl":300}`)
	var rec struct{ ID string }
	json.Unmarshal(made.Result, &rec)
	batch := a.zone("a.example") + "/batch"
	before := a.sim.Records("a.example")
	bad := a.call("POST", batch, `{"deletes":[{"id":"`+rec.ID+`"}],"posts":[{"type":"A","name":"y","content":"192.0.2.1"},{"type":"A","name":"z","content":"nonsense"}]}`)
	if bad.codes() != "400 9005" || fmt.Sprint(a.sim.Records("a.example")) != fmt.Sprint(before) {
		t.Errorf("a batch with a mistake: %s, then %v", bad.codes(), a.sim.Records("a.example"))
	}
	good := a.call("POST", batch, `{"posts":[{"type":"CNAME","name":"x","content":"y.example"}],"deletes":[{"id":"`+rec.ID+`"}]}`)
	if got := a.sim.Records("a.example"); good.codes() != "200 " || len(got) != 1 || got[0].Type != "CNAME" {
		t.Errorf("an address becomes an alias: %s, then %v", good.codes(), got)
	}
	if got := a.call("POST", batch, `{"deletes":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]}`); got.Status != 400 {
		t.Errorf("too many operations: %s", got.codes())
	}
	if got := a.call("POST", batch, `{}`); got.Status != 400 {
		t.Errorf("nothing: %s", got.codes())
	}
}

// How large a batch may be is a matter of the zone's plan.
func TestBatchByPlan(t *testing.T) {
	for plan, limit := range map[string]int{"": 200, "pro": 3500} {
		a := newAPI(t, Config{Zones: []Zone{{Name: "a.example", Plan: plan}}})
		batch := a.zone("a.example") + "/batch"
		of := func(n int) string {
			return `{"deletes":[` + strings.TrimSuffix(strings.Repeat(`{"id":"a"},`, n), ",") + `]}`
		}
		if got := a.call("POST", batch, of(limit+1)); got.Status != 400 {
			t.Errorf("plan %q takes more than %d: %s", plan, limit, got.codes())
		}
		if got := a.call("POST", batch, of(limit)); got.codes() != "404 81044" {
			t.Errorf("plan %q does not take %d: %s", plan, limit, got.codes())
		}
	}
}

func TestTokens(t *testing.T) {
	a := newAPI(t, Config{})
	for _, c := range []struct{ token, method, zone, want string }{
		{"", "GET", "a.example", "400 9106"},
		{"two words", "GET", "a.example", "400 6111"},
		{"unknown", "GET", "a.example", "403 10000"},
		{"off", "GET", "a.example", "401 1000"},
		{"narrow", "GET", "a.example", "403 10000"},
		{"narrow", "GET", "b.example", "200 "},
		{"reader", "GET", "a.example", "200 "},
		{"reader", "POST", "a.example", "403 10000"},
	} {
		a.tok = c.token
		if got := a.call(c.method, a.zone(c.zone), "{}"); got.codes() != c.want {
			t.Errorf("token %q, %s %s: %s, want %s", c.token, c.method, c.zone, got.codes(), c.want)
		}
	}
	a.tok = "narrow"
	if got := a.call("GET", "/zones", ""); got.Info.TotalCount != 1 || bytes.Contains(got.Result, []byte("a.example")) {
		t.Errorf("a narrow token sees %s", got.Result)
	}
	a.tok = "good"
	if got := a.call("GET", "/user/tokens/verify", ""); got.codes() != "200 " {
		t.Errorf("verify: %s", got.codes())
	}
	a.tok = "off"
	if got := a.call("GET", "/user/tokens/verify", ""); got.codes() != "401 1000" {
		t.Errorf("verify of a disabled token: %s", got.codes())
	}
}

func TestListing(t *testing.T) {
	a := newAPI(t, Config{})
	for i := range 7 {
		a.sim.Seed("a.example", Record{Type: "A", Name: fmt.Sprintf("h%d.a.example", i), Content: "192.0.2.1", Comment: []string{"", "mf1:s:x"}[i%2]})
	}
	path := a.zone("a.example")
	got := a.call("GET", path+"?per_page=3&page=3", "")
	if got.Info != (resultInfo{Page: 3, PerPage: 3, Count: 1, TotalCount: 7, TotalPages: 3}) {
		t.Errorf("last page: %+v", got.Info)
	}
	for query, want := range map[string]int{
		"?page=9": 0, "?comment.startswith=MF1:": 3, "?comment.absent=": 4, "?name=H1.a.example": 1, "?type=MX": 0, "?content.contains=2.0.2": 7,
	} {
		var list []any
		if err := json.Unmarshal(a.call("GET", path+query, "").Result, &list); err != nil || len(list) != want {
			t.Errorf("%s: %d records, want %d (%v)", query, len(list), want, err)
		}
	}
	if got := a.call("GET", "/zones?per_page=51", ""); got.Status != 400 {
		t.Errorf("51 zones a page: %s", got.codes())
	}
	if got := a.call("GET", "/zones?name=b.example&status=pending", ""); got.Info.TotalCount != 1 {
		t.Errorf("filtered zones: %+v", got.Info)
	}
	for _, path := range []string{"/zones/nope/dns_records", "/nope"} {
		if got := a.call("GET", path, ""); got.codes() != "404 7003" {
			t.Errorf("%s: %s", path, got.codes())
		}
	}
}

// After the last call of the window everything is refused for five minutes.
func TestRateLimit(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a := newAPI(t, Config{CallLimit: 3, Now: func() time.Time { return now }})
	for i := range 3 {
		if got := a.call("GET", "/zones", ""); got.Header.Get("Ratelimit") != fmt.Sprintf(`"default";r=%d;t=300`, 2-i) {
			t.Errorf("call %d: %s", i, got.Header.Get("Ratelimit"))
		}
	}
	if got := a.call("GET", "/zones", ""); got.codes() != "429 971" || got.Header.Get("Retry-After") != "300" {
		t.Errorf("the fourth: %s, retry after %s", got.codes(), got.Header.Get("Retry-After"))
	}
	now = now.Add(299 * time.Second)
	if got := a.call("GET", "/zones", ""); got.codes() != "429 971" {
		t.Errorf("a second early: %s", got.codes())
	}
	now = now.Add(2 * time.Second)
	if got := a.call("GET", "/zones", ""); got.codes() != "200 " {
		t.Errorf("afterwards: %s", got.codes())
	}
}

func TestFaults(t *testing.T) {
	var slept time.Duration
	a := newAPI(t, Config{Sleep: func(d time.Duration) { slept += d }})
	fault := func(f Fault) { a.sim.SetFault(func(*http.Request) Fault { return f }) }
	body := `{"type":"A","name":"x","content":"192.0.2.1"}`
	post := func() error {
		req, _ := http.NewRequest("POST", a.url+a.zone("a.example"), strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer good")
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	fault(Fault{Drop: true})
	if err := post(); err == nil || len(a.sim.Records("a.example")) != 0 {
		t.Errorf("dropped: %v, %v", err, a.sim.Records("a.example"))
	}
	fault(Fault{Lose: true})
	if err := post(); err == nil || len(a.sim.Records("a.example")) != 1 {
		t.Errorf("lost: %v, %v", err, a.sim.Records("a.example"))
	}
	fault(Fault{Status: 503, Delay: time.Second})
	if got := a.call("POST", a.zone("a.example"), body); got.Status != 503 || slept != time.Second {
		t.Errorf("unavailable: %s after %v", got.codes(), slept)
	}
	var statuses []int
	for _, c := range a.sim.Calls() {
		statuses = append(statuses, c.Status)
	}
	if !slices.Equal(statuses, []int{0, 0, 503}) {
		t.Errorf("the log says %v", statuses)
	}
	a.sim.ResetCalls()
	if len(a.sim.Calls()) != 0 {
		t.Error("the log is not empty")
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("POST", "dns_records", `{"type":"TXT","name":"x","content":"\"a\" \"b"}`)
	f.Add("POST", "dns_records/batch", `{"posts":[{"type":"SRV","name":"x","data":{"port":1e300}}]}`)
	f.Add("GET", "dns_records?page=-1&comment.=x", "")
	f.Add("PATCH", "dns_records/x", `{"ttl":-1e300}`)
	f.Add("PATCH", "settings/ssl", `{"value":[]}`)
	f.Add("POST", "rulesets", `{"name":"d","kind":"zone","phase":"http_request_firewall_custom","rules":[{"action":"block","expression":"x"}]}`)
	f.Add("POST", "rulesets/x/rules", `{"position":{"index":-5}}`)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		sim := New(Config{Tokens: []Token{{Value: "good"}}, Zones: []Zone{{Name: "a.example"}}})
		req, err := http.NewRequest(method, "http://sim/client/v4/zones/"+sim.zones[0].id+"/"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer good")
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, req)
		for _, r := range sim.Records("a.example") {
			r.rr() // whatever was let in can be served or is skipped, without a panic
		}
		if w.Code >= 500 {
			t.Fatalf("%s %s %q: %d", method, path, body, w.Code)
		}
	})
}

// How many records a zone holds and may hold can be asked, and one more than that is refused.
func TestUsage(t *testing.T) {
	const record = `{"type":"TXT","name":"n%d","content":"\"x\"","ttl":300}`
	a := newAPI(t, Config{RecordQuota: 2})
	path := a.zone("a.example")
	for i, want := range []string{"200 ", "200 ", "400 81045"} {
		if got := a.call("GET", path+"/usage", ""); string(got.Result) != fmt.Sprintf(`{"record_quota":2,"record_usage":%d}`, i) {
			t.Errorf("with %d records: %s", i, got.Result)
		}
		if got := a.call("POST", path, fmt.Sprintf(record, i)); got.codes() != want {
			t.Errorf("record %d: %s, want %s", i, got.codes(), want)
		}
	}
	a = newAPI(t, Config{RecordQuota: -1})
	if got := a.call("GET", a.zone("a.example")+"/usage", ""); string(got.Result) != `{"record_quota":null,"record_usage":0}` {
		t.Errorf("a quota of the account: %s", got.Result)
	}
}

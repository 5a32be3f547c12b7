package cloudflaresim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	a := newAPI(t, Config{})
	path := strings.TrimSuffix(a.zone("a.example"), "dns_records") + "settings/"
	for _, c := range []struct{ method, id, body, want string }{
		{"GET", "ssl", "", "200 "},
		{"PATCH", "ssl", `{"value":"strict"}`, "200 "},
		{"PATCH", "security_level", `{"value":"under_attack"}`, "200 "},
		{"PATCH", "min_tls_version", `{"value":"1.4"}`, "400 1007"},
		{"PATCH", "ssl", `{}`, "400 1007"},
		{"PATCH", "nonsense", `{"value":"on"}`, "400 1003"},
		{"GET", "nonsense", "", "400 1003"},
	} {
		if got := a.call(c.method, path+c.id, c.body); got.codes() != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.method, c.id, c.body, got.codes(), c.want)
		}
	}
	if got := fmt.Sprint(a.sim.Settings("a.example")); got != "map[min_tls_version:1.0 security_level:under_attack ssl:strict]" {
		t.Errorf("settings: %s", got)
	}
	if got := a.call("GET", path+"ssl", ""); !bytes.Contains(got.Result, []byte(`"value":"strict"`)) {
		t.Errorf("answered: %s", got.Result)
	}
}

func TestRules(t *testing.T) {
	a := newAPI(t, Config{})
	base := strings.TrimSuffix(a.zone("a.example"), "dns_records") + "rulesets"
	entry := base + "/phases/" + wafPhase + "/entrypoint"
	if got := a.call("GET", entry, ""); got.codes() != "404 10003" {
		t.Errorf("a zone without rules: %s", got.codes())
	}
	create := `{"name":"default","kind":"zone","phase":"` + wafPhase + `","rules":[{"action":"block","expression":"(x)","description":"one"}]}`
	var rs struct {
		ID    string
		Rules []Rule
	}
	json.Unmarshal(a.call("POST", base, create).Result, &rs)
	if got := a.call("POST", base, create); got.Status != 400 {
		t.Errorf("a second ruleset of the phase: %s", got.codes())
	}
	rules := base + "/" + rs.ID + "/rules"
	order := func() string {
		var out []string
		for _, r := range a.sim.Rules("a.example") {
			out = append(out, r.Description)
		}
		return strings.Join(out, " ")
	}
	id := func(i int) string { return a.sim.Rules("a.example")[i].ID }
	write := func(method, path, description, position string) string {
		return a.call(method, path, `{"action":"block","expression":"(x)","description":"`+description+`"`+position+`}`).codes()
	}
	for _, c := range []struct{ got, codes, order string }{
		{write("POST", rules, "two", ""), "200 ", "one two"},
		{write("POST", rules, "zero", `,"position":{"before":"`+id(0)+`"}`), "200 ", "zero one two"},
		{write("PATCH", rules+"/"+id(0), "zero", `,"position":{"after":"`+id(1)+`"}`), "200 ", "one zero two"},
		{write("PATCH", rules+"/"+id(1), "nil", ""), "200 ", "one nil two"},
		{write("POST", rules, "first", `,"position":{"index":1}`), "200 ", "first one nil two"},
		{write("POST", rules, "lost", `,"position":{"after":"nope"}`), "404 20119", "first one nil two"},
		{write("PATCH", rules+"/nope", "x", ""), "404 20119", "first one nil two"},
		{a.call("POST", rules, `{"action":"bloke","expression":"x"}`).codes(), "400 20015", "first one nil two"},
		{a.call("POST", rules, `{"action":"block","expression":"(x"}`).codes(), "400 20127", "first one nil two"},
		{write("POST", rules, "five", ""), "200 ", "first one nil two five"},
		{write("POST", rules, "six", ""), "403 20217", "first one nil two five"},
		{a.call("DELETE", rules+"/"+id(2), "").codes(), "200 ", "first one two five"},
		{a.call("DELETE", rules+"/nope", "").codes(), "404 20119", "first one two five"},
	} {
		if c.got != c.codes {
			t.Errorf("%s, want %s", c.got, c.codes)
		}
	}
	if got := order(); got != "first one two five" {
		t.Errorf("in the end: %s", got)
	}
	if got := a.call("GET", entry, ""); got.codes() != "200 " || !bytes.Contains(got.Result, []byte(`"ref":"`+id(0)+`"`)) {
		t.Errorf("the entry point: %s %s", got.codes(), got.Result)
	}
}

func TestDNSSEC(t *testing.T) {
	a := newAPI(t, Config{Zones: []Zone{{Name: "a.example", DNSSEC: "active"}, {Name: "b.example"}}})
	for zone, want := range map[string]string{"a.example": `"status":"active"`, "b.example": `"ds":null`} {
		path := strings.TrimSuffix(a.zone(zone), "dns_records") + "dnssec"
		if got := a.call("GET", path, ""); !bytes.Contains(got.Result, []byte(want)) {
			t.Errorf("%s: %s", zone, got.Result)
		}
	}
}

func TestPermissions(t *testing.T) {
	a := newAPI(t, Config{
		Tokens: []Token{{Value: "dns", Permissions: []string{"DNS:Edit"}}, {Value: "look", Permissions: []string{"Zone:Read", "DNS:Read", "Zone WAF:Read"}}},
		Zones:  []Zone{{Name: "a.example"}},
	})
	records := a.zone("a.example")
	zone := strings.TrimSuffix(records, "/dns_records")
	for _, c := range []struct{ token, method, path, want string }{
		{"dns", "GET", "/zones", "403 10000"},
		{"dns", "GET", records, "200 "},
		{"dns", "POST", records, "400 9000"},
		{"dns", "GET", zone + "/settings/ssl", "403 10000"},
		{"look", "GET", "/zones", "200 "},
		{"look", "POST", records, "403 10000"},
		{"look", "GET", zone + "/rulesets/phases/" + wafPhase + "/entrypoint", "404 10003"},
		{"look", "POST", zone + "/rulesets", "403 10000"},
	} {
		a.tok = c.token
		if got := a.call(c.method, c.path, "{}"); got.codes() != c.want {
			t.Errorf("%s: %s %s: %s, want %s", c.token, c.method, c.path, got.codes(), c.want)
		}
	}
	a.sim.SetTokenStatus("look", "expired")
	if got := a.call("GET", "/zones", ""); got.codes() != "401 1000" {
		t.Errorf("expired: %s", got.codes())
	}
}

// Reads show what was true a moment ago; writes are checked against what is true.
func TestLag(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a := newAPI(t, Config{Lag: 10 * time.Second, Now: func() time.Time { return now }})
	path := a.zone("a.example")
	seen := func() int { return a.call("GET", path, "").Info.TotalCount }
	body := `{"type":"A","name":"x","content":"192.0.2.%d","ttl":300}`
	a.call("POST", path, fmt.Sprintf(body, 1))
	now = now.Add(6 * time.Second)
	a.call("POST", path, fmt.Sprintf(body, 2))
	if n := seen(); n != 0 {
		t.Errorf("after 6 s: %d", n)
	}
	if got := a.call("POST", path, fmt.Sprintf(body, 1)); got.codes() != "400 81058" {
		t.Errorf("the same again: %s", got.codes())
	}
	now = now.Add(5 * time.Second)
	if n := seen(); n != 1 {
		t.Errorf("after 11 s: %d", n)
	}
	now = now.Add(20 * time.Second)
	if n := seen(); n != 2 {
		t.Errorf("in the end: %d", n)
	}
}

func TestHalfPage(t *testing.T) {
	a := newAPI(t, Config{})
	for i := range 4 {
		a.sim.Seed("a.example", Record{Type: "A", Name: fmt.Sprintf("h%d.a.example", i), Content: "192.0.2.1"})
	}
	a.sim.SetFault(func(*http.Request) Fault { return Fault{HalfPage: true} })
	var list []any
	got := a.call("GET", a.zone("a.example"), "")
	if json.Unmarshal(got.Result, &list) != nil || len(list) != 2 || got.Info.TotalCount != 4 {
		t.Errorf("%d records of %d", len(list), got.Info.TotalCount)
	}
}

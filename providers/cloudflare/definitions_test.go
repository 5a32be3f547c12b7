package cloudflare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/internal/vendortest"
	"mailform/specs"
)

// schema is a JSON schema of the published OpenAPI definition.
type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Properties map[string]*schema
	Required   names
	Items      *schema
	Enum       []any
	AllOf      []*schema
	AnyOf      []*schema
	Minimum    *float64
	Maximum    *float64
	MinLength  int
	MaxLength  int
	Nullable   bool
	Schema     *schema // of a parameter or a body
	Name, In   string  // of a parameter
}

// names is a list of names; parameters have a bool in its place.
type names []string

func (n *names) UnmarshalJSON(b []byte) error {
	if b[0] != '[' {
		return nil
	}
	return json.Unmarshal(b, (*[]string)(n))
}

type operation struct {
	Parameters  []*schema
	RequestBody struct {
		Content map[string]*schema
	}
	Responses map[string]struct {
		Content map[string]*schema
	}
}

// definition holds what is sent and answered against the vendor's definition.
type definition struct {
	Paths      map[string]map[string]*operation
	Components struct {
		Schemas    map[string]*schema
		Parameters map[string]*schema
	}

	next     http.RoundTripper
	mu       sync.Mutex
	problems []string
	used     map[string]int
	beyond   map[string]bool // what was used that is not defined, see testdata/undefined.txt
}

// definitionFile is the newest definition there is; "" when there is none.
func definitionFile() string {
	files, _ := filepath.Glob(filepath.Join(vendortest.Definitions(), "cloudflare-dns-openapi-*.json")) // the pattern is well-formed
	if vendortest.Definitions() == "" || len(files) == 0 {
		return ""
	}
	return files[len(files)-1]
}

func loadDefinition(t *testing.T) *definition {
	t.Helper()
	path := definitionFile()
	if path == "" {
		t.Skip("the vendor's definition cloudflare-dns-openapi-*.json is not there (set MAILFORM_VENDOR_API)")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := &definition{next: http.DefaultTransport, used: map[string]int{}, beyond: map[string]bool{}}
	if err := json.Unmarshal(text, d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *definition) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	res, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(res.Body)
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(answer))
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.check(r, body, res.StatusCode, answer)
	return res, nil
}

func (d *definition) check(r *http.Request, body []byte, status int, answer []byte) {
	path, op := d.operation(r.Method, strings.TrimPrefix(r.URL.Path, "/client/v4"))
	if op == nil && elsewhereDefined(r.URL.Path) {
		d.beyond[r.Method+" "+idsOut.ReplaceAllString(strings.TrimPrefix(r.URL.Path, "/client/v4"), "/{id}")+": not in the published definition, which is that of DNS"] = true
		return
	}
	if op == nil {
		d.say("%s %s is not defined", r.Method, r.URL.Path)
		return
	}
	where := r.Method + " " + path
	d.used[where]++
	params := map[string]*schema{}
	for _, p := range op.Parameters {
		if p = d.deref(p); p.In == "query" {
			params[p.Name] = p.Schema
		}
	}
	for name, values := range r.URL.Query() {
		s, ok := params[name]
		if !ok {
			d.say("%s: query parameter %s is not defined", where, name)
			continue
		}
		var v any = values[0]
		if n, err := strconv.ParseFloat(values[0], 64); err == nil && d.deref(s).Type == "number" {
			v = n
		}
		d.report(where+" ?"+name, d.validate(s, v, true))
	}
	if content := op.RequestBody.Content["application/json"]; content != nil && r.Method != http.MethodDelete {
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			d.say("%s: body: %v", where, err)
		}
		d.report(where+" body", d.validate(content.Schema, v, true))
	} else if len(body) > 0 {
		d.say("%s has a body", where)
	}
	key := "200"
	if status >= 400 {
		key = "4XX"
	}
	var v any
	if err := json.Unmarshal(answer, &v); err != nil {
		d.say("%s: answer: %v", where, err)
	}
	d.report(where+" answer "+key, d.validate(op.Responses[key].Content["application/json"].Schema, v, false))
}

// elsewhereDefined: the definition at hand is that of DNS. Settings, rulesets and networks
// are other products' and are as the vendor's Go library writes them.
func elsewhereDefined(path string) bool {
	return strings.Contains(path, "/settings/") || strings.Contains(path, "/rulesets") || strings.HasSuffix(path, "/"+rangesPath)
}

// idsOut finds what differs from zone to zone in a path.
var idsOut = regexp.MustCompile(`/[0-9a-f]{32}`)

// undefined holds testdata/undefined.txt to what was used beyond the definition, so
// that it grows only knowingly.
func (d *definition) undefined(t *testing.T) {
	t.Helper()
	for _, live := range deviations {
		d.beyond["answers: "+live+": the live API is not as published"] = true
	}
	want := slices.Sorted(maps.Keys(d.beyond))
	text, err := os.ReadFile("testdata/undefined.txt")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			listed = append(listed, line)
		}
	}
	if !slices.Equal(listed, want) {
		t.Errorf("testdata/undefined.txt lists\n%s\nand what is not defined is\n%s", strings.Join(listed, "\n"), strings.Join(want, "\n"))
	}
}

func (d *definition) operation(method, path string) (string, *operation) {
	best := ""
	for p := range d.Paths {
		want, have := strings.Split(p, "/"), strings.Split(path, "/")
		if len(want) != len(have) {
			continue
		}
		match := true
		for i := range want {
			match = match && (want[i] == have[i] || strings.HasPrefix(want[i], "{"))
		}
		// A literal part ("batch") is closer than a parameter.
		if match && (best == "" || strings.Count(p, "{") < strings.Count(best, "{")) {
			best = p
		}
	}
	return best, d.Paths[best][strings.ToLower(method)]
}

func (d *definition) deref(s *schema) *schema {
	for s.Ref != "" {
		name := s.Ref[strings.LastIndex(s.Ref, "/")+1:]
		if strings.Contains(s.Ref, "/parameters/") {
			s = d.Components.Parameters[name]
		} else {
			s = d.Components.Schemas[name]
		}
	}
	return s
}

func (d *definition) say(format string, args ...any) {
	if p := fmt.Sprintf(format, args...); !slices.Contains(d.problems, p) {
		d.problems = append(d.problems, p)
	}
}

func (d *definition) report(where string, problems []string) {
	for _, p := range problems {
		d.say("%s%s", where, p)
	}
}

// deviations are the places where the live API is not as published: a comment that is
// not there is null, and records without structured data have no data.
var deviations = [...]string{"comment: null, want string", "data is missing"}

func known(problem string) bool {
	return slices.ContainsFunc(deviations[:], func(live string) bool { return strings.HasSuffix(problem, live) })
}

// validate lists what is wrong with a value. strict wants every field of it to be defined.
func (d *definition) validate(s *schema, v any, strict bool) []string {
	s = d.deref(s)
	var out []string
	if len(s.AnyOf) > 0 {
		var best []string
		base := *s
		base.AnyOf = nil
		for i, alternative := range s.AnyOf {
			merged := d.merge(&base, d.deref(alternative))
			problems := d.validate(&merged, v, strict)
			if i == 0 || weight(problems) < weight(best) {
				best = problems
			}
		}
		return best
	}
	if len(s.AllOf) > 0 {
		merged := *s
		merged.AllOf = nil
		for _, part := range s.AllOf {
			merged = d.merge(&merged, d.deref(part))
		}
		return d.validate(&merged, v, strict)
	}
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		bad(": %v, want one of %v", v, s.Enum)
	}
	if v == nil {
		if !s.Nullable && s.Type != "" && !slices.Contains(s.Enum, nil) {
			bad(": null, want %s", s.Type)
		}
		return filter(out)
	}
	switch x := v.(type) {
	case map[string]any:
		if s.Type != "object" && s.Type != "" {
			bad(": an object, want %s", s.Type)
		}
		for _, name := range s.Required {
			if _, ok := x[name]; !ok {
				bad(".%s is missing", name)
			}
		}
		for name, field := range x {
			if p := s.Properties[name]; p != nil {
				for _, problem := range d.validate(p, field, strict) {
					bad(".%s%s", name, problem)
				}
			} else if strict {
				bad(".%s is not defined", name)
			}
		}
	case []any:
		if s.Type != "array" {
			bad(": a list, want %s", s.Type)
		} else {
			for i, e := range x {
				for _, problem := range d.validate(s.Items, e, strict) {
					bad("[%d]%s", i, problem)
				}
			}
		}
	case string:
		if s.Type != "string" || len(x) < s.MinLength || s.MaxLength > 0 && len(x) > s.MaxLength {
			bad(": %q, want %s", x, s.Type)
		}
	case float64:
		if s.Type != "number" && s.Type != "integer" || s.Minimum != nil && x < *s.Minimum || s.Maximum != nil && x > *s.Maximum {
			bad(": %v, want %s in its range", x, s.Type)
		}
	case bool:
		if s.Type != "boolean" {
			bad(": %v, want %s", x, s.Type)
		}
	}
	return filter(out)
}

func filter(problems []string) []string {
	return slices.DeleteFunc(problems, known)
}

// weight makes the alternative for another record type the worse one.
func weight(problems []string) int {
	n := len(problems)
	for _, p := range problems {
		if strings.Contains(p, ".type:") {
			n += 100
		}
	}
	return n
}

func (d *definition) merge(a, b *schema) schema {
	m := *b
	m.Ref = ""
	m.Properties = map[string]*schema{}
	for _, s := range []*schema{a, b} {
		for k, v := range s.Properties {
			m.Properties[k] = v
		}
	}
	m.Required = append(slices.Clone(a.Required), b.Required...)
	m.AnyOf = append(slices.Clone(a.AnyOf), b.AnyOf...)
	m.AllOf = append(slices.Clone(a.AllOf), b.AllOf...)
	return m
}

// Everything the provider sends, and everything the simulator answers, is as the
// vendor has published it.
func TestRequestsAndAnswersAreAsPublished(t *testing.T) {
	d := loadDefinition(t)
	w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "other.example", Status: "pending"}}})
	p, err := New(Config{Token: testToken, BaseURL: w.url, Stack: testStack, Transport: d})
	if err != nil {
		t.Fatal(err)
	}
	w.p = p
	ten := 10
	w.sim.Seed("acme.example",
		cloudflaresim.Record{Type: "TXT", Content: "v=spf1 include:_spf.shop.example ~all"},
		cloudflaresim.Record{Type: "MX", Content: "mail.acme.example", Priority: &ten},
		cloudflaresim.Record{Type: "CAA", Content: `0 issue "ca.example"`, Data: []byte(`{"flags":0,"tag":"issue","value":"ca.example"}`)},
	)
	s := fullSpec()
	stale := w.plan(s, how{})
	w.p.adviseRanges(t.Context())
	if err := w.p.Check(t.Context(), stale.Ops); err != nil {
		t.Error(err)
	}
	w.apply(s, how{})
	desired, _ := w.p.Declare(s)
	observed, err := w.p.Observe(t.Context(), plan.Scope{Stack: testStack, Desired: desired})
	if err != nil {
		t.Fatal(err)
	}
	forgotten := map[string]bool{} // one record of each type
	var forget []plan.Change
	for _, o := range observed.Objects {
		if kind := o.Attrs["type"].Str(); o.Forgettable && !forgotten[kind] {
			forgotten[kind] = true
			forget = append(forget, plan.Change{Address: o.Address, Provider: Name, Kind: o.Kind, Action: plan.Forget, ID: o.ID, Before: o.Attrs})
		}
	}
	if err := w.run(&plan.Plan{Ops: w.p.Compile(forget)}); err != nil {
		t.Error(err)
	}
	w.sim.SetDNSSEC("acme.example", "pending")
	s.Hosts[0].Hostname = "mx.acme.example"
	s.Hosts = append(s.Hosts, &specs.Host{Name: "mx6", Hostname: "six.acme.example", Instance: &specs.Instance{}})
	s.Domains[0].DMARC.Policy = "none"
	w.apply(s, how{allow: []string{"**"}})
	if err := w.run(stale); err == nil {
		t.Error("a stale plan was run")
	}
	if err := w.present(t.Context(), "_acme-challenge.mx.acme.example", "x"); err != nil {
		t.Error(err)
	}
	if err := w.cleanUp(t.Context(), "_acme-challenge.mx.acme.example", "x"); err != nil {
		t.Error(err)
	}
	w.p.api.batch(t.Context(), "delete what is gone", w.p.zones[0].id, batch{deletes: []string{"gone"}})
	w.apply(s, how{destroy: true, allow: []string{"**"}})

	wrong, err := New(Config{Token: "wrong", BaseURL: w.url, Stack: testStack, Transport: d})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Observe(t.Context(), plan.Scope{}); err == nil {
		t.Error("a wrong token was taken")
	}
	// The check itself notices what is missing, undefined or of the wrong type.
	post := d.Paths["/zones/{zone_id}/dns_records"]["post"].RequestBody.Content["application/json"].Schema
	for _, body := range []string{
		`{"type":"TXT","name":"x","content":"y"}`, `{"type":"TXT","name":"x","ttl":60,"colour":"red"}`,
		`{"type":"MX","name":"x","ttl":60,"content":"y","priority":"10"}`, `{"type":"NOPE","name":"x","ttl":60}`,
	} {
		var v any
		json.Unmarshal([]byte(body), &v)
		if len(d.validate(post, v, true)) == 0 {
			t.Errorf("nothing is wrong with %s", body)
		}
	}
	d.undefined(t)
	slices.Sort(d.problems)
	for _, problem := range d.problems {
		t.Error(problem)
	}
	if len(d.used) < 5 {
		t.Errorf("only %v was used", d.used)
	}
}

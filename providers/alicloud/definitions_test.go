package alicloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"mailform/providers/internal/vendortest"
)

// definition is one operation of the vendor's published API definitions.
type definition struct {
	Methods    []string
	Parameters map[string]schema
	ErrorCodes map[string]map[string]string
	Response   schema

	fromClient bool // not published: what the vendor's generated client says stands in for it
}

type schema struct {
	Type        string
	Format      string
	Style       string
	Required    bool
	DocRequired bool
	MaxItems    int
	Minimum     string
	Maximum     string
	Enum        []any
	Pattern     string
	Items       *schema
	Properties  map[string]schema
}

// checker holds what is sent and answered against the definitions.
type checker struct {
	ops map[string]definition // by "version action"

	mu       sync.Mutex
	problems map[string]bool
	seen     map[string]bool
}

var loadDefinitions = sync.OnceValues(func() (map[string]definition, error) {
	dir := vendortest.Definitions()
	if dir == "" {
		return nil, nil
	}
	ops := map[string]definition{}
	for _, name := range []string{"alibaba-ecs-2014-05-26.json", "alibaba-vpc-2016-04-28.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		var file struct {
			Version    string
			Operations map[string]definition
		}
		if err := json.Unmarshal(text, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for action, d := range file.Operations {
			ops[file.Version+" "+action] = d
		}
	}
	clients := generatedClients()
	for _, a := range actions {
		name := a.product.version + " " + a.name
		if _, published := ops[name]; published || clients == "" || a.product == oss {
			continue
		}
		d, err := fromClient(filepath.Join(clients, a.product.name), a.name)
		if err != nil {
			return nil, err
		}
		d.fromClient = true
		ops[name] = d
	}
	return ops, nil
})

// TestWhatIsNotDefinedIsListed holds testdata/undefined.txt to what the provider uses
// beyond the published definitions, so that it grows only knowingly. That every
// request and answer is as defined is held by every test that talks to the simulator,
// and that none is left out by TestEveryCallIsExercisedAgainstTheDefinitions.
func TestWhatIsNotDefinedIsListed(t *testing.T) {
	ops, err := loadDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	if ops == nil {
		t.Skip("the vendor's API definitions are not here")
	}
	var want []string
	for _, a := range actions {
		d, defined := ops[a.product.version+" "+a.name]
		switch {
		case a.product == oss:
			want = append(want, a.product.name+" "+a.name+": the published definitions have no OSS; as its documentation says, answered by the simulator")
		case !defined:
			want = append(want, a.product.name+" "+a.name+": defined nowhere")
		case d.fromClient:
			want = append(want, a.product.name+" "+a.name+": not among the published definitions; checked against the vendor's generated client")
		}
	}
	sort.Strings(want)
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
	t.Logf("%d of %d operations are not among the published definitions", len(want), len(actions))
	equal(t, "testdata/undefined.txt", listed, want)
}

func newChecker(t *testing.T) *checker {
	ops, err := loadDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	if ops == nil {
		return nil
	}
	c := &checker{ops: ops, problems: map[string]bool{}, seen: map[string]bool{}}
	t.Cleanup(func() {
		for _, p := range sortedNames(c.problems) {
			t.Errorf("not as the vendor's definitions say: %s", p)
		}
	})
	return c
}

func sortedNames(m map[string]bool) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func (c *checker) problem(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems[fmt.Sprintf(format, args...)] = true
}

// wrap checks every request on its way in and every answer on its way out.
func (c *checker) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Authorization"), "OSS4-HMAC-SHA256 ") {
			h.ServeHTTP(w, r) // another API, see testdata/undefined.txt
			return
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		all := r.URL.Query()
		for k, v := range form {
			all[k] = v
		}
		name := all.Get("Version") + " " + all.Get("Action")
		d, ok := c.ops[name]
		if !ok {
			c.problem("%s is not defined", name)
			h.ServeHTTP(w, r)
			return
		}
		c.mu.Lock()
		c.seen[name] = true
		c.mu.Unlock()
		c.request(name, d, all)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code == 200 && rec.Header().Get("Content-Type") != "" {
			var answer any
			if json.Unmarshal(rec.Body.Bytes(), &answer) == nil {
				c.value(name+" answer", d.Response, answer)
			}
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

var commonParameter = regexp.MustCompile(`^(Action|Version|Format|AccessKeyId|Signature|SignatureMethod|SignatureVersion|SignatureType|SignatureNonce|Timestamp|SecurityToken|RegionId)$`)

func (c *checker) request(name string, d definition, all url.Values) {
	given := map[string]bool{}
	for k, vs := range all {
		if len(vs) != 1 {
			c.problem("%s: %s is sent %d times", name, k, len(vs))
		}
		given[strings.SplitN(k, ".", 2)[0]] = true
		given[k] = true
		if _, defined := d.Parameters[k]; !defined && commonParameter.MatchString(k) {
			continue
		}
		s, ok := d.lookup(k)
		if !ok {
			c.problem("%s has no parameter %s", name, k)
			continue
		}
		c.text(name+" "+k, s, vs[0])
	}
	for k, s := range d.Parameters {
		if (s.Required || s.DocRequired) && !given[k] {
			c.problem("%s: %s is required and not sent", name, k)
		}
	}
}

// lookup finds the schema of a parameter as it is sent: "Tag.1.Key", "SystemDisk.Size".
func (d definition) lookup(name string) (schema, bool) {
	if s, ok := d.Parameters[name]; ok {
		return s, true
	}
	parts := strings.Split(name, ".")
	s, ok := d.Parameters[parts[0]]
	for _, p := range parts[1:] {
		if !ok {
			return schema{}, false
		}
		switch s.Type {
		case "array":
			n, err := strconv.Atoi(p)
			if err != nil || n < 1 || s.MaxItems > 0 && n > s.MaxItems || s.Items == nil {
				return schema{}, false
			}
			s = *s.Items
		case "object":
			s, ok = s.Properties[p]
		default:
			return schema{}, false
		}
	}
	return s, ok
}

// text checks a parameter's text.
func (c *checker) text(what string, s schema, v string) {
	switch s.Type {
	case "integer":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			c.problem("%s: %q is not a whole number", what, v)
		}
		if low, err := strconv.ParseInt(s.Minimum, 10, 64); err == nil && n < low {
			c.problem("%s: %d is less than %d", what, n, low)
		}
		if high, err := strconv.ParseInt(s.Maximum, 10, 64); err == nil && n > high {
			c.problem("%s: %d is more than %d", what, n, high)
		}
	case "boolean":
		if v != "true" && v != "false" {
			c.problem("%s: %q is not true or false", what, v)
		}
	case "array", "object":
		c.problem("%s: is sent as one text", what)
	}
	if len(s.Enum) > 0 {
		ok := false
		for _, e := range s.Enum {
			ok = ok || fmt.Sprint(e) == v
		}
		if !ok {
			c.problem("%s: %q is none of %v", what, v, s.Enum)
		}
	}
	if s.Pattern != "" {
		if re, err := regexp.Compile(s.Pattern); err == nil && !re.MatchString(v) {
			c.problem("%s: %q does not match %s", what, v, s.Pattern)
		}
	}
}

// value checks a part of an answer.
func (c *checker) value(what string, s schema, v any) {
	ok := true
	switch s.Type {
	case "object":
		m, isMap := v.(map[string]any)
		if ok = isMap; ok {
			for k, e := range m {
				p, defined := s.Properties[k]
				if !defined {
					c.problem("%s has no field %s", what, k)
					continue
				}
				c.value(what+"."+k, p, e)
			}
		}
	case "array":
		l, isList := v.([]any)
		if ok = isList; ok && s.Items != nil {
			for _, e := range l {
				c.value(what+"[]", *s.Items, e)
			}
		}
	case "string":
		_, ok = v.(string)
	case "boolean":
		_, ok = v.(bool)
	case "integer", "number":
		_, ok = v.(float64)
	}
	if !ok {
		c.problem("%s: %v is not of type %s", what, v, s.Type)
	}
}

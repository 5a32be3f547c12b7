package cloudflare

import (
	"encoding/json"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"mailform/plan"
)

// Permission is one that an API token needs, as Cloudflare's dashboard calls it.
// https://developers.cloudflare.com/fundamentals/api/reference/permissions/
type Permission struct {
	Name string // "DNS:Edit"
	When string // what in a spec makes it necessary; "" for every spec
}

// requests are all requests that this package makes and the permission that each
// needs. "*" stands for one part of the path.
var requests = []struct {
	method, path string
	permission   string // "" for those that every token may make
	when         string
}{
	{"GET", "zones", "Zone", ""},
	{"GET", "zones/*", "Zone", ""},
	{"GET", "zones/*/dns_records", "DNS", ""},
	{"GET", "zones/*/dns_records/usage", "DNS", ""},
	{"POST", "zones/*/dns_records/batch", "DNS", ""},
	{"GET", "zones/*/dnssec", "DNS", ""},
	{"GET", "zones/*/settings/*", "Zone Settings", whenSettings},
	{"PATCH", "zones/*/settings/*", "Zone Settings", whenSettings},
	{"GET", "zones/*/rulesets/phases/" + wafPhase + "/entrypoint", "Zone WAF", whenBlock},
	{"POST", "zones/*/rulesets", "Zone WAF", whenBlock},
	{"POST", "zones/*/rulesets/*/rules", "Zone WAF", whenBlock},
	{"PATCH", "zones/*/rulesets/*/rules/*", "Zone WAF", whenBlock},
	{"DELETE", "zones/*/rulesets/*/rules/*", "Zone WAF", whenBlock},
	{"GET", rangesPath, "", ""},
	{"GET", verifyPath, "", ""},
}

const (
	verifyPath   = "user/tokens/verify"
	rangesPath   = "ips"
	whenBlock    = "a zone block"
	whenSettings = "a zone block with security_level, ssl or min_tls"
)

// Scope lists the permissions that an API token needs for the zones of the spec:
// for everything mailform does, or only for looking (plan, drift, show).
func Scope(readOnly bool) []Permission {
	level := map[string]string{}
	when := map[string]string{}
	for _, r := range requests {
		if r.permission == "" || readOnly && r.method != http.MethodGet {
			continue
		}
		when[r.permission] = r.when
		if r.method != http.MethodGet {
			level[r.permission] = "Edit"
		} else if level[r.permission] == "" {
			level[r.permission] = "Read"
		}
	}
	var out []Permission
	for name, l := range level {
		out = append(out, Permission{Name: name + ":" + l, When: when[name]})
	}
	slices.SortFunc(out, func(a, b Permission) int {
		// What every spec needs comes first.
		if (a.When == "") != (b.When == "") {
			if a.When == "" {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

func permissionNames(list []Permission) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.Name
		if p.When != "" {
			names[i] += " (for " + p.When + ")"
		}
	}
	return strings.Join(names, ", ")
}

// permissionFor names the permission that a request needs, "" when none.
func permissionFor(method, requestPath string) string {
	for _, r := range requests {
		if ok, _ := path.Match(r.path, requestPath); ok && r.method == method && r.permission != "" {
			if method == http.MethodGet {
				return r.permission + ":Read"
			}
			return r.permission + ":Edit"
		}
	}
	return ""
}

// verification is what the vendor says about the token, asked for once and only
// when a request was refused.
type verification struct {
	once   sync.Once
	status string // "active", "disabled", "expired", "invalid" or "" when it could not be asked
}

// explain says why a request was refused: the token itself is no good, or it lacks
// one permission, which is named.
func (c *client) explain(req *http.Request, e *plan.Error) {
	c.verify.once.Do(func() { c.verify.status = c.tokenStatus(req) })
	const set = "set CLOUDFLARE_API_TOKEN to "
	switch c.verify.status {
	case "active":
		if need := permissionFor(req.Method, strings.TrimPrefix(req.URL.Path, c.root)); need != "" {
			e.Fix = "the token in CLOUDFLARE_API_TOKEN is active, but lacks the permission " + need +
				" for this zone: give it that at https://dash.cloudflare.com/profile/api-tokens, where its zone resources must include the zone"
		}
	case "disabled", "expired":
		e.Got += "; the token is " + c.verify.status
		e.Fix = set + "another token, or enable or roll this one at https://dash.cloudflare.com/profile/api-tokens"
	case "invalid":
		e.Got += "; Cloudflare does not know the token, or it has expired or been disabled"
		e.Fix = set + "a token of yours, complete and without quotes; it needs these permissions for the zones in the spec: " + permissionNames(Scope(false))
	}
}

// tokenStatus asks about the token. Its own failures explain nothing.
func (c *client) tokenStatus(refused *http.Request) string {
	req, err := c.request(refused.Context(), http.MethodGet, verifyPath, nil)
	if err != nil {
		return ""
	}
	res, err := c.http.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	var answer struct {
		Result struct {
			Status string `json:"status"`
		} `json:"result"`
	}
	if json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer) != nil {
		return ""
	}
	if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden || res.StatusCode == http.StatusBadRequest {
		return "invalid"
	}
	return answer.Result.Status
}

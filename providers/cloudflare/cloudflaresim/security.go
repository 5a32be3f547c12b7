package cloudflaresim

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Rule is a WAF custom rule.
type Rule struct {
	ID          string `json:"id"`
	Ref         string `json:"ref"`
	Version     string `json:"version"`
	Action      string `json:"action"`
	Expression  string `json:"expression"`
	Description string `json:"description"`
	Enabled     bool   `json:"enabled"`
	LastUpdated string `json:"last_updated"`
}

const (
	wafPhase    = "http_request_firewall_custom"
	maxWAFRules = 5 // on the free plan
)

// settingValues are the zone settings that are simulated; the first value is that
// of a new zone.
var settingValues = map[string][]string{
	"security_level":  {"medium", "off", "essentially_off", "low", "high", "under_attack"},
	"ssl":             {"full", "off", "flexible", "strict"},
	"min_tls_version": {"1.0", "1.1", "1.2", "1.3"},
}

var wafActions = []string{"block", "challenge", "js_challenge", "managed_challenge", "log", "skip"}

// Settings returns a zone's settings by their id.
func (s *Server) Settings(zone string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for _, z := range s.zones {
		if z.Name == ascii(zone) {
			for id := range settingValues {
				out[id] = z.setting(id)
			}
		}
	}
	return out
}

// Rules returns a zone's WAF custom rules in order.
func (s *Server) Rules(zone string) []Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, z := range s.zones {
		if z.Name == ascii(zone) {
			return slices.Clone(z.rules)
		}
	}
	return nil
}

// SeedRules appends rules as another user of the account would.
func (s *Server) SeedRules(zone string, rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, z := range s.zones {
		if z.Name == ascii(zone) {
			for _, r := range rules {
				z.rules = append(z.rules, s.completeRule(r))
			}
			z.ruleset = s.rulesetID(z)
		}
	}
}

// SetDNSSEC changes how a zone is signed: "active", "pending" or "disabled".
func (s *Server) SetDNSSEC(zone, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, z := range s.zones {
		if z.Name == ascii(zone) {
			z.DNSSEC = status
		}
	}
}

func (s *Server) dnssec(_ *request, z *zoneState) (any, *resultInfo, *failure) {
	out := map[string]any{"status": z.DNSSEC, "flags": nil, "key_tag": nil, "ds": nil, "digest": nil, "modified_on": nil}
	if z.DNSSEC != "disabled" {
		out["flags"], out["key_tag"], out["algorithm"], out["key_type"] = 257, 2371, "13", "ECDSAP256SHA256"
		out["digest_type"], out["digest_algorithm"] = "2", "SHA256"
		digest := strings.ToUpper(z.id + z.id)
		out["digest"], out["ds"] = digest, fmt.Sprintf("%s. 3600 IN DS 2371 13 2 %s", z.Name, digest)
	}
	return out, nil, nil
}

func (z *zoneState) setting(id string) string {
	if v := z.settings[id]; v != "" {
		return v
	}
	return settingValues[id][0]
}

func (s *Server) getSetting(r *request, z *zoneState) (any, *resultInfo, *failure) {
	id := r.PathValue("setting")
	if settingValues[id] == nil {
		return nil, nil, fail(http.StatusBadRequest, 1003, "Undefined zone setting: "+id)
	}
	return map[string]any{"id": id, "value": z.setting(id), "editable": true, "modified_on": nil}, nil, nil
}

func (s *Server) patchSetting(r *request, z *zoneState) (any, *resultInfo, *failure) {
	id := r.PathValue("setting")
	var in struct{ Value *string }
	if f := decode(r.body, &in); f != nil {
		return nil, nil, f
	}
	if settingValues[id] == nil {
		return nil, nil, fail(http.StatusBadRequest, 1003, "Undefined zone setting: "+id)
	}
	if !slices.Contains(settingValues[id], text(in.Value)) {
		return nil, nil, fail(http.StatusBadRequest, 1007, "Invalid value for zone setting "+id)
	}
	if z.settings == nil {
		z.settings = map[string]string{}
	}
	z.settings[id] = *in.Value
	return s.getSetting(r, z)
}

func (s *Server) rulesetID(z *zoneState) string {
	if z.ruleset == "" {
		z.ruleset = s.newID("ruleset")
	}
	return z.ruleset
}

func (s *Server) completeRule(r Rule) Rule {
	if r.ID == "" {
		r.ID = s.newID("rule")
	}
	if r.Ref == "" {
		r.Ref = r.ID
	}
	r.Version, r.LastUpdated = "1", s.now().UTC().Format(timestampForm)
	return r
}

func (z *zoneState) wireRuleset() any {
	return map[string]any{
		"id": z.ruleset, "name": "default", "description": "", "kind": "zone", "version": "1",
		"phase": wafPhase, "last_updated": z.created.UTC().Format(timestampForm), "rules": append([]Rule{}, z.rules...),
	}
}

func (s *Server) entrypoint(r *request, z *zoneState) (any, *resultInfo, *failure) {
	if r.PathValue("phase") != wafPhase || z.ruleset == "" {
		return nil, nil, fail(http.StatusNotFound, 10003, fmt.Sprintf("could not find entrypoint ruleset in the %q phase", r.PathValue("phase")))
	}
	return z.wireRuleset(), nil, nil
}

// ruleFields is a rule in a request.
type ruleFields struct {
	Action      *string
	Expression  *string
	Description *string
	Enabled     *bool
	Position    *struct {
		Before, After *string
		Index         *int
	}
}

// onto writes the given fields onto a rule and checks it.
func (f ruleFields) onto(r *Rule) *failure {
	for _, p := range []struct {
		from *string
		to   *string
	}{{f.Action, &r.Action}, {f.Expression, &r.Expression}, {f.Description, &r.Description}} {
		if p.from != nil {
			*p.to = *p.from
		}
	}
	if f.Enabled != nil {
		r.Enabled = *f.Enabled
	}
	if !slices.Contains(wafActions, r.Action) {
		return fail(http.StatusBadRequest, 20015, fmt.Sprintf("the action %q is not allowed in the phase %q", r.Action, wafPhase))
	}
	if strings.TrimSpace(r.Expression) == "" || strings.Count(r.Expression, "(") != strings.Count(r.Expression, ")") {
		return fail(http.StatusBadRequest, 20127, "'"+r.Expression+"' is not a valid value for expression because the expression is invalid")
	}
	return nil
}

func (s *Server) createRuleset(r *request, z *zoneState) (any, *resultInfo, *failure) {
	var in struct {
		Name, Kind, Phase string
		Rules             []ruleFields
	}
	if f := decode(r.body, &in); f != nil {
		return nil, nil, f
	}
	if in.Name == "" || in.Kind != "zone" || in.Phase != wafPhase {
		return nil, nil, fail(http.StatusBadRequest, 20020, "name, kind and phase are required")
	}
	if z.ruleset != "" {
		return nil, nil, fail(http.StatusBadRequest, 20217, "a ruleset of this kind exists in the phase already")
	}
	var rules []Rule
	for _, f := range in.Rules {
		rule := Rule{Enabled: true}
		if failed := f.onto(&rule); failed != nil {
			return nil, nil, failed
		}
		rules = append(rules, s.completeRule(rule))
	}
	s.rulesetID(z)
	z.rules = rules
	return z.wireRuleset(), nil, nil
}

func (s *Server) createRule(r *request, z *zoneState) (any, *resultInfo, *failure) {
	if len(z.rules) >= maxWAFRules {
		return nil, nil, fail(http.StatusForbidden, 20217, fmt.Sprintf("exceeded maximum number of rules in the phase %s: %d out of %d", wafPhase, len(z.rules)+1, maxWAFRules))
	}
	return s.writeRule(r, z, Rule{Enabled: true}, len(z.rules))
}

func (s *Server) patchRule(r *request, z *zoneState) (any, *resultInfo, *failure) {
	i := z.ruleAt(r.PathValue("rule"))
	if i < 0 {
		return nil, nil, noSuchRule()
	}
	return s.writeRule(r, z, z.rules[i], i)
}

// writeRule puts a rule at its place, which is i when the request names none.
func (s *Server) writeRule(r *request, z *zoneState, rule Rule, i int) (any, *resultInfo, *failure) {
	if r.PathValue("ruleset") != z.ruleset || z.ruleset == "" {
		return nil, nil, noSuchRule()
	}
	var in ruleFields
	if f := decode(r.body, &in); f != nil {
		return nil, nil, f
	}
	if f := in.onto(&rule); f != nil {
		return nil, nil, f
	}
	rule = s.completeRule(rule)
	rules := slices.DeleteFunc(slices.Clone(z.rules), func(o Rule) bool { return o.ID == rule.ID })
	if p := in.Position; p != nil {
		at := func(id string) int { return slices.IndexFunc(rules, func(o Rule) bool { return o.ID == id }) }
		switch {
		case text(p.After) != "":
			if i = at(*p.After) + 1; i == 0 {
				return nil, nil, noSuchRule()
			}
		case text(p.Before) != "":
			if i = at(*p.Before); i < 0 {
				return nil, nil, noSuchRule()
			}
		case p.Index != nil:
			i = min(max(*p.Index-1, 0), len(rules))
		}
	}
	z.rules = slices.Insert(rules, min(i, len(rules)), rule)
	return z.wireRuleset(), nil, nil
}

func (s *Server) deleteRule(r *request, z *zoneState) (any, *resultInfo, *failure) {
	i := z.ruleAt(r.PathValue("rule"))
	if i < 0 || r.PathValue("ruleset") != z.ruleset {
		return nil, nil, noSuchRule()
	}
	z.rules = slices.Delete(slices.Clone(z.rules), i, i+1)
	return z.wireRuleset(), nil, nil
}

func (z *zoneState) ruleAt(id string) int {
	return slices.IndexFunc(z.rules, func(r Rule) bool { return r.ID == id })
}

func noSuchRule() *failure {
	return fail(http.StatusNotFound, 20119, "could not find the rule or ruleset")
}

package cloudflare

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"mailform/plan"
)

// WAF custom rules are the rules of one ruleset of the zone, in order. Ours are
// told apart by a description that begins with the mark "mf1:<stack>:<rule>".
// Each is written and deleted by a call of its own: writing the list as a whole
// would write the rules of others, too.
// https://developers.cloudflare.com/ruleset-engine/rulesets-api/

// The kinds of operations on rules.
const (
	opWriteRule  = "WriteRule"
	opRemoveRule = "RemoveRule"
)

// wafPhase is the phase of custom rules.
const wafPhase = "http_request_firewall_custom"

// codeNoRuleset says that a zone never had a custom rule.
const codeNoRuleset = 10003

// rule is a WAF custom rule.
type rule struct {
	ID          string `json:"id,omitempty"`
	Action      string `json:"action"`
	Expression  string `json:"expression"`
	Description string `json:"description"`
	Enabled     bool   `json:"enabled"`
}

// ruleset is the zone's custom rules. ID is "" when it does not exist.
type ruleset struct {
	ID    string `json:"id"`
	Rules []rule `json:"rules"`
}

// place is where a rule goes.
type place struct {
	After  string `json:"after,omitempty"`
	Before string `json:"before,omitempty"`
}

// readRules reads the custom rules of a zone.
func (c *client) readRules(ctx context.Context, z zone) (ruleset, error) {
	var rs ruleset
	err := c.rest(ctx, "read the WAF custom rules of zone "+z.name, http.MethodGet,
		"zones/"+z.id+"/rulesets/phases/"+wafPhase+"/entrypoint", nil, &rs)
	if hasCode(err, codeNoRuleset) {
		return ruleset{}, nil
	}
	return rs, err
}

// ruleMark is the description of a rule of ours.
func ruleMark(stack, name string) string { return markPrefix + stack + ":" + name }

// named gives the name that a rule of ours has in the spec.
func (r rule) named(stack string) (string, bool) {
	mark, _, _ := strings.Cut(r.Description, " ")
	name, ok := strings.CutPrefix(mark, markPrefix+stack+":")
	return name, ok && name != ""
}

// ruleObjects tells our rules from the others. A second rule with the same mark is a
// leftover with an address of its own, which the next plan deletes.
func (v *view) ruleObjects(a plan.Address, found ruleset) ([]plan.Object, plan.Foreign) {
	wanted := map[string]int64{} // order in the spec, by name
	for _, r := range v.rules {
		wanted[r.Address.Segments()[3]] = r.Attrs["order"].Num()
	}
	var objects []plan.Object
	var live []int64 // what the spec says of the rules that are there, in the order in which they are
	byName := map[string]int{}
	foreign := plan.Foreign{Scope: "WAF custom rules of zone " + v.zone.name}
	for i, r := range found.Rules {
		name, ours := r.named(v.stack)
		if !ours {
			foreign.Count++
			continue
		}
		address := plan.Addr(string(a), "rule", name)
		order, inSpec := wanted[name]
		if _, twice := byName[name]; twice {
			address, inSpec = plan.Addr(string(address), "duplicate", r.ID), false
		} else {
			byName[name] = len(objects)
		}
		if inSpec {
			live = append(live, order)
		}
		objects = append(objects, plan.Object{
			Address: address, Provider: Name, Kind: kindRule, ID: r.ID, Owner: plan.Ours,
			Attrs: plan.Attrs{
				"zone_id": plan.String(v.zone.id), "expression": plan.String(r.Expression),
				"action": plan.String(r.Action), "enabled": plan.Bool(r.Enabled), "name": plan.String(name),
				"position": plan.Int(int64(i)), // not compared: others' rules count, too
			},
		})
	}
	// Only the order among our rules counts: the first of them should be the first of
	// those in the spec, and so on. A rule that is yet to come shifts nobody.
	sorted := slices.Sorted(slices.Values(live))
	for _, o := range objects {
		if _, ok := wanted[o.Attrs["name"].Str()]; ok && len(o.Address.Segments()) == 4 {
			o.Attrs["order"] = plan.Int(sorted[0])
			sorted = sorted[1:]
		}
	}
	return objects, foreign
}

// ruleOps writes and deletes rules, one after the other in each zone and in the
// order of the spec, so that each finds its predecessor.
func (p *Provider) ruleOps(changes []plan.Change, zoneNames map[string]string) []plan.Op {
	rules := map[string][]plan.Change{} // by zone id
	for _, c := range changes {
		if c.Kind != kindRule {
			continue
		}
		id := c.After["zone_id"].Str()
		if c.After == nil {
			id = c.Before["zone_id"].Str()
		}
		rules[id] = append(rules[id], c)
	}
	var ops []plan.Op
	for _, zoneID := range sortedKeys(rules) {
		list := rules[zoneID]
		slices.SortFunc(list, func(a, b plan.Change) int {
			return cmp.Or(cmp.Compare(a.After["order"].Num(), b.After["order"].Num()), cmp.Compare(a.Address, b.Address))
		})
		zoneName := cmp.Or(zoneNames[zoneID], zoneID)
		var before []string // names of the rules of ours that come first
		last := ""
		for _, c := range list {
			name := c.Address.Segments()[3]
			if c.Pending() {
				op := plan.Op{
					ID: Name + "." + opWriteRule + " " + string(c.Address), Provider: Name, Kind: opWriteRule, Seconds: 1,
					Title:     fmt.Sprintf("write the WAF rule %s of zone %s", name, zoneName),
					Addresses: []plan.Address{c.Address},
					Inputs: plan.Attrs{
						"zone_id": plan.String(zoneID), "zone": plan.String(zoneName), "name": plan.String(name),
						"expression": c.After["expression"], "action": c.After["action"],
						"after": plan.Strings(before...),
						"move":  plan.Bool(c.Action != plan.Update || !c.After["order"].Equal(c.Before["order"])),
					},
				}
				if c.Action == plan.Delete {
					op.ID, op.Kind = Name+"."+opRemoveRule+" "+string(c.Address), opRemoveRule
					op.Title = fmt.Sprintf("delete the WAF rule %s of zone %s", name, zoneName)
					op.Inputs = plan.Attrs{"zone_id": plan.String(zoneID), "zone": plan.String(zoneName), "id": plan.String(c.ID)}
				}
				if last != "" {
					op.After = []string{last}
				}
				last = op.ID
				ops = append(ops, op)
			}
			if c.Action != plan.Delete {
				before = append(before, name)
			}
		}
	}
	return ops
}

// doRule makes one call that changes something, after one that reads.
func (p *Provider) doRule(ctx context.Context, op plan.Op) (plan.Result, error) {
	z := zone{id: op.Inputs["zone_id"].Str(), name: op.Inputs["zone"].Str()}
	rs, err := p.api.readRules(ctx, z)
	if err != nil {
		return plan.Result{}, err
	}
	path := "zones/" + z.id + "/rulesets"
	if op.Kind == opRemoveRule {
		id := op.Inputs["id"].Str()
		if !slices.ContainsFunc(rs.Rules, func(r rule) bool { return r.ID == id }) {
			return plan.Result{}, nil
		}
		return plan.Result{}, p.api.rest(ctx, op.Title, http.MethodDelete, path+"/"+rs.ID+"/rules/"+id, nil, nil)
	}
	write := struct {
		rule
		Position *place `json:"position,omitempty"`
	}{rule: p.ruleOf(op)}
	if rs.ID == "" {
		body := map[string]any{"name": "default", "kind": "zone", "phase": wafPhase, "rules": []rule{write.rule}}
		return plan.Result{}, p.api.rest(ctx, op.Title, http.MethodPost, path, body, nil)
	}
	at := p.find(rs, op.Inputs["name"].Str())
	if at < 0 || op.Inputs["move"].True() {
		write.Position = p.place(rs, op)
	}
	if at < 0 {
		return plan.Result{}, p.api.rest(ctx, op.Title, http.MethodPost, path+"/"+rs.ID+"/rules", write, nil)
	}
	return plan.Result{}, p.api.rest(ctx, op.Title, http.MethodPatch, path+"/"+rs.ID+"/rules/"+rs.Rules[at].ID, write, nil)
}

func (p *Provider) ruleOf(op plan.Op) rule {
	return rule{
		Action: op.Inputs["action"].Str(), Expression: op.Inputs["expression"].Str(),
		Description: ruleMark(p.stack, op.Inputs["name"].Str()), Enabled: true,
	}
}

// find gives the index of a rule of ours, -1 when it is not there.
func (p *Provider) find(rs ruleset, name string) int {
	return slices.IndexFunc(rs.Rules, func(r rule) bool {
		is, ours := r.named(p.stack)
		return ours && is == name
	})
}

// place finds the place of a rule: after the nearest of its predecessors that is
// there, or else before the first other rule of ours. nil is the end of the list.
func (p *Provider) place(rs ruleset, op plan.Op) *place {
	for _, name := range slices.Backward(op.Inputs["after"].Texts()) {
		if i := p.find(rs, name); i >= 0 {
			return &place{After: rs.Rules[i].ID}
		}
	}
	for _, r := range rs.Rules {
		if name, ours := r.named(p.stack); ours && name != op.Inputs["name"].Str() {
			return &place{Before: r.ID}
		}
	}
	return nil
}

// resolveRule looks whether a rule is as written, or gone.
func (p *Provider) resolveRule(ctx context.Context, op plan.Op) (plan.Verdict, plan.Result, error) {
	rs, err := p.api.readRules(ctx, zone{id: op.Inputs["zone_id"].Str(), name: op.Inputs["zone"].Str()})
	if err != nil {
		return plan.Undecidable, plan.Result{}, err
	}
	done := false
	if op.Kind == opRemoveRule {
		done = !slices.ContainsFunc(rs.Rules, func(r rule) bool { return r.ID == op.Inputs["id"].Str() })
	} else if i := p.find(rs, op.Inputs["name"].Str()); i >= 0 {
		is := rs.Rules[i]
		is.ID = ""
		done = is == p.ruleOf(op) && !op.Inputs["move"].True()
		// A rule that was to move is written again: to move it to where it is does nothing.
	}
	if done {
		return plan.Done, plan.Result{}, nil
	}
	return plan.NotDone, plan.Result{}, nil
}

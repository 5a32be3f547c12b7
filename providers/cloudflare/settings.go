package cloudflare

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"mailform/plan"
	"mailform/specs"
)

// opSetting changes one setting of a zone.
const opSetting = "ChangeZoneSetting"

// settings are the zone settings that a spec can name: our attribute, the
// vendor's id, and how people call it.
// https://developers.cloudflare.com/api/resources/zones/subresources/settings/
var settings = []struct{ attr, id, name string }{
	{"min_tls", "min_tls_version", "minimum TLS version"},
	{"security_level", "security_level", "security level"},
	{"ssl", "ssl", "SSL mode"},
}

// security wants the settings and rules of a zone block. What the block does not
// name is not touched, and a setting has no "not there": when it leaves the spec it
// stays as it is.
func (d *declaration) security(z *specs.Zone) {
	attrs := plan.Attrs{}
	for name, v := range map[string]string{"security_level": z.SecurityLevel, "ssl": z.SSL, "min_tls": z.MinTLS} {
		if v != "" {
			attrs[name] = plan.String(v)
		}
	}
	if len(attrs) > 0 {
		attrs["zone_id"] = d.zone(z.Name, z.Range)
		d.resources = append(d.resources, plan.Resource{
			Address: plan.Addr("zone", z.Name, "security"), Provider: Name, Kind: kindSettings,
			Attrs:  attrs,
			Effect: "Cloudflare's proxies treat visitors of " + z.Name + " as the spec says; the settings stay when they leave the spec",
			Origin: z.Range,
		})
	}
	for i, r := range z.Rules {
		d.resources = append(d.resources, plan.Resource{
			Address: plan.Addr("zone", z.Name, "rule", r.Name), Provider: Name, Kind: kindRule,
			Attrs: plan.Attrs{
				"zone_id": d.zone(z.Name, z.Range), "order": plan.Int(int64(i)),
				"expression": plan.String(r.Expression), "action": plan.String(r.Action), "enabled": plan.Bool(true),
			},
			Effect: "requests to the proxied names of " + z.Name + " that match get: " + strings.ReplaceAll(r.Action, "_", " "),
			Origin: r.Range,
		})
	}
}

// readSettings reads the named settings of a zone, one call each: the vendor has
// no supported call for some of them.
func (c *client) readSettings(ctx context.Context, z zone, attrs []string) (map[string]string, int, error) {
	values := make([]string, len(settings))
	calls := 0
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range settings {
		if !slices.Contains(attrs, s.attr) {
			continue
		}
		calls++
		group.Go(func() (err error) {
			values[i], err = c.readSetting(ctx, z, s.id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, calls, err
	}
	out := map[string]string{}
	for i, s := range settings {
		if values[i] != "" {
			out[s.attr] = values[i]
		}
	}
	return out, calls, nil
}

func (c *client) readSetting(ctx context.Context, z zone, id string) (string, error) {
	var answer struct{ Value json.RawMessage }
	step := fmt.Sprintf("read the setting %s of zone %s", id, z.name)
	if err := c.rest(ctx, step, http.MethodGet, "zones/"+z.id+"/settings/"+id, nil, &answer); err != nil {
		return "", err
	}
	var text string
	if json.Unmarshal(answer.Value, &text) != nil || text == "" {
		return "", &plan.Error{
			Code: "MF5206", Step: step, Got: "the value " + string(answer.Value),
			Fix: "take the setting out of the zone block and report this as a defect of mailform",
		}
	}
	return text, nil
}

// settingsObject is what was found of the settings. They carry no mark: they are ours
// as long as something else in the zone is, or nothing else is meant to be. So a stack
// that was destroyed has nothing left to destroy.
func (v *view) settingsObject(a plan.Address, found map[string]string) plan.Object {
	o := plan.Object{
		Address: a, Provider: Name, Kind: kindSettings, ID: v.zone.id,
		Attrs: plan.Attrs{"zone_id": plan.String(v.zone.id)},
	}
	ours := slices.ContainsFunc(v.records, func(r record) bool {
		m, marked := parseMark(r.comment)
		return marked && m.stack == v.stack
	})
	if ours || len(v.more) > 0 || len(v.wanted)+len(v.rules) == 0 {
		o.Owner = plan.Ours
	}
	for attr, v := range found {
		o.Attrs[attr] = plan.String(v)
	}
	return o
}

// settingOps changes what differs, one setting at a time. A delete needs nothing.
func settingOps(c plan.Change, zoneName string) []plan.Op {
	if !c.Pending() || c.Action == plan.Delete {
		return nil
	}
	var ops []plan.Op
	for _, s := range settings {
		want := c.After[s.attr]
		if want.Str() == "" || want.Equal(c.Before[s.attr]) {
			continue
		}
		ops = append(ops, plan.Op{
			ID: Name + "." + opSetting + " " + string(c.Address) + " " + s.attr, Provider: Name, Kind: opSetting, Seconds: 1,
			Title:     fmt.Sprintf("set the %s of zone %s to %s", s.name, zoneName, want.Str()),
			Addresses: []plan.Address{c.Address},
			Inputs: plan.Attrs{
				"zone_id": c.After["zone_id"], "zone": plan.String(zoneName), "setting": plan.String(s.id), "value": want,
			},
		})
	}
	return ops
}

func (p *Provider) doSetting(ctx context.Context, op plan.Op) (plan.Result, error) {
	body := map[string]string{"value": op.Inputs["value"].Str()}
	path := "zones/" + op.Inputs["zone_id"].Str() + "/settings/" + op.Inputs["setting"].Str()
	return plan.Result{}, p.api.rest(ctx, op.Title, http.MethodPatch, path, body, nil)
}

func (p *Provider) resolveSetting(ctx context.Context, op plan.Op) (plan.Verdict, plan.Result, error) {
	z := zone{id: op.Inputs["zone_id"].Str(), name: op.Inputs["zone"].Str()}
	is, err := p.api.readSetting(ctx, z, op.Inputs["setting"].Str())
	switch {
	case err != nil:
		return plan.Undecidable, plan.Result{}, err
	case is == op.Inputs["value"].Str():
		return plan.Done, plan.Result{}, nil
	}
	return plan.NotDone, plan.Result{}, nil
}

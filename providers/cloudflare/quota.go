package cloudflare

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"mailform/plan"
)

var _ plan.Checker = (*Provider)(nil)

// usage is how many records a zone holds and may hold.
type usage struct {
	Quota *int `json:"record_quota"` // nil where the account has a quota and not the zone
	Used  int  `json:"record_usage"`
}

// Check implements plan.Checker: it asks each zone in which the plan makes records
// whether they find room. A transaction that does not is refused as a whole, when
// the machine is already there and paid for. A zone that cannot be asked is no error.
func (p *Provider) Check(ctx context.Context, ops []plan.Op) error {
	type balance struct {
		name          string
		made, deleted int
	}
	zones := map[string]*balance{}
	for _, op := range ops {
		id := op.Inputs["zone_id"].Str()
		if op.Provider != Name || id == "" {
			continue
		}
		if zones[id] == nil {
			zones[id] = &balance{name: op.Inputs["zone"].Str()}
		}
		zones[id].made += len(op.Inputs["posts"].Items())
		zones[id].deleted += len(op.Inputs["deletes"].Items())
	}
	for _, id := range slices.Sorted(maps.Keys(zones)) {
		z := zones[id]
		if z.made <= z.deleted {
			continue
		}
		var u usage
		step := "make sure that there is room in zone " + z.name
		path := "zones/" + id + "/dns_records/usage"
		if err := p.api.rest(ctx, step, http.MethodGet, path, nil, &u); err != nil || u.Quota == nil {
			continue
		}
		excess := u.Used + z.made - z.deleted - *u.Quota
		if excess <= 0 {
			continue
		}
		return &plan.Error{
			Class: plan.ErrBlocked, Code: "MF5223", Step: step, Sent: http.MethodGet + " " + p.api.base + path,
			Got: fmt.Sprintf("it has %d of the %s that its Cloudflare plan allows, and this plan creates %d and deletes %d: %d too many",
				u.Used, count(*u.Quota, "record"), z.made, z.deleted, excess),
			Fix: fmt.Sprintf("delete at least %s that nobody needs from the zone at Cloudflare, or give the zone a larger plan there; then run the same command again. Nothing was changed", count(excess, "record")),
		}
	}
	return nil
}

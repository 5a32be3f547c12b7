package alicloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"mailform/plan"
)

// soldOut reports whether the vendor has no such instance to sell there. Nothing was
// made, and the same may be asked for elsewhere, under another token.
func soldOut(err error) bool {
	return isCode(err, "OperationDenied.NoStock", "Zone.NotOnSale", "Zone.NotOpen", "InvalidInstanceType.ZoneNotSupported",
		"OperationDenied.ZoneNotAllowed", "OperationDenied.ZoneSystemCategoryNotMatch", "LackResource", "ResourceNotAvailable", "InstanceType.Offline")
}

// offers asks which types are for sale with a kind of system disk now, and in which
// zones, sorted. An empty type asks about all.
func (r *run) offers(ctx context.Context, instanceType, category string) (map[string][]string, error) {
	req := &describeAvailableResource{rpc: newRPC(ecsDescribeAvailableResource), DestinationResource: "InstanceType",
		InstanceChargeType: "PostPaid", InstanceType: instanceType, SystemDiskCategory: category, IoOptimized: "optimized"}
	resp := &describeAvailableResourceAnswer{answer: newAnswer()}
	if err := r.call(ctx, req, resp); err != nil {
		return nil, err
	}
	offers := map[string][]string{}
	for _, z := range resp.AvailableZones.AvailableZone {
		if z.Status != "Available" || empty(z.StatusCategory) {
			continue
		}
		for _, res := range z.AvailableResources.AvailableResource {
			for _, s := range res.SupportedResources.SupportedResource {
				known := slices.Contains(offers[s.Value], z.ZoneId)
				if s.Status == "Available" && !empty(s.StatusCategory) && !known {
					offers[s.Value] = append(offers[s.Value], z.ZoneId)
				}
			}
		}
	}
	for _, zones := range offers {
		sort.Strings(zones)
	}
	return offers, nil
}

// empty reports whether a stock category means that there is none.
func empty(category string) bool {
	return category == "WithoutStock" || category == "ClosedWithoutStock"
}

// zones asks which zones sell a type, sorted.
func (r *run) zones(ctx context.Context, instanceType, category string) ([]string, error) {
	offers, err := r.offers(ctx, instanceType, category)
	return offers[instanceType], err
}

// chooseZone takes the first zone, by name, that sells the type, or else one of
// those that may stand in for it.
func (r *run) chooseZone(ctx context.Context) (string, error) {
	sells := r.op.Inputs["sells"]
	types, category := sells.Field("types").Texts(), sells.Field("disk").Str()
	for _, t := range types {
		zones, err := r.zones(ctx, t, category)
		if err != nil {
			return "", err
		}
		if len(zones) > 0 {
			r.progress("in zone "+zones[0]+", which sells "+t, 0, 0)
			return zones[0], nil
		}
	}
	return "", &plan.Error{
		Code: codeStock,
		Sent: "POST " + r.api.endpoints[ecs].String() + " DescribeAvailableResource",
		Got:  fmt.Sprintf("no zone of %s sells %s with a %s system disk now", r.region, strings.Join(types, " or "), category),
		Fix:  r.instead(ctx, types, category),
	}
}

// search makes the instance where it can be had: of the wanted type in the other
// zones that sell it, then of the types that may stand in for it. Another zone means
// another vSwitch. There is never more than one, it is empty and carries our mark, and
// each step starts from what is there: whatever interrupts the search, the next
// attempt or the next plan goes on from the vSwitch that it finds.
func (r *run) search(ctx context.Context, try func(ctx context.Context, instanceType, subnet, token string) (plan.Result, error), first error) (plan.Result, error) {
	types := append([]string{r.text("type")}, r.op.Inputs["instead"].Texts()...)
	category := r.op.Inputs["system_disk"].Field("category").Str()
	var here vSwitch
	all, err := r.subnets(ctx)
	if err != nil {
		return plan.Result{}, err
	}
	if len(all) > 0 {
		here = all[0]
	}
	last := first
	for n, t := range types {
		zones, err := r.zones(ctx, t, category)
		if err != nil {
			return plan.Result{}, err
		}
		// Where we are goes first.
		sort.SliceStable(zones, func(i, j int) bool { return zones[i] == here.ZoneId && zones[j] != here.ZoneId })
		for _, zone := range zones {
			if n == 0 && here.VSwitchId == r.text("subnet") && zone == here.ZoneId {
				continue // that was the first attempt
			}
			if zone != here.ZoneId && r.text("network") == "" {
				continue // the zone is given
			}
			r.progress(fmt.Sprintf("trying %s in zone %s: what was tried is sold out", t, zone), 0, 0)
			if zone != here.ZoneId {
				if here, err = r.subnetIn(ctx, zone); err != nil {
					return plan.Result{}, err
				}
			}
			res, err := try(ctx, t, here.VSwitchId, derive(r.token, t, here.VSwitchId))
			if err == nil {
				res.Outputs[r.subnetAddress()] = plan.Attrs{"id": plan.String(here.VSwitchId), "zone": plan.String(here.ZoneId)}
				return res, nil
			}
			if !soldOut(err) {
				return plan.Result{}, err
			}
			last = err
		}
	}
	return plan.Result{}, r.noStock(ctx, types, category, last)
}

// derive makes the token of one attempt within an operation.
func derive(token plan.Token, parts ...string) string {
	sum := sha256.Sum256([]byte(string(token) + "\n" + strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:24])
}

func (r *run) subnetAddress() plan.Address { return part(hostOf(r.address()), "subnet") }

// subnets are the vSwitches that the instance could be put in: the one that the plan
// knew, first, and what an interrupted search left.
func (r *run) subnets(ctx context.Context) ([]vSwitch, error) {
	all, err := r.vSwitches(ctx, addressTags(r.stack, string(r.subnetAddress())), "")
	slices.SortStableFunc(all, func(a, b vSwitch) int {
		known := r.text("subnet")
		switch {
		case a.VSwitchId == known && b.VSwitchId != known:
			return -1
		case b.VSwitchId == known && a.VSwitchId != known:
			return 1
		}
		return 0
	})
	return all, err
}

// subnetIn gives a vSwitch in a zone in place of the empty one elsewhere. That is
// deleted only when the new one is there, so that at no time there is none.
func (r *run) subnetIn(ctx context.Context, zone string) (vSwitch, error) {
	all, err := r.subnets(ctx)
	if err != nil {
		return vSwitch{}, err
	}
	at := slices.IndexFunc(all, func(v vSwitch) bool { return v.ZoneId == zone })
	if at < 0 {
		cidr := subnetCIDR
		if slices.ContainsFunc(all, func(v vSwitch) bool { return v.CidrBlock == cidr }) {
			cidr = nextSubnetCIDR
		}
		a, resp := r.subnetAddress(), &idAnswer{answer: newAnswer()}
		err := r.call(ctx, &createVSwitch{rpc: newRPC(vpcCreateVSwitch), ClientToken: derive(r.token, "vswitch", zone, cidr),
			VpcId: r.text("network"), ZoneId: zone, CidrBlock: cidr, VSwitchName: r.name(),
			Description: "mailform " + r.stack + " " + string(a), Tag: addressTags(r.stack, string(a))}, resp)
		if err != nil {
			return vSwitch{}, err
		}
		at, all = len(all), append(all, vSwitch{VSwitchId: resp.VSwitchId, ZoneId: zone})
	}
	err = r.wait(ctx, "vSwitch "+all[at].VSwitchId, networkPatience, func(ctx context.Context) (string, bool, error) {
		now, err := r.vSwitches(ctx, nil, all[at].VSwitchId)
		if err != nil || len(now) == 0 {
			return "not listed yet", false, err
		}
		return now[0].Status, now[0].Status == "Available", nil
	})
	for i, v := range all {
		if err == nil && i != at {
			_, err = r.deleteVSwitch(ctx, v.VSwitchId)
		}
	}
	return all[at], err
}

// noStock says what was tried and what can be had.
func (r *run) noStock(ctx context.Context, types []string, category string, err error) error {
	e := explain(r.step(), err)
	var pe *plan.Error
	if errors.As(e, &pe) {
		pe.Fix = r.instead(ctx, types, category)
	}
	return e
}

// instead advises what to write into the spec when none of the types can be had.
func (r *run) instead(ctx context.Context, types []string, category string) string {
	const advice = "choose another type or disk category in the spec's instance block, name more types in instead, or try again later"
	offers, err := r.offers(ctx, "", category)
	if err != nil {
		return advice
	}
	for _, t := range types {
		if zones := offers[t]; len(zones) > 0 && r.op.Kind == opRunInstances && r.text("network") == "" && r.text("beside") == "" {
			return fmt.Sprintf("set the instance's zone to one that has %s now: %s; or name types in instead that may stand in for it", t, strings.Join(zones, ", "))
		}
	}
	where, elsewhere := r.region, true
	if zone := r.text("beside"); zone != "" {
		where, elsewhere = "zone "+zone+", which its data disk cannot leave,", false
	}
	size := types[0][strings.LastIndexByte(types[0], '.')+1:]
	var others []string
	for t, zones := range offers {
		switch {
		case !strings.HasSuffix(t, "."+size) || slices.Contains(types, t):
		case elsewhere:
			others = append(others, t+" ("+strings.Join(zones, ", ")+")")
		case slices.Contains(zones, r.text("beside")):
			others = append(others, t)
		}
	}
	if len(others) == 0 {
		return advice
	}
	sort.Strings(others)
	return fmt.Sprintf("name another type in the spec's instance block, as type or in instead; of the same size %s sells now: %s",
		where, strings.Join(others[:min(len(others), 6)], ", "))
}

// checkStock looks, before an instance is stopped for a change of its type or taken
// away for a new one, whether what comes after it can be had.
func (r *run) checkStock(ctx context.Context) (plan.Result, error) {
	types, zone, category := r.op.Inputs["types"].Texts(), r.text("zone"), r.text("disk")
	where := "zone " + zone
	if zone == "" {
		where = r.region
	}
	fix := "nothing was changed, and the instance runs on: choose another type, name more in instead, or try again later"
	for _, t := range types {
		zones, err := r.zones(ctx, t, category)
		if err != nil || len(zones) > 0 && (zone == "" || slices.Contains(zones, zone)) {
			return plan.Result{}, err
		}
		if len(zones) > 0 {
			fix += "; " + t + " can be had in " + strings.Join(zones, ", ")
		}
	}
	return plan.Result{}, &plan.Error{Code: codeStock, Sent: "POST " + r.api.endpoints[ecs].String() + " DescribeAvailableResource",
		Got: fmt.Sprintf("%s does not sell %s now", where, strings.Join(types, " or ")), Fix: fix}
}

// modifyType changes the type of a stopped instance. When the vendor has none left
// after all, the instance is started again as it was: mail must not wait for stock.
func (r *run) modifyType(ctx context.Context) (plan.Result, error) {
	res, err := r.plain(ctx, &instanceAction{rpc: newRPC(ecsModifyInstanceSpec), InstanceId: r.text("id"),
		InstanceType: r.text("type"), ClientToken: string(r.token)})
	if !soldOut(err) {
		return res, err
	}
	e := explain(r.step(), err)
	var pe *plan.Error
	if !errors.As(e, &pe) {
		return res, e
	}
	if _, startErr := r.startInstance(ctx); startErr != nil {
		pe.Fix = "the instance is stopped and could not be started again: start it in the vendor's console or set its former type and run the same command again"
	} else {
		pe.Fix = "the instance starts again with its former type; choose another type, or try again later"
	}
	return res, e
}

// protect switches the instance's deletion protection.
func (r *run) protect(ctx context.Context, on string) (plan.Result, error) {
	return r.plain(ctx, &instanceAction{rpc: newRPC(ecsModifyInstanceAttribute), InstanceId: r.text("id"), DeletionProtection: on})
}

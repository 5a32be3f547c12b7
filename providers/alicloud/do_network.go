package alicloud

import (
	"context"
	"fmt"
	"sort"
	"time"

	"mailform/plan"
)

// Networks settle within seconds; the vendor's own tools wait up to ten minutes.
const networkPatience = 5 * time.Minute

func (r *run) createVpc(ctx context.Context) (plan.Result, error) {
	req := &createVpc{rpc: newRPC(vpc, "CreateVpc"), ClientToken: string(r.token), CidrBlock: r.text("cidr"),
		VpcName: r.name(), Description: r.description(), Tag: r.marks()}
	resp := &idAnswer{answer: newAnswer()}
	res, err := r.create(ctx, req, resp, func() string { return resp.VpcId }, r.findVpc)
	if err == nil && res.Outputs == nil {
		res = r.outputs(plan.Attrs{"id": plan.String(resp.VpcId)})
	}
	return res, err
}

func (r *run) findVpc(ctx context.Context) (plan.Result, bool, error) {
	all, err := r.vpcs(ctx, addressTags(r.stack, string(r.address())), "")
	if err != nil || len(all) == 0 {
		return plan.Result{}, false, err
	}
	return r.outputs(plan.Attrs{"id": plan.String(all[0].VpcId)}), true, nil
}

func (r *run) waitVpc(ctx context.Context) (plan.Result, error) {
	return plan.Result{}, r.wait(ctx, "the VPC", networkPatience, func(ctx context.Context) (string, bool, error) {
		all, err := r.vpcs(ctx, addressTags(r.stack, string(r.address())), "")
		if err != nil || len(all) == 0 {
			return "not listed yet", false, err
		}
		return all[0].Status, all[0].Status == "Available", nil
	})
}

func (r *run) createVSwitch(ctx context.Context) (plan.Result, error) {
	zone := r.text("zone")
	if zone == "" {
		var err error
		if zone, err = r.chooseZone(ctx); err != nil {
			return plan.Result{}, err
		}
	}
	req := &createVSwitch{rpc: newRPC(vpc, "CreateVSwitch"), ClientToken: string(r.token), VpcId: r.text("network"),
		ZoneId: zone, CidrBlock: r.text("cidr"), VSwitchName: r.name(), Description: r.description(), Tag: r.marks()}
	resp := &idAnswer{answer: newAnswer()}
	res, err := r.create(ctx, req, resp, func() string { return resp.VSwitchId }, r.findVSwitch)
	if err == nil && res.Outputs == nil {
		res = r.outputs(plan.Attrs{"id": plan.String(resp.VSwitchId), "zone": plan.String(zone)})
	}
	return res, err
}

func (r *run) findVSwitch(ctx context.Context) (plan.Result, bool, error) {
	all, err := r.vSwitches(ctx, addressTags(r.stack, string(r.address())), "")
	if err != nil || len(all) == 0 {
		return plan.Result{}, false, err
	}
	return r.outputs(plan.Attrs{"id": plan.String(all[0].VSwitchId), "zone": plan.String(all[0].ZoneId)}), true, nil
}

func (r *run) waitVSwitch(ctx context.Context) (plan.Result, error) {
	return plan.Result{}, r.wait(ctx, "the vSwitch", networkPatience, func(ctx context.Context) (string, bool, error) {
		all, err := r.vSwitches(ctx, addressTags(r.stack, string(r.address())), "")
		if err != nil || len(all) == 0 {
			return "not listed yet", false, err
		}
		return all[0].Status, all[0].Status == "Available", nil
	})
}

// zones asks which zones sell a type with a kind of system disk now, sorted.
func (r *run) zones(ctx context.Context, instanceType, category string) ([]string, error) {
	req := &describeAvailableResource{rpc: newRPC(ecs, "DescribeAvailableResource"), DestinationResource: "InstanceType",
		InstanceChargeType: "PostPaid", InstanceType: instanceType, SystemDiskCategory: category, IoOptimized: "optimized"}
	resp := &describeAvailableResourceAnswer{answer: newAnswer()}
	if err := r.call(ctx, req, resp); err != nil {
		return nil, err
	}
	var zones []string
	for _, z := range resp.AvailableZones.AvailableZone {
		if z.Status != "Available" || z.StatusCategory == "WithoutStock" || z.StatusCategory == "ClosedWithoutStock" {
			continue
		}
		sells := false
		for _, res := range z.AvailableResources.AvailableResource {
			for _, s := range res.SupportedResources.SupportedResource {
				sells = sells || s.Value == instanceType && s.Status == "Available" &&
					s.StatusCategory != "WithoutStock" && s.StatusCategory != "ClosedWithoutStock"
			}
		}
		if sells {
			zones = append(zones, z.ZoneId)
		}
	}
	sort.Strings(zones)
	return zones, nil
}

// chooseZone takes the first zone, by name, that sells the type.
func (r *run) chooseZone(ctx context.Context) (string, error) {
	zones, err := r.zones(ctx, r.text("type"), r.text("category"))
	if err != nil {
		return "", err
	}
	if len(zones) == 0 {
		return "", &plan.Error{
			Code: codeStock,
			Sent: "POST " + r.api.endpoints[ecs].String() + " DescribeAvailableResource",
			Got:  fmt.Sprintf("no zone of %s sells %s with a %s system disk now", r.region, r.text("type"), r.text("category")),
			Fix:  "choose another type or disk category in the spec's instance block, or another region",
		}
	}
	r.progress("in zone "+zones[0], 0, 0)
	return zones[0], nil
}

// tag puts our marks on something that is as wanted without them.
func (r *run) tag(ctx context.Context) (plan.Result, error) {
	p, resourceType := ecs, ""
	switch r.text("kind") {
	case kindVPC:
		p, resourceType = vpc, "VPC"
	case kindVSwitch:
		p, resourceType = vpc, "VSWITCH"
	case kindEIP:
		p, resourceType = vpc, "EIP"
	case kindSecurityGroup:
		resourceType = "securitygroup"
	case kindKeyPair:
		resourceType = "keypair"
	case kindInstance:
		resourceType = "instance"
	default:
		return plan.Result{}, r.internal("a " + r.text("kind") + " cannot be tagged")
	}
	return r.plain(ctx, &tagResources{rpc: newRPC(p, "TagResources"), ResourceType: resourceType,
		ResourceId: &[]string{r.text("id")}, Tag: r.marks()})
}

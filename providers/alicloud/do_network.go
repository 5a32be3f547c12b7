package alicloud

import (
	"context"
	"time"

	"mailform/plan"
)

// Networks settle within seconds; the vendor's own tools wait up to ten minutes.
const networkPatience = 5 * time.Minute

func (r *run) createVpc(ctx context.Context) (plan.Result, error) {
	req := &createVpc{rpc: newRPC(vpcCreateVpc), ClientToken: string(r.token), CidrBlock: r.text("cidr"),
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
	req := &createVSwitch{rpc: newRPC(vpcCreateVSwitch), ClientToken: string(r.token), VpcId: r.text("network"),
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

// deleteVSwitch deletes a vSwitch if it carries our mark: that an instance of ours
// stood in it does not make it ours.
func (r *run) deleteVSwitch(ctx context.Context, id string) (plan.Result, error) {
	all, err := r.vSwitches(ctx, nil, id)
	if gone(err) || err == nil && len(all) == 0 {
		return plan.Result{}, nil
	}
	if err != nil {
		return plan.Result{}, err
	}
	if all[0].Tags.tags()[tagStack] != r.stack {
		return plan.Result{}, &plan.Error{Class: plan.ErrBlocked, Code: codeConflict,
			Got: "vSwitch " + id + " does not carry the mark of stack " + r.stack,
			Fix: "delete it in the vendor's console if it is not needed, then run the same command again"}
	}
	res, err := r.plain(ctx, &deleteVSwitch{rpc: newRPC(vpcDeleteVSwitch), VSwitchId: id})
	if isCode(err, "DependencyViolation") && len(r.address().Segments()) > 3 {
		// It was one too many when the plan was made. A search for stock may have put the
		// instance in it since and deleted the other.
		same, readErr := r.vSwitches(ctx, addressTags(r.stack, string(r.subnetAddress())), "")
		if readErr == nil && len(same) == 1 && same[0].VSwitchId == id {
			return plan.Result{}, nil
		}
	}
	return res, err
}

package alicloud

import (
	"context"
	"time"

	"mailform/plan"
)

const addressPatience = 5 * time.Minute

// allocate takes a public address. One allocated apart from the instance stays when
// the instance is made anew, and with it what other servers think of it.
func (r *run) allocate(ctx context.Context) (plan.Result, error) {
	req := &allocateEipAddress{rpc: newRPC(vpcAllocateEipAddress), ClientToken: string(r.token), Bandwidth: r.number("bandwidth"),
		InternetChargeType: chargeTypes[r.text("charge_by")], InstanceChargeType: "PostPaid", Name: r.name(), Description: r.description(), Tag: r.marks()}
	resp := &idAnswer{answer: newAnswer()}
	res, err := r.create(ctx, req, resp, func() string { return resp.AllocationId }, r.findEIP)
	if err == nil && res.Outputs == nil {
		res = r.outputs(plan.Attrs{"id": plan.String(resp.AllocationId), "ip": plan.String(resp.EipAddress)})
	}
	return res, err
}

// findEIP looks for the address of this host by its tags, then by its name.
func (r *run) findEIP(ctx context.Context) (plan.Result, bool, error) {
	all, err := r.eips(ctx, addressTags(r.stack, string(r.address())), "", "")
	if err == nil && len(all) == 0 {
		all, err = r.eips(ctx, nil, "", r.name())
	}
	if err != nil || len(all) == 0 {
		return plan.Result{}, false, err
	}
	return r.outputs(plan.Attrs{"id": plan.String(all[0].AllocationId), "ip": plan.String(all[0].IpAddress)}), true, nil
}

// eip gives one address, or false when it does not exist.
func (r *run) eip(ctx context.Context, id string) (eip, bool, error) {
	all, err := r.eips(ctx, nil, id, "")
	if gone(err) {
		return eip{}, false, nil
	}
	if err != nil || len(all) == 0 {
		return eip{}, false, err
	}
	return all[0], true, nil
}

func (r *run) associate(ctx context.Context) (plan.Result, error) {
	res, err := r.plain(ctx, &eipAction{rpc: newRPC(vpcAssociateEipAddress), AllocationId: r.text("address"),
		InstanceId: r.text("instance"), InstanceType: "EcsInstance", ClientToken: string(r.token)})
	if err == nil {
		return res, nil
	}
	if isCode(err, "IncorrectEipStatus", "InvalidAssociation.Duplicated", "BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP", "ResourceAlreadyAssociated.IpAddress") {
		// Perhaps it is where it should be: an earlier attempt of ours.
		if there, readErr := r.linked(ctx); readErr != nil || there {
			return plan.Result{}, readErr
		}
	}
	return res, err
}

// linked reports whether the address belongs to the instance, or is about to.
func (r *run) linked(ctx context.Context) (bool, error) {
	e, ok, err := r.eip(ctx, r.text("address"))
	return ok && e.InstanceId == r.text("instance") && (e.Status == "InUse" || e.Status == "Associating"), err
}

func (r *run) waitInUse(ctx context.Context) (plan.Result, error) {
	id, ip := r.text("address"), ""
	err := r.wait(ctx, "address "+id, addressPatience, func(ctx context.Context) (string, bool, error) {
		e, ok, err := r.eip(ctx, id)
		if err != nil || !ok {
			return "not listed", false, err
		}
		if e.Status == "InUse" && e.InstanceId != r.text("instance") {
			return "", false, elsewhere("address "+id, e.InstanceId)
		}
		ip = e.IpAddress
		return e.Status, e.Status == "InUse", nil
	})
	if err != nil {
		return plan.Result{}, err
	}
	return r.outputs(plan.Attrs{"ip": plan.String(ip)}), nil
}

// unassociate takes the address from where the plan saw it. One that is free
// already (the instance is gone, and the vendor freed it) needs nothing.
func (r *run) unassociate(ctx context.Context) (plan.Result, error) {
	e, ok, err := r.eip(ctx, r.text("id"))
	if err != nil || !ok || e.InstanceId == "" || e.Status == "Available" || e.Status == "Unassociating" {
		return plan.Result{}, err
	}
	if e.InstanceId != r.text("instance") {
		return plan.Result{}, elsewhere("address "+e.AllocationId, e.InstanceId)
	}
	res, err := r.plain(ctx, &eipAction{rpc: newRPC(vpcUnassociateEipAddress), AllocationId: e.AllocationId,
		InstanceId: e.InstanceId, InstanceType: e.InstanceType, ClientToken: string(r.token)})
	if gone(err) || isCode(err, "InvalidBindInstance.NotFound") {
		err = nil
	}
	return res, err
}

func (r *run) waitAvailable(ctx context.Context) (plan.Result, error) {
	id := r.text("id")
	return plan.Result{}, r.wait(ctx, "address "+id, addressPatience, func(ctx context.Context) (string, bool, error) {
		e, ok, err := r.eip(ctx, id)
		if err != nil || !ok {
			return "", err == nil, err
		}
		return e.Status, e.Status == "Available", nil
	})
}

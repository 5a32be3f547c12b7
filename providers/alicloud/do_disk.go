package alicloud

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"mailform/plan"
)

const diskPatience = 10 * time.Minute

// createDisk makes a data disk. It stays when the instance it is attached to is released.
func (r *run) createDisk(ctx context.Context) (plan.Result, error) {
	in := r.op.Inputs
	req := &createDisk{rpc: newRPC(ecsCreateDisk), ClientToken: string(r.token), ZoneId: r.text("zone"), DiskName: r.name(),
		Description: r.description(), DiskCategory: r.text("category"), Size: r.number("size_gib"), Tag: r.marks()}
	if in["encrypted"].True() {
		req.Encrypted = "true"
	}
	resp := &idAnswer{answer: newAnswer()}
	res, err := r.create(ctx, req, resp, func() string { return resp.DiskId }, r.findDisk)
	if err == nil && res.Outputs == nil {
		res = r.outputs(plan.Attrs{"id": plan.String(resp.DiskId)})
	}
	return res, err
}

func (r *run) findDisk(ctx context.Context) (plan.Result, bool, error) {
	all, err := r.disks(ctx, addressTags(r.stack, string(r.address())), "", "")
	if err != nil || len(all) == 0 {
		return plan.Result{}, false, err
	}
	return r.outputs(diskOutputs(all[0])), true, nil
}

func diskOutputs(d disk) plan.Attrs {
	attrs := plan.Attrs{"id": plan.String(d.DiskId)}
	if d.SerialNumber != "" {
		attrs["serial"] = plan.String(d.SerialNumber)
	}
	return attrs
}

// disk gives one disk, or false when it does not exist.
func (r *run) disk(ctx context.Context, id string) (disk, bool, error) {
	all, err := r.disks(ctx, nil, id, "")
	if gone(err) {
		return disk{}, false, nil
	}
	if err != nil || len(all) == 0 {
		return disk{}, false, err
	}
	return all[0], true, nil
}

// waitDisk waits until a disk is there and attached to nothing.
func (r *run) waitDisk(ctx context.Context) (plan.Result, error) {
	id, filter := r.text("id"), addressTags(r.stack, string(r.address()))
	if id != "" {
		filter = nil
	}
	var last disk
	err := r.wait(ctx, "the disk", diskPatience, func(ctx context.Context) (string, bool, error) {
		all, err := r.disks(ctx, filter, id, "")
		if err != nil || len(all) == 0 {
			return "not listed", err == nil && id != "", err // one that went away needs no waiting for
		}
		last = all[0]
		return last.Status, last.Status == "Available", nil
	})
	if err != nil || id != "" {
		return plan.Result{}, err
	}
	return r.outputs(diskOutputs(last)), nil
}

// attachDisk puts the disk into the instance.
func (r *run) attachDisk(ctx context.Context) (plan.Result, error) {
	res, err := r.plain(ctx, &diskAction{rpc: newRPC(ecsAttachDisk), DiskId: r.text("disk"), InstanceId: r.text("instance"), DeleteWithInstance: "false"})
	if isCode(err, "IncorrectDiskStatus", "InvalidDisk.AlreadyAttached", "InvalidOperation.Conflict") {
		// Perhaps it is where it should be: an earlier attempt of ours.
		if there, readErr := r.attached(ctx); readErr != nil || there {
			return plan.Result{}, readErr
		}
	}
	return res, err
}

// attached reports whether the disk belongs to the instance, or is about to.
func (r *run) attached(ctx context.Context) (bool, error) {
	d, ok, err := r.disk(ctx, r.text("disk"))
	return ok && d.InstanceId == r.text("instance") && (d.Status == "In_use" || d.Status == "Attaching"), err
}

func (r *run) waitDiskInUse(ctx context.Context) (plan.Result, error) {
	id, serial := r.text("disk"), ""
	err := r.wait(ctx, "disk "+id, diskPatience, func(ctx context.Context) (string, bool, error) {
		d, ok, err := r.disk(ctx, id)
		if err != nil || !ok {
			return "not listed", false, err
		}
		if d.Status == "In_use" && d.InstanceId != r.text("instance") {
			return "", false, elsewhere("disk "+id, d.InstanceId)
		}
		serial = d.SerialNumber
		return d.Status, d.Status == "In_use", nil
	})
	if err != nil {
		return plan.Result{}, err
	}
	return r.outputs(plan.Attrs{"serial": plan.String(serial)}), nil
}

// elsewhere is the error of finding something in an instance that the plan did not see it in.
func elsewhere(what, instance string) error {
	return &plan.Error{Class: plan.ErrStale, Code: codeConflict, Got: what + " belongs to " + instance + " now", Fix: "make a new plan"}
}

// detachDisk takes the disk from where the plan saw it. One that is free already
// needs nothing.
func (r *run) detachDisk(ctx context.Context) (plan.Result, error) {
	d, ok, err := r.disk(ctx, r.text("id"))
	if err != nil || !ok || d.InstanceId == "" || d.Status == "Available" || d.Status == "Detaching" {
		return plan.Result{}, err
	}
	if d.InstanceId != r.text("instance") {
		return plan.Result{}, elsewhere("disk "+d.DiskId, d.InstanceId)
	}
	res, err := r.plain(ctx, &diskAction{rpc: newRPC(ecsDetachDisk), DiskId: d.DiskId, InstanceId: d.InstanceId})
	if gone(err) || isCode(err, "DependencyViolation") {
		err = nil // it or its instance went away meanwhile, and it is free
	}
	return res, err
}

// resizeDisk enlarges a disk: while its instance runs, or for the next start. What is
// on the disk grows when the host is converged.
func (r *run) resizeDisk(ctx context.Context, d disk) (plan.Result, error) {
	if d.Size >= int(r.op.Inputs["size_gib"].Num()) {
		return plan.Result{}, nil
	}
	how := "offline"
	if d.InstanceId != "" {
		if i, ok, err := r.instance(ctx, d.InstanceId); err != nil {
			return plan.Result{}, err
		} else if ok && i.Status == "Running" {
			how = "online"
		}
	}
	return r.plain(ctx, &diskAction{rpc: newRPC(ecsResizeDisk), DiskId: d.DiskId, NewSize: r.number("size_gib"), Type: how, ClientToken: string(r.token)})
}

// theDisk is the disk an operation is about; that it is not there any more is stale.
func (r *run) theDisk(ctx context.Context) (disk, error) {
	d, ok, err := r.disk(ctx, r.text("id"))
	if r.op.Kind == opResizeSystem {
		var all []disk
		all, err = r.disks(ctx, nil, "", r.text("id"))
		if ok = len(all) > 0; ok {
			d = all[0]
		}
	}
	if err == nil && !ok {
		err = &plan.Error{Class: plan.ErrStale, Code: codeConflict, Got: "the disk is not there any more", Fix: "make a new plan"}
	}
	return d, err
}

// createPolicy makes an automatic snapshot policy. The vendor takes no token for it, so
// it looks for one of an earlier attempt first, by tag and by name.
func (r *run) createPolicy(ctx context.Context) (plan.Result, error) {
	if res, ok, err := r.findPolicy(ctx); err != nil || ok {
		return res, err
	}
	resp := &idAnswer{answer: newAnswer()}
	req := &createAutoSnapshotPolicy{rpc: newRPC(ecsCreateAutoSnapshotPolicy), Name: r.name(), TimePoints: jsonList(r.number("hour")),
		RepeatWeekdays: everyDay, RetentionDays: r.number("days"), Tag: r.marks()}
	res, err := r.create(ctx, req, resp, func() string { return resp.AutoSnapshotPolicyId }, r.findPolicy)
	if err == nil && res.Outputs == nil {
		res = r.outputs(plan.Attrs{"id": plan.String(resp.AutoSnapshotPolicyId)})
	}
	return res, err
}

func (r *run) findPolicy(ctx context.Context) (plan.Result, bool, error) {
	all, err := r.snapshotPolicies(ctx, nil, "", r.name())
	if err != nil {
		return plan.Result{}, false, err
	}
	for _, p := range all {
		if t := p.Tags.tags(); p.AutoSnapshotPolicyName == r.name() && t[tagStack] == r.stack && t[tagAddress] == string(r.address()) {
			return r.outputs(plan.Attrs{"id": plan.String(p.AutoSnapshotPolicyId)}), true, nil
		}
	}
	return plan.Result{}, false, nil
}

// policyID is the policy an operation is about: named, or just made.
func (r *run) policyID(ctx context.Context) (string, error) {
	if id := r.text("id"); id != "" {
		return id, nil
	}
	res, ok, err := r.eventually(ctx, r.findPolicy)
	if err == nil && !ok {
		err = &plan.Error{Class: plan.ErrStale, Code: codeConflict, Got: "the snapshot policy is not there any more", Fix: "make a new plan"}
	}
	return res.Outputs[r.address()]["id"].Str(), err
}

func (r *run) applyPolicy(ctx context.Context) (plan.Result, error) {
	id, err := r.policyID(ctx)
	if err != nil {
		return plan.Result{}, err
	}
	return r.plain(ctx, &snapshotPolicyAction{rpc: newRPC(ecsApplyAutoSnapshotPolicy), PolicyId: id, DiskIds: jsonList(r.text("disk"))})
}

// cancelPolicy ends the policy for the disk the plan saw it on, unless somebody has
// given that disk another one.
func (r *run) cancelPolicy(ctx context.Context) (plan.Result, error) {
	d, ok, err := r.disk(ctx, r.text("disk"))
	if err != nil || !ok || d.AutoSnapshotPolicyId != r.text("id") {
		return plan.Result{}, err
	}
	return r.plain(ctx, &snapshotPolicyAction{rpc: newRPC(ecsCancelAutoSnapshotPolicy), DiskIds: jsonList(d.DiskId)})
}

// policyIs reports whether the policy is as an operation would make it.
func (r *run) policyIs(ctx context.Context) (bool, error) {
	all, err := r.snapshotPolicies(ctx, nil, r.text("id"), "")
	if err != nil || len(all) == 0 {
		return false, err
	}
	return all[0].TimePoints == jsonList(r.number("hour")) && strconv.Itoa(all[0].RetentionDays) == r.number("days"), nil
}

// policyApplied reports whether the disk has the policy.
func (r *run) policyApplied(ctx context.Context) (bool, error) {
	id, err := r.policyID(ctx)
	if err != nil {
		return false, err
	}
	d, ok, err := r.disk(ctx, r.text("disk"))
	return ok && d.AutoSnapshotPolicyId == id, err
}

func (r *run) modifyPolicy(ctx context.Context) (plan.Result, error) {
	return r.plain(ctx, &snapshotPolicyAction{rpc: newRPC(ecsModifyAutoSnapshotPolicyEx), PolicyId: r.text("id"),
		TimePoints: jsonList(r.number("hour")), RepeatWeekdays: everyDay, RetentionDays: fmt.Sprint(r.op.Inputs["days"].Num())})
}

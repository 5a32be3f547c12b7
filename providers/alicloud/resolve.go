package alicloud

import (
	"context"
	"errors"

	"mailform/plan"
)

// Resolve finds out whether an interrupted operation took effect: what it would
// have made is looked for by its tags, what it would have changed or deleted is
// read. Because everything is tagged in the call that creates it, "not found" means
// that it does not exist; should the vendor's tag index lag behind, the repeated
// request carries the same ClientToken and makes nothing twice.
func (p *Provider) Resolve(ctx context.Context, op plan.Op, token plan.Token) (plan.Verdict, plan.Result, error) {
	r := p.begin(op, token, nil)
	if err := r.complete(); err != nil {
		return plan.Undecidable, plan.Result{}, explain("find out about: "+r.step(), err)
	}
	verdict, res, err := r.resolve(ctx)
	if err != nil {
		return plan.Undecidable, plan.Result{}, explain("find out about: "+r.step(), err)
	}
	return verdict, res, nil
}

func (r *run) resolve(ctx context.Context) (plan.Verdict, plan.Result, error) {
	done, found := verdicts()
	id := r.text("id")
	if readOnly(r.op.Kind) {
		return plan.NotDone, plan.Result{}, nil // nothing to have happened
	}
	switch r.op.Kind {
	case opCreateVpc:
		return found(r.findVpc(ctx))
	case opCreateVSwitch:
		return found(r.findVSwitch(ctx))
	case opCreateGroup:
		return found(r.findGroup(ctx))
	case opImportKey:
		return found(r.findKey(ctx))
	case opRunInstances:
		return found(r.findInstance(ctx))
	case opAllocateEIP:
		return found(r.findEIP(ctx))
	case opAuthorize, opModifyRule:
		return done(r.rulesAre(ctx, true))
	case opRevoke:
		return done(r.rulesAre(ctx, false))
	case opDeleteVpc:
		all, err := r.vpcs(ctx, nil, id)
		return done(len(all) == 0 || gone(err), forgive(err))
	case opDeleteVSwitch:
		all, err := r.vSwitches(ctx, nil, id)
		return done(len(all) == 0 || gone(err), forgive(err))
	case opDeleteGroup:
		all, err := r.securityGroups(ctx, nil, id)
		return done(len(all) == 0 || gone(err), forgive(err))
	case opDeleteKey:
		all, err := r.keyPairs(ctx, r.text("name"))
		return done(len(all) == 0, err)
	case opDeleteInstance:
		_, there, err := r.instance(ctx, id)
		return done(!there || gone(err), forgive(err))
	case opStopInstance:
		i, there, err := r.instance(ctx, id)
		return done(there && (i.Status == "Stopping" || i.Status == "Stopped"), err)
	case opStartInstance:
		i, there, err := r.instance(ctx, id)
		return done(there && (i.Status == "Starting" || i.Status == "Running"), err)
	case opModifyType:
		i, there, err := r.instance(ctx, id)
		return done(there && i.InstanceType == r.text("type"), err)
	case opJoinGroup:
		i, _, err := r.instance(ctx, id)
		return done(in(r.text("firewall"), i.SecurityGroupIds.SecurityGroupId...), err)
	case opModifyEIP:
		e, there, err := r.eip(ctx, id)
		return done(there && e.Bandwidth == r.number("bandwidth"), err)
	case opReleaseEIP:
		_, there, err := r.eip(ctx, id)
		return done(!there, err)
	case opAssociate:
		return done(r.linked(ctx))
	case opUnassociate:
		e, there, err := r.eip(ctx, id)
		return done(!there || e.InstanceId == "" || e.Status == "Unassociating", err)
	case opTag, opUntag, opUnmarkRule:
		return plan.NotDone, plan.Result{}, nil // doing it again changes nothing
	case opRaiseProtection, opLiftProtection:
		i, there, err := r.instance(ctx, id)
		return done(!there || i.DeletionProtection == (r.op.Kind == opRaiseProtection), err)
	}
	return r.resolveDisk(ctx)
}

func (r *run) resolveDisk(ctx context.Context) (plan.Verdict, plan.Result, error) {
	done, found := verdicts()
	id := r.text("id")
	switch r.op.Kind {
	case opCreateDisk:
		return found(r.findDisk(ctx))
	case opDeleteDisk:
		_, there, err := r.disk(ctx, id)
		return done(!there, err)
	case opResizeDisk, opResizeSystem:
		d, err := r.theDisk(ctx)
		return done(d.Size >= int(r.op.Inputs["size_gib"].Num()), err)
	case opModifyCategory:
		d, there, err := r.disk(ctx, id)
		return done(there && d.Category == r.text("category"), err)
	case opKeepDisk:
		d, there, err := r.disk(ctx, id)
		return done(there && !d.DeleteWithInstance, err)
	case opAttachDisk:
		return done(r.attached(ctx))
	case opDetachDisk:
		d, there, err := r.disk(ctx, id)
		return done(!there || d.InstanceId == "" || d.Status == "Detaching", err)
	case opCreatePolicy:
		return found(r.findPolicy(ctx))
	case opModifyPolicy:
		return done(r.policyIs(ctx))
	case opApplyPolicy:
		return done(r.policyApplied(ctx))
	case opCancelPolicy:
		d, there, err := r.disk(ctx, r.text("disk"))
		return done(!there || d.AutoSnapshotPolicyId != id, err)
	case opDeletePolicy:
		all, err := r.snapshotPolicies(ctx, nil, id, "")
		return done(len(all) == 0, forgive(err))
	case opCreateBucket:
		_, there, err := r.bucketInfo(ctx, r.text("name"), r.text("region"))
		return found(plan.Result{}, there, err)
	case opDeleteBucket:
		_, there, err := r.bucketInfo(ctx, r.text("name"), r.text("region"))
		return done(!there, err)
	case opTagBucket, opUntagBucket, opBucketACL, opBucketBlock, opBucketVersioning, opBucketEncryption, opBucketLifecycle:
		return plan.NotDone, plan.Result{}, nil // doing it again changes nothing
	}
	return plan.Undecidable, plan.Result{}, r.internal("this version of mailform does not know the operation " + r.op.Kind)
}

// verdicts turn what was read into an answer: whether something is so, and what was found.
func verdicts() (done func(bool, error) (plan.Verdict, plan.Result, error), found func(plan.Result, bool, error) (plan.Verdict, plan.Result, error)) {
	found = func(res plan.Result, ok bool, err error) (plan.Verdict, plan.Result, error) {
		if ok {
			return plan.Done, res, err
		}
		return plan.NotDone, plan.Result{}, err
	}
	done = func(ok bool, err error) (plan.Verdict, plan.Result, error) { return found(plan.Result{}, ok, err) }
	return done, found
}

// forgive drops the error of reading something that does not exist.
func forgive(err error) error {
	var f *failure
	if errors.As(err, &f) && gone(err) {
		return nil
	}
	return err
}

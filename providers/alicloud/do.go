package alicloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailform/plan"
)

// run is one operation being carried out.
type run struct {
	*Provider
	*reader
	op       plan.Op
	token    plan.Token
	progress plan.Progress
}

func (p *Provider) begin(op plan.Op, token plan.Token, progress plan.Progress) *run {
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	return &run{Provider: p, reader: &reader{via: p.api}, op: op, token: token, progress: progress}
}

// Do carries an operation out. It may read before and after, but has at most one effect.
func (p *Provider) Do(ctx context.Context, op plan.Op, token plan.Token, progress plan.Progress) (plan.Result, error) {
	r := p.begin(op, token, progress)
	res, err := r.do(ctx)
	return res, explain(r.step(), err)
}

// step is what a person reads about what was being done.
func (r *run) step() string { return r.op.Title + " " + string(r.address()) }

func (r *run) do(ctx context.Context) (plan.Result, error) {
	if err := r.complete(); err != nil {
		return plan.Result{}, err
	}
	switch r.op.Kind {
	case opCreateVpc:
		return r.createVpc(ctx)
	case opWaitVpc:
		return r.waitVpc(ctx)
	case opDeleteVpc:
		return r.plain(ctx, &deleteVpc{rpc: newRPC(vpcDeleteVpc), VpcId: r.text("id")})
	case opCreateVSwitch:
		return r.createVSwitch(ctx)
	case opWaitVSwitch:
		return r.waitVSwitch(ctx)
	case opDeleteVSwitch:
		return r.deleteVSwitch(ctx, r.text("id"))
	case opCreateGroup:
		return r.createGroup(ctx)
	case opAuthorize:
		return r.authorize(ctx)
	case opRevoke:
		return r.revoke(ctx)
	case opModifyRule:
		return r.modifyRule(ctx)
	case opDeleteGroup:
		return r.plain(ctx, &deleteSecurityGroup{rpc: newRPC(ecsDeleteSecurityGroup), SecurityGroupId: r.text("id")})
	case opImportKey:
		return r.importKey(ctx)
	case opDeleteKey:
		return r.plain(ctx, &deleteKeyPairs{rpc: newRPC(ecsDeleteKeyPairs), KeyPairNames: jsonList(r.text("name"))})
	case opRunInstances:
		return r.runInstances(ctx)
	case opWaitRunning:
		return r.waitRunning(ctx)
	case opStopInstance:
		return r.stopInstance(ctx)
	case opWaitStopped:
		return r.waitStopped(ctx)
	case opStartInstance:
		return r.startInstance(ctx)
	case opModifyType:
		return r.modifyType(ctx)
	case opCheckStock:
		return r.checkStock(ctx)
	case opRaiseProtection:
		return r.protect(ctx, "true")
	case opLiftProtection:
		return r.protect(ctx, "false")
	case opJoinGroup:
		return r.joinGroup(ctx)
	case opDeleteInstance:
		return r.deleteInstance(ctx)
	case opWaitGone:
		return r.waitGone(ctx)
	case opAllocateEIP:
		return r.allocate(ctx)
	case opModifyEIP:
		return r.plain(ctx, &eipAction{rpc: newRPC(vpcModifyEipAddressAttribute), AllocationId: r.text("id"),
			Bandwidth: r.number("bandwidth")})
	case opReleaseEIP:
		return r.plain(ctx, &eipAction{rpc: newRPC(vpcReleaseEipAddress), AllocationId: r.text("id")})
	case opAssociate:
		return r.associate(ctx)
	case opWaitInUse:
		return r.waitInUse(ctx)
	case opUnassociate:
		return r.unassociate(ctx)
	case opWaitAvailable:
		return r.waitAvailable(ctx)
	case opTag:
		return r.tag(ctx)
	case opUntag:
		return r.untag(ctx)
	case opUnmarkRule:
		return r.modifyRule(ctx)
	case opForgetLink:
		return plan.Result{}, r.forgetLink()
	}
	return r.doDisk(ctx)
}

// doDisk carries out what is about disks and their snapshots.
func (r *run) doDisk(ctx context.Context) (plan.Result, error) {
	switch r.op.Kind {
	case opCreateDisk:
		return r.createDisk(ctx)
	case opWaitDisk:
		return r.waitDisk(ctx)
	case opDeleteDisk:
		return r.plain(ctx, &diskAction{rpc: newRPC(ecsDeleteDisk), DiskId: r.text("id")})
	case opResizeDisk, opResizeSystem:
		d, err := r.theDisk(ctx)
		if err != nil {
			return plan.Result{}, err
		}
		return r.resizeDisk(ctx, d)
	case opModifyCategory:
		return r.plain(ctx, &diskAction{rpc: newRPC(ecsModifyDiskSpec), DiskId: r.text("id"), DiskCategory: r.text("category")})
	case opKeepDisk:
		return r.plain(ctx, &diskAction{rpc: newRPC(ecsModifyDiskAttribute), DiskId: r.text("id"), DeleteWithInstance: "false"})
	case opAttachDisk:
		return r.attachDisk(ctx)
	case opWaitDiskInUse:
		return r.waitDiskInUse(ctx)
	case opDetachDisk:
		return r.detachDisk(ctx)
	case opCreatePolicy:
		return r.createPolicy(ctx)
	case opModifyPolicy:
		return r.modifyPolicy(ctx)
	case opApplyPolicy:
		return r.applyPolicy(ctx)
	case opCancelPolicy:
		return r.cancelPolicy(ctx)
	case opDeletePolicy:
		return r.plain(ctx, &snapshotPolicyAction{rpc: newRPC(ecsDeleteAutoSnapshotPolicy), PolicyId: r.text("id")})
	}
	return r.doBucket(ctx)
}

// complete checks that the operation has what every one needs: its operands are
// known and it names an address.
func (r *run) complete() error {
	if len(r.op.Addresses) == 0 {
		return r.internal("the operation names no address")
	}
	if refs := r.op.Inputs.Refs(); len(refs) > 0 {
		return r.internal(fmt.Sprintf("%s is not known", refs[0]))
	}
	return nil
}

func (r *run) internal(got string) error {
	return &plan.Error{Code: codeInternal, Got: got, Fix: "make a new plan; if it stays so, please report it"}
}

// address is what the operation is about.
func (r *run) address() plan.Address {
	if len(r.op.Addresses) == 0 {
		return ""
	}
	return r.op.Addresses[0]
}

func (r *run) text(name string) string { return r.op.Inputs[name].Str() }

func (r *run) number(name string) string {
	if v := r.op.Inputs[name]; v.Kind() == plan.KindInt {
		return fmt.Sprint(v.Num())
	}
	return ""
}

// name is what the thing is called in the vendor's console.
func (r *run) name() string { return resourceName(r.stack, hostOf(r.address())) }

func (r *run) description() string { return "mailform " + r.stack + " " + string(r.address()) }

// marks are the tags of a new thing, with more of its own.
func (r *run) marks(more ...tagParam) *[]tagParam {
	t := append(*addressTags(r.stack, string(r.address())), more...)
	return &t
}

func (r *run) outputs(attrs plan.Attrs) plan.Result {
	return plan.Result{Outputs: map[plan.Address]plan.Attrs{r.address(): attrs}}
}

// plain sends a request whose answer says nothing. A thing to be deleted that
// is not there any more is deleted.
func (r *run) plain(ctx context.Context, req request) (plan.Result, error) {
	resp := newAnswer()
	err := r.call(ctx, req, &resp)
	if err != nil && deletes(r.op.Kind) && gone(err) {
		err = nil
	}
	return plan.Result{}, err
}

func deletes(kind string) bool {
	switch kind {
	case opDeleteVpc, opDeleteVSwitch, opDeleteGroup, opDeleteKey, opDeleteInstance, opReleaseEIP, opDeleteDisk, opDeletePolicy, opLiftProtection:
		return true
	}
	return false
}

// create sends a creating request and takes the new id from the answer. When the
// vendor knows the token from a request with other parameters an earlier attempt
// of ours arrived: then find says what it made. When that is nothing, the token is
// spent and the same must be wished for under a new one.
func (r *run) create(ctx context.Context, req request, resp response, id func() string, find func(context.Context) (plan.Result, bool, error)) (plan.Result, error) {
	err := r.call(ctx, req, resp)
	if mismatch(err) {
		res, ok, findErr := r.eventually(ctx, find)
		if findErr != nil || ok {
			return res, findErr
		}
		e := explain(r.step(), err)
		var pe *plan.Error
		if errors.As(e, &pe) {
			pe.Class = plan.ErrSpentToken
		}
		return plan.Result{}, e
	}
	if err != nil {
		return plan.Result{}, err
	}
	if id() == "" {
		return plan.Result{}, &failure{product: req.target(), action: req.GetActionName(), to: r.api.endpoints[req.target()],
			kind: malformed, status: resp.GetHttpStatus(), err: errors.New("the answer carries no id")}
	}
	return plan.Result{}, nil
}

// eventually repeats a search for as long as the vendor's index may lag behind.
func (r *run) eventually(ctx context.Context, find func(context.Context) (plan.Result, bool, error)) (plan.Result, bool, error) {
	const patience = time.Minute
	wait, waited := pollFirst, time.Duration(0)
	for {
		res, ok, err := find(ctx)
		if err != nil || ok || waited >= patience {
			return res, ok, err
		}
		if err := r.sleep(ctx, wait); err != nil {
			return plan.Result{}, false, err
		}
		waited += wait
		wait = min(2*wait, pollMost)
	}
}

const (
	pollFirst = 200 * time.Millisecond
	pollMost  = 5 * time.Second
)

// wait polls until done, with pauses that grow from 200 ms to 5 s. state is what the
// person sees meanwhile. It gives up when the pauses add up to limit.
func (r *run) wait(ctx context.Context, what string, limit time.Duration, check func(context.Context) (state string, done bool, err error)) error {
	pause, waited, shown := pollFirst, time.Duration(0), ""
	for {
		state, done, err := check(ctx)
		if err != nil || done {
			return err
		}
		if waited >= limit {
			return &plan.Error{
				Class: plan.ErrTransient, Code: codeTimeout,
				Got: fmt.Sprintf("%s is still %s after %s", what, state, limit),
				Fix: "look at it in the vendor's console; run the same command again to go on waiting",
			}
		}
		if state != shown {
			r.progress(what+" is "+state, 0, 0)
			shown = state
		}
		if err := r.sleep(ctx, pause); err != nil {
			return err
		}
		waited += pause
		pause = min(pause*8/5, pollMost)
	}
}

func jsonList(s string) string { return `["` + s + `"]` }

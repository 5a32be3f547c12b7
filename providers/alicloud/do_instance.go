package alicloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailform/plan"
)

const (
	startPatience = 10 * time.Minute // the vendor: a start after a change of type can take more than 8 minutes
	stopPatience  = 10 * time.Minute // an orderly shutdown flushes the mail server first
	gonePatience  = 5 * time.Minute

	// stoppedForGood is how often an instance that is to run may be seen stopped: it is
	// for a moment after a start was accepted.
	stoppedForGood = 10
)

// importKey imports the first login key under the host's name.
func (r *run) importKey(ctx context.Context) (plan.Result, error) {
	key := r.text("public_key")
	if key == "" {
		return plan.Result{}, &plan.Error{
			Class: plan.ErrSpec, Code: "MF4103",
			Got: "there is no SSH public key to give it",
			Fix: "make one with ssh-keygen -t ed25519, or name a public key in the host's ssh block: authorized_keys = [file(\"~/.ssh/id_ed25519.pub\")]",
		}
	}
	resp := newAnswer()
	err := r.call(ctx, &importKeyPair{rpc: newRPC(ecsImportKeyPair), KeyPairName: r.name(), PublicKeyBody: key, Tag: r.marks()}, &resp)
	if isCode(err, "KeyPair.AlreadyExist") {
		// A name is taken once: this is an earlier attempt of ours, or not ours at all.
		res, ok, findErr := r.findKey(ctx)
		if findErr != nil || ok {
			return res, findErr
		}
		e := explain(r.step(), err)
		var pe *plan.Error
		if errors.As(e, &pe) {
			pe.Fix = "the key pair " + r.name() + " is not this stack's; delete it in the vendor's console, then run the same command again"
		}
		return plan.Result{}, e
	}
	if err != nil {
		return plan.Result{}, err
	}
	return r.outputs(plan.Attrs{"name": plan.String(r.name())}), nil
}

func (r *run) findKey(ctx context.Context) (plan.Result, bool, error) {
	all, err := r.keyPairs(ctx, r.name())
	if err != nil {
		return plan.Result{}, false, err
	}
	for _, k := range all {
		t := k.Tags.tags()
		if k.KeyPairName == r.name() && t[tagStack] == r.stack && t[tagAddress] == string(r.address()) {
			return r.outputs(plan.Attrs{"name": plan.String(k.KeyPairName)}), true, nil
		}
	}
	return plan.Result{}, false, nil
}

// runInstances creates the instance. Its SSH host key is made here, at random, and
// handed over in the user data; its fingerprint is set as a tag in the same call,
// so that whoever asks for the instance can later verify its first connection.
//
// Because the key differs in every attempt, a repeated request with the same
// ClientToken never equals the first one: the vendor answers with a mismatch,
// which proves that the first arrived, and the instance is then found by its tags.
// For the same reason the fingerprint is not taken from this attempt but read back
// from the tag once the instance runs.
func (r *run) runInstances(ctx context.Context) (plan.Result, error) {
	key, err := newHostKey(r.rand)
	if err != nil {
		return plan.Result{}, err
	}
	in := r.op.Inputs
	data, err := userData(key, in["hostname"].Str(), in["ssh_user"].Str(), int(in["ssh_port"].Num()), in["authorized_keys"].Texts())
	if err != nil {
		return plan.Result{}, err
	}
	try := func(ctx context.Context, instanceType, subnet, token string) (plan.Result, error) {
		image, err := r.findImage(ctx, instanceType)
		if err != nil {
			return plan.Result{}, err
		}
		req := r.instanceRequest(key, data, image, instanceType, subnet, token)
		resp := &runInstancesAnswer{answer: newAnswer()}
		id := func() string {
			if ids := resp.InstanceIdSets.InstanceIdSet; len(ids) == 1 {
				return ids[0]
			}
			return ""
		}
		res, err := r.create(ctx, req, resp, id, r.findInstance)
		if err == nil && res.Outputs == nil {
			res = r.outputs(plan.Attrs{"id": plan.String(id()), "image_id": plan.String(image)})
		}
		return res, err
	}
	res, err := try(ctx, r.text("type"), r.text("subnet"), string(r.token))
	// A vSwitch that is not there any more is what an interrupted search leaves behind.
	if soldOut(err) || isCode(err, "InvalidVSwitchId.NotFound") && r.text("network") != "" {
		return r.search(ctx, try, err)
	}
	return res, err
}

func (r *run) instanceRequest(key hostKey, data, image, instanceType, subnet, token string) *runInstances {
	in := r.op.Inputs
	disk := in["system_disk"]
	marks := r.marks(tagParam{tagHostKey, key.fingerprint}, tagParam{tagSubnet, string(r.subnetAddress())})
	if want := r.text("type"); instanceType != want {
		*marks = append(*marks, tagParam{tagInsteadOf, want})
	}
	req := &runInstances{
		rpc:                     newRPC(ecsRunInstances),
		ClientToken:             token,
		ImageId:                 image,
		InstanceType:            instanceType,
		InstanceName:            r.name(),
		Description:             r.description(),
		HostName:                hostName(in["hostname"].Str(), hostOf(r.address())),
		VSwitchId:               subnet,
		SecurityGroupId:         r.text("firewall"),
		KeyPairName:             r.text("ssh_key"),
		UserData:                data,
		SystemDiskCategory:      disk.Field("category").Str(),
		SystemDiskSize:          r.number("system_disk_gib"),
		RamRoleName:             r.text("ram_role"),
		InstanceChargeType:      "PostPaid",
		InternetMaxBandwidthOut: "0", // an instance with a public address of its own cannot take an EIP
		Amount:                  "1",
		Tag:                     marks,
	}
	if disk.Field("encrypted").True() {
		req.SystemDiskEncrypted = "true"
	}
	if in["deletion_protection"].True() {
		req.DeletionProtection = "true"
	}
	return req
}

// hostName is what the vendor takes as the name inside the instance: 2 to 64
// characters with dots. The full name is set by cloud-init as well.
func hostName(fqdn, host string) string {
	if len(fqdn) >= 2 && len(fqdn) <= 64 {
		return fqdn
	}
	return host
}

// findInstance looks for the instance of this address.
func (r *run) findInstance(ctx context.Context) (plan.Result, bool, error) {
	all, err := r.instances(ctx, addressTags(r.stack, string(r.address())), "")
	if err != nil || len(all) == 0 {
		return plan.Result{}, false, err
	}
	i := all[0]
	res := r.outputs(instanceOutputs(i))
	res.Outputs[r.subnetAddress()] = plan.Attrs{"id": plan.String(i.VpcAttributes.VSwitchId), "zone": plan.String(i.ZoneId)}
	return res, true, nil
}

// instance gives one instance, or false when it does not exist.
func (r *run) instance(ctx context.Context, id string) (instance, bool, error) {
	all, err := r.instances(ctx, nil, id)
	if err != nil || len(all) == 0 {
		return instance{}, false, err
	}
	return all[0], true, nil
}

func (r *run) waitRunning(ctx context.Context) (plan.Result, error) {
	var last instance
	stopped := 0
	id, filter := r.text("id"), addressTags(r.stack, string(r.address()))
	if id != "" {
		filter = nil
	}
	err := r.wait(ctx, "the instance", startPatience, func(ctx context.Context) (string, bool, error) {
		all, err := r.instances(ctx, filter, id)
		if err != nil || len(all) == 0 {
			return "not listed yet", false, err
		}
		i := all[0]
		last = i
		if i.Status == "Stopped" || i.Status == "Stopping" {
			if stopped++; stopped > stoppedForGood {
				why := ""
				if locks := i.OperationLocks.LockReason; len(locks) > 0 {
					why = ", locked: " + clean(locks[0].LockReason, 100)
				}
				return "", false, &plan.Error{Code: codeConflict,
					Got: fmt.Sprintf("instance %s does not start: it is %s%s", i.InstanceId, i.Status, why),
					Fix: "see the vendor's console for why (a financial lock: pay the balance), then run the same command again"}
			}
		}
		return i.Status, i.Status == "Running", nil
	})
	if err != nil {
		return plan.Result{}, err
	}
	res := r.outputs(instanceOutputs(last))
	if ip := last.EipAddress.IpAddress; ip != "" {
		// A machine that was stopped has its address back.
		res.Outputs[part(hostOf(r.address()), "address-link")] = plan.Attrs{"ip": plan.String(ip)}
	}
	return res, nil
}

// stopInstance shuts down in order. The instance stays paid for, so that its
// capacity is still there when it starts again.
func (r *run) stopInstance(ctx context.Context) (plan.Result, error) {
	if i, ok, err := r.instance(ctx, r.text("id")); err != nil || ok && (i.Status == "Stopping" || i.Status == "Stopped") {
		return plan.Result{}, err
	}
	return r.plain(ctx, &instanceAction{rpc: newRPC(ecsStopInstance), InstanceId: r.text("id"), StoppedMode: "KeepCharging"})
}

func (r *run) waitStopped(ctx context.Context) (plan.Result, error) {
	id := r.text("id")
	return plan.Result{}, r.wait(ctx, "instance "+id, stopPatience, func(ctx context.Context) (string, bool, error) {
		i, ok, err := r.instance(ctx, id)
		if err != nil || !ok {
			return "not listed", false, err
		}
		return i.Status, i.Status == "Stopped", nil
	})
}

func (r *run) startInstance(ctx context.Context) (plan.Result, error) {
	if i, ok, err := r.instance(ctx, r.text("id")); err != nil || ok && (i.Status == "Starting" || i.Status == "Running") {
		return plan.Result{}, err
	}
	return r.plain(ctx, &instanceAction{rpc: newRPC(ecsStartInstance), InstanceId: r.text("id")})
}

func (r *run) joinGroup(ctx context.Context) (plan.Result, error) {
	res, err := r.plain(ctx, &joinSecurityGroup{rpc: newRPC(ecsJoinSecurityGroup), InstanceId: r.text("id"), SecurityGroupId: r.text("firewall")})
	if isCode(err, "InvalidInstanceId.AlreadyExists") {
		err = nil // is in it already
	}
	return res, err
}

// deleteInstance releases the instance. One that is still starting cannot be
// released (a crash in the middle of creating it, then a destroy): it settles first.
func (r *run) deleteInstance(ctx context.Context) (plan.Result, error) {
	id := r.text("id")
	release := func() (plan.Result, error) {
		return r.plain(ctx, &instanceAction{rpc: newRPC(ecsDeleteInstance), InstanceId: id, Force: "true"})
	}
	res, err := release()
	if !isCode(err, "IncorrectInstanceStatus.Initializing") {
		return res, err
	}
	err = r.wait(ctx, "instance "+id, startPatience, func(ctx context.Context) (string, bool, error) {
		i, ok, err := r.instance(ctx, id)
		return i.Status, err == nil && (!ok || i.Status != "Pending" && i.Status != "Starting"), err
	})
	if err != nil {
		return plan.Result{}, err
	}
	return release()
}

func (r *run) waitGone(ctx context.Context) (plan.Result, error) {
	id := r.text("id")
	return plan.Result{}, r.wait(ctx, "instance "+id, gonePatience, func(ctx context.Context) (string, bool, error) {
		i, ok, err := r.instance(ctx, id)
		if gone(err) {
			return "", true, nil
		}
		return i.Status, err == nil && !ok, err
	})
}

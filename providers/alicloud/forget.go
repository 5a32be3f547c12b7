package alicloud

import (
	"context"

	"mailform/plan"
)

const (
	opUntag      = "UntagResources"
	opUnmarkRule = "UnmarkSecurityGroupRule"
	opForgetLink = "ForgetLink"
)

// taggable is where the vendor keeps the tags of each kind.
var taggable = map[string]struct {
	tag, untag action
	name       string
}{
	kindVPC:            {vpcTagResources, vpcUnTagResources, "VPC"},
	kindVSwitch:        {vpcTagResources, vpcUnTagResources, "VSWITCH"},
	kindEIP:            {vpcTagResources, vpcUnTagResources, "EIP"},
	kindSecurityGroup:  {ecsTagResources, ecsUntagResources, "securitygroup"},
	kindKeyPair:        {ecsTagResources, ecsUntagResources, "keypair"},
	kindInstance:       {ecsTagResources, ecsUntagResources, "instance"},
	kindDisk:           {ecsTagResources, ecsUntagResources, "disk"},
	kindSnapshotPolicy: {ecsTagResources, ecsUntagResources, "snapshotpolicy"},
}

// ourTags are the keys of every mark.
var ourTags = [...]string{tagStack, tagAddress, tagHostKey, tagSubnet, tagInsteadOf}

// forget takes every mark of ours off a thing and changes nothing else about it.
func (c *compiler) forget(ch plan.Change) {
	a, id := ch.Address, plan.String(ch.ID)
	untag := func(suffix, title string, inputs plan.Attrs) {
		c.last = []string{c.add(a, opUntag, suffix, title, 1, inputs, c.last)}
	}
	switch ch.Kind {
	case kindBucket:
		c.then(a, opUntagBucket, "take our mark off", 1, bucketInputs(ch, ch.Before))
		return
	case kindAssociation:
		c.forgetLink(ch, "address")
		return
	case kindDiskAttachment:
		c.forgetLink(ch, "data-disk")
		return
	case kindSecurityGroup:
		var ids []string
		for _, r := range rulesFromValue(ch.Before["rules"]) {
			if r.Name != "" && r.ID == "" {
				ids = append(ids, c.add(a, opUnmarkRule, " "+r.key(), "take our mark off the rule "+r.Name+" of", 1,
					plan.Attrs{"id": id, "rules": rulesValue([]rule{r})}, nil))
			}
		}
		c.last = ids // the group is seen, and its rules with it, until its own mark is off
	case kindVSwitch:
		// Its instance vouches for it, see vouch.
		if inst := c.changes[part(hostOf(a), "instance")]; inst.ID != "" {
			untag(" instance", "take the mark off the instance in", plan.Attrs{"id": plan.String(inst.ID), "kind": plan.String(kindInstance), "only": plan.String(tagSubnet)})
		}
	case kindInstance:
		// The vendor gave the system disk the same tags.
		untag(" system-disk", "take our mark off the system disk of", plan.Attrs{"system_of": id, "kind": plan.String(kindDisk)})
	}
	untag("", "take our mark off", plan.Attrs{"id": id, "kind": plan.String(ch.Kind)})
}

// forgetLink forgets what is only the state of something else: it is forgotten with it.
func (c *compiler) forgetLink(ch plan.Change, home string) {
	owner := c.changes[part(hostOf(ch.Address), home)]
	inputs := plan.Attrs{}
	if owner.Action != plan.Forget {
		inputs["with"] = plan.String(string(part(hostOf(ch.Address), home)))
	}
	c.then(ch.Address, opForgetLink, "forget", 0, inputs)
}

func (r *run) forgetLink() error {
	with := r.text("with")
	if with == "" {
		return nil
	}
	return &plan.Error{Class: plan.ErrSpec, Code: codeConflict,
		Got: string(r.address()) + " is only a state of " + with + ", which carries the mark and is not forgotten",
		Fix: "forget " + with + " too, or neither"}
}

// untag takes marks off. What is not there any more carries none.
func (r *run) untag(ctx context.Context) (plan.Result, error) {
	t, ok := taggable[r.text("kind")]
	if !ok {
		return plan.Result{}, r.internal("a " + r.text("kind") + " has no tags")
	}
	id := r.text("id")
	if of := r.text("system_of"); of != "" {
		all, err := r.disks(ctx, stackTag(r.stack), "", of)
		if err != nil || len(all) == 0 {
			return plan.Result{}, err
		}
		id = all[0].DiskId
	}
	keys := ourTags[:]
	if only := r.text("only"); only != "" {
		keys = []string{only}
	}
	res, err := r.plain(ctx, &untagResources{rpc: newRPC(t.untag), ResourceType: t.name, ResourceId: &[]string{id}, TagKey: &keys})
	if isCode(err, "InvalidResourceId.NotFound") {
		err = nil
	}
	return res, err
}

// tag puts our marks on something that is as wanted without them.
func (r *run) tag(ctx context.Context) (plan.Result, error) {
	t, ok := taggable[r.text("kind")]
	if !ok {
		return plan.Result{}, r.internal("a " + r.text("kind") + " cannot be tagged")
	}
	return r.plain(ctx, &tagResources{rpc: newRPC(t.tag), ResourceType: t.name, ResourceId: &[]string{r.text("id")}, Tag: r.marks()})
}

package alicloud

import (
	"fmt"
	"sort"

	"mailform/plan"
)

// The kinds of operation: the vendor's actions, and waits and look-ups, which are
// read-only.
const (
	opCreateVpc      = "CreateVpc"
	opWaitVpc        = "WaitVpcAvailable"
	opDeleteVpc      = "DeleteVpc"
	opCreateVSwitch  = "CreateVSwitch"
	opWaitVSwitch    = "WaitVSwitchAvailable"
	opDeleteVSwitch  = "DeleteVSwitch"
	opCreateGroup    = "CreateSecurityGroup"
	opAuthorize      = "AuthorizeSecurityGroup"
	opRevoke         = "RevokeSecurityGroup"
	opModifyRule     = "ModifySecurityGroupRule"
	opDeleteGroup    = "DeleteSecurityGroup"
	opImportKey      = "ImportKeyPair"
	opDeleteKey      = "DeleteKeyPairs"
	opRunInstances   = "RunInstances"
	opWaitRunning    = "WaitInstanceRunning"
	opStopInstance   = "StopInstance"
	opWaitStopped    = "WaitInstanceStopped"
	opStartInstance  = "StartInstance"
	opCheckStock     = "CheckStock"
	opModifyType     = "ModifyInstanceSpec"
	opJoinGroup      = "JoinSecurityGroup"
	opDeleteInstance = "DeleteInstance"
	opWaitGone       = "WaitInstanceGone"
	opAllocateEIP    = "AllocateEipAddress"
	opModifyEIP      = "ModifyEipAddressAttribute"
	opReleaseEIP     = "ReleaseEipAddress"
	opAssociate      = "AssociateEipAddress"
	opWaitInUse      = "WaitEipInUse"
	opUnassociate    = "UnassociateEipAddress"
	opWaitAvailable  = "WaitEipAvailable"
	opTag            = "TagResources"
)

// maxBatch is how many rules one call takes.
const maxBatch = 100

// Compile turns changes into operations, each with at most one effect. Within a
// change they follow one another; plan.Build puts the changes in order.
func (p *Provider) Compile(changes []plan.Change) []plan.Op {
	c := compiler{changes: map[plan.Address]plan.Change{}}
	for _, ch := range changes {
		c.changes[ch.Address] = ch
	}
	for _, ch := range changes {
		if ch.Pending() {
			c.change(ch)
		}
	}
	sort.Slice(c.ops, func(i, j int) bool { return c.ops[i].ID < c.ops[j].ID })
	return c.ops
}

type compiler struct {
	changes map[plan.Address]plan.Change
	ops     []plan.Op
	last    []string // ids of what the next operation of the same change comes after
	removes bool     // the operations being added take the old object of a Replace away
}

// then adds an operation after those before it in the same change.
func (c *compiler) then(a plan.Address, kind, title string, seconds int, inputs plan.Attrs) {
	c.last = []string{c.add(a, kind, "", title, seconds, inputs, c.last)}
}

// add adds an operation. suffix tells apart operations of one kind at one address.
func (c *compiler) add(a plan.Address, kind, suffix, title string, seconds int, inputs plan.Attrs, after []string) string {
	id := Name + "." + kind + " " + string(a) + suffix
	c.ops = append(c.ops, plan.Op{
		ID: id, Provider: Name, Kind: kind, Title: title, Addresses: []plan.Address{a},
		Inputs: inputs, After: append([]string(nil), after...), ReadOnly: readOnly(kind), Removes: c.removes, Seconds: seconds,
	})
	return id
}

// readOnly reports whether an operation only waits or looks something up.
func readOnly(kind string) bool {
	switch kind {
	case opWaitVpc, opWaitVSwitch, opWaitRunning, opWaitStopped, opWaitGone, opWaitInUse, opWaitAvailable, opWaitDisk, opWaitDiskInUse, opForgetLink, opCheckStock:
		return true
	}
	return false
}

func (c *compiler) change(ch plan.Change) {
	c.last, c.removes = nil, false
	switch ch.Action {
	case plan.Create:
		c.create(ch)
	case plan.Update:
		c.update(ch)
	case plan.Replace:
		c.removes = true
		c.remove(ch)
		c.removes = false
		c.create(ch)
	case plan.Delete:
		c.remove(ch)
	case plan.Adopt:
		if ch.Kind == kindBucket {
			c.setBucket(ch)
			return
		}
		c.then(ch.Address, opTag, "mark as ours the", 1, plan.Attrs{"id": plan.String(ch.ID), "kind": plan.String(ch.Kind)})
	case plan.Forget:
		c.forget(ch)
	}
}

// create makes a thing. The operations after the one that makes it do not name its
// id: they find it by its mark, as they would after a crash.
func (c *compiler) create(ch plan.Change) {
	a := ch.Address
	switch ch.Kind {
	case kindVPC:
		c.then(a, opCreateVpc, "create the VPC", 2, plan.Attrs{"cidr": ch.After["cidr"]})
		c.then(a, opWaitVpc, "wait for the VPC", 3, nil)
	case kindVSwitch:
		inputs := plan.Attrs{"network": ch.After["network"], "cidr": ch.After["cidr"]}
		if zone := ch.After["zone"]; !zone.IsNull() {
			inputs["zone"] = zone
		} else if zone := c.diskZone(hostOf(a)); !zone.IsNull() {
			inputs["zone"] = zone
		} else {
			inputs["sells"] = ch.After["sells"]
		}
		c.then(a, opCreateVSwitch, "create the vSwitch", 3, inputs)
		c.then(a, opWaitVSwitch, "wait for the vSwitch", 3, nil)
	case kindSecurityGroup:
		c.then(a, opCreateGroup, "create the security group", 2, plan.Attrs{"network": ch.After["network"]})
		c.authorize(a, plan.Null(), rulesFromValue(ch.After["rules"]), c.last)
	case kindKeyPair:
		c.then(a, opImportKey, "import the SSH key", 1, plan.Attrs{"public_key": ch.After["public_key"]})
	case kindInstance:
		c.createInstance(ch)
	case kindDisk:
		c.createDisk(ch)
	case kindDiskAttachment:
		c.attachDisk(ch)
	case kindSnapshotPolicy:
		c.createPolicy(ch)
	case kindBucket:
		c.createBucket(ch)
	case kindEIP:
		c.then(a, opAllocateEIP, "allocate the public address", 2, pick(ch.After, "bandwidth", "charge_by"))
	case kindAssociation:
		c.associate(ch)
	}
}

func (c *compiler) associate(ch plan.Change) {
	c.then(ch.Address, opAssociate, "give the instance its address:", 2, plan.Attrs{
		"address": ch.After["address"], "instance": ch.After["instance"],
	})
	c.then(ch.Address, opWaitInUse, "wait for the address", 3, plan.Attrs{
		"address": ch.After["address"], "instance": ch.After["instance"],
	})
}

func (c *compiler) update(ch plan.Change) {
	a, id := ch.Address, plan.String(ch.ID)
	switch ch.Kind {
	case kindSecurityGroup:
		c.updateRules(ch)
	case kindInstance:
		c.updateInstance(ch)
	case kindDisk:
		c.updateDisk(ch)
	case kindDiskAttachment:
		c.updateLink(ch)
	case kindSnapshotPolicy:
		c.updatePolicy(ch)
	case kindBucket:
		c.setBucket(ch)
	case kindEIP:
		c.then(a, opModifyEIP, "change the bandwidth of", 2, plan.Attrs{"id": id, "bandwidth": ch.After["bandwidth"]})
	case kindAssociation:
		same := ch.Before["instance"].Equal(ch.After["instance"]) && ch.Before["address"].Equal(ch.After["address"])
		switch state := ch.Before["state"].Str(); {
		case same && state == "Associating":
			c.then(a, opWaitInUse, "wait for the address", 3, plan.Attrs{"address": id, "instance": ch.After["instance"]})
			return
		case state != "Unassociating":
			c.then(a, opUnassociate, "take the address from where it is:", 2, plan.Attrs{"id": id, "instance": ch.Before["instance"]})
		}
		c.then(a, opWaitAvailable, "wait until it is free:", 3, plan.Attrs{"id": id})
		c.associate(ch)
	}
}

// updateRules changes a security group so that no wanted port is ever closed: new
// rules come first, those of no more use go last. Only a group that is too full for
// both at once is emptied first.
func (c *compiler) updateRules(ch plan.Change) {
	a, id := ch.Address, plan.String(ch.ID)
	have := rulesFromValue(ch.Before["rules"])
	d := diffRules(have, rulesFromValue(ch.After["rules"]))
	var renamed []string
	for _, r := range d.rename {
		renamed = append(renamed, c.add(a, opModifyRule, " "+r.key(), "mark the rule "+r.Name+" of", 1,
			plan.Attrs{"id": id, "rules": rulesValue([]rule{r})}, nil))
	}
	if len(have)+int(ch.Before["others"].Num())+len(d.add) > maxRules {
		c.authorize(a, id, d.add, c.revoke(a, id, d.remove, renamed))
		return
	}
	c.revoke(a, id, d.remove, append(renamed, c.authorize(a, id, d.add, nil)...))
}

func (c *compiler) authorize(a plan.Address, id plan.Value, rules []rule, after []string) []string {
	return c.batches(a, opAuthorize, "open ports in", id, rules, after)
}

func (c *compiler) revoke(a plan.Address, id plan.Value, rules []rule, after []string) []string {
	return c.batches(a, opRevoke, "close ports in", id, rules, after)
}

func (c *compiler) batches(a plan.Address, kind, title string, id plan.Value, rules []rule, after []string) []string {
	ids := after
	for n := 0; n*maxBatch < len(rules); n++ {
		suffix := ""
		if n > 0 {
			suffix = fmt.Sprintf(" %d", n+1)
		}
		batch := rules[n*maxBatch : min((n+1)*maxBatch, len(rules))]
		ids = append(ids[:len(ids):len(ids)], c.add(a, kind, suffix, title, 1, plan.Attrs{"id": id, "rules": rulesValue(batch)}, after))
	}
	return ids
}

func (c *compiler) remove(ch plan.Change) {
	a, id := ch.Address, plan.String(ch.ID)
	switch ch.Kind {
	case kindVPC:
		c.then(a, opDeleteVpc, "delete the VPC", 3, plan.Attrs{"id": id})
	case kindVSwitch:
		c.then(a, opDeleteVSwitch, "delete the vSwitch", 3, plan.Attrs{"id": id})
	case kindSecurityGroup:
		c.then(a, opDeleteGroup, "delete the security group", 2, plan.Attrs{"id": id})
	case kindKeyPair:
		c.then(a, opDeleteKey, "delete the SSH key", 1, plan.Attrs{"name": id})
	case kindInstance:
		c.removeInstance(ch)
	case kindDisk:
		c.then(a, opDeleteDisk, "delete the disk", 2, plan.Attrs{"id": id})
	case kindDiskAttachment:
		c.detachDisk(ch)
	case kindSnapshotPolicy:
		c.removePolicy(ch)
	case kindBucket:
		c.then(a, opDeleteBucket, "delete the bucket", 2, bucketInputs(ch, ch.Before))
	case kindEIP:
		c.then(a, opReleaseEIP, "release the public address", 2, plan.Attrs{"id": id})
	case kindAssociation:
		c.checkStock(a)
		c.then(a, opUnassociate, "take the address from the instance", 2, plan.Attrs{"id": id, "instance": ch.Before["instance"]})
		c.then(a, opWaitAvailable, "wait until it is free:", 3, plan.Attrs{"id": id})
	}
}

package alicloud

import "mailform/plan"

// The kinds of operation on disks and snapshot policies.
const (
	opCreateDisk      = "CreateDisk"
	opWaitDisk        = "WaitDiskAvailable"
	opResizeDisk      = "ResizeDisk"
	opModifyCategory  = "ModifyDiskSpec"
	opKeepDisk        = "ModifyDiskAttribute"
	opDeleteDisk      = "DeleteDisk"
	opAttachDisk      = "AttachDisk"
	opWaitDiskInUse   = "WaitDiskInUse"
	opDetachDisk      = "DetachDisk"
	opCreatePolicy    = "CreateAutoSnapshotPolicy"
	opModifyPolicy    = "ModifyAutoSnapshotPolicyEx"
	opApplyPolicy     = "ApplyAutoSnapshotPolicy"
	opCancelPolicy    = "CancelAutoSnapshotPolicy"
	opDeletePolicy    = "DeleteAutoSnapshotPolicy"
	opResizeSystem    = "ResizeSystemDisk"
	opLiftProtection  = "LiftDeletionProtection"
	opRaiseProtection = "RaiseDeletionProtection"
)

func (c *compiler) createDisk(ch plan.Change) {
	c.then(ch.Address, opCreateDisk, "create the disk", 2, pick(ch.After, "zone", "category", "size_gib", "encrypted"))
	c.then(ch.Address, opWaitDisk, "wait for the disk", 5, nil)
}

// updateDisk changes a disk where it is. It grows while it is in use.
func (c *compiler) updateDisk(ch plan.Change) {
	a, id := ch.Address, plan.String(ch.ID)
	if !ch.After["delete_with_instance"].Equal(ch.Before["delete_with_instance"]) {
		c.then(a, opKeepDisk, "keep it when its instance goes:", 1, plan.Attrs{"id": id})
	}
	if want := ch.After["category"]; !want.Equal(ch.Before["category"]) {
		c.then(a, opModifyCategory, "change the category of", 3, plan.Attrs{"id": id, "category": want})
	}
	if want := ch.After["size_gib"]; !want.Equal(ch.Before["size_gib"]) {
		c.then(a, opResizeDisk, "enlarge the disk", 3, plan.Attrs{"id": id, "size_gib": want})
	}
}

func (c *compiler) attachDisk(ch plan.Change) {
	inputs := plan.Attrs{"disk": ch.After["disk"], "instance": ch.After["instance"]}
	c.then(ch.Address, opAttachDisk, "give the instance its disk:", 2, inputs)
	c.then(ch.Address, opWaitDiskInUse, "wait for the disk", 5, inputs)
}

func (c *compiler) updateLink(ch plan.Change) {
	same := ch.Before["instance"].Equal(ch.After["instance"])
	switch state := ch.Before["state"].Str(); {
	case same && state == "Attaching":
		c.then(ch.Address, opWaitDiskInUse, "wait for the disk", 5, plan.Attrs{"disk": plan.String(ch.ID), "instance": ch.After["instance"]})
	case same && state == "Detaching", state == "Available":
		c.then(ch.Address, opWaitDisk, "wait until it is free:", 5, plan.Attrs{"id": plan.String(ch.ID)})
		c.attachDisk(ch)
	default:
		c.detachDisk(ch)
		c.attachDisk(ch)
	}
}

// detachDisk takes a disk from where it is. When the instance is on its way out, it
// is shut down first, so that what the mail server still holds gets to the disk.
func (c *compiler) detachDisk(ch plan.Change) {
	c.checkStock(ch.Address)
	inst := c.changes[part(hostOf(ch.Address), "instance")]
	if inst.Pending() && (inst.Action == plan.Delete || inst.Action == plan.Replace) && ch.Before["instance"].Equal(plan.String(inst.ID)) {
		c.stop(ch.Address, plan.String(inst.ID), inst.Before["state"].Str())
	}
	id := plan.String(ch.ID)
	c.then(ch.Address, opDetachDisk, "take the disk from the instance", 2, plan.Attrs{"id": id, "instance": ch.Before["instance"]})
	c.then(ch.Address, opWaitDisk, "wait until it is free:", 5, plan.Attrs{"id": id})
}

func (c *compiler) createPolicy(ch plan.Change) {
	c.then(ch.Address, opCreatePolicy, "make the snapshot policy", 1, pick(ch.After, "hour", "days"))
	c.then(ch.Address, opApplyPolicy, "make snapshots by", 1, pick(ch.After, "disk"))
}

func (c *compiler) updatePolicy(ch plan.Change) {
	a := ch.Address
	if !ch.After["hour"].Equal(ch.Before["hour"]) || !ch.After["days"].Equal(ch.Before["days"]) {
		inputs := pick(ch.After, "hour", "days")
		inputs["id"] = plan.String(ch.ID)
		c.then(a, opModifyPolicy, "change the snapshot policy", 1, inputs)
	}
	if !ch.After["disk"].Equal(ch.Before["disk"]) {
		c.then(a, opApplyPolicy, "make snapshots by", 1, plan.Attrs{"id": plan.String(ch.ID), "disk": ch.After["disk"]})
	}
}

func (c *compiler) removePolicy(ch plan.Change) {
	if d := ch.Before["disk"]; !d.IsNull() {
		c.then(ch.Address, opCancelPolicy, "stop making snapshots by", 1, plan.Attrs{"id": plan.String(ch.ID), "disk": d})
	}
	c.then(ch.Address, opDeletePolicy, "delete the snapshot policy", 1, plan.Attrs{"id": plan.String(ch.ID)})
}

// pick is a part of attributes.
func pick(attrs plan.Attrs, names ...string) plan.Attrs {
	m := plan.Attrs{}
	for _, name := range names {
		m[name] = attrs[name]
	}
	return m
}

package alicloud

import "mailform/plan"

// createInstance makes an instance. Where no zone is asked for and no disk waits
// in one, it may be made in another zone when the first has none left.
func (c *compiler) createInstance(ch plan.Change) {
	a := ch.Address
	inputs := pick(ch.After, "image", "type", "hostname", "ssh_user", "ssh_port", "authorized_keys", "system_disk", "system_disk_gib",
		"deletion_protection", "subnet", "firewall", "ssh_key")
	for _, name := range []string{"instead", "ram_role"} {
		if v := ch.After[name]; !v.IsNull() {
			inputs[name] = v
		}
	}
	switch zone := c.diskZone(hostOf(a)); {
	case ch.After["network"].IsNull(): // the spec gives the zone
	case zone.IsNull():
		inputs["network"] = ch.After["network"]
	default:
		inputs["beside"] = zone
	}
	c.then(a, opRunInstances, "create the instance", 5, inputs)
	c.then(a, opWaitRunning, "wait until it runs:", 40, nil)
}

// checkStock looks first whether there is an instance to be had in place of the one
// that is about to be taken away. Everything that is taken from the old one by a
// change of its own begins with this.
func (c *compiler) checkStock(a plan.Address) {
	host := hostOf(a)
	inst := c.changes[part(host, "instance")]
	if !inst.Pending() || inst.Action != plan.Replace {
		return
	}
	zone := inst.After["zone"]
	if zone.IsNull() {
		zone = c.diskZone(host)
	}
	types := append([]string{inst.After["type"].Str()}, inst.After["instead"].Texts()...)
	c.then(a, opCheckStock, "look whether another can be had before it goes:", 1, plan.Attrs{
		"types": plan.Strings(types...), "zone": zone, "disk": inst.After["system_disk"].Field("category"),
	})
}

// diskZone is the zone of the data disk that an instance has to stand beside, null
// when there is none yet.
func (c *compiler) diskZone(host string) plan.Value {
	d := c.changes[part(host, "data-disk")]
	if d.Action == plan.Replace && d.Blocked == nil || d.Action == plan.Delete {
		return plan.Null()
	}
	return d.Before["zone"]
}

// stop shuts an instance down, whatever it is doing.
func (c *compiler) stop(a plan.Address, id plan.Value, state string) {
	switch state {
	case "Stopped":
		return
	case "Starting":
		c.then(a, opWaitRunning, "wait until it runs:", 40, plan.Attrs{"id": id})
	}
	if state != "Stopping" {
		c.then(a, opStopInstance, "stop the instance", 2, plan.Attrs{"id": id})
	}
	c.then(a, opWaitStopped, "wait until it is stopped:", 60, plan.Attrs{"id": id})
}

// updateInstance changes an instance in place. A new type needs it stopped.
func (c *compiler) updateInstance(ch plan.Change) {
	a, id := ch.Address, plan.String(ch.ID)
	if want := ch.After["firewall"]; !want.Equal(ch.Before["firewall"]) {
		c.then(a, opJoinGroup, "put into its security group", 2, plan.Attrs{"id": id, "firewall": want})
	}
	if !ch.After["deletion_protection"].Equal(ch.Before["deletion_protection"]) {
		c.then(a, opRaiseProtection, "protect from deletion", 1, plan.Attrs{"id": id})
	}
	if want := ch.After["system_disk_gib"]; !want.Equal(ch.Before["system_disk_gib"]) {
		c.then(a, opResizeSystem, "enlarge the system disk of", 3, plan.Attrs{"id": id, "size_gib": want})
	}
	state := ch.Before["state"].Str()
	if want := ch.After["type"]; !want.Equal(ch.Before["type"]) {
		c.then(a, opCheckStock, "look whether there is a type for", 1, plan.Attrs{"types": plan.List(want), "zone": ch.Before["zone"]})
		c.stop(a, id, state)
		c.then(a, opModifyType, "change the type of", 3, plan.Attrs{"id": id, "type": want})
		state = "Stopped"
	}
	switch state {
	case "Running":
		return
	case "Stopping":
		c.stop(a, id, state)
		state = "Stopped"
	}
	// One that is Starting only needs waiting for.
	if state == "Stopped" {
		c.then(a, opStartInstance, "start the instance", 2, plan.Attrs{"id": id})
	}
	c.then(a, opWaitRunning, "wait until it runs:", 40, plan.Attrs{"id": id})
}

// removeInstance releases an instance. Its protection was lifted by name.
func (c *compiler) removeInstance(ch plan.Change) {
	a, id := ch.Address, plan.String(ch.ID)
	c.checkStock(a)
	if ch.Before["deletion_protection"].True() {
		c.then(a, opLiftProtection, "lift the deletion protection of", 1, plan.Attrs{"id": id})
	}
	c.then(a, opDeleteInstance, "delete the instance", 2, plan.Attrs{"id": id})
	c.then(a, opWaitGone, "wait until it is gone:", 20, plan.Attrs{"id": id})
}

package alicloud

import (
	"fmt"
	"strconv"

	"mailform/plan"
)

// vouch gives the vSwitches without asking for them, if it can. A vSwitch of ours
// stands in a VPC of ours, whose listing names it; when the instance in it says by
// its tag mailform:subnet whose it is, everything about it is known. False when some
// vSwitch is not accounted for in this way.
func (w *world) vouch(stack string) ([]vSwitch, bool) {
	standing := map[string]instance{}
	for _, i := range w.instances {
		t := i.Tags.tags()
		if t[tagStack] != stack || t[tagSubnet] == "" || standing[i.VpcAttributes.VSwitchId].InstanceId != "" {
			return nil, false
		}
		standing[i.VpcAttributes.VSwitchId] = i
	}
	var all []vSwitch
	for _, v := range w.vpcs {
		for _, id := range v.VSwitchIds.VSwitchId {
			i, ok := standing[id]
			if !ok {
				return nil, false
			}
			delete(standing, id)
			s := vSwitch{VSwitchId: id, VpcId: v.VpcId, Status: "Available", ZoneId: i.ZoneId}
			for _, t := range *addressTags(stack, i.Tags.tags()[tagSubnet]) {
				s.Tags.Tag = append(s.Tags.Tag, struct{ Key, Value string }{t.Key, t.Value})
			}
			all = append(all, s)
		}
	}
	return all, len(standing) == 0
}

// addDisk lists a data disk, and what it is attached to. The attachment has no id
// and no tags of its own: it is the disk's state.
func (o *observer) addDisk(d disk) {
	a, ok := o.address[d.DiskId]
	if !ok {
		return
	}
	outputs := plan.Attrs{"id": plan.String(d.DiskId)}
	if d.SerialNumber != "" {
		outputs["serial"] = plan.String(d.SerialNumber)
	}
	o.add(kindDisk, d.DiskId, plan.Attrs{
		"category":             plan.String(d.Category),
		"size_gib":             plan.Int(int64(d.Size)),
		"encrypted":            plan.Bool(d.Encrypted),
		"delete_with_instance": plan.Bool(d.DeleteWithInstance),
		"zone":                 plan.String(d.ZoneId),
	}, outputs, nil, "mail is on it")
	o.objects[len(o.objects)-1].Tainted = unfit(d, o.desired[a])
	if d.InstanceId == "" {
		return
	}
	link := part(hostOf(a), "data-disk-link")
	if a != part(hostOf(a), "data-disk") {
		link = plan.Addr(string(a), "link") // a surplus disk, see claim
	}
	serial := plan.Attrs{}
	if d.Status == "In_use" && d.SerialNumber != "" {
		serial["serial"] = plan.String(d.SerialNumber)
	}
	o.objects = append(o.objects, plan.Object{
		Address: link, Provider: Name, Kind: kindDiskAttachment, ID: d.DiskId, Owner: plan.Ours, Forgettable: true,
		Attrs: plan.Attrs{
			"disk":     plan.String(d.DiskId),
			"instance": plan.String(d.InstanceId),
			"state":    plan.String(d.Status),
		},
		Outputs:   serial,
		DependsOn: append([]plan.Address{a}, present(o.address[d.InstanceId])...),
	})
}

// unfit says why a disk cannot become what is wanted without being made anew.
func unfit(d disk, want plan.Attrs) string {
	if n := want["size_gib"]; !n.IsNull() && int(n.Num()) < d.Size {
		return fmt.Sprintf("a disk cannot shrink: it has %d GiB, the spec wants %d", d.Size, n.Num())
	}
	if c := want["category"].Str(); c != "" && c != d.Category && !changeable(d.Category, c) {
		return fmt.Sprintf("a disk of category %s cannot become %s", d.Category, c)
	}
	return ""
}

// addPolicy lists an automatic snapshot policy. One that does not run daily at one
// full hour was changed by someone; its times are shown as they are.
func (o *observer) addPolicy(p snapshotPolicy) {
	attrs := plan.Attrs{"days": plan.Int(int64(p.RetentionDays))}
	if hours := texts(p.TimePoints); len(hours) == 1 && len(texts(p.RepeatWeekdays)) == 7 {
		if n, err := strconv.Atoi(hours[0]); err == nil {
			attrs["hour"] = plan.Int(int64(n))
		}
	} else {
		attrs["hour"] = plan.String(p.TimePoints + " on days " + p.RepeatWeekdays)
	}
	var deps []plan.Address
	for _, d := range o.world.disks {
		if a, ours := o.address[d.DiskId]; ours && d.AutoSnapshotPolicyId == p.AutoSnapshotPolicyId {
			attrs["disk"] = plan.String(d.DiskId)
			deps = append(deps, a)
		}
	}
	o.add(kindSnapshotPolicy, p.AutoSnapshotPolicyId, attrs, plan.Attrs{"id": plan.String(p.AutoSnapshotPolicyId)}, deps, "")
}

// systemDisk gives an instance's system disk. It carries the tags that the instance
// was created with; one without them is not seen.
func (w *world) systemDisk(instance string) (disk, bool) {
	for _, d := range w.disks {
		if d.Type == "system" && d.InstanceId == instance {
			return d, true
		}
	}
	return disk{}, false
}

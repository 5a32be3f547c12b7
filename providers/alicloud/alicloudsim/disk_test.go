package alicloudsim

import (
	"fmt"
	"maps"
	"testing"
)

// bay is a machine that disks are put into.
type bay struct {
	fake
	disks map[string]int
}

func (b *bay) AttachDisk(serial string, gib int) error { b.disks[serial] = gib; return nil }
func (b *bay) DetachDisk(serial string) error          { delete(b.disks, serial); return nil }

func (c *client) disk(id string) map[string]any {
	c.t.Helper()
	return item(c.want("")(c.ecs("DescribeDisks", "DiskIds", `["`+id+`"]`)), "Disks", "Disk")
}

// settled looks at a disk until it is in a state.
func (c *client) settled(id, state string) map[string]any {
	c.t.Helper()
	for range 5 {
		if d := c.disk(id); text(d, "Status") == state {
			return d
		}
	}
	c.t.Fatalf("%s does not become %s: %v", id, state, c.disk(id))
	return nil
}

func TestDisks(t *testing.T) {
	b := &bay{disks: map[string]int{}}
	c := newClient(t, Config{Boot: func(BootRequest) (Machine, error) { return b, nil }})
	ok := c.want("")
	_, _, _, inst, _ := c.ready()
	create := []string{"ZoneId", "cn-hongkong-b", "DiskCategory", "cloud_essd", "Size", "20", "ClientToken", "t", "Encrypted", "true"}
	id := text(ok(c.ecs("CreateDisk", create...)), "DiskId")
	if again := text(ok(c.ecs("CreateDisk", create...)), "DiskId"); again != id {
		t.Errorf("the same token makes %s and %s", id, again)
	}
	c.want("InvalidDataDiskSize.ValueNotSupported")(c.ecs("CreateDisk", "ZoneId", "cn-hongkong-b", "DiskCategory", "cloud_essd", "Size", "10"))
	c.want("IncorrectDiskStatus")(c.ecs("AttachDisk", "DiskId", id, "InstanceId", inst)) // still Creating
	c.settled(id, "Available")
	far := text(ok(c.ecs("CreateDisk", "ZoneId", "cn-hongkong-c", "DiskCategory", "cloud_essd_entry", "Size", "10")), "DiskId")
	c.settled(far, "Available")
	c.want("ResourcesNotInSameZone")(c.ecs("AttachDisk", "DiskId", far, "InstanceId", inst))
	c.want("InvalidDiskCategory.NotSupported")(c.ecs("ModifyDiskSpec", "DiskId", far, "DiskCategory", "cloud_ssd"))
	c.want("InvalidInstanceStatus.NotRunning")(c.ecs("ResizeDisk", "DiskId", far, "NewSize", "30", "Type", "online"))
	ok(c.ecs("DeleteDisk", "DiskId", far))
	c.want("InvalidDiskId.NotFound")(c.ecs("DeleteDisk", "DiskId", far))

	ok(c.ecs("AttachDisk", "DiskId", id, "InstanceId", inst))
	c.want("IncorrectDiskStatus")(c.ecs("AttachDisk", "DiskId", id, "InstanceId", inst))
	d := c.settled(id, "In_use")
	serial := text(d, "SerialNumber")
	if !maps.Equal(b.disks, map[string]int{serial: 20}) || "d-"+serial != id || d["Encrypted"] != true || d["DeleteWithInstance"] != false {
		t.Errorf("the machine has %v; %v", b.disks, d)
	}
	c.want("InvalidDiskSize.TooSmall")(c.ecs("ResizeDisk", "DiskId", id, "NewSize", "20", "Type", "online"))
	ok(c.ecs("ResizeDisk", "DiskId", id, "NewSize", "50", "Type", "online"))
	ok(c.ecs("ModifyDiskSpec", "DiskId", id, "DiskCategory", "cloud_auto"))
	if b.disks[serial] != 50 || text(c.disk(id), "Category") != "cloud_auto" {
		t.Errorf("the machine has %v; %v", b.disks, c.disk(id))
	}
	c.want("IncorrectDiskStatus")(c.ecs("DeleteDisk", "DiskId", id))
	c.want("DependencyViolation")(c.ecs("DetachDisk", "DiskId", id, "InstanceId", "i-other"))
	ok(c.ecs("DetachDisk", "DiskId", id, "InstanceId", inst))
	c.settled(id, "Available")
	if len(b.disks) != 0 {
		t.Errorf("the machine has %v", b.disks)
	}

	// Its system disk goes with an instance, and so do data disks that are told to.
	ok(c.ecs("AttachDisk", "DiskId", id, "InstanceId", inst))
	c.settled(id, "In_use")
	system := item(ok(c.ecs("DescribeDisks", "InstanceId", inst, "DiskType", "system")), "Disks", "Disk")
	if system["Size"].(float64) != 40 || system["DeleteWithInstance"] != true {
		t.Errorf("system disk %v", system)
	}
	ok(c.ecs("DeleteInstance", "InstanceId", inst, "Force", "true"))
	for c.state(inst) != "" {
	}
	if c.disk(text(system, "DiskId")) != nil || c.disk(id) == nil {
		t.Error("the system disk is there, or the data disk is not")
	}
	c.settled(id, "Available")
}

func TestSnapshotPolicies(t *testing.T) {
	c := newClient(t, Config{})
	ok := c.want("")
	schedule := []string{"timePoints", `["3"]`, "repeatWeekdays", `["1","7"]`, "retentionDays", "14", "autoSnapshotPolicyName", "n"}
	id := text(ok(c.ecs("CreateAutoSnapshotPolicy", append(schedule, "Tag.1.Key", "k", "Tag.1.Value", "v")...)), "AutoSnapshotPolicyId")
	for code, change := range map[string][]string{
		"InvalidParameter.TimePoints":     {"timePoints", `["24"]`},
		"InvalidParameter.RepeatWeekdays": {"repeatWeekdays", `1`},
		"InvalidRetentionDays.Malformed":  {"retentionDays", "0"},
	} {
		c.want(code)(c.ecs("CreateAutoSnapshotPolicy", append(append([]string{}, schedule...), change...)...))
	}
	disk := text(ok(c.ecs("CreateDisk", "ZoneId", "cn-hongkong-b", "DiskCategory", "cloud_auto", "Size", "5")), "DiskId")
	c.want("InvalidAutoSnapshotPolicyId.NotFound")(c.ecs("ApplyAutoSnapshotPolicy", "autoSnapshotPolicyId", "sp-x", "diskIds", `["`+disk+`"]`))
	ok(c.ecs("ApplyAutoSnapshotPolicy", "autoSnapshotPolicyId", id, "diskIds", `["`+disk+`"]`))
	ok(c.ecs("ModifyAutoSnapshotPolicyEx", "autoSnapshotPolicyId", id, "timePoints", `["4"]`, "repeatWeekdays", `["1"]`, "retentionDays", "-1"))
	p := item(ok(c.ecs("DescribeAutoSnapshotPolicyEx", "Tag.1.Key", "k", "Tag.1.Value", "v")), "AutoSnapshotPolicies", "AutoSnapshotPolicy")
	if p["DiskNums"].(float64) != 1 || p["RetentionDays"].(float64) != -1 || p["TimePoints"] != `["4"]` || text(c.disk(disk), "AutoSnapshotPolicyId") != id {
		t.Errorf("%v", p)
	}
	ok(c.ecs("CancelAutoSnapshotPolicy", "diskIds", `["`+disk+`"]`))
	if text(c.disk(disk), "AutoSnapshotPolicyId") != "" {
		t.Error("the policy still applies")
	}
	ok(c.ecs("ApplyAutoSnapshotPolicy", "autoSnapshotPolicyId", id, "diskIds", `["`+disk+`"]`))
	ok(c.ecs("DeleteAutoSnapshotPolicy", "autoSnapshotPolicyId", id)) // and is taken from its disks
	if text(c.disk(disk), "AutoSnapshotPolicyId") != "" {
		t.Error("a policy that is gone applies")
	}
}

func TestPrice(t *testing.T) {
	c := newClient(t, Config{})
	price := func(pairs ...string) float64 {
		a := c.want("")(c.ecs("DescribePrice", pairs...))
		return a["PriceInfo"].(map[string]any)["Price"].(map[string]any)["TradePrice"].(float64)
	}
	hour := price("ResourceType", "instance", "InstanceType", "ecs.g7.large", "SystemDisk.Category", "cloud_essd", "SystemDisk.Size", "40", "PriceUnit", "Hour")
	if month := price("ResourceType", "instance", "InstanceType", "ecs.g7.large", "SystemDisk.Category", "cloud_essd", "SystemDisk.Size", "40", "PriceUnit", "Month"); fmt.Sprintf("%.3f %.2f", hour, month) != "0.584 420.48" {
		t.Errorf("%v an hour, %v a month", hour, month)
	}
	c.want("InvalidInstanceType.ValueNotSupported")(c.ecs("DescribePrice", "InstanceType", "ecs.none"))
	c.want("InvalidResourceType.ValueNotSupported")(c.ecs("DescribePrice", "ResourceType", "house"))
}

func TestProtectionRolesAndUntagging(t *testing.T) {
	c := newClient(t, Config{Roles: []string{"mail"}})
	vpc, vsw, sg, inst, _ := c.ready()
	ok := c.want("")
	ok(c.ecs("ModifyInstanceAttribute", "InstanceId", inst, "DeletionProtection", "true"))
	c.want("InvalidOperation.DeletionProtection")(c.ecs("DeleteInstance", "InstanceId", inst, "Force", "true"))
	ok(c.ecs("ModifyInstanceAttribute", "InstanceId", inst, "DeletionProtection", "false"))
	ok(c.ecs("DeleteInstance", "InstanceId", inst, "Force", "true"))

	run := []string{"InstanceType", "ecs.g7.large", "ImageId", "debian_12_11_x64_20G_alibase_20250716.vhd", "VSwitchId", vsw, "SecurityGroupId", sg, "SystemDisk.Category", "cloud_essd"}
	c.want("InvalidRamRole.NotFound")(c.ecs("RunInstances", append(run, "RamRoleName", "nobody")...))
	ok(c.ecs("RunInstances", append(run, "RamRoleName", "mail")...))
	calls := c.sim.Calls()
	if got := calls[len(calls)-1].Permissions; fmt.Sprint(got) != "[ecs:RunInstances ram:PassRole]" {
		t.Errorf("permissions %v", got)
	}
	c.sim.cfg.AccessKeys[0].Deny = []string{"ram:PassRole"}
	c.want("InvalidUser.PassRoleForbidden")(c.ecs("RunInstances", append(run, "RamRoleName", "mail")...))
	ok(c.ecs("RunInstances", run...))

	ok(c.vpc("TagResources", "ResourceType", "VPC", "ResourceId.1", vpc, "Tag.1.Key", "a", "Tag.1.Value", "1", "Tag.2.Key", "b", "Tag.2.Value", "2"))
	ok(c.vpc("UnTagResources", "ResourceType", "VPC", "ResourceId.1", vpc, "TagKey.1", "a", "TagKey.2", "none"))
	if item(ok(c.vpc("DescribeVpcs", "Tag.1.Key", "a")), "Vpcs", "Vpc") != nil || item(ok(c.vpc("DescribeVpcs", "Tag.1.Key", "b")), "Vpcs", "Vpc") == nil {
		t.Error("the wrong tag was taken off")
	}
	ok(c.vpc("UnTagResources", "ResourceType", "VPC", "ResourceId.1", vpc, "All", "true"))
	if item(ok(c.vpc("DescribeVpcs", "Tag.1.Key", "b")), "Vpcs", "Vpc") != nil {
		t.Error("not all tags were taken off")
	}
	c.want("InvalidResourceId.NotFound")(c.vpc("UnTagResources", "ResourceType", "VPC", "ResourceId.1", "vpc-x", "All", "true"))
}

package alicloudsim

import (
	"net/netip"
	"strings"
)

type vpcState struct {
	life
	id, name, description string
	cidr                  netip.Prefix
	created               string
	tags                  map[string]string
}

type vswitchState struct {
	life
	id, vpc, zone, name, description string
	cidr                             netip.Prefix
	created                          string
	tags                             map[string]string
	nextIP                           netip.Addr
}

// actions are all operations by product and name.
func (s *Sim) actions() map[string]handler {
	return map[string]handler{
		"vpc:CreateVpc":                 {[]string{"RegionId"}, (*request).createVpc, true},
		"vpc:DescribeVpcs":              {[]string{"RegionId"}, (*request).describeVpcs, false},
		"vpc:DeleteVpc":                 {[]string{"VpcId"}, (*request).deleteVpc, false},
		"vpc:CreateVSwitch":             {[]string{"ZoneId", "CidrBlock", "VpcId"}, (*request).createVSwitch, true},
		"vpc:DescribeVSwitches":         {nil, (*request).describeVSwitches, false},
		"vpc:DeleteVSwitch":             {[]string{"VSwitchId"}, (*request).deleteVSwitch, false},
		"vpc:AllocateEipAddress":        {[]string{"RegionId"}, (*request).allocateEip, true},
		"vpc:DescribeEipAddresses":      {[]string{"RegionId"}, (*request).describeEips, false},
		"vpc:AssociateEipAddress":       {[]string{"AllocationId", "InstanceId"}, (*request).associateEip, true},
		"vpc:UnassociateEipAddress":     {[]string{"AllocationId"}, (*request).unassociateEip, true},
		"vpc:ModifyEipAddressAttribute": {[]string{"AllocationId"}, (*request).modifyEip, false},
		"vpc:ReleaseEipAddress":         {[]string{"AllocationId"}, (*request).releaseEip, false},
		"vpc:TagResources":              {[]string{"RegionId", "ResourceType", "ResourceId", "Tag"}, (*request).tagResources, false},
		"vpc:UnTagResources":            {[]string{"RegionId", "ResourceType", "ResourceId"}, (*request).untagResources, false},

		"ecs:CreateSecurityGroup":            {[]string{"RegionId"}, (*request).createGroup, true},
		"ecs:DescribeSecurityGroups":         {[]string{"RegionId"}, (*request).describeGroups, false},
		"ecs:DescribeSecurityGroupAttribute": {[]string{"RegionId", "SecurityGroupId"}, (*request).describeGroup, false},
		"ecs:AuthorizeSecurityGroup":         {[]string{"RegionId", "SecurityGroupId"}, (*request).authorize, true},
		"ecs:RevokeSecurityGroup":            {[]string{"RegionId", "SecurityGroupId"}, (*request).revoke, true},
		"ecs:ModifySecurityGroupRule":        {[]string{"RegionId", "SecurityGroupId"}, (*request).modifyRule, true},
		"ecs:DeleteSecurityGroup":            {[]string{"RegionId", "SecurityGroupId"}, (*request).deleteGroup, false},
		"ecs:JoinSecurityGroup":              {[]string{"SecurityGroupId"}, (*request).joinGroup, false},
		"ecs:ImportKeyPair":                  {[]string{"RegionId", "KeyPairName", "PublicKeyBody"}, (*request).importKey, false},
		"ecs:DescribeKeyPairs":               {[]string{"RegionId"}, (*request).describeKeys, false},
		"ecs:DeleteKeyPairs":                 {[]string{"RegionId", "KeyPairNames"}, (*request).deleteKeys, false},
		"ecs:RunInstances":                   {[]string{"RegionId"}, (*request).runInstances, true},
		"ecs:DescribeInstances":              {[]string{"RegionId"}, (*request).describeInstances, false},
		"ecs:StartInstance":                  {[]string{"InstanceId"}, (*request).startInstance, false},
		"ecs:StopInstance":                   {[]string{"InstanceId"}, (*request).stopInstance, false},
		"ecs:ModifyInstanceSpec":             {[]string{"InstanceId"}, (*request).modifyInstanceSpec, true},
		"ecs:DeleteInstance":                 {[]string{"InstanceId"}, (*request).deleteInstance, false},
		"ecs:TagResources":                   {[]string{"RegionId", "ResourceType", "ResourceId", "Tag"}, (*request).tagResources, false},
		"ecs:UntagResources":                 {[]string{"RegionId", "ResourceType", "ResourceId"}, (*request).untagResources, false},
		"ecs:ModifyInstanceAttribute":        {[]string{"InstanceId"}, (*request).modifyInstance, false},
		"ecs:CreateDisk":                     {[]string{"RegionId", "ZoneId"}, (*request).createDisk, true},
		"ecs:DescribeDisks":                  {[]string{"RegionId"}, (*request).describeDisks, false},
		"ecs:AttachDisk":                     {[]string{"InstanceId", "DiskId"}, (*request).attachDisk, false},
		"ecs:DetachDisk":                     {[]string{"InstanceId", "DiskId"}, (*request).detachDisk, false},
		"ecs:DeleteDisk":                     {[]string{"DiskId"}, (*request).deleteDisk, false},
		"ecs:ResizeDisk":                     {[]string{"DiskId", "NewSize"}, (*request).resizeDisk, true},
		"ecs:ModifyDiskSpec":                 {[]string{"DiskId"}, (*request).modifyDiskSpec, false},
		"ecs:ModifyDiskAttribute":            {[]string{"RegionId", "DiskId"}, (*request).modifyDisk, false},
		"ecs:CreateAutoSnapshotPolicy":       {[]string{"RegionId", "timePoints", "repeatWeekdays", "retentionDays"}, (*request).createPolicy, false},
		"ecs:DescribeAutoSnapshotPolicyEx":   {[]string{"RegionId"}, (*request).describePolicies, false},
		"ecs:ModifyAutoSnapshotPolicyEx":     {[]string{"RegionId", "autoSnapshotPolicyId"}, (*request).modifyPolicy, false},
		"ecs:ApplyAutoSnapshotPolicy":        {[]string{"RegionId", "autoSnapshotPolicyId", "diskIds"}, (*request).applyPolicy, false},
		"ecs:CancelAutoSnapshotPolicy":       {[]string{"RegionId", "diskIds"}, (*request).cancelPolicy, false},
		"ecs:DeleteAutoSnapshotPolicy":       {[]string{"RegionId", "autoSnapshotPolicyId"}, (*request).deletePolicy, false},
		"ecs:DescribePrice":                  {[]string{"RegionId"}, (*request).describePrice, false},
		"ecs:DescribeAvailableResource":      {[]string{"RegionId", "DestinationResource"}, (*request).describeAvailableResource, false},
		"ecs:DescribeImages":                 {[]string{"RegionId"}, (*request).describeImages, false},
		"ecs:DescribeImageFromFamily":        {[]string{"RegionId", "ImageFamily"}, (*request).describeImageFromFamily, false},
	}
}

// badName reports a name the vendor refuses.
func badName(name string, most int) bool {
	low := strings.ToLower(name)
	return len(name) > most || strings.HasPrefix(low, "http://") || strings.HasPrefix(low, "https://")
}

func (r *request) createVpc() (obj, error) {
	cidr := netip.MustParsePrefix("172.16.0.0/12")
	if text := r.get("CidrBlock"); text != "" {
		p, ok := prefix(text)
		if !ok || !p.Addr().Is4() || !p.Addr().IsPrivate() || p.Bits() < 8 || p.Bits() > 28 {
			return nil, refuse(400, "InvalidParameter", "Specified CIDR block is not valid.")
		}
		cidr = p
	}
	if badName(r.get("VpcName"), 128) {
		return nil, refuse(400, "InvalidVpcName.Malformed", "Specified VPC name is not valid.")
	}
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if err := r.quota("vpc", len(r.vpcs), "QuotaExceeded.Vpc"); err != nil {
		return nil, err
	}
	v := &vpcState{id: r.id("vpc"), name: r.get("VpcName"), description: r.get("Description"), cidr: cidr, created: r.stamp(withSeconds), tags: tags}
	v.pass(r.Sim, "Pending", "Available")
	r.vpcs[v.id] = v
	r.indexed(v.id)
	return obj{"VpcId": v.id, "VRouterId": r.id("vrt"), "RouteTableId": r.id("vtb"), "ResourceGroupId": "rg-acfmxazb4ph6aiy"}, nil
}

func (r *request) describeVpcs() (obj, error) {
	filter, err := r.tags()
	if err != nil {
		return nil, err
	}
	all := []*vpcState{}
	for _, id := range sorted(r.vpcs) {
		v := r.vpcs[id]
		if (r.get("VpcId") == "" || strings.Contains(","+r.get("VpcId")+",", ","+id+",")) &&
			(r.get("VpcName") == "" || r.get("VpcName") == v.name) && r.matches(v.id, v.tags, filter) {
			all = append(all, v)
		}
	}
	page, body, err := numbered(r, all, 50)
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, v := range page {
		subnets := []string{}
		for _, id := range sorted(r.vswitches) {
			if r.vswitches[id].vpc == v.id {
				subnets = append(subnets, id)
			}
		}
		list = append(list, obj{
			"VpcId": v.id, "VpcName": v.name, "Description": v.description, "CidrBlock": v.cidr.String(), "RegionId": r.cfg.Region,
			"Status": v.look(r.Sim, nil), "CreationTime": v.created, "IsDefault": false, "Tags": vpcTags(v.tags),
			"VSwitchIds": obj{"VSwitchId": subnets},
		})
	}
	body["Vpcs"] = obj{"Vpc": list}
	return body, nil
}

func (r *request) deleteVpc() (obj, error) {
	v, ok := r.vpcs[r.get("VpcId")]
	if !ok {
		return nil, refuse(404, "InvalidVpcId.NotFound", "Specified VPC does not exist.")
	}
	for _, s := range r.vswitches {
		if s.vpc == v.id {
			return nil, refuse(400, "DependencyViolation.VSwitch", "Specified object has dependent resources.")
		}
	}
	for _, g := range r.groups {
		if g.vpc == v.id {
			return nil, refuse(400, "DependencyViolation.SecurityGroup", "Specified object has dependent resources.")
		}
	}
	if v.look(r.Sim, nil) != "Available" {
		return nil, refuse(400, "IncorrectVpcStatus", "Current VPC status does not support this operation.")
	}
	delete(r.vpcs, v.id)
	return obj{}, nil
}

func (r *request) createVSwitch() (obj, error) {
	v, ok := r.vpcs[r.get("VpcId")]
	if !ok {
		return nil, refuse(404, "InvalidVpcId.NotFound", "Specified VPC does not exist.")
	}
	known := false
	for _, z := range r.zoneIDs() {
		known = known || z == r.get("ZoneId")
	}
	if !known {
		return nil, refuse(404, "InvalidZoneId.NotFound", "Specified value of \"ZoneId\" is not exists.")
	}
	cidr, ok := prefix(r.get("CidrBlock"))
	if !ok || cidr.Bits() < 16 || cidr.Bits() > 29 || !v.cidr.Contains(cidr.Addr()) || cidr.Bits() < v.cidr.Bits() {
		return nil, refuse(400, "InvalidCidrBlock.Malformed", "Specified CIDR block is not valid.")
	}
	for _, s := range r.vswitches {
		if s.vpc == v.id && s.cidr.Overlaps(cidr) {
			return nil, refuse(400, "InvalidCidrBlock.Overlapped", "Specified CIDR block overlapped with other subnets.")
		}
	}
	if v.look(r.Sim, nil) != "Available" {
		return nil, refuse(400, "IncorrectVpcStatus", "Current VPC status does not support this operation.")
	}
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if err := r.quota("vswitch", len(r.vswitches), "QuotaExceeded.VSwitch"); err != nil {
		return nil, err
	}
	s := &vswitchState{id: r.id("vsw"), vpc: v.id, zone: r.get("ZoneId"), name: r.get("VSwitchName"), description: r.get("Description"),
		cidr: cidr, created: r.stamp(withSeconds), tags: tags, nextIP: cidr.Addr().Next()}
	s.pass(r.Sim, "Pending", "Available")
	r.vswitches[s.id] = s
	r.indexed(s.id)
	return obj{"VSwitchId": s.id}, nil
}

func (r *request) describeVSwitches() (obj, error) {
	filter, err := r.tags()
	if err != nil {
		return nil, err
	}
	if r.get("RegionId") == "" && r.get("VpcId") == "" {
		return nil, refuse(400, "MissingParameter", "Either RegionId or VpcId must be given.")
	}
	all := []*vswitchState{}
	for _, id := range sorted(r.vswitches) {
		v := r.vswitches[id]
		if (r.get("VSwitchId") == "" || r.get("VSwitchId") == id) && (r.get("VpcId") == "" || r.get("VpcId") == v.vpc) && r.matches(v.id, v.tags, filter) {
			all = append(all, v)
		}
	}
	page, body, err := numbered(r, all, 50)
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, v := range page {
		list = append(list, obj{
			"VSwitchId": v.id, "VpcId": v.vpc, "ZoneId": v.zone, "CidrBlock": v.cidr.String(), "VSwitchName": v.name, "Description": v.description,
			"Status": v.look(r.Sim, nil), "CreationTime": v.created, "IsDefault": false, "Tags": vpcTags(v.tags),
			"AvailableIpAddressCount": 1<<(32-v.cidr.Bits()) - 4,
		})
	}
	body["VSwitches"] = obj{"VSwitch": list}
	return body, nil
}

func (r *request) deleteVSwitch() (obj, error) {
	v, ok := r.vswitches[r.get("VSwitchId")]
	if !ok {
		return nil, refuse(404, "InvalidVSwitchId.NotFound", "Specified virtual switch does not exist.")
	}
	for _, id := range sorted(r.instances) {
		if i := r.instances[id]; i.vswitch == v.id && r.lookInstance(i) != "Deleted" {
			return nil, refuse(400, "DependencyViolation", "Specified object has dependent resources.")
		}
	}
	if v.look(r.Sim, nil) != "Available" {
		return nil, refuse(400, "IncorrectVSwitchStatus", "Current VSwitch status does not support this operation.")
	}
	delete(r.vswitches, v.id)
	return obj{}, nil
}

// tagResources sets tags on things that exist.
func (r *request) tagResources() (obj, error) {
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		id := r.get("ResourceId." + itoa(n))
		if id == "" {
			return obj{}, nil
		}
		have := r.tagsOf(strings.ToLower(r.get("ResourceType")), id)
		if have == nil {
			return nil, refuse(404, "InvalidResourceId.NotFound", "The specified ResourceIds are not found in our records.")
		}
		for k, v := range tags {
			have[k] = v
		}
		r.indexed(id)
	}
}

// untagResources takes tags off things: those named, or with All every one.
func (r *request) untagResources() (obj, error) {
	for n := 1; ; n++ {
		id := r.get("ResourceId." + itoa(n))
		if id == "" {
			return obj{}, nil
		}
		have := r.tagsOf(strings.ToLower(r.get("ResourceType")), id)
		if have == nil {
			return nil, refuse(404, "InvalidResourceId.NotFound", "The specified ResourceIds are not found in our records.")
		}
		if r.get("TagKey.1") == "" && r.flag("All") {
			clear(have)
		}
		for k := 1; r.get("TagKey."+itoa(k)) != ""; k++ {
			delete(have, r.get("TagKey."+itoa(k)))
		}
	}
}

// tagsOf gives the tags of one thing, nil when there is none.
func (r *request) tagsOf(resourceType, id string) map[string]string {
	switch r.product + ":" + resourceType {
	case "vpc:vpc":
		if v, ok := r.vpcs[id]; ok {
			return v.tags
		}
	case "vpc:vswitch":
		if v, ok := r.vswitches[id]; ok {
			return v.tags
		}
	case "vpc:eip":
		if v, ok := r.eips[id]; ok {
			return v.tags
		}
	case "ecs:securitygroup":
		if v, ok := r.groups[id]; ok {
			return v.tags
		}
	case "ecs:keypair":
		if v, ok := r.keys[id]; ok {
			return v.tags
		}
	case "ecs:instance":
		if v, ok := r.instances[id]; ok {
			return v.tags
		}
	case "ecs:disk":
		if v, ok := r.disks[id]; ok {
			return v.tags
		}
	case "ecs:snapshotpolicy":
		if v, ok := r.policies[id]; ok {
			return v.tags
		}
	}
	return nil
}

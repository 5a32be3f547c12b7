package alicloudsim

import (
	"slices"
	"strconv"
	"strings"
)

// diskState is a cloud disk. The system disk of an instance lives and dies with it.
type diskState struct {
	life
	id, name, description, category, zone, instance, policy string
	size                                                    int // GiB
	system, encrypted, deleteWithInstance                   bool
	created                                                 string
	tags                                                    map[string]string
}

// serial is what the machine sees as the device's serial number.
func (d *diskState) serial() string { return strings.TrimPrefix(d.id, "d-") }

// DiskMachine is a Machine that data disks can be put into.
type DiskMachine interface {
	Machine
	// AttachDisk puts a disk in. The same serial stands for the same disk with the
	// same content, whatever machine it was in before; it may have grown.
	AttachDisk(serial string, sizeGiB int) error
	DetachDisk(serial string) error
}

// lookDisk lets a disk's time go by.
func (s *Sim) lookDisk(d *diskState) string {
	return d.look(s, func(state string) {
		switch state {
		case "In_use":
			s.plug(d)
		case "Available":
			d.instance = ""
		}
	})
}

// plug shows a disk to the machine it is attached to.
func (s *Sim) plug(d *diskState) {
	if i := s.instances[d.instance]; i != nil && !d.system {
		if m, ok := i.machine.(DiskMachine); ok {
			serial, size := d.serial(), d.size
			s.after(func() error { return m.AttachDisk(serial, size) })
		}
	}
}

func (s *Sim) unplug(d *diskState) {
	if i := s.instances[d.instance]; i != nil {
		if m, ok := i.machine.(DiskMachine); ok {
			serial := d.serial()
			s.after(func() error { return m.DetachDisk(serial) })
		}
	}
}

// leastSize is how small a disk of each category may be, in GiB.
var leastSize = map[string]int{"cloud_essd": 20, "cloud_essd_entry": 10, "cloud_auto": 1, "cloud_efficiency": 20, "cloud_ssd": 20}

func (r *request) createDisk() (obj, error) {
	if !slices.Contains(r.zoneIDs(), r.get("ZoneId")) {
		return nil, refuse(404, "InvalidZoneId.NotFound", "The specified zone does not exist.")
	}
	category := r.get("DiskCategory")
	if !knownDisk(category) {
		return nil, refuse(400, "InvalidDataDiskCategory.ValueNotSupported", "The specified data disk category is not supported.")
	}
	size, err := r.number("Size", 0, 1, 65536)
	if err != nil || size < leastSize[category] {
		return nil, refuse(400, "InvalidDataDiskSize.ValueNotSupported", "The specified data disk size is not valid.")
	}
	if name := r.get("DiskName"); badName(name, 128) || name != "" && !letter(name[0]) {
		return nil, refuse(400, "InvalidDiskName.Malformed", "The specified disk name is wrongly formed.")
	}
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if err := r.quota("disk", r.dataDisks(), "QuotaExceed.PostPaidDisk"); err != nil {
		return nil, err
	}
	d := &diskState{id: r.id("d"), name: r.get("DiskName"), description: r.get("Description"), category: category, zone: r.get("ZoneId"),
		size: size, encrypted: r.flag("Encrypted"), created: r.stamp(withSeconds), tags: tags}
	d.pass(r.Sim, "Creating", "Available")
	r.disks[d.id] = d
	r.indexed(d.id)
	return obj{"DiskId": d.id}, nil
}

func (r *request) dataDisks() (n int) {
	for _, d := range r.disks {
		if !d.system {
			n++
		}
	}
	return n
}

func (r *request) describeDisks() (obj, error) {
	filter, err := r.tags()
	if err != nil {
		return nil, err
	}
	ids, byID, err := r.jsonList("DiskIds")
	if err != nil {
		return nil, refuse(400, "InvalidParameter.DiskIds", "The specified parameter DiskIds is not valid.")
	}
	all := []*diskState{}
	for _, id := range sorted(r.disks) {
		d := r.disks[id]
		kind := "data"
		if d.system {
			kind = "system"
		}
		if (!byID || slices.Contains(ids, id)) && (r.get("InstanceId") == "" || r.get("InstanceId") == d.instance) &&
			(r.get("DiskType") == "" || r.get("DiskType") == "all" || r.get("DiskType") == kind) && r.matches(id, d.tags, filter) {
			all = append(all, d)
		}
	}
	var page []*diskState
	var body obj
	if r.get("MaxResults") != "" || r.get("NextToken") != "" {
		page, body, err = followed(r, all, 1, 500)
	} else {
		page, body, err = numbered(r, all, 100)
	}
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, d := range page {
		list = append(list, r.diskBody(d))
	}
	body["Disks"] = obj{"Disk": list}
	return body, nil
}

func (r *request) diskBody(d *diskState) obj {
	state, kind := r.lookDisk(d), "data"
	if d.system {
		kind = "system"
	}
	return obj{
		"DiskId": d.id, "DiskName": d.name, "Description": d.description, "Category": d.category, "Size": d.size, "Type": kind,
		"Encrypted": d.encrypted, "DeleteWithInstance": d.deleteWithInstance, "Status": state, "InstanceId": d.instance, "ZoneId": d.zone,
		"RegionId": r.cfg.Region, "SerialNumber": d.serial(), "AutoSnapshotPolicyId": d.policy, "EnableAutomatedSnapshotPolicy": d.policy != "",
		"Portable": !d.system, "DiskChargeType": "PostPaid", "CreationTime": d.created, "Tags": ecsTags(d.tags),
		"OperationLocks": obj{"OperationLock": []obj{}},
	}
}

func (r *request) disk() (*diskState, error) {
	d, ok := r.disks[r.get("DiskId")]
	if !ok {
		return nil, refuse(404, "InvalidDiskId.NotFound", "The specified disk does not exist.")
	}
	return d, nil
}

func wrongDisk() error {
	return refuse(403, "IncorrectDiskStatus", "The current disk status does not support this operation.")
}

func (r *request) attachDisk() (obj, error) {
	d, err := r.disk()
	if err != nil {
		return nil, err
	}
	i, err := r.instance()
	if err != nil {
		return nil, err
	}
	if d.zone != i.zone {
		return nil, refuse(403, "ResourcesNotInSameZone", "The specified instance and disk are not in the same zone.")
	}
	if r.lookDisk(d) != "Available" {
		return nil, wrongDisk()
	}
	if state := r.lookInstance(i); state != "Running" && state != "Stopped" {
		return nil, wrongStatus()
	}
	d.instance, d.deleteWithInstance = i.id, r.flag("DeleteWithInstance")
	d.pass(r.Sim, "Attaching", "In_use")
	return obj{}, nil
}

func (r *request) detachDisk() (obj, error) {
	d, err := r.disk()
	if err != nil {
		return nil, err
	}
	if d.instance != r.get("InstanceId") {
		return nil, refuse(403, "DependencyViolation", "The specified disk has not been attached on the specified instance.")
	}
	if d.system || r.lookDisk(d) != "In_use" {
		return nil, wrongDisk()
	}
	if i := r.instances[d.instance]; i != nil {
		if state := r.lookInstance(i); state != "Running" && state != "Stopped" {
			return nil, wrongStatus()
		}
	}
	r.unplug(d)
	d.pass(r.Sim, "Detaching", "Available")
	return obj{}, nil
}

func (r *request) deleteDisk() (obj, error) {
	d, err := r.disk()
	if err != nil {
		return nil, err
	}
	if d.system || r.lookDisk(d) != "Available" {
		return nil, wrongDisk()
	}
	delete(r.disks, d.id)
	return obj{}, nil
}

// resizeDisk enlarges a disk: online while its instance runs.
func (r *request) resizeDisk() (obj, error) {
	d, err := r.disk()
	if err != nil {
		return nil, err
	}
	size, err := r.number("NewSize", 0, 1, 65536)
	if err != nil {
		return nil, refuse(403, "InvalidDiskSize.TooLarge", "The specified disk size is beyond the maximum.")
	}
	if size <= d.size {
		return nil, refuse(403, "InvalidDiskSize.TooSmall", "Specified new disk size is less than the original disk size.")
	}
	if state := r.lookDisk(d); state != "In_use" && state != "Available" {
		return nil, wrongDisk()
	}
	i := r.instances[d.instance]
	switch how := r.get("Type"); {
	case how != "" && how != "online" && how != "offline":
		return nil, refuse(400, "InvalidParam.Type", "The specified param Type is not valid.")
	case how == "online" && (i == nil || r.lookInstance(i) != "Running"):
		return nil, refuse(403, "InvalidInstanceStatus.NotRunning", "The instance status must be running when you resize a disk online.")
	}
	d.size = size
	r.plug(d)
	return obj{}, nil
}

func (r *request) modifyDiskSpec() (obj, error) {
	d, err := r.disk()
	if err != nil {
		return nil, err
	}
	to := r.get("DiskCategory")
	if !knownDisk(to) || d.category == "cloud_essd_entry" && to != "cloud_essd" && to != "cloud_auto" {
		return nil, refuse(403, "InvalidDiskCategory.NotSupported", "The specified disk category is not supported.")
	}
	if state := r.lookDisk(d); state != "In_use" && state != "Available" {
		return nil, wrongDisk()
	}
	d.category = to
	return obj{}, nil
}

func (r *request) modifyDisk() (obj, error) {
	d, err := r.disk()
	if err != nil {
		return nil, err
	}
	if v := r.get("DeleteWithInstance"); v != "" {
		d.deleteWithInstance = v == "true"
	}
	return obj{}, nil
}

// policyState is an automatic snapshot policy.
type policyState struct {
	id, name, created string
	hours, weekdays   string // JSON arrays
	days              int
	tags              map[string]string
}

// schedule checks when a policy makes snapshots and how long they stay.
func (r *request) schedule(p *policyState) error {
	hours, _, err := r.jsonList("timePoints")
	if err != nil || len(hours) == 0 {
		return refuse(400, "InvalidParameter.TimePoints", "The specified time points are not valid.")
	}
	for _, h := range hours {
		if n, err := strconv.Atoi(h); err != nil || n < 0 || n > 23 {
			return refuse(400, "InvalidParameter.TimePoints", "The specified time points are not valid.")
		}
	}
	weekdays, _, err := r.jsonList("repeatWeekdays")
	if err != nil || len(weekdays) == 0 {
		return refuse(400, "InvalidParameter.RepeatWeekdays", "The specified repeat weekdays are not valid.")
	}
	days, err := strconv.Atoi(r.get("retentionDays"))
	if err != nil || days < -1 || days == 0 || days > 65535 {
		return refuse(400, "InvalidRetentionDays.Malformed", "The specified retention days are not valid.")
	}
	p.hours, p.weekdays, p.days = r.get("timePoints"), r.get("repeatWeekdays"), days
	return nil
}

func (r *request) createPolicy() (obj, error) {
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if err := r.quota("snapshot-policy", len(r.policies), "QuotaExceed.AutoSnapshotPolicy"); err != nil {
		return nil, err
	}
	p := &policyState{id: r.id("sp"), name: r.get("autoSnapshotPolicyName"), created: r.stamp(withSeconds), tags: tags}
	if err := r.schedule(p); err != nil {
		return nil, err
	}
	r.policies[p.id] = p
	r.indexed(p.id)
	return obj{"AutoSnapshotPolicyId": p.id}, nil
}

func (r *request) policy() (*policyState, error) {
	p, ok := r.policies[r.get("autoSnapshotPolicyId")]
	if !ok {
		return nil, refuse(404, "InvalidAutoSnapshotPolicyId.NotFound", "The specified automatic snapshot policy does not exist.")
	}
	return p, nil
}

func (r *request) modifyPolicy() (obj, error) {
	p, err := r.policy()
	if err != nil {
		return nil, err
	}
	return obj{}, r.schedule(p)
}

// policyDisks reads the disks that a policy is applied to or taken from.
func (r *request) policyDisks() ([]*diskState, error) {
	ids, _, err := r.jsonList("diskIds")
	if err != nil || len(ids) == 0 {
		return nil, refuse(400, "InvalidParameter.DiskIds", "The specified disks are not valid.")
	}
	var disks []*diskState
	for _, id := range ids {
		d := r.disks[id]
		if d == nil {
			return nil, refuse(404, "InvalidDiskId.NotFound", "The specified disk does not exist.")
		}
		disks = append(disks, d)
	}
	return disks, nil
}

// applyPolicy gives disks a policy, in place of the one they have.
func (r *request) applyPolicy() (obj, error) {
	p, err := r.policy()
	if err != nil {
		return nil, err
	}
	disks, err := r.policyDisks()
	for _, d := range disks {
		d.policy = p.id
	}
	return obj{}, err
}

func (r *request) cancelPolicy() (obj, error) {
	disks, err := r.policyDisks()
	for _, d := range disks {
		d.policy = ""
	}
	return obj{}, err
}

func (r *request) deletePolicy() (obj, error) {
	p, err := r.policy()
	if err != nil {
		return nil, err
	}
	for _, d := range r.disks {
		if d.policy == p.id {
			d.policy = ""
		}
	}
	delete(r.policies, p.id)
	return obj{}, nil
}

func (r *request) describePolicies() (obj, error) {
	filter, err := r.tags()
	if err != nil {
		return nil, err
	}
	all := []obj{}
	for _, id := range sorted(r.policies) {
		p := r.policies[id]
		if r.get("AutoSnapshotPolicyId") != "" && r.get("AutoSnapshotPolicyId") != id ||
			r.get("AutoSnapshotPolicyName") != "" && r.get("AutoSnapshotPolicyName") != p.name || !r.matches(id, p.tags, filter) {
			continue
		}
		applied := 0
		for _, d := range r.disks {
			if d.policy == id {
				applied++
			}
		}
		all = append(all, obj{
			"AutoSnapshotPolicyId": id, "AutoSnapshotPolicyName": p.name, "TimePoints": p.hours, "RepeatWeekdays": p.weekdays,
			"RetentionDays": p.days, "DiskNums": applied, "Status": "Normal", "RegionId": r.cfg.Region, "CreationTime": p.created, "Tags": ecsTags(p.tags),
		})
	}
	page, body, err := numbered(r, all, 100)
	if err != nil {
		return nil, err
	}
	body["AutoSnapshotPolicies"] = obj{"AutoSnapshotPolicy": page}
	return body, nil
}

package alicloudsim

import (
	"encoding/base64"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

type keyState struct {
	name, public, created string
	tags                  map[string]string
}

type instanceState struct {
	life
	id, name, description, hostName string
	typ, image, zone, vswitch, key  string
	groups                          []string
	private                         netip.Addr
	userData                        []byte
	created                         string
	protected                       bool
	tags                            map[string]string
	role                            string    // RAM role, "" for none
	roleKey                         AccessKey // its credentials as last given
	machine                         Machine
}

func (i *instanceState) member(group string) bool { return slices.Contains(i.groups, group) }

// lookInstance lets an instance's time go by. One that ceases to exist is taken away.
func (s *Sim) lookInstance(i *instanceState) string {
	return i.look(s, func(state string) {
		switch state {
		case "Running":
			s.run(i)
		case "Stopped":
			if m := i.machine; m != nil {
				s.after(m.Stop)
			}
		case "Deleted":
			delete(s.instances, i.id)
			for _, e := range s.eips {
				if e.instance == i.id {
					e.pass(s, "Unassociating", "Available")
				}
			}
			for _, d := range s.disks {
				switch {
				case d.instance != i.id:
				case d.deleteWithInstance:
					delete(s.disks, d.id)
				default:
					d.pass(s, "Detaching", "Available")
				}
			}
			if m := i.machine; m != nil {
				s.after(m.Destroy)
			}
		}
	})
}

// run boots an instance's machine, or starts it again.
func (s *Sim) run(i *instanceState) {
	if s.cfg.Boot == nil {
		return
	}
	if m := i.machine; m != nil {
		s.after(m.Start)
		return
	}
	req := BootRequest{InstanceID: i.id, HostName: i.hostName, UserData: i.userData, ImageID: i.image}
	if k := s.keys[i.key]; k != nil {
		req.PublicKey = k.public
	}
	s.after(func() error {
		m, err := s.cfg.Boot(req)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			i.state, i.next = "Stopped", nil
			return err
		}
		i.machine = m
		return nil
	})
}

func (r *request) importKey() (obj, error) {
	name := r.get("KeyPairName")
	if len(name) < 2 || badName(name, 128) || !letter(name[0]) {
		return nil, refuse(400, "InvalidKeyPairName.Malformed", "The specified Key Pair name is wrongly formed.")
	}
	public := strings.TrimSpace(r.get("PublicKeyBody"))
	fields := strings.Fields(public)
	if len(fields) < 2 {
		return nil, refuse(400, "InvalidPublicKeyBody.Malformed", "The specified Key Pair public key is wrongly formed.")
	}
	if b, err := base64.StdEncoding.DecodeString(fields[1]); err != nil || len(b) < 32 {
		return nil, refuse(400, "InvalidPublicKeyBody.Malformed", "The specified Key Pair public key is wrongly formed.")
	}
	if r.keys[name] != nil {
		return nil, refuse(400, "KeyPair.AlreadyExist", "The key pair already exist.")
	}
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if err := r.quota("key-pair", len(r.keys), "QuotaExceed.KeyPair"); err != nil {
		return nil, err
	}
	r.indexed(name)
	r.keys[name] = &keyState{name: name, public: public, created: r.stamp(withoutSeconds), tags: tags}
	return obj{"KeyPairName": name, "KeyPairFingerPrint": fingerprint(public)}, nil
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// glob matches a name against a pattern with * at its ends.
func glob(pattern, name string) bool {
	bare := strings.Trim(pattern, "*")
	switch start, end := strings.HasPrefix(pattern, "*"), strings.HasSuffix(pattern, "*"); {
	case pattern == "" || bare == "":
		return true
	case start && end:
		return strings.Contains(name, bare)
	case start:
		return strings.HasSuffix(name, bare)
	case end:
		return strings.HasPrefix(name, bare)
	}
	return pattern == name
}

func (r *request) describeKeys() (obj, error) {
	filter, err := r.tags()
	if err != nil {
		return nil, err
	}
	all := []obj{}
	for _, name := range sorted(r.keys) {
		k := r.keys[name]
		if !glob(r.get("KeyPairName"), name) || !r.matches(name, k.tags, filter) {
			continue
		}
		b := obj{"KeyPairName": name, "KeyPairFingerPrint": fingerprint(k.public), "CreationTime": k.created, "Tags": ecsTags(k.tags)}
		if r.flag("IncludePublicKey") {
			b["PublicKey"] = k.public
		}
		all = append(all, b)
	}
	page, body, err := numbered(r, all, 50)
	if err != nil {
		return nil, err
	}
	body["KeyPairs"] = obj{"KeyPair": page}
	return body, nil
}

// deleteKeys deletes key pairs; one that does not exist is no error.
func (r *request) deleteKeys() (obj, error) {
	names, _, err := r.jsonList("KeyPairNames")
	if err != nil {
		return nil, refuse(400, "InvalidKeyPairNames.ValueNotSupported", "The specified parameter KeyPairNames is not valid.")
	}
	for _, name := range names {
		for _, id := range sorted(r.instances) {
			if i := r.instances[id]; i.key == name && r.lookInstance(i) != "Deleted" {
				return nil, refuse(400, "InvalidParameter.KeypairAlreadyAttachedInstance", "The key pair %s has been attached to an instance.", name)
			}
		}
	}
	for _, name := range names {
		delete(r.keys, name)
	}
	return obj{}, nil
}

// hostNameOK is the rule for Linux: 2 to 64 characters in parts of letters, digits and hyphens.
func hostNameOK(name string) bool {
	if len(name) < 2 || len(name) > 64 {
		return false
	}
	for _, part := range strings.Split(name, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' {
			return false
		}
		for _, c := range []byte(part) {
			if !letter(c) && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

func (r *request) runInstances() (obj, error) {
	typ, ok := findType(r.get("InstanceType"))
	if !ok {
		return nil, refuse(403, "InvalidInstanceType.ValueNotSupported", "The specified InstanceType does not exist or beyond the permitted range.")
	}
	img, ok := findImage(r.get("ImageId"))
	if !ok {
		return nil, refuse(404, "InvalidImageId.NotFound", "The specified ImageId does not exist.")
	}
	if img.arch != typ.arch {
		return nil, refuse(403, "ImageNotSupportInstanceType", "The specified image don't support the InstanceType.")
	}
	v := r.vswitches[r.get("VSwitchId")]
	if v == nil {
		return nil, refuse(404, "InvalidVSwitchId.NotFound", "The VSwitchId provided does not exist in our records.")
	}
	if v.look(r.Sim, nil) != "Available" {
		return nil, refuse(400, "IncorrectVSwitchStatus", "The current status of virtual switch does not support this operation.")
	}
	if !typ.sells(v.zone) {
		return nil, refuse(403, "InvalidInstanceType.ZoneNotSupported", "The specified zone does not support this instancetype.")
	}
	if r.soldOut(v.zone, typ.name) {
		return nil, refuse(403, "OperationDenied.NoStock", "The requested resource is sold out in the specified zone; try other types of resources or other regions and zones.")
	}
	g := r.groups[r.get("SecurityGroupId")]
	if g == nil {
		return nil, refuse(404, "InvalidSecurityGroupId.NotFound", "The specified SecurityGroupId does not exist.")
	}
	if g.vpc != v.vpc {
		return nil, refuse(403, "InvalidSecurityGroupId.VPCMismatch", "The specified security group and the specified virtual switch are not in the same VPC.")
	}
	if name := r.get("KeyPairName"); name != "" && r.keys[name] == nil {
		return nil, refuse(404, "InvalidKeyPairName.NotFound", "The specified KeyPairName does not exist.")
	}
	if c := r.get("SystemDisk.Category"); !knownDisk(c) {
		return nil, refuse(400, "InvalidSystemDiskCategory.ValueNotSupported", "The specified SystemDisk.Category is not supported.")
	}
	size := max(img.size, 40)
	if text := r.get("SystemDisk.Size"); text != "" {
		n, err := strconv.Atoi(text)
		size = n
		switch {
		case err != nil || size > 2048:
			return nil, refuse(404, "InvalidSystemDiskSize.MoreThanMaxSize", "The specified system disk size is invalid.")
		case size < img.size:
			return nil, refuse(404, "InvalidSystemDiskSize.LessThanImageSize", "Disk size is too small for the image.")
		}
	}
	data, err := base64.StdEncoding.DecodeString(r.get("UserData"))
	if err != nil || len(data) > 32<<10 {
		return nil, refuse(400, "InvalidUserData.Base64FormatInvalid", "The specified UserData is not valid.")
	}
	host := r.get("HostName")
	if host != "" && !hostNameOK(host) {
		return nil, refuse(400, "InvalidHostName.Malformed", "The specified HostName is wrongly formed.")
	}
	if n := r.get("Amount"); n != "" && n != "1" {
		return nil, refuse(403, "InvalidParam.Amount", "The simulator creates one instance at a time.")
	}
	if n := r.get("InternetMaxBandwidthOut"); n != "" && n != "0" {
		return nil, refuse(403, "InvalidParameter", "The simulator gives no instance a public address of its own.")
	}
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if role := r.get("RamRoleName"); role != "" && !r.roleExists(role) {
		return nil, refuse(404, "InvalidRamRole.NotFound", "The specified RamRoleName does not exist.")
	}
	if err := r.quota("instance", len(r.instances), "QuotaExceed.AfterpayInstance"); err != nil {
		return nil, err
	}
	i := &instanceState{
		id: r.id("i"), name: r.get("InstanceName"), description: r.get("Description"), hostName: host, typ: typ.name, image: img.id,
		zone: v.zone, vswitch: v.id, key: r.get("KeyPairName"), groups: []string{g.id}, userData: data,
		created: r.stamp(withoutSeconds), protected: r.flag("DeletionProtection"), tags: tags,
	}
	v.nextIP = v.nextIP.Next()
	i.private = v.nextIP
	if i.hostName == "" {
		i.hostName = "iZ" + i.id[2:] + "Z"
	}
	i.role = r.get("RamRoleName")
	i.pass(r.Sim, "Pending", "Starting", "Running")
	r.instances[i.id] = i
	r.indexed(i.id)
	system := &diskState{id: r.id("d"), category: r.get("SystemDisk.Category"), zone: i.zone, instance: i.id, size: size, system: true,
		encrypted: r.get("SystemDisk.Encrypted") == "true", deleteWithInstance: true, created: r.stamp(withSeconds), tags: maps.Clone(tags)}
	system.state = "In_use"
	r.disks[system.id] = system
	r.indexed(system.id)
	return obj{"InstanceIdSets": obj{"InstanceIdSet": []string{i.id}}}, nil
}

// describeInstances answers an empty list to who may not see instances. Only a dry
// run tells: it is refused to them, and "fails" with DryRunOperation for others.
func (r *request) describeInstances() (obj, error) {
	if r.flag("DryRun") {
		if r.denied() {
			return nil, r.forbidden()
		}
		return nil, refuse(400, "DryRunOperation", "Request validation has been passed with DryRun flag set.")
	}
	filter, err := r.tags()
	if err != nil {
		return nil, err
	}
	ids, byID, err := r.jsonList("InstanceIds")
	if err != nil {
		return nil, err
	}
	all := []*instanceState{}
	for _, id := range sorted(r.instances) {
		i := r.instances[id]
		if !r.denied() && (!byID || slices.Contains(ids, id)) && r.matches(id, i.tags, filter) {
			all = append(all, i)
		}
	}
	var page []*instanceState
	var body obj
	if r.get("PageNumber") != "" || r.get("PageSize") != "" {
		page, body, err = numbered(r, all, 100)
	} else {
		page, body, err = followed(r, all, 1, 100)
	}
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, i := range page {
		if r.lookInstance(i) != "Deleted" {
			list = append(list, r.instanceBody(i))
		}
	}
	body["Instances"] = obj{"Instance": list}
	return body, nil
}

func (r *request) instanceBody(i *instanceState) obj {
	b := obj{
		"InstanceId": i.id, "InstanceName": i.name, "Description": i.description, "HostName": i.hostName, "Status": i.state,
		"InstanceType": i.typ, "InstanceTypeFamily": strings.Join(strings.Split(i.typ, ".")[:2], "."), "ImageId": i.image,
		"RegionId": r.cfg.Region, "ZoneId": i.zone, "CreationTime": i.created, "StartTime": i.created, "InstanceNetworkType": "vpc",
		"InstanceChargeType": "PostPaid", "IoOptimized": true, "KeyPairName": i.key, "DeletionProtection": i.protected,
		"InternetMaxBandwidthOut": 0, "OSType": "linux", "SecurityGroupIds": obj{"SecurityGroupId": i.groups},
		"OperationLocks": obj{"LockReason": []obj{}}, "PublicIpAddress": obj{"IpAddress": []string{}}, "Tags": ecsTags(i.tags),
		"EipAddress": obj{"AllocationId": "", "IpAddress": "", "InternetChargeType": ""},
	}
	vpc := ""
	if v := r.vswitches[i.vswitch]; v != nil {
		vpc = v.vpc
	}
	b["VpcAttributes"] = obj{"VpcId": vpc, "VSwitchId": i.vswitch, "NatIpAddress": "", "PrivateIpAddress": obj{"IpAddress": []string{i.private.String()}}}
	for _, e := range r.eips {
		if e.instance == i.id && e.state == "InUse" {
			b["EipAddress"] = obj{"AllocationId": e.id, "IpAddress": e.ip.String(), "Bandwidth": e.bandwidth,
				"InternetChargeType": "PayByTraffic", "IsSupportUnassociate": true}
		}
	}
	return b
}

func (r *request) instance() (*instanceState, error) {
	i, ok := r.instances[r.get("InstanceId")]
	if !ok {
		return nil, refuse(404, "InvalidInstanceId.NotFound", "The specified InstanceId does not exist.")
	}
	return i, nil
}

func wrongStatus() error {
	return refuse(403, "IncorrectInstanceStatus", "The current status of the resource does not support this operation.")
}

func (r *request) startInstance() (obj, error) {
	i, err := r.instance()
	if err != nil {
		return nil, err
	}
	if r.lookInstance(i) != "Stopped" {
		return nil, wrongStatus()
	}
	i.pass(r.Sim, "Starting", "Running")
	return obj{}, nil
}

func (r *request) stopInstance() (obj, error) {
	i, err := r.instance()
	if err != nil {
		return nil, err
	}
	if r.lookInstance(i) != "Running" {
		return nil, wrongStatus()
	}
	i.pass(r.Sim, "Stopping", "Stopped")
	return obj{}, nil
}

func (r *request) modifyInstanceSpec() (obj, error) {
	i, err := r.instance()
	if err != nil {
		return nil, err
	}
	typ, ok := findType(r.get("InstanceType"))
	if !ok || !typ.sells(i.zone) {
		return nil, refuse(403, "InvalidInstanceType.ValueNotSupported", "The specified InstanceType does not exist or beyond the permitted range.")
	}
	if img, known := findImage(i.image); known && img.arch != typ.arch {
		return nil, refuse(403, "ImageNotSupportInstanceType", "The specified image don't support the InstanceType.")
	}
	if r.lookInstance(i) != "Stopped" {
		return nil, wrongStatus()
	}
	if r.soldOut(i.zone, typ.name) {
		return nil, refuse(403, "OperationDenied.NoStock", "The resource is out of usage.")
	}
	i.typ = typ.name
	return obj{}, nil
}

// modifyInstance switches the deletion protection.
func (r *request) modifyInstance() (obj, error) {
	i, err := r.instance()
	if err != nil {
		return nil, err
	}
	if v := r.get("DeletionProtection"); v != "" {
		i.protected = v == "true"
	}
	return obj{}, nil
}

// deleteInstance begins to release an instance. It lingers for a while, and what it
// used cannot be deleted until it is gone.
func (r *request) deleteInstance() (obj, error) {
	i, err := r.instance()
	if err != nil {
		return nil, err
	}
	if i.protected {
		return nil, refuse(403, "InvalidOperation.DeletionProtection", "The operation is not allowed due to deletion protection.")
	}
	switch state := r.lookInstance(i); {
	case state == "Pending" || state == "Starting":
		return nil, refuse(403, "IncorrectInstanceStatus.Initializing", "The specified instance status does not support this operation.")
	case state == "Deleted":
		return nil, refuse(404, "InvalidInstanceId.NotFound", "The specified InstanceId does not exist.")
	case state == "Running" && !r.flag("Force"):
		return nil, wrongStatus()
	}
	if m := i.machine; m != nil {
		for _, e := range r.eips {
			if e.instance == i.id {
				r.after(func() error { m.Detach(); return nil })
			}
		}
		r.after(m.Stop)
	}
	i.pass(r.Sim, "Stopping", "Deleted")
	return obj{}, nil
}

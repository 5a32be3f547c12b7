package alicloudsim

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

type eipState struct {
	life
	id, name, description, instance string
	ip                              netip.Addr
	bandwidth                       int // Mbit/s
	created                         string
	tags                            map[string]string
}

// lookEip lets an address's time go by.
func (s *Sim) lookEip(e *eipState) string {
	return e.look(s, func(state string) {
		switch state {
		case "InUse":
			if i := s.instances[e.instance]; i != nil && i.machine != nil {
				m, ip := i.machine, e.ip
				s.after(func() error { m.Attach(ip); return nil })
			}
		case "Available":
			e.instance = ""
		}
	})
}

func (r *request) bandwidth(def int) (int, error) {
	text := r.get("Bandwidth")
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 200 {
		return 0, refuse(400, "InvalidBandwidth.Malformed", "Specified bandwidth is not valid.")
	}
	return n, nil
}

func (r *request) allocateEip() (obj, error) {
	bandwidth, err := r.bandwidth(5)
	if err != nil {
		return nil, err
	}
	name := r.get("Name")
	if name != "" && (badName(name, 128) || !letter(name[0]) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "") {
		return nil, refuse(400, "InvalidParameter", "Specified name is not valid.")
	}
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if err := r.quota("eip", len(r.eips), "QuotaExceeded.Eip"); err != nil {
		return nil, err
	}
	e := &eipState{id: r.id("eip"), name: name, description: r.get("Description"), ip: r.publicIP(), bandwidth: bandwidth,
		created: r.stamp(withSeconds), tags: tags, life: life{state: "Available"}}
	r.eips[e.id] = e
	r.indexed(e.id)
	return obj{"AllocationId": e.id, "EipAddress": e.ip.String(), "ResourceGroupId": "rg-acfmxazb4ph6aiy"}, nil
}

func (r *request) describeEips() (obj, error) {
	filter, err := r.tags()
	if err != nil {
		return nil, err
	}
	all := []*eipState{}
	for _, id := range sorted(r.eips) {
		e := r.eips[id]
		if (r.get("AllocationId") == "" || strings.Contains(","+r.get("AllocationId")+",", ","+id+",")) &&
			(r.get("EipName") == "" || r.get("EipName") == e.name) && (r.get("EipAddress") == "" || r.get("EipAddress") == e.ip.String()) &&
			r.matches(e.id, e.tags, filter) {
			all = append(all, e)
		}
	}
	page, body, err := numbered(r, all, 100)
	if err != nil {
		return nil, err
	}
	list := []obj{}
	for _, e := range page {
		state := r.lookEip(e)
		instanceType := ""
		if e.instance != "" {
			instanceType = "EcsInstance"
		}
		list = append(list, obj{
			"AllocationId": e.id, "IpAddress": e.ip.String(), "Name": e.name, "Description": e.description, "Status": state,
			"InstanceId": e.instance, "InstanceType": instanceType, "InstanceRegionId": r.cfg.Region, "RegionId": r.cfg.Region,
			"Bandwidth": itoa(e.bandwidth), "EipBandwidth": itoa(e.bandwidth), "InternetChargeType": "PayByTraffic", "ChargeType": "PostPaid",
			"BusinessStatus": "Normal", "AllocationTime": e.created, "ISP": "BGP", "Netmode": "public", "Tags": vpcTags(e.tags),
		})
	}
	body["EipAddresses"] = obj{"EipAddress": list}
	return body, nil
}

func (r *request) eip() (*eipState, error) {
	e, ok := r.eips[r.get("AllocationId")]
	if !ok {
		return nil, refuse(404, "InvalidAllocationId.NotFound", "Specified allocation ID is not found.")
	}
	return e, nil
}

func wrongEip() error {
	return refuse(400, "IncorrectEipStatus", "Current elastic IP status does not support this operation.")
}

func (r *request) associateEip() (obj, error) {
	e, err := r.eip()
	if err != nil {
		return nil, err
	}
	if t := r.get("InstanceType"); t != "" && t != "EcsInstance" {
		return nil, refuse(400, "InvalidInstanceType.ValueNotSupported", "The specified value of \"InstanceType\" is not supported.")
	}
	i, ok := r.instances[r.get("InstanceId")]
	if !ok {
		return nil, refuse(404, "InvalidInstanId.NotFound", "Specified instance is not found.") // the vendor's spelling
	}
	if r.lookEip(e) != "Available" {
		return nil, wrongEip()
	}
	if state := r.lookInstance(i); state != "Running" && state != "Stopped" {
		return nil, refuse(400, "IncorrectInstanceStatus", "Current instance status does not support this operation.")
	}
	for _, other := range r.eips {
		if other.instance == i.id {
			return nil, refuse(400, "InvalidAssociation.Duplicated", "Specified instance already has an elastic IP.")
		}
	}
	e.instance = i.id
	e.pass(r.Sim, "Associating", "InUse")
	return obj{}, nil
}

func (r *request) unassociateEip() (obj, error) {
	e, err := r.eip()
	if err != nil {
		return nil, err
	}
	if state := r.lookEip(e); state != "InUse" {
		return nil, wrongEip()
	}
	if id := r.get("InstanceId"); id != "" && id != e.instance {
		return nil, refuse(404, "InvalidBindInstance.NotFound", "The elastic IP is not bound to the instance.")
	}
	if i := r.instances[e.instance]; i != nil && i.machine != nil {
		m := i.machine
		r.after(func() error { m.Detach(); return nil })
	}
	e.pass(r.Sim, "Unassociating", "Available")
	return obj{}, nil
}

func (r *request) modifyEip() (obj, error) {
	e, err := r.eip()
	if err != nil {
		return nil, err
	}
	if state := r.lookEip(e); state != "InUse" && state != "Available" {
		return nil, wrongEip()
	}
	bandwidth, err := r.bandwidth(e.bandwidth)
	if err != nil {
		return nil, err
	}
	e.bandwidth = bandwidth
	return obj{}, nil
}

func (r *request) releaseEip() (obj, error) {
	e, err := r.eip()
	if err != nil {
		return nil, err
	}
	if r.lookEip(e) != "Available" {
		return nil, wrongEip()
	}
	delete(r.eips, e.id)
	return obj{}, nil
}

// fingerprint is how the vendor shows a public key: the MD5 of its bytes.
func fingerprint(public string) string {
	blob, _ := base64.StdEncoding.DecodeString(strings.Fields(public)[1])
	var parts []string
	for _, b := range md5.Sum(blob) {
		parts = append(parts, fmt.Sprintf("%02x", b))
	}
	return strings.Join(parts, ":")
}

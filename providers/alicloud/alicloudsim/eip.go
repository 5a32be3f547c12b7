package alicloudsim

import (
	"cmp"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// What of an address is paid for.
const (
	payByTraffic   = "PayByTraffic"
	payByBandwidth = "PayByBandwidth" // the vendor's default
)

// SwitchMetering does what a person does in the vendor's console: from the next
// midnight on, which comes with now set, an address is charged in the other way.
func (s *Sim) SwitchMetering(ip netip.Addr, now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.eips {
		if e.ip != ip {
			continue
		}
		e.charges = payByTraffic
		if e.charge == payByTraffic {
			e.charges = payByBandwidth
		}
		if now {
			e.charge, e.charges = e.charges, ""
		}
	}
}

type eipState struct {
	life
	id, name, description, instance string
	ip                              netip.Addr
	bandwidth                       int    // Mbit/s
	charge, charges                 string // what is paid for, and what will be from the next midnight
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

// bandwidth reads the parameter; what an address may have depends on what is paid for.
func (r *request) bandwidth(charge string, def int) (int, error) {
	most := 200
	if charge == payByBandwidth {
		most = 500
	}
	text := r.get("Bandwidth")
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, refuse(400, "InvalidBandwidth.Malformed", "Specified bandwidth is not valid.")
	}
	return n, nil
}

func (r *request) allocateEip() (obj, error) {
	charge := cmp.Or(r.get("InternetChargeType"), payByBandwidth)
	if charge != payByTraffic && charge != payByBandwidth {
		return nil, refuse(400, "InvalidParameter", "Specified value of \"InternetChargeType\" is not valid")
	}
	if charge == payByBandwidth && r.cfg.International {
		return nil, refuse(400, "COMMODITY.INVALID_COMPONENT", "The instance component is invalid.")
	}
	bandwidth, err := r.bandwidth(charge, 5)
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
	e := &eipState{id: r.id("eip"), name: name, description: r.get("Description"), ip: r.publicIP(), bandwidth: bandwidth, charge: charge,
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
		entry := obj{
			"AllocationId": e.id, "IpAddress": e.ip.String(), "Name": e.name, "Description": e.description, "Status": state,
			"InstanceId": e.instance, "InstanceType": instanceType, "InstanceRegionId": r.cfg.Region, "RegionId": r.cfg.Region,
			"Bandwidth": itoa(e.bandwidth), "EipBandwidth": itoa(e.bandwidth), "InternetChargeType": e.charge, "ChargeType": "PostPaid",
			"BusinessStatus": "Normal", "AllocationTime": e.created, "ISP": "BGP", "Netmode": "public", "Tags": vpcTags(e.tags),
		}
		if e.charges != "" {
			entry["ReservationInternetChargeType"], entry["HasReservationData"] = e.charges, "true"
		}
		list = append(list, entry)
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
	bandwidth, err := r.bandwidth(e.charge, e.bandwidth)
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

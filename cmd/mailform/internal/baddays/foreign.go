package baddays

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/providers/world"
)

// stranger is the stack that other people's marked things belong to.
const stranger = "somebody-else"

// foreign are things in the vendors' accounts that are not the stack's: another
// stack's, with its marks, and such as were made by hand. They are there before the
// first command, and have to be the same, to the last byte, after the last one.
type foreign struct {
	world *world.World
	alone bool              // the spec wants no rules but its own in its security groups
	ids   map[string]string // of the cloud's things, by the name of the parameter
	dns   map[string]bool   // ids of records
	first []string          // what it all was like

	mu   sync.Mutex
	rule string // the rule that somebody put into the stack's own security group; "" as long as there is none
}

// handmade is that rule's description.
const handmade = "the printer in the office, ask Wang"

// settle puts them there. Where a spec has foreign rules of its own group removed
// (exclusive), nobody puts one into it.
func settle(w *world.World, exclusive bool) (*foreign, error) {
	f := &foreign{world: w, alone: exclusive, ids: map[string]string{}, dns: map[string]bool{}}
	if err := f.settleCloud(); err != nil {
		return nil, fmt.Errorf("make other people's things in the simulated cloud: %w", err)
	}
	for _, zone := range w.Zones() {
		priority := 5
		w.DNS().Seed(zone,
			cloudflaresim.Record{Name: "www." + zone, Type: "A", Content: "203.0.113.80", Proxied: true},
			cloudflaresim.Record{Name: "shop." + zone, Type: "CNAME", Content: "shops.elsewhere.example", TTL: 3600, Comment: "ask marketing"},
			cloudflaresim.Record{Type: "TXT", Content: `"google-site-verification=rXOxyZounnZasA8Z7oaD3c14JdjS9aKSWvsR1EbUSIQ"`},
			cloudflaresim.Record{Name: "lists." + zone, Type: "MX", Content: "mx.elsewhere.example", Priority: &priority, Comment: "mf1:" + stranger + ":mx"},
			cloudflaresim.Record{Name: "old._domainkey." + zone, Type: "TXT", Content: `"v=DKIM1; p="`, Comment: "mf1:" + stranger + ":dkim/old"},
			cloudflaresim.Record{Name: "_acme-challenge.vpn." + zone, Type: "TXT", Content: `"0123456789abcdef"`, TTL: 120},
		)
		for _, r := range w.DNS().Records(zone) {
			f.dns[r.ID] = true
		}
	}
	var err error
	f.first, err = f.look()
	return f, err
}

// params are parameters of a call: names and values.
func (f *foreign) params(pairs ...string) map[string]string {
	p := map[string]string{"RegionId": f.world.Region()}
	for i := 0; i < len(pairs); i += 2 {
		p[pairs[i]] = pairs[i+1]
	}
	return p
}

// make carries a call out and keeps the id of what it made.
func (f *foreign) make(product, action, id string, params map[string]string) error {
	params["Tag.1.Key"], params["Tag.1.Value"] = "mailform:stack", stranger
	params["Tag.2.Key"], params["Tag.2.Value"] = "mailform:address", "host/web/"+id
	answer, err := f.world.Cloud().Console(product, action, params)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(answer, &fields); err != nil {
		return err
	}
	if id == "InstanceIds" { // the list of one that comes back is what is asked with
		var sets struct{ InstanceIdSet json.RawMessage }
		err := json.Unmarshal(fields["InstanceIdSets"], &sets)
		f.ids[id] = string(sets.InstanceIdSet)
		return err
	}
	f.ids[id] = strings.Trim(string(fields[id]), `"`)
	return nil
}

func (f *foreign) settleCloud() error {
	if err := f.make("vpc", "CreateVpc", "VpcId", f.params("CidrBlock", "172.20.0.0/16", "VpcName", "theirs")); err != nil {
		return err
	}
	f.pass() // a network is there after a while
	if err := f.make("vpc", "CreateVSwitch", "VSwitchId", f.params("VpcId", f.ids["VpcId"], "CidrBlock", "172.20.1.0/24",
		"ZoneId", f.world.Region()+"-b", "VSwitchName", "theirs")); err != nil {
		return err
	}
	if err := f.make("ecs", "CreateSecurityGroup", "SecurityGroupId", f.params("VpcId", f.ids["VpcId"], "SecurityGroupName", "theirs")); err != nil {
		return err
	}
	if err := f.make("vpc", "AllocateEipAddress", "AllocationId", f.params("Bandwidth", "5", "Name", "theirs")); err != nil {
		return err
	}
	_, err := f.world.Cloud().Console("ecs", "AuthorizeSecurityGroup", f.params("SecurityGroupId", f.ids["SecurityGroupId"],
		"Permissions.1.IpProtocol", "TCP", "Permissions.1.PortRange", "443/443", "Permissions.1.SourceCidrIp", "0.0.0.0/0",
		"Permissions.1.Description", "mf1:"+stranger+":web"))
	if err != nil {
		return err
	}
	f.pass()
	if err := f.make("ecs", "RunInstances", "InstanceIds", f.params("ImageId", "debian_12_11_x64_20G_alibase_20250716.vhd",
		"InstanceType", "ecs.e-c1m1.large", "VSwitchId", f.ids["VSwitchId"], "SecurityGroupId", f.ids["SecurityGroupId"],
		"SystemDisk.Category", "cloud_essd_entry", "InstanceName", "theirs")); err != nil {
		return err
	}
	f.pass()
	return nil
}

// pass lets what is on its way arrive: at this vendor, by being looked at.
func (f *foreign) pass() {
	const looks = 4 // no state passes through more others
	for range looks {
		f.cloud()
	}
}

// cloud is what the cloud says of the things that are not the stack's.
func (f *foreign) cloud() ([]string, error) {
	var out []string
	for _, c := range []struct{ product, action, id string }{
		{"vpc", "DescribeVpcs", "VpcId"},
		{"vpc", "DescribeVSwitches", "VSwitchId"},
		{"vpc", "DescribeEipAddresses", "AllocationId"},
		{"ecs", "DescribeSecurityGroups", "SecurityGroupId"},
		{"ecs", "DescribeSecurityGroupAttribute", "SecurityGroupId"},
		{"ecs", "DescribeInstances", "InstanceIds"},
	} {
		if f.ids[c.id] == "" {
			continue // not made yet
		}
		params := f.params(c.id, f.ids[c.id], "NicType", "intranet")
		answer, err := f.world.Cloud().Console(c.product, c.action, params)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.action, err)
		}
		out = append(out, c.action+" "+string(answer))
	}
	return out, nil
}

// look describes all of them, byte for byte.
func (f *foreign) look() ([]string, error) {
	out, err := f.cloud()
	if err != nil {
		return nil, err
	}
	for _, zone := range f.world.Zones() {
		for _, r := range f.world.DNS().Records(zone) {
			if f.dns[r.ID] {
				text, err := json.Marshal(r)
				if err != nil {
					return nil, err
				}
				out = append(out, "record "+string(text))
			}
		}
	}
	return out, nil
}

// front is called for each request to the cloud. As soon as the stack has a security
// group, somebody puts a rule into it by hand.
func (f *foreign) front(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() == nil && r.Form.Get("Action") == "CreateSecurityGroup" {
			defer f.meddle() // also when the answer is lost
		}
		api.ServeHTTP(w, r)
	})
}

// meddle puts the rule there, when there is a group and the rule is not.
func (f *foreign) meddle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rule != "" || f.alone {
		return
	}
	for _, id := range f.groups() {
		if id == f.ids["SecurityGroupId"] {
			continue
		}
		_, err := f.world.Cloud().Console("ecs", "AuthorizeSecurityGroup", f.params("SecurityGroupId", id,
			"Permissions.1.IpProtocol", "TCP", "Permissions.1.PortRange", "9100/9100", "Permissions.1.SourceCidrIp", "198.51.100.77/32",
			"Permissions.1.Description", handmade))
		if err == nil {
			f.rule = f.handmade(id)
			return
		}
	}
}

func (f *foreign) groups() []string {
	answer, err := f.world.Cloud().Console("ecs", "DescribeSecurityGroups", f.params("PageSize", "50"))
	if err != nil {
		return nil
	}
	var list struct {
		SecurityGroups struct {
			SecurityGroup []struct{ SecurityGroupId string }
		}
	}
	if json.Unmarshal(answer, &list) != nil {
		return nil
	}
	var ids []string
	for _, g := range list.SecurityGroups.SecurityGroup {
		ids = append(ids, g.SecurityGroupId)
	}
	return ids
}

// handmade is what the cloud says of the rule in a group, "" when it is not there.
func (f *foreign) handmade(group string) string {
	answer, err := f.world.Cloud().Console("ecs", "DescribeSecurityGroupAttribute", f.params("SecurityGroupId", group, "NicType", "intranet"))
	if err != nil {
		return ""
	}
	var list struct {
		Permissions struct{ Permission []json.RawMessage }
	}
	if json.Unmarshal(answer, &list) != nil {
		return ""
	}
	for _, p := range list.Permissions.Permission {
		var rule struct{ Description string }
		if json.Unmarshal(p, &rule) == nil && rule.Description == handmade {
			return string(p)
		}
	}
	return ""
}

// touched says what has become another one since settle. destroyed says that the
// stack's own group, and with it the rule in it, is gone for good reasons.
func (f *foreign) touched(destroyed bool) ([]string, error) {
	now, err := f.look()
	if err != nil {
		return nil, err
	}
	out := difference(now, f.first)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rule == "" || destroyed {
		return out, nil
	}
	for _, id := range f.groups() {
		if f.handmade(id) == f.rule {
			return out, nil
		}
	}
	return append(out, "- "+f.rule), nil
}

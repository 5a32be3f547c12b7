package alicloud

import (
	"cmp"
	"fmt"
	"net/netip"
	"sort"
	"strings"

	"golang.org/x/crypto/ssh"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

// The kinds of resource, in the vendor's words.
const (
	kindVPC           = "vpc"
	kindVSwitch       = "vswitch"
	kindSecurityGroup = "security-group"
	kindKeyPair       = "key-pair"
	kindInstance      = "instance"
	kindEIP           = "eip"
	kindAssociation   = "eip-association"
)

// Every host has a network of its own, so its addresses need not differ from
// another's. The vSwitch takes the first block, or the second while the first is
// still in use by the one it comes in place of.
const (
	networkCIDR    = "10.77.0.0/16"
	subnetCIDR     = "10.77.0.0/24"
	nextSubnetCIDR = "10.77.1.0/24"
)

// maxRules is the vendor's limit of rules in one security group.
const maxRules = 200

// Part names the address of one of a host's cloud resources.
func part(host, name string) plan.Address { return plan.Addr("host", host, name) }

// hostOf returns the host's name of such an address, "" for others.
func hostOf(a plan.Address) string {
	s := a.Segments()
	if len(s) < 3 || s[0] != "host" {
		return ""
	}
	return s[1]
}

// resourceName is the name of a host's things in the vendor's console. Names of
// stacks and hosts hold no underscore, so two hosts never share one.
func resourceName(stack, host string) string { return "mailform_" + stack + "_" + host }

// Declare gives the cloud resources of every host that is an instance.
func (p *Provider) Declare(spec *specs.Spec) ([]plan.Resource, specs.Diagnostics) {
	var rs []plan.Resource
	var diags specs.Diagnostics
	for _, h := range spec.Hosts {
		if h.Instance == nil {
			continue
		}
		r, ds := p.declareHost(h, mailServices(spec), spec.WebSources(h.Name))
		rs = append(rs, r...)
		diags = append(diags, ds...)
	}
	if spec.Backup != nil && spec.Backup.Create {
		rs = append(rs, p.declareBucket(spec))
	}
	sort.Slice(rs, func(i, j int) bool { return rs[i].Address < rs[j].Address })
	return rs, diags
}

func (p *Provider) declareHost(h *specs.Host, mail []manifest.ServicePort, web []netip.Prefix) ([]plan.Resource, specs.Diagnostics) {
	var diags specs.Diagnostics
	in := h.Instance
	network, subnet, firewall := part(h.Name, "network"), part(h.Name, "subnet"), part(h.Name, "firewall")
	key, instance := part(h.Name, "ssh-key"), part(h.Name, "instance")
	address, link := part(h.Name, "address"), part(h.Name, "address-link")

	if p.region == "" {
		diags = append(diags, specs.Diagnostic{
			Severity: specs.SeverityError, Code: "MF4101", Subject: &in.Range,
			Summary: "no region for host " + h.Name,
			Detail:  "An instance needs to know where it stands. Set the region in the provider block: provider \"alicloud\" { region = \"cn-hongkong\" }.",
		})
	}
	rules := hostRules(h, mail, web)
	if len(rules) > maxRules {
		diags = append(diags, specs.Diagnostic{
			Severity: specs.SeverityError, Code: "MF4102", Subject: &h.Range,
			Summary: fmt.Sprintf("host %s needs %d firewall rules", h.Name, len(rules)),
			Detail:  fmt.Sprintf("A security group holds at most %d rules; every source address of an allow block is one. Join the sources into wider prefixes.", maxRules),
		})
	}
	keys, ds := p.loginKeys(h)
	diags = append(diags, ds...)

	var publicKey plan.Value
	if len(keys) > 0 {
		publicKey = plan.String(keys[0])
	}
	// Whose laptop applies must not decide about a key pair that is there.
	var keyCreateOnly []string
	if len(h.SSH.AuthorizedKeys) == 0 {
		keyCreateOnly = []string{"public_key"}
	}
	subnetAttrs := plan.Attrs{
		"network": plan.Unknown(network, "id"),
		"cidr":    plan.String(subnetCIDR),
	}
	instanceAttrs := plan.Attrs{
		"type":            plan.String(in.Type),
		"state":           plan.String("Running"),
		"image":           plan.String(in.Image),
		"hostname":        plan.String(h.Hostname),
		"ssh_user":        plan.String(h.SSH.User),
		"ssh_port":        plan.Int(int64(h.SSH.Port)),
		"authorized_keys": plan.Strings(keys...),
		"system_disk":     systemDisk(in.SystemDisk),
		"subnet":          plan.Unknown(subnet, "id"),
		"firewall":        plan.Unknown(firewall, "id"),
		"ssh_key":         plan.Unknown(key, "name"),

		"deletion_protection": plan.Bool(true),
	}
	if n := in.SystemDisk.SizeGiB; n > 0 {
		instanceAttrs["system_disk_gib"] = plan.Int(int64(n))
	}
	if len(in.Instead) > 0 {
		instanceAttrs["instead"] = plan.Strings(in.Instead...)
	}
	if in.RAMRole != "" {
		instanceAttrs["ram_role"] = plan.String(in.RAMRole)
	}
	var zoneAttr []string
	if in.Zone != "" {
		subnetAttrs["zone"] = plan.String(in.Zone)
		instanceAttrs["zone"] = plan.String(in.Zone)
		zoneAttr = []string{"zone"}
	} else {
		// A zone is chosen that sells what will stand in it.
		subnetAttrs["sells"] = plan.Map(map[string]plan.Value{
			"types": plan.Strings(append([]string{in.Type}, in.Instead...)...),
			"disk":  plan.String(in.SystemDisk.Category),
		})
		instanceAttrs["network"] = plan.Unknown(network, "id")
	}

	rs := []plan.Resource{
		{
			Address: network, Kind: kindVPC,
			Attrs:      plan.Attrs{"cidr": plan.String(networkCIDR)},
			CreateOnly: []string{"cidr"},
			Outputs:    []string{"id"},
		},
		{
			Address: subnet, Kind: kindVSwitch,
			Attrs:      subnetAttrs,
			CreateOnly: []string{"network", "cidr", "sells"},
			ReplaceOn:  zoneAttr,
			Outputs:    []string{"id", "zone"},
			Within:     network,
		},
		{
			Address: firewall, Kind: kindSecurityGroup,
			Attrs: plan.Attrs{
				"network": plan.Unknown(network, "id"),
				"rules":   rulesValue(rules),
				// What is observed depends on it, see addGroup.
				"exclusive": plan.Bool(h.Exclusive),
			},
			CreateOnly: []string{"network", "exclusive"},
			Outputs:    []string{"id"},
			Within:     network,
			Effect:     "who may reach " + h.Hostname,
		},
		{
			Address: key, Kind: kindKeyPair,
			Attrs:      plan.Attrs{"public_key": publicKey},
			CreateOnly: keyCreateOnly,
			ReplaceOn:  []string{"public_key"},
			Outputs:    []string{"name"},
		},
		{
			Address: instance, Kind: kindInstance,
			Attrs: instanceAttrs,
			CreateOnly: []string{"image", "hostname", "ssh_user", "ssh_port", "authorized_keys",
				"system_disk", "network", "subnet", "ssh_key", "instead", "ram_role"},
			ReplaceOn:    zoneAttr,
			Outputs:      []string{"id", "host_key", "image_id", "zone"},
			Within:       subnet,
			Protected:    protectedInstance(h),
			Interrupts:   "the instance is stopped or starting: no mail comes in for some minutes",
			InterruptsOn: []string{"type", "state"},
			Effect:       "the machine behind " + h.Hostname,
		},
		{
			Address: address, Kind: kindEIP,
			Attrs:     plan.Attrs{"bandwidth": plan.Int(int64(in.Bandwidth)), "charge_by": plan.String(chargedBy(in))},
			ReplaceOn: []string{"charge_by"}, // no operation of the API changes it
			Outputs:   []string{"id", "ip"},
			Protected: "other servers know " + h.Hostname + " by this address; a new one has no reputation",
			Effect:    "the address of " + h.Hostname,
		},
		{
			Address: link, Kind: kindAssociation,
			Attrs: plan.Attrs{
				"instance": plan.Unknown(instance, "id"),
				"address":  plan.Unknown(address, "id"),
				"state":    plan.String("InUse"),
			},
			Outputs: []string{"ip"},
			// One that is given back must be free first, and another one has another IP.
			ReplaceOn: []string{"address"},
			SameAs:    map[string]plan.Ref{"ip": {Address: address, Attr: "ip"}},
			Within:    instance,
			Effect:    h.Hostname + " can be reached",
		},
	}
	rs = append(rs, declareDisk(h)...)
	for i := range rs {
		rs[i].Provider = Name
		rs[i].Origin = in.Range
	}
	return rs, diags
}

// protectedInstance says what is lost with an instance.
func protectedInstance(h *specs.Host) string {
	if h.Instance.DataDisk == nil {
		return "it holds the mail of " + h.Hostname
	}
	return h.Hostname + " is down until there is another; what of its mail is not on the data disk yet is lost"
}

// chargedBy is what of a public address is paid for; the zero value is the default.
func chargedBy(in *specs.Instance) string { return cmp.Or(in.ChargeBy, chargeTraffic) }

// chargeTypes are the vendor's words for what is paid for.
var chargeTypes = map[string]string{chargeTraffic: "PayByTraffic", chargeBandwidth: "PayByBandwidth"}

const (
	chargeTraffic   = "traffic"
	chargeBandwidth = "bandwidth"
)

// systemDisk is what of a system disk is decided when it is created.
func systemDisk(d specs.Disk) plan.Value {
	m := map[string]plan.Value{"category": plan.String(d.Category)}
	if d.Encrypted {
		m["encrypted"] = plan.Bool(true)
	}
	return plan.Map(m)
}

// mailServices are the services that are open to everyone.
func mailServices(spec *specs.Spec) []manifest.ServicePort {
	if spec.Server.POP3 == nil {
		return manifest.Services()
	}
	return append(manifest.Services(), manifest.POP3Services()...)
}

// hostRules are the inbound rules a host needs. The instance has no IPv6 address,
// so "anywhere" is IPv4; prefixes that the spec names are taken as they are.
// Rules that would be the same to the vendor are one rule, under the first name.
// mail are the services that are open to everyone, web the networks that need port 443.
func hostRules(h *specs.Host, mail []manifest.ServicePort, web []netip.Prefix) []rule {
	var rules []rule
	seen := map[string]bool{}
	add := func(name, protocol string, from, to int, source netip.Prefix) {
		r := rule{Name: name, Protocol: protocol, Ports: portRange(from, to), Source: canonicalPrefix(source), Policy: "accept", Priority: 1}
		if !seen[r.key()] {
			seen[r.key()] = true
			rules = append(rules, r)
		}
	}
	anywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	for _, m := range mail {
		add(m.Name, "tcp", m.Port, m.Port, anywhere)
	}
	for _, from := range web {
		if from.Addr().Is4() {
			add("https", "tcp", 443, 443, from)
		}
	}
	for _, from := range h.SSH.From {
		add("ssh", "tcp", h.SSH.Port, h.SSH.Port, from)
	}
	for _, a := range h.Allow {
		for _, from := range a.From {
			add(a.Name, strings.ToLower(a.Protocol), a.FromPort, a.ToPort, from)
		}
	}
	return rules
}

// loginKeys are the keys of those who may log in, canonical: the spec's, or
// those of the person who applies.
func (p *Provider) loginKeys(h *specs.Host) ([]string, specs.Diagnostics) {
	if len(h.SSH.AuthorizedKeys) == 0 {
		if len(p.operatorKeys) > 0 {
			return p.operatorKeys, nil
		}
		return nil, specs.Diagnostics{{
			Severity: specs.SeverityWarning, Code: "MF4103", Subject: &h.Range,
			Summary: "no SSH key for host " + h.Name,
			Detail:  "The ssh block gives no authorized_keys and no key of yours was found, so a new instance could not be logged in to. Make one with ssh-keygen -t ed25519, or name a public key in authorized_keys.",
		}}
	}
	var keys []string
	var diags specs.Diagnostics
	for i, line := range h.SSH.AuthorizedKeys {
		k, err := canonicalKey(line)
		if err != nil {
			diags = append(diags, specs.Diagnostic{
				Severity: specs.SeverityError, Code: "MF4104", Subject: &h.SSH.Range,
				Summary: fmt.Sprintf("authorized_keys[%d] of host %s is not an SSH public key", i, h.Name),
				Detail:  "Expected a line such as \"ssh-ed25519 AAAA… you@laptop\", as in a .pub file: " + err.Error() + ".",
			})
			continue
		}
		keys = append(keys, k)
	}
	return keys, diags
}

// canonicalKey is an authorized_keys line without options and comment.
func canonicalKey(line string) (string, error) {
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return "", fmt.Errorf("no key in it")
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		return "", fmt.Errorf("more than one line")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

package specs

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// defaultRegion serves when nothing in the spec says where. Hong Kong needs no
// ICP filing.
const defaultRegion = "cn-hongkong"

// mailPorts are open on every host.
var mailPorts = [...]int{25, 143, 465, 587, 993}

// checkHosts finds what is wrong with hosts by themselves and with each other.
func (l *loader) checkHosts(b *built) {
	names, hostnames, addresses := map[string]*builtHost{}, map[string]*builtHost{}, map[netip.Addr]*builtHost{}
	for _, h := range b.hosts {
		if h.Name != "" {
			if f := names[h.Name]; f != nil {
				l.errorAt(codeDuplicateHost, h.n.labels[0].at, hcl.Range{}, fmt.Sprintf("host %q is defined twice", h.Name), fmt.Sprintf("It is first defined at %s.", f.Range))
			} else {
				names[h.Name] = h
			}
		}
		if h.Hostname != "" {
			if f := hostnames[h.Hostname]; f != nil {
				l.errorAt(codeSharedName, h.n.at("hostname"), h.n.header, fmt.Sprintf("%s is the hostname of two hosts", h.Hostname), fmt.Sprintf("The other is at %s. Every host needs a name of its own.", f.Range))
			} else {
				hostnames[h.Hostname] = h
			}
			l.checkHostname(b, h)
		}
		if h.Address.IsValid() {
			if f := addresses[h.Address]; f != nil {
				l.errorAt(codeSharedName, h.n.at("address"), h.n.header, fmt.Sprintf("%s is the address of two hosts", h.Address), fmt.Sprintf("The other is at %s.", f.Range))
			} else {
				addresses[h.Address] = h
			}
		}
		switch has := h.n.given("address"); {
		case has && h.Instance != nil:
			l.errorAt(codeInstanceOrAddress, h.n.at("address"), h.n.header, "a host has an instance or an address, not both",
				fmt.Sprintf("The instance at %s gets its address when it is created. For a machine that exists, take the instance block out.", h.Instance.Range))
		case !has && h.Instance == nil:
			l.errorAt(codeInstanceOrAddress, h.n.header, hcl.Range{}, "a host needs an instance or an address",
				"Write instance { } to have one created at Alibaba Cloud, or address = \"203.0.113.7\" for a machine that exists.")
		}
		l.checkSSH(h)
		l.checkAllow(b, h)
		if h.Instance != nil {
			l.checkInstance(h)
		} else if f := first(h.n, "firewall"); f != nil && !f.given("host") {
			l.warnAt(codeIdleFirewall, f.header, hcl.Range{}, fmt.Sprintf("the firewall of host %q is not mailform's", h.Name),
				"Only that of an instance is. This block changes nothing: take it out, and open the mail ports where the machine's firewall is set up. host = true gives the machine a firewall of its own.")
		}
	}
}

// checkHostname looks for the zone that the host's A record goes into.
func (l *loader) checkHostname(b *built, h *builtHost) {
	var names []string
	for _, d := range b.domains {
		if d.Name == "" || within(h.Hostname, d.Name) {
			return
		}
		names = append(names, d.Name)
	}
	if len(names) == 0 {
		return // that there is no domain at all is said elsewhere
	}
	label, _, _ := strings.Cut(h.Hostname, ".")
	if len(names) > 3 {
		names = append(names[:3], "…")
	}
	l.errorAt(codeOutsideZones, h.n.at("hostname"), h.n.header, fmt.Sprintf("%s is in no domain of the spec", h.Hostname),
		fmt.Sprintf("mailform publishes its address in the domain's DNS zone, so the name must end in one of: %s. For example: %q", strings.Join(names, ", "), label+"."+names[0]))
}

func (l *loader) checkSSH(h *builtHost) {
	n, written := h.n.one("ssh")
	if h.Instance == nil || n.given("from") {
		return
	}
	at := h.n.header
	if written {
		at = n.header
	}
	l.warnAt(codeSSHOpen, at, hcl.Range{}, fmt.Sprintf("SSH on host %q is open to everyone", h.Name),
		`The spec does not say who may connect. Name your networks: ssh { from = ["198.51.100.0/24"] }. If it is really everyone, say so: from = ["0.0.0.0/0", "::/0"].`)
}

func (l *loader) checkAllow(b *built, h *builtHost) {
	type opening struct {
		proto    string
		from, to int
		net      netip.Prefix
	}
	names, open := map[string]*node{}, map[opening]*node{}
	for i, a := range h.n.blocks["allow"] {
		allow := h.Allow[i]
		if f := names[allow.Name]; f != nil && allow.Name != "" {
			l.errorAt(codeDuplicateAllow, a.labels[0].at, h.n.header, fmt.Sprintf("allow %q is defined twice", allow.Name), fmt.Sprintf("It is first defined at %s.", rangeOf(f.header)))
		}
		names[allow.Name] = a
		if allow.FromPort == 0 {
			continue
		}
		for _, p := range allow.From {
			o := opening{allow.Protocol, allow.FromPort, allow.ToPort, p}
			if f := open[o]; f != nil && f != a {
				l.errorAt(codeDuplicateAllow, a.at("port"), a.header, fmt.Sprintf("this opens the same as allow %q", f.label()), fmt.Sprintf("The same %s ports are opened to %s at %s. Keep one of them.", allow.Protocol, p, rangeOf(f.header)))
				break
			}
			open[o] = a
		}
		for _, p := range mailPorts {
			if allow.Protocol == "tcp" && allow.FromPort == p && allow.ToPort == p {
				l.warnAt(codePortOpenAlready, a.at("port"), a.header, fmt.Sprintf("port %d is open already", p), "Mail ports are open to everyone by themselves; this block changes nothing.")
			}
		}
		if web := b.direct(h.Name); len(web) > 0 && allow.Protocol == "tcp" && allow.FromPort == webPort && allow.ToPort == webPort {
			l.warnAt(codePortOpenAlready, a.at("port"), a.header, fmt.Sprintf("port %d is open already", webPort), fmt.Sprintf("It is open to everyone for %s; this block changes nothing.", web[0].name))
		}
	}
	if h.Instance != nil {
		l.checkRuleCount(b, h)
	}
}

// maxRules is how many rules the vendor's security groups have.
// https://www.alibabacloud.com/help/en/ecs/user-guide/limits
const maxRules = 200

// checkRuleCount counts a rule for each port and network.
func (l *loader) checkRuleCount(b *built, h *builtHost) {
	n := len(mailPorts) + len(h.SSH.From)
	for _, a := range h.Allow {
		n += len(a.From)
	}
	if len(b.direct(h.Name)) > 0 {
		n++
	} else if len(b.onWeb(h.Name)) > 0 {
		n += len(cloudflareIPs())
	}
	if n > maxRules {
		l.errorAt(codeManyFirewallRules, h.n.header, hcl.Range{}, fmt.Sprintf("host %q needs %d firewall rules", h.Name, n),
			fmt.Sprintf("There is one for each port and network, and the vendor allows %d. Join networks into wider ones.", maxRules))
	}
}

// diskLimits are the vendor's sizes by category, in GiB, for a disk beside the
// system's. https://www.alibabacloud.com/help/en/ecs/developer-reference/api-ecs-2014-05-26-createdisk
var diskLimits = map[string][2]int{
	"cloud_essd":       {20, 65536}, // performance level PL1
	"cloud_auto":       {10, 65536},
	"cloud_essd_entry": {10, 32768},
	"cloud_ssd":        {20, 32768},
	"cloud_efficiency": {20, 32768},
}

// maxTrafficBandwidth is the vendor's limit for addresses charged by traffic, Mbit/s.
// https://www.alibabacloud.com/help/en/vpc/developer-reference/api-vpc-2016-04-28-allocateeipaddress
const maxTrafficBandwidth = 200

// checkInstance finds what the vendor would refuse, and what changes nothing.
func (l *loader) checkInstance(h *builtHost) {
	n := first(h.n, "instance")
	if d := h.Instance.DataDisk; d != nil {
		data := first(n, "data_disk")
		if limits, known := diskLimits[d.Category]; known && d.SizeGiB > 0 && (d.SizeGiB < limits[0] || d.SizeGiB > limits[1]) {
			l.errorAt(codeDiskSize, data.at("size"), data.header, fmt.Sprintf("there is no %s disk of %s", d.Category, formatSize(int64(d.SizeGiB)<<30)),
				fmt.Sprintf("The vendor sells this category from %s to %s.", formatSize(int64(limits[0])<<30), formatSize(int64(limits[1])<<30)))
		}
	}
	if h.Instance.ChargeBy == "traffic" && h.Instance.Bandwidth > maxTrafficBandwidth {
		ip := first(n, "public_ip")
		l.errorAt(codeBadBandwidth, ip.at("bandwidth"), ip.header, fmt.Sprintf("an address that is charged by traffic has at most %dMbps", maxTrafficBandwidth),
			"Write less, or pay for the bandwidth: charge_by = \"bandwidth\" has up to 500Mbps.")
	}
	seen := map[string]bool{h.Instance.Type: true}
	for _, it := range n.values["fallback_types"].items {
		t, ok := it.v.(string)
		if ok && seen[t] {
			l.warnAt(codeIdleFallback, it.at, n.header, fmt.Sprintf("%s has been tried before", t), "It is the type itself, or stands in the list already; this entry changes nothing.")
		}
		seen[t] = true
	}
}

// checkRegion settles the region and holds the zones against it.
func (l *loader) checkRegion(b *built) {
	region := &b.spec.AliCloud.Region
	said := "the provider \"alicloud\" block"
	for _, h := range b.hosts {
		if h.Instance == nil || h.Instance.Zone == "" {
			continue
		}
		zone := h.Instance.Zone
		n := first(h.n, "instance")
		cut := strings.LastIndexByte(zone, '-')
		if cut < 1 || !nameRE.MatchString(zone) {
			l.errorAt(codeBadName, n.at("zone"), n.header, fmt.Sprintf("%q is not a zone", zone), `Zones are named like "cn-hongkong-b": the region, a hyphen and a letter.`)
			continue
		}
		switch {
		case *region == "":
			*region, said = regionOf(zone), fmt.Sprintf("the zone of host %q", h.Name)
		case regionOf(zone) != *region:
			l.errorAt(codeZoneOutsideRegion, n.at("zone"), n.header, fmt.Sprintf("zone %s is not in region %s", zone, *region), fmt.Sprintf("The region comes from %s. All instances stand in one region.", said))
		}
	}
	if *region == "" {
		*region = defaultRegion
	}
}

// regionOf is a zone's region: "cn-hongkong" of "cn-hongkong-b", "us-east-1" of "us-east-1a".
func regionOf(zone string) string {
	if i := len(zone) - 2; i > 0 && zone[i] >= '0' && zone[i] <= '9' {
		return zone[:i+1]
	}
	return zone[:strings.LastIndexByte(zone, '-')]
}

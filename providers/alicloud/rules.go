package alicloud

import (
	"cmp"
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"

	"mailform/plan"
)

// rule is one inbound security group rule in canonical form. What the vendor
// compares is everything but the name: protocol, ports, source, policy, priority.
type rule struct {
	Name     string // from our mark in the description; "" when the rule carries none
	Protocol string // lower case: "tcp", "udp", "icmp", "all", …
	Ports    string // "25/25"; "-1/-1" where the protocol has none
	Source   string // masked prefix in its shortest form, or a security group or prefix list id
	Policy   string // "accept" or "drop"
	Priority int    // 1 (first) to 100

	// Of a rule that carries nobody's mark, in a group that the spec has to itself:
	ID          string // the vendor's, by which it is revoked; "" for all others
	Description string // as somebody wrote it
}

// key identifies the rule for the vendor.
func (r rule) key() string {
	return strings.Join([]string{r.Protocol, r.Ports, r.Source, r.Policy, strconv.Itoa(r.Priority)}, " ")
}

// markPrefix begins the description of every rule that is ours.
const markPrefix = "mf1:"

// ruleMark is the description of a rule.
func ruleMark(stack, name string) string { return markPrefix + stack + ":" + name }

// parseRuleMark reads a description back.
func parseRuleMark(description string) (stack, name string, ok bool) {
	rest, ok := strings.CutPrefix(description, markPrefix)
	if !ok {
		return "", "", false
	}
	stack, name, ok = strings.Cut(rest, ":")
	return stack, name, ok && stack != "" && name != ""
}

// portRange writes ports as the vendor does: "from/to".
func portRange(from, to int) string { return fmt.Sprintf("%d/%d", from, to) }

// canonicalPorts normalises a port range of the API: no spaces or leading zeros,
// "1/65535" and "-1/-1" as they are. Text that is no range stays as it came.
func canonicalPorts(s string) string {
	s = strings.TrimSpace(s)
	from, to, ok := strings.Cut(s, "/")
	if !ok {
		to = from
	}
	f, err1 := strconv.Atoi(strings.TrimSpace(from))
	t, err2 := strconv.Atoi(strings.TrimSpace(to))
	if err1 != nil || err2 != nil || f < -1 || t < -1 || f > 65535 || t > 65535 {
		return s
	}
	return portRange(f, t)
}

// canonicalPrefix is a source in its one form: masked, IPv4-mapped addresses as
// IPv4, IPv6 compressed.
func canonicalPrefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked().String()
}

// canonicalSource normalises a CIDR or a bare address of the API. Anything else
// stays as it came.
func canonicalSource(s string) string {
	s = strings.TrimSpace(s)
	if p, err := netip.ParsePrefix(s); err == nil {
		return canonicalPrefix(p)
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	return s
}

// fromPermission reads a rule of the API. ok is false for what cannot stand in our
// form: outbound rules, those that also look at the destination or the source port,
// and those about IPv4 networks written as IPv6.
func fromPermission(p permission) (r rule, ok bool) {
	r = rule{
		Protocol: strings.ToLower(strings.TrimSpace(p.IpProtocol)),
		Ports:    canonicalPorts(p.PortRange),
		Source:   canonicalSource(cmp.Or(p.SourceCidrIp, p.Ipv6SourceCidrIp, p.SourceGroupId, p.SourcePrefixListId)),
		Policy:   cmp.Or(strings.ToLower(strings.TrimSpace(p.Policy)), "accept"),
		Priority: 1,
	}
	if n, err := strconv.Atoi(strings.TrimSpace(p.Priority)); err == nil {
		r.Priority = n
	}
	if !p.inbound() || p.DestCidrIp != "" || p.Ipv6DestCidrIp != "" {
		return r, false
	}
	if p.SourcePortRange != "" && canonicalPorts(p.SourcePortRange) != "-1/-1" && canonicalPorts(p.SourcePortRange) != "1/65535" {
		return r, false
	}
	if p.SourceCidrIp == "" && p.Ipv6SourceCidrIp != "" && !strings.Contains(r.Source, ":") {
		return r, false // IPv4 as IPv6 (::ffff:192.0.2.0/120) opens nothing for IPv4
	}
	return r, r.Source != ""
}

// inbound reports whether a rule is about who may come in.
func (p permission) inbound() bool { return !strings.EqualFold(p.Direction, "egress") }

// strangersRule describes an inbound rule that is not ours, in whatever form it is,
// under the vendor's id for it.
func strangersRule(p permission) rule {
	r, _ := fromPermission(p)
	r.Name, r.ID, r.Description = p.SecurityGroupRuleId, p.SecurityGroupRuleId, clean(p.Description, 100)
	return r
}

// at is how a rule is found among those of its group, see run.group.
func (r rule) at() string { return cmp.Or(r.ID, r.key()) }

// param writes the rule as a request's Permissions.N.
func (r rule) param(stack string) permissionParam {
	p := permissionParam{
		Policy:      r.Policy,
		Priority:    strconv.Itoa(r.Priority),
		IpProtocol:  strings.ToUpper(r.Protocol),
		PortRange:   r.Ports,
		NicType:     "intranet", // the only one groups in a VPC have
		Description: ruleMark(stack, r.Name),
	}
	if strings.Contains(r.Source, ":") {
		p.Ipv6SourceCidrIp = r.Source
	} else {
		p.SourceCidrIp = r.Source
	}
	return p
}

// value writes the rule for a plan. The usual policy and priority are left out.
func (r rule) value() plan.Value {
	m := map[string]plan.Value{
		"name":     plan.String(r.Name),
		"protocol": plan.String(r.Protocol),
		"ports":    plan.String(r.Ports),
		"source":   plan.String(r.Source),
	}
	if r.Policy != "accept" {
		m["policy"] = plan.String(r.Policy)
	}
	if r.Priority != 1 {
		m["priority"] = plan.Int(int64(r.Priority))
	}
	if r.ID != "" {
		m["id"] = plan.String(r.ID)
	}
	if r.Description != "" {
		m["description"] = plan.String(r.Description)
	}
	return plan.Map(m)
}

func ruleFromValue(v plan.Value) rule {
	r := rule{
		Name:     v.Field("name").Str(),
		Protocol: v.Field("protocol").Str(),
		Ports:    v.Field("ports").Str(),
		Source:   v.Field("source").Str(),
		Policy:   "accept",
		Priority: 1,

		ID:          v.Field("id").Str(),
		Description: v.Field("description").Str(),
	}
	if p := v.Field("policy").Str(); p != "" {
		r.Policy = p
	}
	if n := v.Field("priority"); !n.IsNull() {
		r.Priority = int(n.Num())
	}
	return r
}

// rulesValue writes a rule set in its one order.
func rulesValue(rules []rule) plan.Value {
	sorted := append([]rule(nil), rules...)
	sort.Slice(sorted, func(i, j int) bool {
		if sorted[i].Name != sorted[j].Name {
			return sorted[i].Name < sorted[j].Name
		}
		return sorted[i].key() < sorted[j].key()
	})
	vs := make([]plan.Value, len(sorted))
	for i, r := range sorted {
		vs[i] = r.value()
	}
	return plan.List(vs...)
}

func rulesFromValue(v plan.Value) []rule {
	rules := make([]rule, 0, len(v.Items()))
	for _, e := range v.Items() {
		rules = append(rules, ruleFromValue(e))
	}
	return rules
}

// ruleDiff is how one rule set becomes another.
type ruleDiff struct {
	add    []rule // not there
	rename []rule // there under another name or without our mark: only the description changes
	remove []rule // ours and no longer wanted, or not ours where only ours may be
}

// diffRules compares by what the vendor compares. A rule that only changes its name
// must never be authorised and revoked: authorising an existing rule adds nothing,
// and the revocation would then close the port.
func diffRules(have, want []rule) ruleDiff {
	var d ruleDiff
	old := make(map[string]rule, len(have))
	for _, r := range have {
		if r.ID == "" {
			old[r.key()] = r
		}
	}
	wanted := make(map[string]bool, len(want))
	for _, r := range want {
		wanted[r.key()] = true
		switch o, ok := old[r.key()]; {
		case !ok:
			d.add = append(d.add, r)
		case o.Name != r.Name:
			d.rename = append(d.rename, r)
		}
	}
	for _, r := range have {
		if r.ID != "" || r.Name != "" && !wanted[r.key()] {
			d.remove = append(d.remove, r)
		}
	}
	return d
}

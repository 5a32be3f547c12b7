package host

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

// openings are what a host's own firewall lets in: what the server offers to
// everyone, SSH and the allow blocks, as the cloud's security group does. Port 443
// is open to everyone here; who of them may come is the security group's matter.
func openings(h *specs.Host, m *manifest.Manifest) []manifest.Opening {
	var list []manifest.Opening
	add := func(name, protocol string, from, to int, sources []netip.Prefix) {
		o := manifest.Opening{Name: name, Protocol: protocol, FromPort: from, ToPort: to}
		for _, s := range sources {
			o.From = append(o.From, s.Masked().String())
		}
		slices.Sort(o.From)
		list = append(list, o)
	}
	everyone := []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	for _, s := range manifest.ServicesOf(m) {
		add(s.Name, "tcp", s.Port, s.Port, everyone)
	}
	add("ssh", "tcp", h.SSH.Port, h.SSH.Port, h.SSH.From)
	for _, a := range h.Allow {
		add("allow-"+strings.ToLower(a.Name), strings.ToLower(a.Protocol), a.FromPort, a.ToPort, a.From)
	}
	slices.SortFunc(list, func(a, b manifest.Opening) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func firewallValue(list []manifest.Opening) plan.Value {
	if len(list) == 0 {
		return plan.Null()
	}
	m := map[string]plan.Value{}
	for _, o := range list {
		m[o.Name] = plan.Map(map[string]plan.Value{
			"protocol": plan.String(o.Protocol), "from_port": number(o.FromPort), "to_port": number(o.ToPort), "from": plan.Strings(o.From...),
		})
	}
	return plan.Map(m)
}

func readFirewall(v plan.Value) []manifest.Opening {
	var list []manifest.Opening
	for _, name := range v.FieldNames() {
		o := v.Field(name)
		list = append(list, manifest.Opening{
			Name: name, Protocol: o.Field("protocol").Str(), FromPort: count(o, "from_port"), ToPort: count(o, "to_port"), From: o.Field("from").Texts(),
		})
	}
	slices.SortFunc(list, func(a, b manifest.Opening) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

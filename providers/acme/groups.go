package acme

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"mailform/plan"
	"mailform/server/manifest"
	"mailform/specs"
)

// A host answers under more names than one certificate holds when it serves many
// domains. Its names are then spread over several: cert/mx1, cert/mx1/2, … A name
// that is in one of them stays there, so that another name costs one certificate
// and not all. Which name is where can be seen on the host and is written nowhere else.

// maxNames is how many names Let's Encrypt and others put into one certificate.
const maxNames = 100

// groupAddress is the address of a host's n-th certificate, from 1.
func groupAddress(host string, n int) plan.Address {
	if n == 1 {
		return plan.Addr("cert", host)
	}
	return plan.Addr("cert", host, strconv.Itoa(n))
}

// groupOf is which of its host's certificates an address is: 1 for the main one, 0
// for what is no certificate.
func groupOf(a plan.Address) int {
	seg := a.Segments()
	switch {
	case seg[0] != "cert" || len(seg) < 2 || len(seg) > 3:
		return 0
	case len(seg) == 2:
		return 1
	}
	n, err := strconv.Atoi(seg[2])
	if err != nil || n < 2 || strconv.Itoa(n) != seg[2] {
		return 0
	}
	return n
}

// certName is the certificate's name on the host: "mx1", "mx1-2".
func certName(a plan.Address) string { return strings.Join(a.Segments()[1:], "-") }

// addressOf is the inverse of certName on one host; "" for what is not ours there.
func addressOf(host, name string) plan.Address {
	if name == host {
		return groupAddress(host, 1)
	}
	rest, ok := strings.CutPrefix(name, host+"-")
	if a := plan.Addr("cert", host, rest); ok && groupOf(a) > 1 {
		return a
	}
	return ""
}

// spread deals names out to certificates by number. names begins with the host's
// own, which is in the first. Those that are in a certificate already stay there;
// the others go where there is room, in their order.
func spread(names []string, there map[int][]string) map[int][]string {
	own, rest := names[0], names[1:]
	groups := map[int][]string{1: {own}}
	placed := map[string]bool{own: true}
	for _, n := range slices.Sorted(maps.Keys(there)) {
		for _, name := range there[n] {
			if slices.Contains(rest, name) && !placed[name] && len(groups[n]) < maxNames {
				groups[n], placed[name] = append(groups[n], name), true
			}
		}
	}
	n := 1
	for _, name := range rest {
		if placed[name] {
			continue
		}
		for len(groups[n]) >= maxNames {
			n++
		}
		groups[n] = append(groups[n], name)
	}
	for n, group := range groups {
		if n == 1 {
			slices.Sort(group[1:])
		} else {
			slices.Sort(group)
		}
	}
	return groups
}

// grouped makes the wishes for a host's certificates from that for one with all names.
func grouped(one plan.Resource, there map[int][]string) []plan.Resource {
	var out []plan.Resource
	host := one.Attrs["host"].Str()
	groups := spread(one.Attrs["names"].Texts(), there)
	for _, n := range slices.Sorted(maps.Keys(groups)) {
		r := one
		r.Address = groupAddress(host, n)
		r.Attrs = maps.Clone(one.Attrs)
		r.Attrs["names"] = plan.Strings(groups[n]...)
		if n > 1 { // no mail server answers with these
			r.Attrs["keep_key"], r.ReplaceOn = plan.Bool(false), nil
			r.Effect = "clients trust " + strconv.Itoa(len(groups[n])) + " further names of " + host
		}
		out = append(out, r)
	}
	return out
}

var _ plan.Scheduler = (*Provider)(nil)

// Schedule implements plan.Scheduler: the names of a host that has several
// certificates stay in the one they are in.
func (p *Provider) Schedule(s plan.Scheduling) ([]plan.Resource, []plan.Object, []string, specs.Diagnostics) {
	there := map[string]map[int][]string{}
	for _, o := range s.Observed {
		if n := groupOf(o.Address); n > 0 && o.Provider == Name {
			host := o.Address.Segments()[1]
			if there[host] == nil {
				there[host] = map[int][]string{}
			}
			there[host][n] = o.Attrs["names"].Texts()
		}
	}
	all := map[string][]string{} // by host, over its wishes in their order
	for _, r := range s.Desired {
		if r.Provider == Name {
			host := r.Attrs["host"].Str()
			all[host] = append(all[host], r.Attrs["names"].Texts()...)
		}
	}
	var desired []plan.Resource
	for _, r := range s.Desired {
		if r.Provider != Name || groupOf(r.Address) == 0 {
			desired = append(desired, r)
			continue
		}
		if groupOf(r.Address) != 1 {
			continue // made anew from the first
		}
		host := r.Attrs["host"].Str()
		names := all[host]
		slices.Sort(names[1:])
		r.Attrs = maps.Clone(r.Attrs)
		r.Attrs["names"] = plan.Strings(names...)
		desired = append(desired, grouped(r, there[host])...)
	}
	return afterCAA(follow(desired)), s.Observed, nil, nil
}

// afterCAA lets certificates wait for the CAA records of their names' zones, which say
// who may issue them.
func afterCAA(desired []plan.Resource) []plan.Resource {
	records := map[plan.Address]string{} // zone or domain by address
	for _, r := range desired {
		if seg := r.Address.Segments(); len(seg) == 4 && seg[0] == "dns" && seg[2] == "caa" {
			records[r.Address] = seg[1]
		}
	}
	for i, r := range desired {
		if r.Provider != Name || groupOf(r.Address) == 0 {
			continue
		}
		deps := slices.Clone(r.DependsOn)
		for _, a := range slices.Sorted(maps.Keys(records)) {
			if slices.ContainsFunc(r.Attrs["names"].Texts(), func(n string) bool { return n == records[a] || strings.HasSuffix(n, "."+records[a]) }) {
				deps = append(deps, a)
			}
		}
		desired[i].DependsOn = deps
	}
	return desired
}

// follow lets what waits for a host's certificate wait for the one that holds its
// name. Other providers do not know how the names are spread, and name the first.
func follow(desired []plan.Resource) []plan.Resource {
	holder := map[string]plan.Address{} // by host and name
	for _, r := range desired {
		if n := groupOf(r.Address); n > 1 && r.Provider == Name {
			for _, name := range r.Attrs["names"].Texts() {
				holder[r.Attrs["host"].Str()+" "+name] = r.Address
			}
		}
	}
	if len(holder) == 0 {
		return desired
	}
	for i, r := range desired {
		at := slices.IndexFunc(r.DependsOn, func(a plan.Address) bool { return groupOf(a) == 1 })
		if at < 0 || r.Provider == Name {
			continue
		}
		name := r.Attrs["name"].Str()
		if domain, ok := strings.CutPrefix(name, "_mta-sts."); ok {
			name = manifest.MTASTSName(domain) // where the policy is that it announces
		}
		if a, ok := holder[r.DependsOn[at].Segments()[1]+" "+name]; ok {
			desired[i].DependsOn = slices.Clone(r.DependsOn)
			desired[i].DependsOn[at] = a
		}
	}
	return desired
}

package alicloudsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Describe says what exists, with everything the vendor's users can see of it
// but ids, times and private addresses: two accounts that were brought to the
// same state in different ways describe themselves alike. Lines are sorted. What
// cannot be two times the same, a host's key, is only said to be there.
func (s *Sim) Describe() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	name := s.nameOf
	tagText := func(tags map[string]string) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(tags)) {
			v := tags[k]
			if named := name(v); named != "" {
				v = named
			}
			if strings.HasPrefix(v, "SHA256:") {
				v = "SHA256:…"
			}
			out = append(out, k+"="+v)
		}
		return "[" + strings.Join(out, " ") + "]"
	}
	for _, v := range s.vpcs {
		add("vpc %q %s %q %s %s", v.name, v.state, v.description, v.cidr, tagText(v.tags))
	}
	for _, v := range s.vswitches {
		add("vswitch %q %s %q %s in %s, %s %s", v.name, v.state, v.description, v.cidr, name(v.vpc), v.zone, tagText(v.tags))
	}
	for _, g := range s.groups {
		add("group %q %q in %s %s", g.name, g.description, name(g.vpc), tagText(g.tags))
		for _, u := range g.rules {
			add("group %q rule %s %s %d/%d from %s%s priority %d %q", g.name, u.policy, u.protocol, u.from, u.to, u.source, name(u.sourceGroup), u.priority, u.description)
		}
	}
	for _, k := range s.keys {
		add("key-pair %q %s %s", k.name, k.public, tagText(k.tags))
	}
	for _, i := range s.instances {
		var groups []string
		for _, g := range i.groups {
			groups = append(groups, name(g))
		}
		slices.Sort(groups)
		add("instance %q %s %q host %s, %s %s in %s at %s, key %s, groups %v, protected %v, machine %v %s",
			i.name, i.state, i.description, i.hostName, i.typ, i.image, i.zone, name(i.vswitch), i.key, groups, i.protected, i.machine != nil, tagText(i.tags))
	}
	for _, e := range s.eips {
		add("eip %q %s %q %s, %d Mbit/s %s %s at %s %s", e.name, e.state, e.description, e.ip, e.bandwidth, e.charge, e.charges, name(e.instance), tagText(e.tags))
	}
	for _, d := range s.disks {
		add("disk %q %s %q %s %d GiB in %s at %s, system %v, encrypted %v, goes with it %v, policy %s %s",
			d.name, d.state, d.description, d.category, d.size, d.zone, name(d.instance), d.system, d.encrypted, d.deleteWithInstance, name(d.policy), tagText(d.tags))
	}
	for _, p := range s.policies {
		add("policy %q at %s on %s for %d days %s", p.name, p.hours, p.weekdays, p.days, tagText(p.tags))
	}
	for _, b := range s.buckets {
		add("bucket %q %s, closed %v, versioning %q, encryption %q, lifecycle %s %s",
			b.name, b.acl, b.blocked, b.versioning, b.encryption, b.lifecycle, tagText(b.tags))
	}
	slices.Sort(out)
	return out
}

// Made says how many things of each kind were ever made, as "KIND N", sorted: it
// tells of duplicates that were deleted again.
func (s *Sim) Made() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for kind, n := range s.made {
		out = append(out, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(out)
	return out
}

// nameOf is what an id stands for, by name; "" for what is no id of ours. s.mu is held.
func (s *Sim) nameOf(id string) string {
	kind, _, _ := strings.Cut(id, "-")
	switch {
	case s.vpcs[id] != nil:
		return kind + " " + s.vpcs[id].name
	case s.vswitches[id] != nil:
		return kind + " " + s.vswitches[id].name
	case s.groups[id] != nil:
		return kind + " " + s.groups[id].name
	case s.instances[id] != nil:
		return kind + " " + s.instances[id].name
	case s.eips[id] != nil:
		return kind + " " + s.eips[id].name
	case s.disks[id] != nil:
		return kind + " " + s.disks[id].name
	case s.policies[id] != nil:
		return kind + " " + s.policies[id].name
	case s.made[kind] > 0 && strings.HasPrefix(id, kind+idMark):
		return kind + " that is not there"
	}
	return ""
}

package host

import (
	"slices"
	"strings"

	"mailform/plan"
	"mailform/server/manifest"
)

// What stands on a host where mailform's own files would go is no part of a spec,
// so nothing declares it. It becomes a wish when it is found: that it is mailform's.
// The plan then blocks that, with all that is to happen on the host, until it is
// asked for by its name.

// byMailform is the owner of what mailform made.
const byMailform = "mailform"

func fileAddr(host, name string) plan.Address { return plan.Addr("host", host, "file", name) }

// foreignObjects are what a host has found in the way.
func foreignObjects(t target, f *manifest.Facts) []plan.Object {
	var out []plan.Object
	for _, x := range f.Foreign {
		attrs := plan.Attrs{
			"host": plan.String(t.host), "path": plan.String(x.Path), "by": plan.String(foreignOwner(x)), "sha256": plan.String(shortSum(x.SHA256)),
			"found": plan.String(x.SHA256), // for the request
		}
		if x.What == manifest.ForeignFile {
			attrs["bytes"] = plan.Int(x.Bytes)
		}
		if x.Line != "" {
			attrs["line"] = plan.String(x.Line)
		}
		if x.WantedSHA256 != "" {
			attrs["wanted"] = plan.Map(map[string]plan.Value{"sha256": plan.String(shortSum(x.WantedSHA256)), "bytes": plan.Int(x.WantedBytes)})
		}
		out = append(out, plan.Object{Address: fileAddr(t.host, x.Name), Provider: Name, Kind: kindFile, Owner: plan.Unowned, Attrs: attrs, DependsOn: []plan.Address{agentAddr(t.host)}})
	}
	return out
}

func shortSum(sum string) string { return sum[:min(12, len(sum))] }

// foreignOwner says whose a foreign thing is, as far as that can be known.
func foreignOwner(x manifest.Foreign) string {
	switch {
	case x.What == manifest.ForeignUser || x.What == manifest.ForeignGroup:
		return "not mailform"
	case x.Owner == "":
		return "somebody's " + x.What
	}
	return x.Owner + ", not mailform"
}

// foreignWishes are the wishes to have what was found in the way, and the host's
// other things waiting for them.
func foreignWishes(desired []plan.Resource, observed []plan.Object) []plan.Resource {
	var wishes []plan.Resource
	for _, o := range observed {
		if o.Provider != Name || o.Kind != kindFile {
			continue
		}
		host := o.Attrs["host"].Str()
		server := slices.IndexFunc(desired, func(r plan.Resource) bool { return r.Address == serverAddr(host) })
		if server < 0 || !inTheWay(o.Address.Segments()[3], desired[server], desired) {
			continue
		}
		wish := plan.Resource{
			Address: o.Address, Provider: Name, Kind: kindFile,
			Attrs:     plan.Attrs{"host": plan.String(host), "path": o.Attrs["path"], "by": plan.String(byMailform), "line": plan.Null()},
			DependsOn: []plan.Address{agentAddr(host)},
			Effect:    "what is there is kept beside it as " + manifest.SavedSuffix + "; mailform destroy puts it back",
			Origin:    desired[server].Origin,
		}
		if o.Attrs["line"].IsNull() {
			delete(wish.Attrs, "line")
		}
		if w := o.Attrs["wanted"]; !w.IsNull() {
			wish.Attrs["sha256"], wish.Attrs["bytes"] = w.Field("sha256"), w.Field("bytes")
		}
		if name := o.Address.Segments()[3]; name == manifest.ForeignUser || name == manifest.ForeignGroup {
			delete(wish.Attrs, "line") // it stays what it is
			wish.Effect = "the mail server runs as it; mailform destroy leaves it"
		}
		wishes = append(wishes, wish)
	}
	if len(wishes) == 0 {
		return desired
	}
	out := slices.Clone(desired)
	for i, r := range out {
		if r.Provider != Name || r.Kind == kindAgent || r.Kind == kindKey || r.Kind == kindHostKey {
			continue
		}
		for _, w := range wishes {
			if host := w.Attrs["host"].Str(); r.Attrs["host"].Str() == host || r.Address == serverAddr(host) {
				out[i].DependsOn = append(slices.Clone(out[i].DependsOn), w.Address)
			}
		}
	}
	return append(out, wishes...)
}

// inTheWay reports whether the spec wants something of that name on a host.
func inTheWay(name string, server plan.Resource, desired []plan.Resource) bool {
	fields := map[string]plan.Value{}
	for _, f := range server.Attrs.Names() {
		fields[f] = server.Attrs[f]
	}
	m := readSettings(plan.Map(fields))
	switch name {
	case "sysctl":
		return len(m.Tuning.Parameters()) > 0
	case "journald":
		return m.Tuning != nil && m.Tuning.JournalMiB > 0
	case "sshd":
		return m.HardenSSH
	case "firewall", manifest.FirewallUnit:
		return len(m.Firewall) > 0
	case manifest.MountUnit:
		host := server.Address.Segments()[1]
		return slices.ContainsFunc(desired, func(r plan.Resource) bool { return r.Address == storageAddr(host) })
	}
	if service, ok := strings.CutSuffix(strings.TrimPrefix(name, "mailformd-"), ".socket"); ok {
		return slices.ContainsFunc(manifest.ServicesOf(&m), func(s manifest.ServicePort) bool { return s.Name == service })
	}
	return true // the service itself, its user, and what takes changes back
}

// taking are the foreign things that a run is to take over.
func (h *hostChanges) taking() plan.Value {
	var out []plan.Value
	for _, c := range h.things {
		if c.Kind == kindFile && c.Pending() && c.Before != nil { // on a new machine it is not there
			out = append(out, plan.Map(map[string]plan.Value{"name": plan.String(c.Address.Segments()[3]), "sha256": c.Before["found"]}))
		}
	}
	return plan.List(out...)
}

func readTaking(v plan.Value) []manifest.Taken {
	var out []manifest.Taken
	for _, t := range v.Items() {
		out = append(out, manifest.Taken{Name: t.Field("name").Str(), SHA256: t.Field("sha256").Str()})
	}
	return out
}

// takenOver reports whether nothing of what a request takes over is still there.
func takenOver(req manifest.ConvergeRequest, f *manifest.Facts) bool {
	return !slices.ContainsFunc(req.Take, func(t manifest.Taken) bool {
		return slices.ContainsFunc(f.Foreign, func(x manifest.Foreign) bool { return x.Name == t.Name })
	})
}

package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"mailform/plan"
)

// A spec can give the ids of its zones. When it gives all of them the zones need not
// be listed, and their records are read at once. Whether an id is the right one
// follows from the records, or costs a call while there are too few.

// Codes of answers about a zone that is not there.
const (
	codeNoRoute       = 7003
	codeNoSuchZone    = 1001
	codeNotIdentifier = 7000
)

// givenZones are the zones of the spec's domains, by the ids that it gives. ok is
// false unless it gives all of them.
func givenZones(desired []plan.Resource) (zones []zone, ok bool) {
	seen := map[string]bool{}
	for _, r := range desired {
		if r.Kind != kindZone {
			continue
		}
		id := r.Attrs["given_id"].Str()
		if id == "" {
			return nil, false
		}
		if !seen[id] {
			seen[id] = true
			zones = append(zones, zone{id: id, name: r.Attrs["given_name"].Str()})
		}
	}
	return zones, len(zones) > 0
}

// zoneOf finds the zone of a domain among those listed. One whose id the spec gives
// must be that one.
func zoneOf(all []zone, r plan.Resource) (zone, bool, error) {
	z, ok := zoneFor(all, r.Attrs["domain"].Str())
	id, name := r.Attrs["given_id"].Str(), r.Attrs["given_name"].Str()
	if id == "" || !ok {
		return z, ok, nil
	}
	i := slices.IndexFunc(all, func(z zone) bool { return z.id == id })
	switch {
	case i >= 0 && all[i].name == z.name:
		return all[i], true, nil // of several with this name
	case z.name != name && under(z.name, name):
		return zone{}, false, ownZone(r, z.name, fmt.Sprintf("%s is a zone of its own with the id %s", z.name, z.id))
	case i >= 0:
		return zone{}, false, wrongID(name, id, "that is the id of zone "+all[i].name, fmt.Sprintf("write id = %q", z.id))
	}
	return zone{}, false, wrongID(name, id, fmt.Sprintf("zone %s has the id %s", z.name, z.id), fmt.Sprintf("write id = %q", z.id))
}

func wrongID(name, id, got, fix string) error {
	return &plan.Error{
		Class: plan.ErrSpec, Code: "MF5251",
		Step: fmt.Sprintf("read zone %s by its id %s", name, id), Got: got,
		Fix: fix + fmt.Sprintf(" in the block zone %q, or leave the id out", name),
	}
}

func ownZone(r plan.Resource, name, got string) error {
	return &plan.Error{
		Class: plan.ErrSpec, Code: "MF5251",
		Step: "find the zone of " + r.Attrs["domain"].Str(), Got: got,
		Fix: fmt.Sprintf("give it a block of its own: zone %q { id = … }", name),
	}
}

// confirm makes sure that records which were read by a given id are those of the
// zone that the spec means. listing is what became of reading them.
func (p *Provider) confirm(ctx context.Context, v *view, desired []plan.Resource, listing error) error {
	const write = "write the one that the zone's overview page at Cloudflare shows"
	if hasCode(listing, codeNoRoute, codeNoSuchZone, codeNotIdentifier) {
		return wrongID(v.zone.name, v.zone.id, "Cloudflare has no zone with this id", write)
	}
	var e *plan.Error
	if errors.As(listing, &e) && e.Class == plan.ErrCredentials {
		e.Fix += fmt.Sprintf("; or the id in the block zone %q is not that of this zone", v.zone.name)
	}
	if listing != nil {
		return listing
	}
	for _, rec := range v.records {
		if !under(rec.name, v.zone.name) {
			return wrongID(v.zone.name, v.zone.id, "the zone with this id has records of "+rec.name, write)
		}
	}
	for _, r := range desired {
		if !slices.Contains(v.zones, r.Address) {
			continue
		}
		for _, rec := range v.records {
			if rec.kind == "NS" && rec.name != v.zone.name && under(r.Attrs["domain"].Str(), rec.name) {
				return ownZone(r, rec.name, fmt.Sprintf("zone %s leaves %s to the name server %s", v.zone.name, rec.name, rec.content))
			}
		}
	}
	if commonName(v.records) == v.zone.name {
		return nil // no zone inside this one has all these names
	}
	z, err := p.api.readZone(ctx, v.zone)
	v.calls++
	if err != nil {
		return err
	}
	if z.name != v.zone.name {
		return wrongID(v.zone.name, v.zone.id, "that is the id of zone "+z.name, write)
	}
	v.zone = z
	return nil
}

// commonName is the longest name that all records lie under, "" without records.
func commonName(records []record) string {
	if len(records) == 0 {
		return ""
	}
	name := records[0].name
	for _, r := range records {
		for name != "" && !under(r.name, name) {
			_, name, _ = strings.Cut(name, ".")
		}
	}
	return name
}

// readPlan asks for the plan of a zone whose id the spec gives, when there is so much
// to change that it decides how much goes into one transaction. What the token may
// not read leaves the smallest number, which every plan allows.
func (p *Provider) readPlan(ctx context.Context, v *view) error {
	if v.zone.plan != "" || v.mostEdits() <= batchLimit("") {
		return nil
	}
	z, err := p.api.readZone(ctx, v.zone)
	v.calls++
	switch class := plan.ClassOf(err); {
	case err == nil:
		v.zone = z
		return nil
	case class == plan.ErrTransient || class == plan.ErrThrottled:
		return err
	}
	v.notes = append(v.notes, plan.Advice{
		Code: advicePlan, About: "zone " + v.zone.name, Title: "its Cloudflare plan could not be read",
		Text: fmt.Sprintf("Changes of many records are therefore made in transactions of %d, which every plan allows, and not of 3,500: others can see the zone half changed for a moment. The permission Zone:Read for the zone in CLOUDFLARE_API_TOKEN, or leaving its id out of the spec, ends that.", batchLimit("")),
	})
	return nil
}

// mostEdits is how many operations a plan for the zone can have at the most: two for
// each record that is wanted, and one for each of ours that is not.
func (v *view) mostEdits() int {
	n := 2 * len(v.wanted)
	for _, r := range v.records {
		if m, ok := parseMark(r.comment); ok && m.stack == v.stack {
			n++
		}
	}
	return n
}

// readZone reads what the list of zones says about one.
func (c *client) readZone(ctx context.Context, z zone) (zone, error) {
	var got apiZone
	if err := c.rest(ctx, "read zone "+z.name, http.MethodGet, "zones/"+z.id, nil, &got); err != nil {
		return zone{}, err
	}
	return fromZone(got), nil
}

func fromZone(z apiZone) zone {
	return zone{id: z.ID, name: canonicalName(z.Name), status: z.Status, plan: z.Plan.LegacyID, nameServers: z.NameServers}
}

package alicloud

import (
	"mailform/plan"
	"mailform/specs"
)

const (
	kindDisk           = "disk"
	kindDiskAttachment = "disk-attachment"
	kindSnapshotPolicy = "snapshot-policy"
)

// declareDisk gives a host's data disk, its place in the instance and its
// snapshots. The disk comes into being where the instance turned out to have a
// place, and stays when the instance is made anew.
func declareDisk(h *specs.Host) []plan.Resource {
	d := h.Instance.DataDisk
	if d == nil {
		return nil
	}
	instance, data := part(h.Name, "instance"), part(h.Name, "data-disk")
	attrs := plan.Attrs{
		"category":             plan.String(d.Category),
		"size_gib":             plan.Int(int64(d.SizeGiB)),
		"encrypted":            plan.Bool(d.Encrypted),
		"delete_with_instance": plan.Bool(false),
	}
	createOnly, replaceOn := []string{"zone"}, []string{"encrypted"}
	if z := h.Instance.Zone; z != "" {
		attrs["zone"] = plan.String(z)
		createOnly, replaceOn = nil, []string{"encrypted", "zone"}
	} else {
		attrs["zone"] = plan.Unknown(instance, "zone")
	}
	rs := []plan.Resource{
		{
			Address: data, Kind: kindDisk,
			Attrs: attrs, CreateOnly: createOnly, ReplaceOn: replaceOn,
			Outputs:   []string{"id", "serial"},
			DependsOn: []plan.Address{instance},
			Protected: "the mail of " + h.Hostname + " is on it",
			Effect:    "the disk with the mail of " + h.Hostname,
		},
		{
			Address: part(h.Name, "data-disk-link"), Kind: kindDiskAttachment,
			Attrs: plan.Attrs{
				"disk":     plan.Unknown(data, "id"),
				"instance": plan.Unknown(instance, "id"),
				"state":    plan.String("In_use"),
			},
			ReplaceOn: []string{"disk"},
			Outputs:   []string{"serial"},
			SameAs:    map[string]plan.Ref{"serial": {Address: data, Attr: "serial"}},
			Within:    instance,
			Effect:    "the instance sees the disk with the mail of " + h.Hostname,
		},
	}
	if s := d.Snapshots; s != nil {
		rs = append(rs, plan.Resource{
			Address: part(h.Name, "snapshots"), Kind: kindSnapshotPolicy,
			Attrs: plan.Attrs{
				"disk": plan.Unknown(data, "id"),
				"hour": plan.Int(int64(s.Hour)),
				"days": plan.Int(int64(s.Days)),
			},
			Outputs: []string{"id"},
			Effect:  "daily snapshots of the disk with the mail of " + h.Hostname,
		})
	}
	return rs
}

// diskCategories are those between which a pay-as-you-go disk can be changed while it
// is in use, with one exception: see changeable.
// https://www.alibabacloud.com/help/en/ecs/developer-reference/api-ecs-2014-05-26-modifydiskspec
var diskCategories = [...]string{"cloud_essd", "cloud_auto", "cloud_ssd", "cloud_essd_entry", "cloud_efficiency"}

// changeable reports whether a disk's category can be changed where it is. ESSD Entry
// only goes up, to ESSD and ESSD AutoPL, and nothing becomes one.
func changeable(from, to string) bool {
	known := in(from, diskCategories[:]...) && in(to, diskCategories[:]...)
	if from == "cloud_essd_entry" {
		return in(to, "cloud_essd", "cloud_auto")
	}
	return known && to != "cloud_essd_entry"
}

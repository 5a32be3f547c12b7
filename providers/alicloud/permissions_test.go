package alicloud

import (
	"encoding/json"
	"slices"
	"sort"
	"strings"
	"testing"

	"mailform/plan"
	"mailform/providers/alicloud/alicloudsim"
	"mailform/specs"
)

// tour leads a host through everything that the provider can do.
func tour(t *testing.T, c *cloud, p *Provider) {
	many := func(h *specs.Host) {
		h.Allow = append(h.Allow, specs.Allow{Name: "metrics", Protocol: "udp", FromPort: 8000, ToPort: 8100, From: prefixes("2001:db8::/32", "203.0.113.0/24")})
	}
	role := func(h *specs.Host) { h.Instance.RAMRole = "mail-backup" }
	first := planFor(t, p, testSpec(withDisk, role))
	if _, err := p.Price(t.Context(), first.Changes); err != nil {
		t.Error(err)
	}
	c.apply(p, testSpec(withDisk, role))
	c.apply(p, testSpec(withDisk, many))
	c.apply(p, testSpec(withDisk, func(h *specs.Host) {
		h.Instance.Type, h.Instance.Bandwidth = "ecs.g7.xlarge", 20
		h.Instance.DataDisk.Category, h.Instance.DataDisk.SizeGiB, h.Instance.DataDisk.Snapshots.Days = "cloud_auto", 300, 7
	}))
	// A rule of ours under another name.
	c.apply(p, testSpec(withDisk, func(h *specs.Host) {
		h.Instance.DataDisk.Category, h.Instance.DataDisk.SizeGiB = "cloud_auto", 300
		h.SSH.Port, h.SSH.From = 2222, prefixes("198.51.100.0/24")
	}))
	c.apply(p, testSpec(withDisk, func(h *specs.Host) {
		h.Instance.DataDisk.Category, h.Instance.DataDisk.SizeGiB = "cloud_auto", 300
		h.SSH.Port = 9
		h.Allow = []specs.Allow{{Name: "renamed", Protocol: "tcp", FromPort: 2222, ToPort: 2222, From: prefixes("198.51.100.0/24")}}
	}))
	// An image family, marks for what has none, a group that the instance is in already.
	family := p.begin(plan.Op{Addresses: []plan.Address{"host/mx1/instance"}, Inputs: plan.Attrs{"image": plan.String("acs:debian_12_x64")}}, "t", nil)
	if id, err := family.findImage(t.Context(), "ecs.g7.large"); err != nil || !strings.HasPrefix(id, "debian_12_11_x64") {
		t.Errorf("family: %v %v", id, err)
	}
	do := func(kind string, a plan.Address, inputs plan.Attrs) {
		t.Helper()
		if _, err := p.Do(t.Context(), plan.Op{Kind: kind, Addresses: []plan.Address{a}, Inputs: inputs}, "t", nil); err != nil {
			t.Error(err)
		}
	}
	do(opTag, "host/mx1/ssh-key", plan.Attrs{"id": plan.String("mailform_acme-mail_mx1"), "kind": plan.String(kindKeyPair)})
	do(opTag, "host/mx1/network", plan.Attrs{"id": plan.String(observed(t, p, testSpec(withDisk), "host/mx1/network").ID), "kind": plan.String(kindVPC)})
	do(opJoinGroup, "host/mx1/instance", plan.Attrs{"id": plan.String(observed(t, p, testSpec(withDisk), "host/mx1/instance").ID),
		"firewall": plan.String(observed(t, p, testSpec(withDisk), "host/mx1/firewall").ID)})
	disk := observed(t, p, testSpec(withDisk), "host/mx1/data-disk").ID
	do(opKeepDisk, "host/mx1/data-disk", plan.Attrs{"id": plan.String(disk)})
	if _, err := walk(p, planFor(t, p, testSpec(withDisk), destroy), 0); err != nil {
		t.Fatal(err)
	}
	bucketTour(t, c, p)
	// Another life, given up instead of taken away.
	c.apply(p, testSpec())
	forget := planFor(t, p, testSpec(), func(in *plan.Input) { in.Forget = []specs.Forget{{Address: "host/mx1/*"}} })
	if _, err := walk(p, forget, 0); err != nil {
		t.Fatal(err)
	}
}

// bucketTour makes a bucket, opens it, has it closed again, gives it up, takes it
// over, and deletes it.
func bucketTour(t *testing.T, c *cloud, p *Provider) {
	c.apply(p, withBucket())
	for _, op := range []struct{ kind, name, value string }{{opBucketACL, "acl", "private"}, {opBucketVersioning, "versioning", "Suspended"}, {opBucketBlock, "", ""}} {
		_, err := p.Do(t.Context(), plan.Op{Kind: op.kind, Addresses: []plan.Address{"backup/acme-backup"}, Inputs: plan.Attrs{
			"name": plan.String("acme-backup"), "region": plan.String("cn-hongkong"), op.name: plan.String(op.value)}}, "t", nil)
		if err != nil {
			t.Error(err)
		}
	}
	for _, change := range []func(*plan.Input){
		func(in *plan.Input) { in.Forget = []specs.Forget{{Address: "backup/*"}} },
		func(in *plan.Input) { in.Take = []string{"backup/*"} },
		destroy,
	} {
		if _, err := walk(p, planFor(t, p, withBucket(), change), 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryCallIsExercisedAgainstTheDefinitions(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) { cfg.Roles = []string{"mail-backup"} })
	if c.checker == nil {
		t.Skip("the vendor's API definitions are not here")
	}
	tour(t, c, c.provider())
	for _, a := range actions {
		if name := a.product.version + " " + a.name; a.product != oss && !c.checker.seen[name] {
			t.Errorf("%s was not exercised", name)
		}
	}
}

// TestThePermissionsAreExactlyThoseNeeded lets users who may do what is listed and
// nothing else plan and apply, and compares what they used with what is listed.
func TestThePermissionsAreExactlyThoseNeeded(t *testing.T) {
	c := newCloud(t, func(cfg *alicloudsim.Config) {
		cfg.Roles = []string{"mail-backup"}
		cfg.AccessKeys = []alicloudsim.AccessKey{
			{ID: "apply", Secret: "s", Allow: Permissions(false)},
			{ID: "plan", Secret: "s", Allow: Permissions(true)},
		}
	})
	as := func(id string) *Provider {
		return c.provider(func(cfg *Config) {
			cfg.Credentials = func() (Credentials, error) { return Credentials{id, "s", ""}, nil }
		})
	}
	used := func(id string) []string {
		var names []string
		for _, call := range c.sim.Calls() {
			if call.AccessKeyID == id {
				names = append(names, call.Permissions...)
			}
		}
		sort.Strings(names)
		return slices.Compact(names)
	}
	// A network that was only begun, so that its vSwitches are looked for.
	if _, err := walk(as("apply"), planFor(t, as("apply"), testSpec(), func(in *plan.Input) { in.Only = []string{"host/mx1/subnet"} }), 0); err != nil {
		t.Fatal(err)
	}
	// A bucket that was only begun, so that it is looked at more closely.
	if _, err := as("apply").Do(t.Context(), plan.Op{Kind: opCreateBucket, Addresses: []plan.Address{"backup/acme-backup"},
		Inputs: plan.Attrs{"name": plan.String("acme-backup"), "region": plan.String("cn-hongkong")}}, "t", nil); err != nil {
		t.Fatal(err)
	}
	look := func() {
		p := as("plan")
		pl := planFor(t, p, testSpec(withDisk))
		planFor(t, p, withBucket())
		if _, err := p.Price(t.Context(), pl.Changes); err != nil {
			t.Error(err)
		}
	}
	look()
	if _, err := walk(as("apply"), planFor(t, as("apply"), testSpec(), destroy), 0); err != nil {
		t.Fatal(err)
	}
	c.applied++
	c.apply(as("apply"), testSpec(withDisk))
	look()
	if _, err := walk(as("apply"), planFor(t, as("apply"), testSpec(withDisk), destroy), 0); err != nil {
		t.Fatal(err)
	}
	tour(t, c, as("apply"))
	equal(t, "plan", used("plan"), Permissions(true))
	equal(t, "apply", used("apply"), Permissions(false))
}

func TestThePolicyIsARAMPolicy(t *testing.T) {
	for _, readOnly := range []bool{true, false} {
		var doc struct {
			Version   string
			Statement []struct {
				Effect, Resource string
				Action           []string
				Condition        map[string]map[string]string
			}
		}
		if err := json.Unmarshal([]byte(PolicyJSON(readOnly)), &doc); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range doc.Statement {
			names = append(names, s.Action...)
			if s.Effect != "Allow" || s.Resource == "" || slices.Contains(s.Action, "ram:PassRole") && s.Condition["StringEquals"]["acs:Service"] != "ecs.aliyuncs.com" {
				t.Errorf("%+v", s)
			}
		}
		sort.Strings(names)
		equal(t, "actions", names, Permissions(readOnly))
		for _, name := range names {
			if _, action, _ := strings.Cut(name, ":"); readOnly && !reads(action) {
				t.Errorf("a plan would be permitted to %s", name)
			}
		}
	}
}

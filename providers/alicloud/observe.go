package alicloud

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"mailform/plan"
)

// world is everything of a stack, as the vendor answered it.
type world struct {
	vpcs      []network
	vSwitches []vSwitch
	groups    []securityGroup
	rules     [][]permission // by index of groups
	keys      []keyPair
	instances []instance
	eips      []eip
	disks     []disk // of data, and the system disks of the instances
	policies  []snapshotPolicy
	buckets   []foundBucket
}

// Observe lists everything that carries the stack's tag, whatever the number of
// hosts: eight listings at the same time and then the rules of each security group.
// vSwitches are only asked for when one is not accounted for, see vouch.
// A thing of a host that is no longer in the spec is listed too.
func (p *Provider) Observe(ctx context.Context, scope plan.Scope) (plan.Observed, error) {
	r := &reader{via: p.api}
	if p.region == "" && len(scope.Desired) == 0 {
		return plan.Observed{}, nil // a spec of existing machines: no cloud, no credentials
	}
	w, err := p.look(ctx, r, scope)
	if err != nil {
		return plan.Observed{Calls: int(r.calls.Load())}, explain("read what stack "+scope.Stack+" has in "+p.region, err)
	}
	o := newObserver(scope, w)
	o.run()
	p.note(scope.Desired, o.objects)
	return plan.Observed{Objects: o.objects, Foreign: o.foreign, Calls: int(r.calls.Load())}, nil
}

func (p *Provider) look(outer context.Context, r *reader, scope plan.Scope) (*world, error) {
	w, stack := &world{}, scope.Stack
	filter := stackTag(stack)
	g, ctx := errgroup.WithContext(outer)
	g.Go(func() (err error) { w.vpcs, err = r.vpcs(ctx, filter, ""); return })
	g.Go(func() (err error) { w.keys, err = r.keyPairs(ctx, resourceName(stack, "*")); return })
	g.Go(func() (err error) { w.instances, err = r.instances(ctx, filter, ""); return })
	g.Go(func() (err error) { w.eips, err = r.eips(ctx, filter, "", ""); return })
	g.Go(func() (err error) { w.disks, err = r.disks(ctx, filter, "", ""); return })
	g.Go(func() (err error) { w.policies, err = r.snapshotPolicies(ctx, filter, "", ""); return })
	g.Go(func() (err error) { w.buckets, err = r.stackBuckets(ctx, scope); return })
	g.Go(func() (err error) { w.groups, w.rules, err = r.groupsAndRules(ctx, filter); return })
	err := g.Wait()
	if err == nil {
		var ok bool
		if w.vSwitches, ok = w.vouch(stack); !ok {
			w.vSwitches, err = r.vSwitches(outer, filter, "")
		}
	}
	return w, err
}

// observer turns a world into objects.
type observer struct {
	scope   plan.Scope
	world   *world
	desired map[plan.Address]plan.Attrs
	address map[string]plan.Address // by the vendor's id
	objects []plan.Object
	foreign []plan.Foreign
}

func newObserver(scope plan.Scope, w *world) *observer {
	o := &observer{scope: scope, world: w, desired: map[plan.Address]plan.Attrs{}, address: map[string]plan.Address{}}
	for _, r := range scope.Desired {
		o.desired[r.Address] = r.Attrs
	}
	return o
}

// found is one thing on its way to an address.
type found struct {
	id      string
	part    string // the last segment of such a thing's address
	tags    tags
	created string
	used    bool // something else of ours holds on to it
}

// claim gives every thing with our mark its address. Should several carry the
// same (someone copied the tags), the one in use, else the oldest, has it; the
// others get an address below it, which no spec wants, so that a plan shows them
// and would delete them.
func (o *observer) claim(things []found) {
	slices.SortFunc(things, func(a, b found) int {
		if a.used != b.used {
			if a.used {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.id, b.id))
	})
	taken := map[plan.Address]bool{}
	for _, t := range things {
		a := plan.Address(t.tags[tagAddress])
		if t.tags[tagStack] != o.scope.Stack || hostOf(a) == "" {
			continue
		}
		if taken[a] || a != part(hostOf(a), t.part) {
			a = plan.Addr(string(a), t.id)
		}
		taken[a] = true
		o.address[t.id] = a
	}
}

// add lists an object of ours.
func (o *observer) add(kind, id string, attrs, outputs plan.Attrs, dependsOn []plan.Address, protected string) {
	a, ok := o.address[id]
	if !ok {
		return
	}
	var deps []plan.Address
	for _, d := range dependsOn {
		if d != "" {
			deps = append(deps, d)
		}
	}
	o.objects = append(o.objects, plan.Object{
		Address: a, Provider: Name, Kind: kind, ID: id, Owner: plan.Ours, Forgettable: true,
		Attrs: attrs, Outputs: outputs, DependsOn: deps, Protected: protected,
	})
}

func (o *observer) run() {
	w := o.world
	standsIn := map[string]string{} // subnet, group, key or address id -> instance id
	for _, i := range w.instances {
		standsIn[i.VpcAttributes.VSwitchId] = i.InstanceId
		standsIn[i.KeyPairName] = i.InstanceId
		for _, g := range i.SecurityGroupIds.SecurityGroupId {
			standsIn[g] = i.InstanceId
		}
	}
	occupied := map[string]bool{} // VPC ids
	for _, s := range w.vSwitches {
		occupied[s.VpcId] = true
	}
	linked := map[string]bool{} // instance ids
	for _, e := range w.eips {
		linked[e.InstanceId] = true
	}
	applied := map[string]bool{} // policy ids
	for _, d := range w.disks {
		applied[d.AutoSnapshotPolicyId] = true
	}

	var things []found
	for _, v := range w.vpcs {
		things = append(things, found{v.VpcId, "network", v.Tags.tags(), v.CreationTime, occupied[v.VpcId]})
	}
	for _, v := range w.vSwitches {
		things = append(things, found{v.VSwitchId, "subnet", v.Tags.tags(), v.CreationTime, standsIn[v.VSwitchId] != ""})
	}
	for _, v := range w.groups {
		things = append(things, found{v.SecurityGroupId, "firewall", v.Tags.tags(), v.CreationTime, standsIn[v.SecurityGroupId] != ""})
	}
	for _, v := range w.keys {
		things = append(things, found{v.KeyPairName, "ssh-key", v.Tags.tags(), v.CreationTime, standsIn[v.KeyPairName] != ""})
	}
	for _, v := range w.instances {
		things = append(things, found{v.InstanceId, "instance", v.Tags.tags(), v.CreationTime, linked[v.InstanceId]})
	}
	for _, v := range w.eips {
		things = append(things, found{v.AllocationId, "address", v.Tags.tags(), v.AllocationTime, v.InstanceId != ""})
	}
	for _, v := range w.disks {
		if v.Type != "system" {
			things = append(things, found{v.DiskId, "data-disk", v.Tags.tags(), v.CreationTime, v.InstanceId != ""})
		}
	}
	for _, v := range w.policies {
		things = append(things, found{v.AutoSnapshotPolicyId, "snapshots", v.Tags.tags(), v.CreationTime, applied[v.AutoSnapshotPolicyId]})
	}
	o.claim(things)

	for _, v := range w.vpcs {
		o.add(kindVPC, v.VpcId, plan.Attrs{"cidr": plan.String(v.CidrBlock)}, plan.Attrs{"id": plan.String(v.VpcId)}, nil, "")
	}
	for _, v := range w.vSwitches {
		protected := ""
		if standsIn[v.VSwitchId] != "" {
			protected = "an instance with its mail stands in it and goes with it"
		}
		attrs := plan.Attrs{"zone": plan.String(v.ZoneId), "network": plan.String(v.VpcId)}
		if v.CidrBlock != "" {
			attrs["cidr"] = plan.String(v.CidrBlock)
		}
		o.add(kindVSwitch, v.VSwitchId, attrs,
			plan.Attrs{"id": plan.String(v.VSwitchId), "zone": plan.String(v.ZoneId)},
			[]plan.Address{o.address[v.VpcId]}, protected)
	}
	for i, v := range w.groups {
		o.addGroup(v, w.rules[i])
	}
	for _, v := range w.keys {
		o.addKey(v, standsIn[v.KeyPairName] != "")
	}
	for _, v := range w.instances {
		o.addInstance(v)
	}
	for _, v := range w.eips {
		o.addEIP(v)
	}
	for _, v := range w.disks {
		o.addDisk(v)
	}
	for _, v := range w.policies {
		o.addPolicy(v)
	}
	for _, v := range w.buckets {
		o.addBucket(v)
	}
	slices.SortFunc(o.objects, func(a, b plan.Object) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.ID, b.ID))
	})
}

// addGroup lists a security group with the rules that carry our mark, and those
// without one that are just what is wanted: the latter only need the mark. What
// another stack's rule opens already stays that stack's and needs nothing of ours,
// which the vendor would not add beside it. Where the spec has the group to itself,
// what nobody marked is listed too: it is not wanted, so the plan takes it away.
func (o *observer) addGroup(sg securityGroup, permissions []permission) {
	a, ok := o.address[sg.SecurityGroupId]
	if !ok {
		return
	}
	wanted := map[string]rule{}
	for _, r := range rulesFromValue(o.desired[a]["rules"]) {
		wanted[r.key()] = r
	}
	exclusive := o.desired[a]["exclusive"].True()
	var rules []rule
	others := 0
	for _, perm := range permissions {
		r, plain := fromPermission(perm)
		stack, name, marked := parseRuleMark(perm.Description)
		want, isWanted := wanted[r.key()]
		switch {
		case plain && marked && stack == o.scope.Stack:
			r.Name = name
			rules = append(rules, r)
		case plain && !marked && isWanted:
			rules = append(rules, r)
		case plain && isWanted:
			rules = append(rules, want)
			others++
		case exclusive && !marked && perm.inbound() && perm.SecurityGroupRuleId != "":
			rules = append(rules, strangersRule(perm))
		default:
			others++
		}
	}
	if others > 0 {
		o.foreign = append(o.foreign, plan.Foreign{Scope: "security group " + sg.SecurityGroupId, Count: others})
	}
	attrs := plan.Attrs{"rules": rulesValue(rules), "network": plan.String(sg.VpcId)}
	if n := len(permissions) - len(rules); n > 0 {
		attrs["others"] = plan.Int(int64(n)) // they take room
	}
	o.add(kindSecurityGroup, sg.SecurityGroupId, attrs,
		plan.Attrs{"id": plan.String(sg.SecurityGroupId)},
		[]plan.Address{o.address[sg.VpcId]}, "")
}

// addKey lists a key pair. The vendor uses it when an instance first boots and not
// again, so a pair that has done its work is not compared with the spec's key:
// what a running machine accepts is not this resource's business.
func (o *observer) addKey(k keyPair, used bool) {
	public := k.PublicKey
	if c, err := canonicalKey(public); err == nil {
		public = c
	}
	owner, ownedBy := plan.Ours, ""
	a, ours := o.address[k.KeyPairName]
	if !ours {
		host, ok := strings.CutPrefix(k.KeyPairName, resourceName(o.scope.Stack, ""))
		a = part(host, "ssh-key")
		want, wanted := o.desired[a]
		if !ok || !wanted {
			return
		}
		owner = plan.Unowned
		if s := k.Tags.tags()[tagStack]; s != "" && s != o.scope.Stack {
			owner, ownedBy = plan.OtherStack, s
		}
		if public != want["public_key"].Str() {
			return // creating ours will say that the name is taken
		}
	}
	if want := o.desired[a]["public_key"]; used && !want.IsNull() {
		public = want.Str()
	}
	o.objects = append(o.objects, plan.Object{
		Address: a, Provider: Name, Kind: kindKeyPair, ID: k.KeyPairName, Owner: owner, OwnedBy: ownedBy, Forgettable: true,
		Attrs:   plan.Attrs{"public_key": plan.String(public)},
		Outputs: plan.Attrs{"name": plan.String(k.KeyPairName)},
	})
}

func (o *observer) addInstance(i instance) {
	group := ""
	deps := []plan.Address{o.address[i.VpcAttributes.VSwitchId], o.address[i.KeyPairName]}
	for _, g := range i.SecurityGroupIds.SecurityGroupId {
		if a, ours := o.address[g]; ours {
			deps = append(deps, a)
			if host := hostOf(o.address[i.InstanceId]); group == "" && a == part(host, "firewall") {
				group = g
			}
		}
	}
	outputs := instanceOutputs(i)
	want := o.desired[o.address[i.InstanceId]]
	attrs := plan.Attrs{
		"type":     plan.String(i.InstanceType),
		"state":    plan.String(steady(i.Status)),
		"zone":     plan.String(i.ZoneId),
		"hostname": plan.String(i.HostName),
		"subnet":   plan.String(i.VpcAttributes.VSwitchId),
		"ssh_key":  plan.String(i.KeyPairName),

		"deletion_protection": plan.Bool(i.DeletionProtection),
	}
	if t := want["type"]; t.Str() == i.Tags.tags()[tagInsteadOf] && in(i.InstanceType, want["instead"].Texts()...) {
		// It was made of this type because the wanted one was sold out.
		attrs["type"], attrs["stands_in"] = t, plan.String(i.InstanceType)
	}
	if d, ok := o.world.systemDisk(i.InstanceId); ok {
		attrs["system_disk_gib"] = plan.Int(int64(d.Size))
	}
	if n := want["system_disk_gib"]; !n.IsNull() && attrs["system_disk_gib"].Num() > n.Num() || attrs["system_disk_gib"].IsNull() {
		attrs["system_disk_gib"] = n // a disk cannot shrink and more room does no harm
	}
	if group != "" {
		attrs["firewall"] = plan.String(group)
	}
	o.add(kindInstance, i.InstanceId, attrs, outputs, deps, "it holds mail")
}

// instanceOutputs are what others may refer to.
func instanceOutputs(i instance) plan.Attrs {
	outputs := plan.Attrs{"id": plan.String(i.InstanceId), "image_id": plan.String(i.ImageId), "zone": plan.String(i.ZoneId)}
	if k := i.Tags.tags()[tagHostKey]; k != "" {
		outputs["host_key"] = plan.String(k)
	}
	return outputs
}

// steady is an instance's state as it is compared: Pending only lasts until it starts.
func steady(status string) string {
	if status == "Pending" {
		return "Starting"
	}
	return status
}

func (o *observer) addEIP(e eip) {
	a, ok := o.address[e.AllocationId]
	if !ok {
		return
	}
	attrs := plan.Attrs{}
	if n, err := strconv.Atoi(e.Bandwidth); err == nil {
		attrs["bandwidth"] = plan.Int(int64(n))
	}
	for by, vendors := range chargeTypes {
		if cmp.Or(e.ReservationInternetChargeType, e.InternetChargeType) == vendors {
			attrs["charge_by"] = plan.String(by)
		}
	}
	o.add(kindEIP, e.AllocationId, attrs,
		plan.Attrs{"id": plan.String(e.AllocationId), "ip": plan.String(e.IpAddress)},
		nil, "other servers know the host by this address")
	if e.InstanceId == "" {
		return
	}

	// The association has no id and no tags of its own: it is the address's state.
	link := part(hostOf(a), "address-link")
	if a != part(hostOf(a), "address") {
		link = plan.Addr(string(a), "link") // a surplus address, see claim
	}
	outputs := plan.Attrs{}
	for _, i := range o.world.instances {
		if i.InstanceId == e.InstanceId && i.Status == "Running" && e.Status == "InUse" {
			outputs["ip"] = plan.String(e.IpAddress)
		}
	}
	o.objects = append(o.objects, plan.Object{
		Address: link, Provider: Name, Kind: kindAssociation, ID: e.AllocationId, Owner: plan.Ours, Forgettable: true,
		Attrs: plan.Attrs{
			"instance": plan.String(e.InstanceId),
			"address":  plan.String(e.AllocationId),
			"state":    plan.String(e.Status),
		},
		Outputs:   outputs,
		DependsOn: append([]plan.Address{a}, present(o.address[e.InstanceId])...),
	})
}

func present(a plan.Address) []plan.Address {
	if a == "" {
		return nil
	}
	return []plan.Address{a}
}

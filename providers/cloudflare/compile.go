package cloudflare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mailform/plan"
)

// The kinds of this provider's operations. Each is one transaction in one zone.
//
// MX records have transactions of their own: they are published only once the
// server answers, and withdrawn before anything else goes. So have other records
// that say something about the server, because nothing that the server needs may
// have to wait for them, and nothing that goes after it may go with them. What is merely removed has its own, too, so that a record
// which goes before its key is destroyed never has to wait for another record whose
// key is yet to be made.
const (
	opWrite      = "WriteRecords"
	opRemove     = "RemoveRecords"
	opAnnounce   = "AnnounceServer"
	opRetract    = "RetractServer"
	opPublishMX  = "PublishMX"
	opWithdrawMX = "WithdrawMX"
	opForget     = "ForgetRecords"
)

// announces reports whether a record says something that is true only once the
// server answers.
func announces(a plan.Address) bool {
	switch role(a) {
	case "mta-sts", "srv", "tlsa", "web", "autoconfig", "autodiscover":
		return true
	}
	return false
}

// revokes reports whether a change takes the trust out of a signing key, which
// is done only when the server no longer signs with it.
func revokes(c plan.Change) bool {
	text, ok := strings.CutPrefix(c.After["content"].Str(), "v=DKIM1; ")
	return ok && role(c.Address) == "dkim" && strings.HasSuffix(text, "p=")
}

// batchLimit is how many operations one transaction may have in a zone of a plan
// (developers.cloudflare.com/dns/manage-dns-records/how-to/batch-record-changes): 200
// on the free one, 3,500 on those that are paid for. A plan that is not known is
// taken for the free one; see readPlan.
func batchLimit(paid string) int {
	switch strings.TrimPrefix(paid, "partners_") {
	case "pro", "pro_plus", "business", "enterprise":
		return 3500
	}
	return 200
}

// Compile implements plan.Provider.
func (p *Provider) Compile(changes []plan.Change) []plan.Op {
	zoneNames, plans := map[string]string{}, map[string]string{}
	for _, c := range changes {
		if c.Kind == kindZone {
			if id := c.Outputs["id"].Str(); id != "" {
				zoneNames[id], plans[id] = c.Outputs["name"].Str(), c.Outputs["plan"].Str()
			}
		}
	}
	groups := map[groupKey][]edit{}
	ops := p.ruleOps(changes, zoneNames)
	for _, c := range changes {
		if c.Kind == kindSettings {
			id := c.After["zone_id"].Str()
			ops = append(ops, settingOps(c, cmp.Or(zoneNames[id], id))...)
		}
		if c.Kind != kindRecord || !c.Pending() {
			continue
		}
		for key, e := range p.edits(c) {
			groups[key] = append(groups[key], e)
		}
	}
	adoptRemovals(groups)

	keys := make([]groupKey, 0, len(groups))
	for k := range groups {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b groupKey) int {
		return cmp.Or(cmp.Compare(a.zone, b.zone), cmp.Compare(a.kind, b.kind), cmp.Compare(a.alone, b.alone))
	})
	for _, k := range keys {
		name := zoneNames[k.zone]
		if name == "" {
			name = k.zone
		}
		for i, part := range split(groups[k], batchLimit(plans[k.zone])) {
			op := batchOp(k, name, part)
			if i > 0 {
				op.ID += fmt.Sprintf(" %d", i+1)
			}
			ops = append(ops, op)
		}
	}
	return ops
}

// groupKey is what one transaction covers.
type groupKey struct {
	zone  string // id
	kind  string
	alone plan.Address // of the only record; "" for all others
}

// edit is what one change asks of one zone: any part may be missing.
type edit struct {
	address plan.Address
	name    string      // of the record, to keep edits of one name in one transaction
	delete  string      // id
	patch   *plan.Value // the whole record, with its id
	post    *plan.Value
}

func (e edit) size() int {
	n := 0
	if e.delete != "" {
		n++
	}
	if e.patch != nil {
		n++
	}
	if e.post != nil {
		n++
	}
	return n
}

// edits turns a change into edits by transaction. Only a record that moves to
// another zone needs two.
func (p *Provider) edits(c plan.Change) map[groupKey]edit {
	before, after := c.Before["zone_id"].Str(), c.After["zone_id"].Str()
	was := edit{address: c.Address, name: c.Before["name"].Str()}
	will := edit{address: c.Address, name: c.After["name"].Str()}
	remove, write := opRemove, opWrite
	if c.Before["type"].Str() == "MX" {
		remove = opWithdrawMX
	} else if announces(c.Address) {
		remove = opRetract
	}
	if c.After["type"].Str() == "MX" {
		write = opPublishMX
	} else if announces(c.Address) || revokes(c) {
		write = opAnnounce
	}
	into := groupKey{zone: after, kind: write}
	// What somebody else's record beside ours already says the vendor will refuse to
	// write once more. Then nothing else is to be refused with it.
	if slices.Contains(c.Before["beside"].Texts(), c.After["content"].Str()) {
		into.alone = c.Address
	}
	switch c.Action {
	case plan.Create:
		will.post = p.wire(c, "")
		return map[groupKey]edit{into: will}
	case plan.Adopt:
		will.patch = p.wire(c, c.ID)
		return map[groupKey]edit{into: will}
	case plan.Update:
		if other := equalBeside(c); other != "" {
			will.delete, will.patch = c.ID, p.wire(c, other)
			return map[groupKey]edit{into: will}
		}
		will.patch = p.wire(c, c.ID)
		return map[groupKey]edit{into: will}
	case plan.Replace:
		if other := equalBeside(c); other != "" && before == after {
			will.delete, will.patch = c.ID, p.wire(c, other)
			return map[groupKey]edit{into: will}
		}
		if before == after {
			will.delete, will.post = c.ID, p.wire(c, "")
			return map[groupKey]edit{into: will}
		}
		was.delete, will.post = c.ID, p.wire(c, "")
		return map[groupKey]edit{{zone: before, kind: remove}: was, into: will}
	case plan.Delete:
		if theirs := textsOf(c, "theirs"); len(theirs) > 0 {
			was.patch = release(c, theirs)
		} else {
			was.delete = c.ID
		}
		return map[groupKey]edit{{zone: before, kind: remove}: was}
	case plan.Forget:
		was.patch = unmarked(c)
		return map[groupKey]edit{{zone: before, kind: opForget}: was}
	}
	return nil
}

// equalBeside gives the record beside the one that is taken over that already says
// what is wanted, which could not be said twice. It becomes ours in its place.
func equalBeside(c plan.Change) string {
	ids := c.Before["other_ids"].Texts()
	for i, content := range c.Before["others"].Texts() {
		if content == c.After["content"].Str() && i < len(ids) {
			return ids[i]
		}
	}
	return ""
}

// unmarked is a record without our mark, and otherwise as it is: its content is not
// even sent.
func unmarked(c plan.Change) *plan.Value {
	fields := map[string]plan.Value{
		"address": plan.String(string(c.Address)), "id": plan.String(c.ID), "comment": plan.String(""),
		"keep": plan.Bool(true),
	}
	for _, name := range []string{"name", "type", "ttl", "proxied", "priority"} {
		if v, ok := c.Before[name]; ok {
			fields[name] = v
		}
	}
	if c.Before["automatic_ttl"].True() {
		fields["ttl"] = plan.Int(1)
	}
	v := plan.Map(fields)
	return &v
}

// wire is the record to write for a change, with our mark. In an SPF record the
// mechanisms of others stay.
func (p *Provider) wire(c plan.Change, id string) *plan.Value {
	slot := slotOf(c.Address)
	fields := map[string]plan.Value{
		"address": plan.String(string(c.Address)),
		"comment": plan.String(comment(p.stack, slot)),
	}
	for _, name := range []string{"name", "type", "content", "ttl", "proxied", "priority"} {
		if v, ok := c.After[name]; ok {
			fields[name] = v
		}
	}
	if id != "" {
		fields["id"] = plan.String(id)
	}
	foreign, theirs := textsOf(c, "foreign"), textsOf(c, "theirs")
	all, left := theirPolicy(c)
	if (left || len(foreign)+len(theirs) > 0) && c.Action != plan.Replace {
		if want, err := parseSPF(c.After["content"].Str()); err == nil {
			own := want
			own.terms, own.modifiers = without(want.terms, foreign), without(want.modifiers, foreign)
			if left {
				own.all = all
			}
			fields["content"] = plan.String(own.join(foreign).String())
			fields["comment"] = plan.String(joinedComment(p.stack, slot, without(append(slices.Clone(own.terms), own.modifiers...), theirs)))
		}
	}
	if c.Action == plan.Adopt { // it already says it, if in another form
		delete(fields, "content")
		fields["keep"] = plan.Bool(true)
	}
	v := plan.Map(fields)
	return &v
}

// textsOf gives a list of mechanisms of others in the SPF record a change is about:
// "theirs" are all of them, "foreign" those that the spec does not want as well.
func textsOf(c plan.Change, name string) []string {
	if c.Before["type"].Str() != "TXT" {
		return nil
	}
	return c.Before[name].Texts()
}

// theirPolicy is the "all" of an SPF record that the spec leaves to those who began
// it; ok is false when it is the spec's.
func theirPolicy(c plan.Change) (all string, ok bool) {
	v, ok := c.Before["all"]
	return v.Str(), ok && c.Before["type"].Str() == "TXT"
}

// release takes our part and our mark out of an SPF record that others are in.
func release(c plan.Change, theirs []string) *plan.Value {
	rest := spf{}
	if rec, err := parseSPF(c.Before["content"].Str()); err == nil {
		rest.all = rec.all
	}
	if all, left := theirPolicy(c); left {
		rest.all = all
	}
	v := plan.Map(map[string]plan.Value{
		"address": plan.String(string(c.Address)),
		"id":      plan.String(c.ID),
		"name":    c.Before["name"], "type": c.Before["type"], "ttl": c.Before["ttl"],
		"content": plan.String(rest.join(theirs).String()),
		"comment": plan.String(""),
	})
	return &v
}

// adoptRemovals moves a removal into the transaction that writes a record of the
// same name, where the vendor executes deletes first: one A record cannot become
// another's while the first is there.
func adoptRemovals(groups map[groupKey][]edit) {
	for _, pair := range [][2]string{{opRemove, opWrite}, {opRemove, opAnnounce}, {opRetract, opWrite}, {opRetract, opAnnounce}, {opWithdrawMX, opPublishMX}} {
		for key, removals := range groups {
			if key.kind != pair[0] {
				continue
			}
			write := groupKey{zone: key.zone, kind: pair[1]}
			written := map[string]bool{}
			for _, e := range groups[write] {
				written[e.name] = true
			}
			var rest []edit
			for _, e := range removals {
				if written[e.name] {
					groups[write] = append(groups[write], e)
				} else {
					rest = append(rest, e)
				}
			}
			groups[key] = rest
			if len(rest) == 0 {
				delete(groups, key)
			}
		}
	}
}

// split cuts edits into transactions of at most limit operations. Edits of one
// name stay together.
func split(edits []edit, limit int) [][]edit {
	slices.SortStableFunc(edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.address, b.address))
	})
	var parts [][]edit
	size := 0
	for i := 0; i < len(edits); {
		end, n := i, 0
		for end < len(edits) && edits[end].name == edits[i].name {
			n += edits[end].size()
			end++
		}
		if len(parts) == 0 || size+n > limit {
			parts, size = append(parts, nil), 0
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], edits[i:end]...)
		size += n
		i = end
	}
	return parts
}

func batchOp(k groupKey, zoneName string, edits []edit) plan.Op {
	op := plan.Op{
		ID: strings.TrimSpace(Name + "." + k.kind + " " + zoneName + " " + string(k.alone)), Provider: Name, Kind: k.kind, Seconds: 1,
		Inputs: plan.Attrs{"zone_id": plan.String(k.zone), "zone": plan.String(zoneName)},
	}
	var deletes, patches, posts []plan.Value
	for _, e := range edits {
		op.Addresses = append(op.Addresses, e.address)
		if e.delete != "" {
			deletes = append(deletes, plan.Map(map[string]plan.Value{
				"address": plan.String(string(e.address)), "id": plan.String(e.delete),
			}))
		}
		if e.patch != nil {
			patches = append(patches, *e.patch)
		}
		if e.post != nil {
			posts = append(posts, *e.post)
		}
	}
	slices.Sort(op.Addresses)
	op.Addresses = slices.Compact(op.Addresses)
	for name, list := range map[string][]plan.Value{"deletes": deletes, "patches": patches, "posts": posts} {
		if len(list) > 0 {
			op.Inputs[name] = plan.List(list...)
		}
	}
	n := len(op.Addresses)
	switch k.kind {
	case opWrite:
		op.Title = fmt.Sprintf("write %s in zone %s", count(n, "DNS record"), zoneName)
	case opRemove:
		op.Title = fmt.Sprintf("remove %s from zone %s", count(n, "DNS record"), zoneName)
	case opAnnounce:
		op.Title = fmt.Sprintf("tell others about the server: write %s in zone %s", count(n, "DNS record"), zoneName)
	case opRetract:
		op.Title = fmt.Sprintf("tell others no more about the server: remove %s from zone %s", count(n, "DNS record"), zoneName)
	case opForget:
		op.Title = fmt.Sprintf("take our mark off %s in zone %s", count(n, "DNS record"), zoneName)
	case opPublishMX:
		op.Title = "let mail come: publish the MX record in zone " + zoneName
	case opWithdrawMX:
		op.Title = "stop mail: withdraw the MX record from zone " + zoneName
	}
	return op
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

package plan

import "testing"

// An address record stays as it is while the address does, although what ties the
// address to the machine is made anew or made at all; and it still comes after that.
func TestSameAs(t *testing.T) {
	const address, link, record, instance = Address("host/mx1/address"), Address("host/mx1/address-link"), Address("dns/acme.example/a/mx1"), Address("host/mx1/instance")
	wanted := func() []Resource {
		rs := sampleDesired("alice")
		for i := range rs {
			if rs[i].Address == link {
				rs[i].SameAs = map[string]Ref{"ip": {Address: address, Attr: "ip"}}
				rs[i].Within = instance
			}
		}
		return rs
	}
	without := func(objects []Object, gone ...Address) (out []Object) {
		for _, o := range objects {
			if o.Address != gone[0] && o.Address != gone[len(gone)-1] {
				out = append(out, o)
			}
		}
		return out
	}
	for _, test := range []struct {
		name    string
		found   []Object
		replace Address
		link    Action
		record  Action
		known   bool
	}{
		{"the machine is made anew", applied(wanted()), instance, Replace, NoOp, true},
		{"the association is gone", without(applied(wanted()), link), "", Create, NoOp, true},
		{"the record is gone, too", without(applied(wanted()), link, record), "", Create, Create, true},
		{"the address is made anew", applied(wanted()), address, Replace, Update, false},
		{"the address is gone, too", without(applied(wanted()), link, address), "", Create, Update, false},
	} {
		in := sampleInput(wanted(), test.found)
		if test.replace != "" {
			in.Replace, in.Allow = []string{string(test.replace)}, []string{"*"}
		}
		p := mustBuild(t, in)
		l, _ := p.Change(link)
		r, _ := p.Change(record)
		if l.Action != test.link || r.Action != test.record || r.After["content"].Known() != test.known {
			t.Errorf("%s: the link is %s, the record %s with %s", test.name, l.Action, r.Action, r.After["content"])
		}
		if r.Pending() && !comesAfter(p, "cloudflare.records acme.example", "alicloud."+string(l.Action)+" "+string(link)) {
			t.Errorf("%s: the record does not wait for the link: %+v", test.name, p.Ops)
		}
	}

	rs := wanted()
	for i := range rs {
		if rs[i].Address == link {
			rs[i].SameAs = map[string]Ref{"ip": {Address: address, Attr: "nothing"}}
		}
	}
	if _, diags := Build(sampleInput(rs, zoneFound())); !diags.HasErrors() {
		t.Error("an output that is not declared passes")
	}
}

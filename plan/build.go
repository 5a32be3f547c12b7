package plan

import (
	"cmp"
	"slices"
	"strings"

	"mailform/specs"
)

// FormatVersion is the version of the plan file that this package writes and reads.
const FormatVersion = 1

// Input is everything a plan is made of.
type Input struct {
	Stack    string
	Desired  []Resource // of all providers
	Observed []Object   // of all providers, complete
	Foreign  []Foreign
	Ledger   *Ledger // may be nil: then less is known about who caused a difference

	// What the spec says about how far the plan may go.
	Protection specs.Protection // a ZonePercent of 0 is 50
	Ignore     []specs.Ignore
	Forget     []specs.Forget
	// Overlook are globs over "ADDRESS" and "ADDRESS.FIELD" whose differences a
	// look at the world leaves out. Only for plans without operations.
	Overlook []string

	Destroy bool // delete everything that is ours

	Allow []string // addresses or globs (see Match) whose protection is lifted
	Take  []string // addresses or globs of unmarked objects that become ours although they differ

	Only    []string // addresses or globs: change these and what they cannot do without; all when empty
	Except  []string // addresses or globs: leave these as they are, and block what cannot do without them
	Replace []string // addresses or globs: make these anew although they do not differ
	Renewed []string // those of Replace that a Scheduler has seen to

	// Approved is a saved plan that is to be carried out: what it was asked is
	// asked again, and only what it changes is changed. Compare says whether it
	// still can be.
	Approved *Plan
	// Made is what an earlier run of Approved did before it was cut short. What it
	// made anew because it was asked to is not made anew again.
	Made Made

	// Compilers holds Provider.Compile by provider name. Nil gives a plan without
	// operations, which is enough to look for drift.
	Compilers map[string]func([]Change) []Op
	Mergers   map[string]Merger // by provider name; only for providers that can merge
}

// Build compares what is wanted with what was found and gives the plan that
// makes them equal. It is pure: the order of the input does not matter and the
// same input gives the same plan. With an error among the diagnostics the plan
// is nil.
//
// A Change without operations is complete when those of everything it depends
// on are: what lives on a machine vanishes with the machine, so when a host's
// instance goes, the host provider compiles the deletes of that host's
// mailboxes, keys and server to nothing, and whatever would have waited for
// them waits for what they waited for.
func Build(in Input) (*Plan, specs.Diagnostics) {
	if saved := in.Approved; saved != nil {
		var asked Asked
		if saved.Asked != nil {
			asked = *saved.Asked
		}
		in.Destroy, in.Allow, in.Take = saved.Destroy, asked.Allow, asked.Take
		in.Only, in.Except, in.Replace = asked.Only, asked.Except, asked.Replace
	}
	b := &builder{in: in, at: map[Address]*node{}, rules: newRules(in)}
	for _, pass := range []func(){
		b.match,   // desired and observed meet at their addresses
		b.link,    // who depends on whom; no dangling reference, no cycle
		b.choose,  // what the plan is to be about
		b.permit,  // what must be allowed by name
		b.decide,  // actions, fields, reasons, risks, and what is blocked
		b.compile, // operations
		b.order,   // and their order
	} {
		pass()
		if b.diags.HasErrors() {
			return nil, b.diags
		}
	}
	return b.plan(), b.diags
}

// builder carries the plan through the passes.
type builder struct {
	in    Input
	rules rules
	nodes []*node // sorted by address
	at    map[Address]*node
	sort  []*node // the same, dependencies before what depends on them
	ops   []Op    // sorted by id
	diags specs.Diagnostics

	forgotten map[Address]bool // declared, and taken out by a forget rule
}

// node is one address on its way to a Change.
type node struct {
	index int
	addr  Address
	want  *Resource // nil when the spec does not want it (any more)
	have  *Object   // nil when it was not found

	deps    []*node // what it depends on
	users   []*node // what depends on it
	former  []*node // things on their way out that the wanted object, as found, depends on
	home    *node   // what it is inside of, as found or else as wanted; nil when nothing
	leavers []*node // the other way round: what depends on it, as found, and stays

	chosen   bool    // the plan may change it
	excluded bool    // named by --except
	asked    bool    // named by --replace
	brought  bool    // chosen although nobody named it
	because  string  // why, where the change itself does not say it
	held     *Block  // a block that stays although what led to it is put off
	off      *Change // the change that is put off because it is not chosen

	guard string // why deleting or replacing it must be allowed by name; "" when it need not

	idle    bool // there is nothing at this address and nothing to do
	allowed bool // named by --allow
	guarded bool // blocked as protected, or as standing on what is
	change  Change
}

// ours reports whether the object is there and carries this stack's mark.
func (n *node) ours() bool { return n.have != nil && n.have.Owner == Ours }

// known returns an output that is known now and will not change with the plan.
// That of an object which is made is what it will equal (Resource.SameAs).
func (b *builder) known(r Ref) (Value, bool) {
	n := b.at[r.Address]
	if n != nil && n.renewed() {
		r = n.want.SameAs[r.Attr]
		n = b.at[r.Address]
	}
	if n == nil || n.have == nil || n.renewed() {
		return Value{}, false
	}
	v, ok := n.have.Outputs[r.Attr]
	return v, ok && !v.IsNull() && v.Known()
}

// renewed reports whether the plan brings the object into being, so that its
// outputs are not known yet.
func (n *node) renewed() bool {
	return n.change.Action == Create || n.change.Action == Replace
}

func (b *builder) fail(code, summary, detail string, origin *Resource) {
	b.report(specs.SeverityError, code, summary, detail, origin)
}

func (b *builder) report(s specs.Severity, code, summary, detail string, origin *Resource) {
	d := specs.Diagnostic{Severity: s, Code: code, Summary: summary, Detail: detail}
	if origin != nil && origin.Origin != (specs.Range{}) {
		r := origin.Origin
		d.Subject = &r
	}
	b.diags = append(b.diags, d)
}

// match puts desired resources and observed objects together by address. What
// is neither wanted nor ours is left out: it is none of our business.
func (b *builder) match() {
	desired := b.remember(b.in.Desired)
	slices.SortStableFunc(desired, func(x, y Resource) int { return cmp.Compare(x.Address, y.Address) })
	observed := slices.Clone(b.in.Observed)
	slices.SortStableFunc(observed, func(x, y Object) int { return cmp.Compare(x.Address, y.Address) })

	for i := range desired {
		r := &desired[i]
		if b.at[r.Address] != nil {
			b.fail("MF3001", string(r.Address)+" is declared twice",
				"Two things in the spec have the same identity in mail. Give one of them another name.", r)
			continue
		}
		b.at[r.Address] = &node{addr: r.Address, want: r}
	}
	for i := range observed {
		o := &observed[i]
		n := b.at[o.Address]
		switch {
		case n == nil && o.Owner == Ours:
			b.at[o.Address] = &node{addr: o.Address, have: o}
		case n == nil:
		case n.have != nil:
			b.fail("MF3005", string(o.Address)+" was found twice",
				"There are two objects with the mark of this address: "+objectName(n.have)+" and "+objectName(o)+
					". Delete the one that is not in use, then plan again.", n.want)
		case n.want != nil && (n.want.Provider != o.Provider || n.want.Kind != o.Kind):
			b.fail("MF3006", string(o.Address)+" is not what it is declared to be",
				"It is declared as "+n.want.Provider+" "+n.want.Kind+" and was found as "+objectName(o)+
					". This is a defect of mailform; please report it.", n.want)
		default:
			n.have = o
		}
	}
	for _, a := range sortedKeys(b.at) {
		n := b.at[a]
		n.index = len(b.nodes)
		b.nodes = append(b.nodes, n)
	}
}

func objectName(o *Object) string {
	return strings.TrimSpace(o.Provider + " " + o.Kind + " " + o.ID)
}

// plan puts the result together.
func (b *builder) plan() *Plan {
	p := &Plan{
		FormatVersion: FormatVersion,
		Stack:         b.in.Stack,
		Destroy:       b.in.Destroy,
		Changes:       make([]Change, 0, len(b.nodes)),
		Ops:           b.ops,
	}
	asked := Asked{Only: b.in.Only, Except: b.in.Except, Replace: b.in.Replace, Allow: b.in.Allow, Take: b.in.Take}
	if !asked.none() {
		p.Asked = &asked
	}
	for _, n := range b.nodes {
		if !n.idle {
			p.Changes = append(p.Changes, n.change)
		}
	}
	p.Foreign = slices.Clone(b.in.Foreign)
	slices.SortFunc(p.Foreign, func(x, y Foreign) int {
		return cmp.Or(cmp.Compare(x.Scope, y.Scope), cmp.Compare(x.Count, y.Count))
	})
	if p.Ops == nil {
		p.Ops = []Op{}
	}
	return p
}

package plan

import (
	"slices"
	"strings"
)

// The usual reasons. Which one attribution gives never changes what is done: the
// ledger only makes the words better.
const (
	reasonMissing   = "not there yet"
	reasonUnwanted  = "no longer in the spec"
	reasonDestroyed = "the stack is destroyed"
	reasonRemoved   = "removed outside mailform since the last apply"
	reasonSpec      = "the spec changed"
	reasonDrift     = "changed outside mailform since the last apply"
	reasonConflict  = "the spec changed, and so did the world outside mailform"
	reasonUnknown   = "differs from the spec"
	reasonAsked     = "replaced as asked"
	reasonForgotten = "forgotten as the spec says"
)

// remembered returns what the ledger knows about an address.
func (b *builder) remembered(a Address) (LedgerEntry, bool) {
	if b.in.Ledger == nil {
		return LedgerEntry{}, false
	}
	e, ok := b.in.Ledger.Entries[a]
	return e, ok
}

func (b *builder) whyMissing(n *node) string {
	if _, ok := b.remembered(n.addr); ok {
		return reasonRemoved
	}
	return reasonMissing
}

// whyDifferent attributes the differences of an object of ours: three-way, to
// the spec or to the world, when the ledger knows what was applied last; and to
// another change when a value will only be known once that is done.
func (b *builder) whyDifferent(n *node) string {
	entry, remembered := b.remembered(n.addr)
	var spec, world, unknown bool
	var causes []string
	for _, name := range n.want.Attrs.Names() {
		before, after := n.have.Attrs[name], n.change.After[name]
		if before.Equal(after) || slices.Contains(n.want.CreateOnly, name) {
			continue
		}
		cascades := false
		for _, r := range after.Refs(nil) {
			if d := b.at[r.Address]; d != nil && d.renewed() {
				cascades = true
				if why := cause(d); !slices.Contains(causes, why) {
					causes = append(causes, why)
				}
			}
		}
		applied, known := entry.Applied[name]
		switch {
		case cascades:
		case !remembered || !known || !after.Known():
			unknown = true
		default:
			spec = spec || !after.Equal(applied)
			world = world || !before.Equal(applied)
		}
	}
	var why []string
	switch {
	case spec && world:
		why = append(why, reasonConflict)
	case spec:
		why = append(why, reasonSpec)
	case world:
		why = append(why, reasonDrift)
	case unknown:
		why = append(why, reasonUnknown)
	}
	return strings.Join(append(why, causes...), "; ")
}

// cause says what happens to a thing that makes its users change.
func cause(d *node) string {
	if d.change.Action == Create {
		return string(d.addr) + " is created"
	}
	return string(d.addr) + " is replaced"
}

package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Made is what an earlier run of the same saved plan, which did not come to its
// end, already did: by address, for whatever it began there.
type Made map[Address]Step

// Step is how far such a run came at one address.
type Step struct {
	ID       string // of what it made, "" when that is not known
	Complete bool   // every effect that the plan has there was done
}

// Steps sums up what was done of a plan: of every operation that was begun,
// whether it is done, and the ids of what was made.
func (p *Plan) Steps(begun map[string]bool, ids map[Address]string) Made {
	made := Made{}
	open := map[Address]bool{}
	for _, op := range p.Ops {
		done, ever := begun[op.ID]
		for _, a := range op.Addresses {
			if ever {
				made[a] = Step{ID: ids[a]}
			}
			open[a] = open[a] || !done && !op.ReadOnly
		}
	}
	for a, step := range made {
		step.Complete = !open[a]
		made[a] = step
	}
	return made
}

// Compare says what moved between a saved plan and one made afresh, a line for
// each, for a person to read; nothing when the fresh one does what the saved one
// said. Make the fresh one with Input.Approved: it then has the saved plan's
// changes and leaves everything else as it is now.
//
// Only what the saved plan touches counts: its pending changes, what they refer
// to, whether what they depend on is still there, and that nothing else has to
// change as well. What an earlier run of the plan itself did is no move (see
// Input.Made): what it completed must be as the plan says, what it began may be
// anywhere in between and is brought to what the plan says, and what depends on
// either may have become known or been lost with it.
func Compare(saved, fresh *Plan, made Made) []string {
	if saved.Stack != fresh.Stack {
		return []string{fmt.Sprintf("the plan is for stack %q, this is %q", saved.Stack, fresh.Stack)}
	}
	if saved.Destroy != fresh.Destroy {
		return []string{"one plan destroys the stack, the other does not"}
	}
	cmp := comparison{saved: saved, fresh: fresh, made: made, shaken: map[Address]bool{}}
	var moved []string
	touched := map[Address]bool{}
	for _, c := range saved.Changes {
		if c.Pending() {
			touched[c.Address] = true
			moved = append(moved, cmp.change(c)...)
		}
	}
	stands := map[Address]bool{}
	read := saved.readByOps()
	for _, c := range saved.Changes {
		if touched[c.Address] {
			for _, d := range c.DependsOn {
				stands[d] = true
			}
		}
	}
	for _, c := range saved.Changes {
		if touched[c.Address] || !stands[c.Address] && !read[c.Address] {
			continue
		}
		f, ok := fresh.Change(c.Address)
		before := len(moved)
		switch {
		case !ok:
			moved = append(moved, fmt.Sprintf("%s: is gone", c.Address))
		case f.Action != c.Action && f.Action != Update && f.Action != NoOp:
			moved = append(moved, fmt.Sprintf("%s: the plan counts on it, now it would be %s", c.Address, past(f.Action)))
		case f.ID != c.ID:
			moved = append(moved, movedID(c, f))
		case read[c.Address]:
			for _, d := range Diff(c.Outputs, f.Outputs) {
				moved = append(moved, movedField(c.Address, d))
			}
		}
		touched[c.Address] = len(moved) > before
	}
	for _, f := range fresh.Changes {
		if f.Pending() && !touched[f.Address] {
			moved = append(moved, fmt.Sprintf("%s: would have to be %s as well", f.Address, past(f.Action)))
		}
	}
	return moved
}

type comparison struct {
	saved, fresh *Plan
	made         Made
	shaken       map[Address]bool // by address: whether an earlier run did anything at it or below; see shakes
}

// shakes reports whether an earlier run did anything at an address or at
// something that it depends on.
func (c *comparison) shakes(a Address) bool {
	if known, ok := c.shaken[a]; ok {
		return known
	}
	_, c.shaken[a] = c.made[a]
	s, ok := c.saved.Change(a)
	if !c.shaken[a] && ok {
		c.shaken[a] = slices.ContainsFunc(s.DependsOn, c.shakes)
	}
	return c.shaken[a]
}

// change says what moved at one address that the saved plan changes.
func (c *comparison) change(s Change) []string {
	f, ok := c.fresh.Change(s.Address)
	step, begun := c.made[s.Address]
	leaves := s.Action == Delete || s.Action == Forget
	switch {
	case ok && f.Blocked != nil:
		return []string{fmt.Sprintf("%s: is blocked now: %s", s.Address, f.Blocked.Why)}
	case !ok && leaves && c.shakes(s.Address):
		return nil
	case !ok && leaves:
		return []string{fmt.Sprintf("%s: is gone already", s.Address)}
	case !ok:
		return []string{fmt.Sprintf("%s: is neither in the spec nor there any more", s.Address)}
	case begun && step.Complete:
		return c.completed(s, f)
	case begun:
		return c.between(s, f, step)
	case c.shakes(s.Address) && s.Action == Replace && f.Action == Create:
		return c.wish(s, f) // it was lost with what it lived in
	case c.shakes(s.Address) && f.Action == NoOp && s.Action != Create && len(Diff(s.Before, f.Before)) == 0:
		return c.wish(s, f) // what it waited for turned out to be what is there
	case f.Action == NoOp && s.Action == Create:
		return []string{fmt.Sprintf("%s: is there already", s.Address)}
	case f.Action == NoOp:
		return []string{fmt.Sprintf("%s: already is as the plan would make it", s.Address)}
	case f.Action != s.Action:
		return []string{fmt.Sprintf("%s: would be %s, now it would be %s", s.Address, past(s.Action), past(f.Action))}
	case f.ID != s.ID:
		return []string{movedID(s, f)}
	}
	var moved []string
	for _, d := range Diff(s.Before, f.Before) {
		moved = append(moved, movedField(s.Address, d))
	}
	moved = append(moved, c.wish(s, f)...)
	for _, d := range Diff(s.Outputs, f.Outputs) {
		moved = append(moved, movedField(s.Address, d))
	}
	return moved
}

// completed says what moved where an earlier run did all that the plan says.
func (c *comparison) completed(s, f Change) []string {
	moved := c.wish(s, f)
	switch {
	case len(moved) > 0 || f.Action == NoOp:
	case s.Action == Delete || s.Action == Forget:
		moved = append(moved, fmt.Sprintf("%s: was %s, and is there again", s.Address, past(s.Action)))
	case f.Action == Create:
		moved = append(moved, fmt.Sprintf("%s: was %s, and is gone again", s.Address, past(s.Action)))
	case len(f.Fields) == 0:
		moved = append(moved, fmt.Sprintf("%s: was %s, now it would be %s again", s.Address, past(s.Action), past(f.Action)))
	}
	if len(moved) == 0 {
		for _, d := range f.Fields {
			moved = append(moved, fmt.Sprintf("%s: %s became %s, is now %s", s.Address, d.Path, d.After, d.Before))
		}
	}
	return moved
}

// between says what moved where an earlier run stopped half-way.
func (c *comparison) between(s, f Change, step Step) []string {
	next := map[Action][]Action{
		Create:  {Create, Update, Replace, Rotate, NoOp},
		Replace: {Create, Update, Replace, Rotate, NoOp},
		Update:  {Update, NoOp},
		Rotate:  {Rotate, Update, NoOp},
		Adopt:   {Adopt, Update, NoOp},
		Delete:  {Delete},
		Forget:  {Forget},
		Wait:    {Wait, NoOp},
	}[s.Action]
	switch {
	case !slices.Contains(next, f.Action):
		return []string{fmt.Sprintf("%s: would be %s, now it would be %s", s.Address, past(s.Action), past(f.Action))}
	case f.ID != "" && f.ID != s.ID && f.ID != step.ID && (step.ID != "" || s.Action != Create && s.Action != Replace):
		return []string{movedID(s, f)}
	}
	return c.wish(s, f)
}

// wish says where the spec now wants something else than the saved plan. What the
// plan could not know yet, because something else had to be done first, may have
// become known.
func (c *comparison) wish(s, f Change) []string {
	var moved []string
	for _, name := range s.After.Names() {
		was, is := s.After[name], f.After[name]
		known := slices.ContainsFunc(was.Refs(nil), func(r Ref) bool { return c.shakes(r.Address) })
		if known && fits(was, is) {
			continue
		}
		for _, d := range diffValue(nil, name, was, is) {
			moved = append(moved, movedWish(s.Address, d))
		}
	}
	for _, name := range f.After.Names() {
		if _, there := s.After[name]; !there {
			for _, d := range diffValue(nil, name, Null(), f.After[name]) {
				moved = append(moved, movedWish(s.Address, d))
			}
		}
	}
	return moved
}

func movedID(s, f Change) string {
	return fmt.Sprintf("%s: was %s, is another one now: %s", s.Address, orNone(s.ID), orNone(f.ID))
}

func movedField(a Address, d Field) string {
	return fmt.Sprintf("%s: %s was %s, is now %s", a, d.Path, d.Before, d.After)
}

func movedWish(a Address, d Field) string {
	return fmt.Sprintf("%s: %s would become %s, the spec now gives %s", a, d.Path, d.Before, d.After)
}

// past is an action as a participle.
func past(a Action) string {
	switch a {
	case NoOp:
		return "left as it is"
	case Wait:
		return "waited for"
	case Adopt:
		return "adopted"
	case Forget:
		return "forgotten"
	}
	return strings.TrimSuffix(string(a), "e") + "ed"
}

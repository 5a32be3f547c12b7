package plan

import (
	"fmt"
	"strings"
)

// Compare says what moved between a saved plan and one made afresh, a line for
// each, for a person to read; nothing when the fresh one does what the saved one
// said. Make the fresh one with Input.Approved: it then has the saved plan's
// changes and leaves everything else as it is now.
// Only what the saved plan touches counts: its pending changes, what they refer
// to, whether what they depend on is still there, and that nothing else has to
// change as well.
func Compare(saved, fresh *Plan) []string {
	if saved.Stack != fresh.Stack {
		return []string{fmt.Sprintf("the plan is for stack %q, this is %q", saved.Stack, fresh.Stack)}
	}
	if saved.Destroy != fresh.Destroy {
		return []string{"one plan destroys the stack, the other does not"}
	}
	var moved []string
	touched := map[Address]bool{}
	for _, c := range saved.Changes {
		if c.Pending() {
			touched[c.Address] = true
			moved = append(moved, compareChange(c, fresh)...)
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

func compareChange(s Change, fresh *Plan) []string {
	f, ok := fresh.Change(s.Address)
	switch {
	case !ok && s.Action == Delete:
		return []string{fmt.Sprintf("%s: is gone already", s.Address)}
	case !ok:
		return []string{fmt.Sprintf("%s: is neither in the spec nor there any more", s.Address)}
	case f.Action == NoOp && s.Action == Create:
		return []string{fmt.Sprintf("%s: is there already", s.Address)}
	case f.Action == NoOp:
		return []string{fmt.Sprintf("%s: already is as the plan would make it", s.Address)}
	case f.Action != s.Action:
		return []string{fmt.Sprintf("%s: would be %s, now it would be %s", s.Address, past(s.Action), past(f.Action))}
	case f.Blocked != nil:
		return []string{fmt.Sprintf("%s: is blocked now: %s", s.Address, f.Blocked.Why)}
	case f.ID != s.ID:
		return []string{movedID(s, f)}
	}
	var moved []string
	for _, d := range Diff(s.Before, f.Before) {
		moved = append(moved, movedField(s.Address, d))
	}
	for _, d := range Diff(s.After, f.After) {
		moved = append(moved, fmt.Sprintf("%s: %s would become %s, the spec now gives %s", s.Address, d.Path, d.Before, d.After))
	}
	for _, d := range Diff(s.Outputs, f.Outputs) {
		moved = append(moved, movedField(s.Address, d))
	}
	return moved
}

func movedID(s, f Change) string {
	return fmt.Sprintf("%s: was %s, is another one now: %s", s.Address, orNone(s.ID), orNone(f.ID))
}

func movedField(a Address, d Field) string {
	return fmt.Sprintf("%s: %s was %s, is now %s", a, d.Path, d.Before, d.After)
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

package progress

import (
	"slices"
	"strings"
	"time"

	"mailform/apply"
	"mailform/plan"
)

// tree is the walk as people read a plan: by host and by domain.
type tree struct {
	groups []*branch          // in the plan's order
	of     map[string]*branch // by operation
	titles int                // columns of the widest group title
	names  int                // columns of the widest operation name
}

// branch is everything of one host or one domain. An operation that serves
// several stands in the branch of its first address.
type branch struct {
	title  string
	tally  tally
	begun  time.Time     // of its first operation
	over   time.Time     // of its last one, so far
	active []*running    // in the order in which they began
	ended  []apply.Event // in the order in which they ended, what was skipped included
	failed []apply.Event // those of ended that failed
}

func newTree(ops []plan.Op) *tree {
	t := &tree{of: map[string]*branch{}}
	for _, op := range ops {
		t.place(apply.Event{Op: op.ID, Title: op.Title, Addresses: op.Addresses})
	}
	return t
}

// place finds the branch of an operation, and makes it when it is new.
func (t *tree) place(e apply.Event) *branch {
	if b := t.of[e.Op]; b != nil {
		return b
	}
	title := plan.GroupOf("")
	if len(e.Addresses) > 0 {
		title = plan.GroupOf(e.Addresses[0])
	}
	title = clean(title)
	at, found := slices.BinarySearchFunc(t.groups, title, func(b *branch, title string) int { return plan.CompareGroups(b.title, title) })
	if !found {
		t.groups = slices.Insert(t.groups, at, &branch{title: title})
	}
	b := t.groups[at]
	b.tally.total++
	t.of[e.Op] = b
	t.titles = max(t.titles, textWidth(title))
	t.names = max(t.names, textWidth(name(label(e))))
	return b
}

// name is what an operation is called on one line.
func name(title, where string) string { return strings.TrimSpace(title + " " + where) }

func (t *tree) begin(e apply.Event) {
	b := t.place(e)
	if b.begun.IsZero() {
		b.begun = e.Time
	}
	b.active = append(b.active, newRunning(e))
}

// end takes in that an operation has ended or will not begin.
func (t *tree) end(e apply.Event) {
	b := t.place(e)
	i := slices.IndexFunc(b.active, func(r *running) bool { return r.op == e.Op })
	if i >= 0 {
		e.Message = b.active[i].found
		b.active = slices.Delete(b.active, i, i+1)
	}
	if e.Kind != apply.EventSkipped {
		b.over = e.Time
	}
	b.tally.add(e)
	b.ended = append(b.ended, e)
	if e.Kind == apply.EventFailed {
		b.failed = append(b.failed, e)
	}
}

func (t *tree) find(op string) *running {
	if b := t.of[op]; b != nil {
		return find(b.active, op)
	}
	return nil
}

func find(active []*running, op string) *running {
	for _, r := range active {
		if r.op == op {
			return r
		}
	}
	return nil
}

// finished reports whether nothing will happen in the branch any more.
func (b *branch) finished() bool { return b.tally.ended() >= b.tally.total }

// untouched reports whether nothing has happened in the branch yet.
func (b *branch) untouched() bool { return len(b.active)+len(b.ended) == 0 }

// elapsed is how long the branch was being worked on, zero when it never was.
func (b *branch) elapsed(now time.Time) time.Duration {
	switch {
	case b.begun.IsZero():
		return 0
	case b.finished():
		return b.over.Sub(b.begun)
	}
	return now.Sub(b.begun)
}

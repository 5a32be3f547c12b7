package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mailform/plan"
)

// node is one operation in the walk.
type node struct {
	op         plan.Op
	generation int
	waits      int     // operations in After that are not done
	dependents []*node // sorted by id

	status  Status
	begun   time.Time
	elapsed time.Duration
	err     error
	because string
}

// walk steps through a plan's graph. One goroutine, in run, owns all of it; the
// goroutines that carry out operations get copies and send back a finish.
type walk struct {
	*engine
	plan    *plan.Plan
	nodes   []*node // in the plan's order
	ready   []*node // sorted by id
	changes map[plan.Address]plan.Change

	begun      time.Time
	stopped    bool
	journalErr error // the journal cannot be written: nothing more may be begun

	results   map[plan.Address]plan.Attrs
	secrets   map[plan.Address]string
	completed map[plan.Address]bool
}

// finish is how an operation ended.
type finish struct {
	node    *node
	result  plan.Result
	err     error
	stopped bool  // given up because of Stop or the context
	journal error // the journal could not be written
}

// newWalk checks that the plan keeps the rules a graph must keep, before anything is begun.
func newWalk(e *engine, p *plan.Plan) (*walk, error) {
	bad := func(format string, args ...any) error {
		return &plan.Error{
			Code: codePlan,
			Step: "check the plan of " + p.Stack,
			Got:  fmt.Sprintf(format, args...),
			Fix:  "make a new plan; when it happens again, it is a bug in mailform, please report it",
		}
	}
	if p.Stack != e.State.stack {
		return nil, bad("it is not of the stack %s", e.State.stack)
	}
	w := &walk{
		engine: e, plan: p,
		changes:   map[plan.Address]plan.Change{},
		results:   map[plan.Address]plan.Attrs{},
		secrets:   map[plan.Address]string{},
		completed: map[plan.Address]bool{},
	}
	for _, c := range p.Changes {
		w.changes[c.Address] = c
	}
	byID := map[string]*node{}
	for _, op := range p.Ops {
		switch {
		case op.ID == "" || byID[op.ID] != nil:
			return nil, bad("the operation id %q is empty or not unique", op.ID)
		case e.byName[op.Provider] == nil:
			return nil, bad("%s needs the provider %q, which is not there", op.ID, op.Provider)
		}
		n := &node{op: op, status: StatusNotBegun}
		byID[op.ID] = n
		w.nodes = append(w.nodes, n)
	}
	for _, n := range w.nodes {
		after := slices.Clone(n.op.After)
		slices.Sort(after)
		for _, id := range slices.Compact(after) {
			d := byID[id]
			if d == nil {
				return nil, bad("%s comes after %q, which is not there", n.op.ID, id)
			}
			d.dependents = append(d.dependents, n)
			n.waits++
		}
	}
	for _, n := range w.nodes {
		slices.SortFunc(n.dependents, byOpID)
		if n.waits == 0 {
			w.ready = append(w.ready, n)
		}
	}
	slices.SortFunc(w.ready, byOpID)
	if stuck := cycle(w.nodes, w.ready); stuck != "" {
		return nil, bad("operations wait for each other: %s", stuck)
	}
	return w, nil
}

func byOpID(a, b *node) int { return strings.Compare(a.op.ID, b.op.ID) }

// cycle names the operations that can never become ready, or "".
func cycle(nodes, ready []*node) string {
	waits := map[*node]int{}
	for _, n := range nodes {
		waits[n] = n.waits
	}
	queue := slices.Clone(ready)
	for i := 0; i < len(queue); i++ {
		for _, d := range queue[i].dependents {
			if waits[d]--; waits[d] == 0 {
				queue = append(queue, d)
			}
		}
	}
	var stuck []string
	for _, n := range nodes {
		if waits[n] > 0 {
			stuck = append(stuck, n.op.ID)
		}
	}
	return strings.Join(stuck, ", ")
}

// run walks the graph. On return nothing is running.
func (w *walk) run(ctx context.Context) {
	w.begun = w.now()
	// Generations are those of the start: an operation's token does not depend on
	// which of its siblings happened to finish before it.
	for _, n := range w.nodes {
		n.generation = w.State.generation(n.op.Addresses)
	}
	w.emit(Event{Kind: EventStart, Time: w.begun, Total: int64(len(w.nodes)), Estimate: w.plan.Duration(w.Parallelism, w.State.durations.typical), Ops: w.plan.Ops})

	soft, cancel := w.stoppable(ctx)
	defer cancel()
	defer w.Leases.whenLost(cancel)()
	finished := make(chan finish)
	running := 0
	asked := soft.Done()
	for {
		for w.mayBegin(soft) && running < w.Parallelism && len(w.ready) > 0 {
			n := w.ready[0]
			w.ready = w.ready[1:]
			op, err := w.prepare(n)
			if err != nil {
				w.settleNode(finish{node: n, err: err})
				continue
			}
			running++
			go func() { finished <- w.execute(ctx, soft, n, op) }()
		}
		if running == 0 {
			break
		}
		select {
		case f := <-finished:
			running--
			w.settleNode(f)
		case <-asked:
			asked = nil
			if lost := w.Leases.Err(); lost != nil {
				w.emit(Event{Kind: EventWarning, Message: lost.Error() + "; what is in flight is finished, nothing more is begun", Err: lost, Stopping: true})
			} else if ctx.Err() == nil {
				w.emit(Event{Kind: EventWarning, Message: "stopping: what is in flight is finished first; asked again, it is given up", Stopping: true})
			}
		}
	}
}

// mayBegin reports whether further operations may be begun.
func (w *walk) mayBegin(soft context.Context) bool {
	w.stopped = w.stopped || w.stopping(soft)
	return !w.stopped && w.journalErr == nil
}

// prepare announces an operation and puts known values in place of references.
func (w *walk) prepare(n *node) (plan.Op, error) {
	n.begun = w.now()
	ev := opEvent(EventBegin, n.op)
	ev.Time, ev.Estimate = n.begun, w.State.durations.typical(n.op)
	w.emit(ev)
	op := n.op
	op.Inputs = op.Inputs.Resolve(func(r plan.Ref) (plan.Value, bool) { return w.operand(op, r) })
	if open := op.Inputs.Refs(); len(open) > 0 {
		return op, &plan.Error{
			Code: codeUnresolved,
			Step: step(op),
			Got:  fmt.Sprintf("it needs %s, which neither the observation nor an earlier step gave", open[0]),
			Fix:  "run the same command again: what was made meanwhile is then observed",
		}
	}
	if g, ok := w.State.again(op); ok {
		n.generation = g
	}
	return op, nil
}

// operand looks a reference up for an operation. Of an object that is being
// replaced, the old one's outputs are only for the operations that replace it.
func (w *walk) operand(op plan.Op, r plan.Ref) (plan.Value, bool) {
	if v := w.results[r.Address][r.Attr]; !v.IsNull() {
		return v, true
	}
	c := w.changes[r.Address]
	if c.Action == plan.Replace && !slices.Contains(op.Addresses, r.Address) {
		return plan.Value{}, false
	}
	v := c.Outputs[r.Attr]
	return v, !v.IsNull()
}

// output is operand for values that are to be remembered.
func (w *walk) output(r plan.Ref) (plan.Value, bool) { return w.operand(plan.Op{}, r) }

// settleNode takes in how an operation ended.
func (w *walk) settleNode(f finish) {
	n := f.node
	n.elapsed = w.now().Sub(n.begun)
	collect(w.secrets, f.result.Secrets)
	if f.journal != nil {
		w.journalErr = f.journal
	}
	ev := opEvent(EventDone, n.op)
	ev.Elapsed = n.elapsed
	if f.err != nil {
		n.err = f.err
		n.status = StatusFailed
		ev.Kind, ev.Err, ev.Message = EventFailed, f.err, f.err.Error()
		if f.stopped {
			n.status, w.stopped = StatusStopped, true
			ev.Kind = EventStopped
		}
		w.emit(ev)
		if n.status == StatusFailed {
			w.skip(n, n.op)
		}
		return
	}
	n.status = StatusDone
	for a, attrs := range f.result.Outputs {
		if w.results[a] == nil {
			w.results[a] = plan.Attrs{}
		}
		maps.Copy(w.results[a], attrs)
	}
	w.emit(ev)
	for _, d := range n.dependents {
		if d.waits--; d.waits == 0 && d.status == StatusNotBegun {
			at, _ := slices.BinarySearchFunc(w.ready, d, byOpID)
			w.ready = slices.Insert(w.ready, at, d)
		}
	}
}

// skip marks everything that needs n, and says because of what.
func (w *walk) skip(n *node, cause plan.Op) {
	for _, d := range n.dependents {
		if d.status != StatusNotBegun {
			continue
		}
		d.status, d.because = StatusSkipped, cause.ID
		ev := opEvent(EventSkipped, d.op)
		ev.Message = fmt.Sprintf("needs %q, which failed", step(cause))
		w.emit(ev)
		w.skip(d, cause)
	}
}

// step is how a person reads which operation it is.
func step(op plan.Op) string {
	title := op.Title
	if title == "" {
		title = op.ID
	}
	if len(op.Addresses) == 0 {
		return title
	}
	return title + " " + string(op.Addresses[0])
}

// execute carries one operation out, as often as its failures deserve.
// Nothing here touches the walk.
func (w *walk) execute(ctx, soft context.Context, n *node, op plan.Op) finish {
	if op.ReadOnly {
		return w.look(soft, n, op)
	}
	return w.effect(ctx, soft, n, op)
}

// look does an operation that only reads or waits.
func (w *walk) look(soft context.Context, n *node, op plan.Op) finish {
	f := finish{node: n}
	p := w.byName[op.Provider]
	token := Token(w.plan.Stack, op, n.generation)
	f.err = w.read(soft, op.Provider, opEvent(EventRetry, op), func(ctx context.Context) (err error) {
		f.result, err = w.do(ctx, p, op, token)
		return err
	})
	f.stopped = f.err != nil && w.stopping(soft)
	return f
}

// maxRenewals bounds how many spent tokens in a row are stepped over: a lost
// ledger forgets the generation, and vendors remember tokens for a day or so.
const maxRenewals = 32

// effect does an operation that changes the world, between a begin and its end
// in the journal. Only waits obey soft; an effect under way is cut by ctx alone.
func (w *walk) effect(ctx, soft context.Context, n *node, op plan.Op) finish {
	f := finish{node: n}
	p := w.byName[op.Provider]
	about := opEvent(EventRetry, op)
	r := record{ID: op.ID, Generation: n.generation}
	write := func(kind recordKind, spent bool) error {
		r.Kind, r.Time, r.Plan, r.Op, r.Outputs, r.Spent = kind, w.now(), "", nil, nil, spent
		switch kind {
		case recBegin:
			r.Plan, r.Op = w.Approved, &op
		case recDone:
			r.Outputs = f.result.Outputs
		}
		return w.State.write(r)
	}
	renewals := 0
	for attempt := 1; ; attempt++ {
		// Waiting for the token bucket is not being in flight.
		err := w.admit(soft, op.Provider)
		if err == nil {
			err = w.Leases.Err() // the last look before the effect
		}
		if err != nil {
			f.err, f.stopped = err, true
			if r.Token != "" {
				f.journal = write(recAborted, false)
			}
			return f
		}
		if r.Token == "" {
			r.Token = Token(w.plan.Stack, op, r.Generation)
			if f.journal = write(recBegin, false); f.journal != nil {
				f.err = f.journal
				return f
			}
		}
		f.result, f.err = w.do(ctx, p, op, r.Token)
		class := plan.ClassOf(f.err)
		next := remedyFor(class, false)
		if f.err != nil && ctx.Err() != nil && !harmless(class) {
			f.stopped = true // whatever came back, nobody waited for it: the next run asks
			return f
		}
		if f.err != nil && next == ask {
			next = w.inquire(ctx, soft, op, r.Token, &f)
		}
		switch {
		case f.err == nil:
			f.journal = write(recDone, false)
			return f
		case next == renew:
			if f.journal = write(recAborted, true); f.journal != nil {
				return f
			}
			if renewals++; renewals > maxRenewals {
				return f
			}
			r.Generation++
			r.Token = ""
			attempt--
			continue
		case next == tryAgain && w.pause(soft, about, f.err, attempt):
			continue
		}
		switch {
		case harmless(class) || next == tryAgain:
			f.journal = write(recAborted, false)
		case class != plan.ErrAmbiguous:
			f.journal = write(recFailed, false)
		}
		f.stopped = w.stopping(soft) && next != giveUp
		return f
	}
}

// inquire finds out what became of an operation whose answer was lost. It leaves
// the result in f when it took effect and says to try again when it did not.
// When the provider cannot tell even after a while, the begin stays open and the
// next run's observation decides.
func (w *walk) inquire(ctx, soft context.Context, op plan.Op, token plan.Token, f *finish) remedy {
	lost := f.err
	ev := opEvent(EventResolved, op)
	for attempt := 1; ; attempt++ {
		verdict, result, err := w.resolve(ctx, op, token)
		switch verdict {
		case plan.Done:
			f.result, f.err = result, nil
			ev.Message = "the answer was lost, but it had been done"
			w.emit(ev)
			return giveUp
		case plan.NotDone:
			ev.Message = "the answer was lost and it had not been done"
			w.emit(ev)
			return tryAgain
		}
		if err == nil {
			err = lost
		}
		if ctx.Err() == nil && w.pause(soft, opEvent(EventRetry, op), err, attempt) {
			continue
		}
		f.err = &plan.Error{
			Class: plan.ErrAmbiguous,
			Code:  codeUndecided,
			Step:  step(op),
			Got:   fmt.Sprintf("no usable answer came back (%v), and whether it was done cannot be found out now", lost),
			Fix:   "run the same command again: it looks first and repeats only what is missing",
			Err:   lost,
		}
		f.stopped = w.stopping(soft)
		return ask
	}
}

// do calls the provider once. Progress is passed on only while the call lasts.
func (w *walk) do(ctx context.Context, p plan.Provider, op plan.Op, token plan.Token) (result plan.Result, err error) {
	report, stop := w.progress(op)
	defer stop()
	err = guard(op.Provider, step(op), func() (err error) {
		result, err = p.Do(ctx, op, token, report)
		return err
	})
	return result, err
}

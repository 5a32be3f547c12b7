package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/plan"
)

// Status says what became of an operation.
type Status string

// The statuses.
const (
	StatusDone     Status = "done"
	StatusFailed   Status = "failed"
	StatusSkipped  Status = "skipped"   // something it needs failed
	StatusStopped  Status = "stopped"   // begun, and given up because the person said stop
	StatusNotBegun Status = "not begun" // the run was stopped before its turn
)

// OpOutcome is what became of one operation.
type OpOutcome struct {
	ID        string
	Title     string
	Addresses []plan.Address
	Status    Status
	Elapsed   time.Duration
	Err       error  // with failed and stopped
	Because   string // with skipped: the id of the operation that failed
}

// Outcome is what a run brought about, also when it ended with an error.
type Outcome struct {
	Ops       []OpOutcome    // in the plan's order
	Completed []plan.Address // changes whose every operation is done, sorted
	Remaining []plan.Address // changes that are not, sorted; blocked ones are not counted
	Outputs   map[plan.Address]plan.Attrs
	// Secrets are first passwords by mailbox address, to be shown once. They are
	// nowhere else: not in the journal, the ledger or an event.
	Secrets map[plan.Address]string
}

// Count returns how many operations have that status.
func (o Outcome) Count(s Status) int {
	n := 0
	for _, op := range o.Ops {
		if op.Status == s {
			n++
		}
	}
	return n
}

// Run executes a plan. The error is a *plan.Error that says which step failed,
// what is done already and how to go on; its class is that of the failure when
// it decides the exit code (credentials, throttled), plan.ErrInterrupted after
// Stop or a cancelled context, and plan.ErrIncomplete otherwise. The Outcome is
// valid in every case. Run returns when nothing it started is running any more.
func Run(ctx context.Context, c Config, p *plan.Plan) (Outcome, error) {
	e, err := newEngine(c)
	if err != nil {
		return Outcome{}, err
	}
	w, err := newWalk(e, p)
	if err != nil {
		return Outcome{}, err
	}
	w.run(ctx)
	out := w.outcome()
	complete := out.Count(StatusDone) == len(out.Ops)
	// The ledger is a cache and the journal stays when it cannot be compacted:
	// neither makes a finished run a failed one.
	w.warn(e.State.settle(w, complete))
	w.warn(e.State.remember(w))
	if complete && e.Approved != "" {
		w.warn(e.State.dropApproved())
	}
	err = w.verdict(out)
	w.emit(Event{Kind: EventEnd, Elapsed: w.now().Sub(w.begun), Done: int64(out.Count(StatusDone)), Total: int64(len(out.Ops)), Err: err})
	return out, err
}

// outcome sums up a finished walk and notes which changes are complete.
func (w *walk) outcome() Outcome {
	out := Outcome{Outputs: w.results, Secrets: w.secrets}
	pending := map[plan.Address]bool{} // address: an operation of it is not done
	touched := map[plan.Address]bool{}
	for _, n := range w.nodes {
		out.Ops = append(out.Ops, OpOutcome{
			ID: n.op.ID, Title: n.op.Title, Addresses: n.op.Addresses,
			Status: n.status, Elapsed: n.elapsed, Err: n.err, Because: n.because,
		})
		for _, a := range n.op.Addresses {
			touched[a] = true
			if n.status != StatusDone {
				pending[a] = true
			}
		}
	}
	for _, c := range w.plan.Changes {
		if !c.Pending() {
			continue
		}
		if touched[c.Address] && !pending[c.Address] {
			w.completed[c.Address] = true
			out.Completed = append(out.Completed, c.Address)
		} else {
			out.Remaining = append(out.Remaining, c.Address)
		}
	}
	slices.Sort(out.Completed)
	slices.Sort(out.Remaining)
	return out
}

// verdict makes the run's final error.
func (w *walk) verdict(out Outcome) error {
	done, total := out.Count(StatusDone), len(out.Ops)
	if done == total {
		return nil
	}
	state := fmt.Sprintf("%d of %d steps are done", done, total)
	const again = "running the same command again continues with what is left"

	var failed []OpOutcome
	for _, op := range out.Ops {
		if op.Status == StatusFailed {
			failed = append(failed, op)
		}
	}
	if len(failed) == 0 && w.journalErr != nil {
		// Everything begun went well, but its end could not be written down.
		failed = append(failed, OpOutcome{ID: "journal", Err: w.journalErr})
	}
	if lost := w.lostLease(); lost != nil && len(failed) == 0 {
		lost.Got += "; " + state
		return lost
	}
	if len(failed) == 0 {
		verb := "apply "
		if w.plan.Destroy {
			verb = "destroy "
		}
		return &plan.Error{
			Class: plan.ErrInterrupted, Code: codeStopped,
			Step: verb + w.plan.Stack, Got: "stopped; " + state, Fix: again,
			Err: context.Canceled,
		}
	}
	final := &plan.Error{Class: w.class(failed), Code: codeIncomplete}
	first := failed[0]
	var cause *plan.Error
	if len(failed) == 1 && errors.As(first.Err, &cause) {
		final.Code, final.Step, final.Sent, final.Got, final.RetryAfter = cause.Code, cause.Step, cause.Sent, cause.Got, cause.RetryAfter
		if final.Got == "" && cause.Err != nil {
			final.Got = cause.Err.Error()
		}
		final.Fix = advice(cause.Fix, state, again)
		final.Err = first.Err
		return final
	}
	final.Step = "apply " + w.plan.Stack
	final.Got = fmt.Sprintf("%d failed", len(failed))
	if skipped := out.Count(StatusSkipped); skipped > 0 {
		final.Got += fmt.Sprintf(", %d need what failed", skipped)
	}
	if len(failed) == 1 {
		final.Got += fmt.Sprintf(" (%s: %v)", first.ID, first.Err)
	}
	final.Fix = fmt.Sprintf("%s; once the cause is removed, %s", state, again)
	errs := make([]error, len(failed))
	for i, op := range failed {
		errs[i] = op.Err
	}
	final.Err = errors.Join(errs...)
	return final
}

// advice joins what the failure says to do with how far the run came, and does not
// say twice to run the same command again.
func advice(fix, state, again string) string {
	switch {
	case fix == "":
		return state + ", " + again
	case strings.Contains(strings.ToLower(fix), "same command again"):
		return strings.TrimSuffix(fix, ".") + "; " + state
	}
	return strings.TrimSuffix(fix, ".") + "; " + state + ", " + again
}

// class says what kind of ending it is: the person's own stop first, then what a
// person has to act on, then what time heals.
func (w *walk) class(failed []OpOutcome) plan.ErrorClass {
	if w.stopped && w.lostLease() == nil {
		return plan.ErrInterrupted
	}
	throttled := 0
	for _, op := range failed {
		switch plan.ClassOf(op.Err) {
		case plan.ErrCredentials:
			return plan.ErrCredentials
		case plan.ErrThrottled:
			throttled++
		}
	}
	if throttled == len(failed) {
		return plan.ErrThrottled
	}
	return plan.ErrIncomplete
}

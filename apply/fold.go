package apply

import (
	"context"
	"fmt"

	"mailform/plan"
)

// Folded is what Fold found out about operations that an earlier run began and
// did not finish.
type Folded struct {
	Done      []string // ids of operations that had taken effect
	NotDone   []string // ids of those that certainly had not
	Undecided []string // ids of those the observation has to decide about
	// Secrets are first passwords that the interrupted run could not show.
	Secrets map[plan.Address]string
}

// Fold settles what an interrupted run left open: for every operation begun and
// not ended it asks the provider, by machine, whether it took effect, and makes
// the answer durable. Where the provider cannot tell, or cannot be asked, the
// observation that follows decides. Fold runs before Observe, under the lock.
func Fold(ctx context.Context, c Config) (Folded, error) {
	e, err := newEngine(c)
	if err != nil {
		return Folded{}, err
	}
	ctx, cancel := e.stoppable(ctx)
	defer cancel()
	folded := Folded{Secrets: map[plan.Address]string{}}
	for _, o := range e.State.open() {
		about := opEvent(EventResolved, o.op)
		verdict, result, err := e.resolve(ctx, o.op, o.token)
		if ctx.Err() != nil {
			return folded, ctx.Err()
		}
		switch verdict {
		case plan.Done:
			folded.Done = append(folded.Done, o.op.ID)
			collect(folded.Secrets, result.Secrets)
			about.Message = "an earlier run had done it"
			err = e.State.write(record{Kind: recDone, Time: e.now(), ID: o.op.ID, Token: o.token, Generation: o.generation, Outputs: result.Outputs})
		case plan.NotDone:
			folded.NotDone = append(folded.NotDone, o.op.ID)
			about.Message = "an earlier run had begun it, but it did not happen"
			// A refusal may be replayed for as long as the token is remembered
			// (Alibaba's NoStock): the next try needs a new one.
			err = e.State.write(record{Kind: recAborted, Time: e.now(), ID: o.op.ID, Token: o.token, Generation: o.generation, Spent: o.failed})
		default:
			folded.Undecided = append(folded.Undecided, o.op.ID)
			about.Message = "an earlier run had begun it; what became of it will be seen"
			if err != nil {
				about.Message += fmt.Sprintf(" (%v)", err)
				if plan.ClassOf(err) == plan.ErrCredentials {
					return folded, err
				}
			}
			err = nil
		}
		if err != nil {
			return folded, err
		}
		e.emit(about)
	}
	return folded, nil
}

// resolve asks a provider once whether an operation took effect.
func (e *engine) resolve(ctx context.Context, op plan.Op, token plan.Token) (plan.Verdict, plan.Result, error) {
	p := e.byName[op.Provider]
	if p == nil {
		return plan.Undecidable, plan.Result{}, fmt.Errorf("the provider %q is not there", op.Provider)
	}
	verdict, result := plan.Undecidable, plan.Result{}
	about := opEvent(EventRetry, op)
	err := e.read(ctx, op.Provider, about, func(ctx context.Context) (err error) {
		verdict, result, err = p.Resolve(ctx, op, token)
		return err
	})
	if err != nil || (verdict != plan.Done && verdict != plan.NotDone) {
		return plan.Undecidable, plan.Result{}, err
	}
	return verdict, result, nil
}

func opEvent(kind EventKind, op plan.Op) Event {
	return Event{Kind: kind, Op: op.ID, Provider: op.Provider, Title: op.Title, Addresses: op.Addresses}
}

func collect(into, secrets map[plan.Address]string) {
	for a, s := range secrets {
		into[a] = s
	}
}

package apply

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"mailform/plan"
)

// remedy is what to do about a failure.
type remedy uint8

const (
	giveUp   remedy = iota // it will not get better by itself
	tryAgain               // it certainly had no effect
	ask                    // it may have had its effect: Resolve knows
	renew                  // the token is spent: the same again under the next generation
)

// remedyFor is the one place where the class of an error decides about retries.
func remedyFor(class plan.ErrorClass, readOnly bool) remedy {
	switch class {
	case plan.ErrTransient, plan.ErrThrottled:
		return tryAgain
	case plan.ErrAmbiguous:
		if readOnly {
			return tryAgain
		}
		return ask
	case plan.ErrSpentToken:
		if readOnly {
			return giveUp
		}
		return renew
	}
	return giveUp
}

// harmless reports whether an error of this class promises that nothing
// happened. A fatal one promises nothing: it may come from reading the answer.
func harmless(class plan.ErrorClass) bool {
	switch class {
	case plan.ErrTransient, plan.ErrThrottled, plan.ErrCredentials, plan.ErrSpentToken:
		return true
	}
	return false
}

// wait returns how long to wait after the attempt-th failure (from 1), and false
// when the outside system wants more patience than we have.
func (r Retry) wait(err error, attempt int) (time.Duration, bool) {
	d := r.Max
	if shift := attempt - 1; shift < 32 && r.Base<<shift > 0 {
		d = min(r.Max, r.Base<<shift)
	}
	// Half is fixed and half is chance, so that callers who failed together do not return together.
	jitter := time.Duration(r.Rand() * float64(d/2))
	var pe *plan.Error
	if errors.As(err, &pe) && pe.RetryAfter > 0 {
		// Never earlier than we were told.
		return pe.RetryAfter + jitter/4, pe.RetryAfter <= r.Patience
	}
	return d/2 + jitter, true
}

// pause announces and waits out a retry. It reports false when there are no
// attempts or no patience left, or the wait was cut short.
func (e *engine) pause(ctx context.Context, about Event, err error, attempt int) bool {
	if attempt >= e.Retry.Attempts || ctx.Err() != nil {
		return false
	}
	wait, patient := e.Retry.wait(err, attempt)
	if !patient {
		return false
	}
	about.Kind, about.Attempt, about.Wait, about.Err, about.Message = EventRetry, attempt, wait, err, err.Error()
	e.emit(about)
	return e.Sleep(ctx, wait) == nil
}

// read makes a call that has no effect outside, as often as its failures deserve.
func (e *engine) read(ctx context.Context, provider string, about Event, call func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		if err := e.admit(ctx, provider); err != nil {
			return err
		}
		err := guard(provider, about.Op, func() error { return call(ctx) })
		if err == nil || remedyFor(plan.ClassOf(err), true) != tryAgain {
			return err
		}
		if !e.pause(ctx, about, err, attempt) {
			return err
		}
	}
}

// PanicError is a panic of a provider, caught so that it spoils one operation
// and not the run. Its stack is for a bug report.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// guard turns a panic of call into an error that names the provider and what it was doing.
func guard(provider, doing string, call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &plan.Error{
				Code: codePanic,
				Step: doing,
				Got:  fmt.Sprintf("the provider %s panicked: %v", provider, v),
				Fix:  "this is a bug in mailform, please report it; running the same command again is safe",
				Err:  &PanicError{Value: v, Stack: debug.Stack()},
			}
		}
	}()
	return call()
}

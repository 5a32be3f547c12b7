package main

import (
	"context"
	"errors"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
)

// The exit codes, in one table. Scripts and CI rely on them; they never change meaning.
const (
	exitOK          = 0   // nothing to do, or done
	exitError       = 1   // something else failed
	exitChanges     = 2   // plan --detailed-exitcode: changes pending
	exitDrift       = 3   // drift: the world differs from the spec; fmt --check: a file is not formatted
	exitSpec        = 4   // the spec is invalid
	exitBlocked     = 5   // protection or a conflict stopped a change
	exitStale       = 6   // the saved plan no longer fits the world
	exitLocked      = 7   // somebody else is applying
	exitIncomplete  = 8   // not everything was applied; the same command continues
	exitCredentials = 9   // credentials are missing, wrong or not permitted
	exitRateLimited = 10  // a vendor refused more calls for now
	exitInterrupted = 130 // ^C
)

// codeError carries an exit code that the error itself does not imply.
type codeError struct {
	code int
	err  error // nil when everything a person needs was printed already
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	var coded *codeError
	if errors.As(err, &coded) {
		return coded.code
	}
	var spec *session.SpecError
	if errors.As(err, &spec) {
		return exitSpec
	}
	switch plan.ClassOf(err) {
	case plan.ErrSpec:
		return exitSpec
	case plan.ErrBlocked:
		return exitBlocked
	case plan.ErrStale:
		return exitStale
	case plan.ErrLocked:
		return exitLocked
	case plan.ErrCredentials:
		return exitCredentials
	case plan.ErrThrottled:
		return exitRateLimited
	case plan.ErrIncomplete:
		return exitIncomplete
	case plan.ErrInterrupted:
		return exitInterrupted
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	return exitError
}

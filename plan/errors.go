package plan

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrorClass decides two things in one place each: whether apply tries again,
// and the exit code.
type ErrorClass string

// The classes of failure.
const (
	ErrFatal       ErrorClass = ""            // will not get better by itself
	ErrTransient   ErrorClass = "transient"   // certainly had no effect; may be tried again
	ErrAmbiguous   ErrorClass = "ambiguous"   // sent, no usable answer: Resolve decides
	ErrThrottled   ErrorClass = "throttled"   // rate limit; RetryAfter may say how long
	ErrCredentials ErrorClass = "credentials" // missing, wrong or not permitted
	ErrStale       ErrorClass = "stale"       // the world moved since the plan
	ErrLocked      ErrorClass = "locked"
	ErrBlocked     ErrorClass = "blocked" // protection or a conflict with something foreign
	ErrSpec        ErrorClass = "spec"

	// ErrSpentToken: the outside system has already used this token for something
	// that is gone or different, so the answer is not about this intent (Alibaba's
	// IdempotentParameterMismatch, or a replayed answer naming a released
	// resource). Nothing was done; apply asks again with the next generation's token.
	ErrSpentToken ErrorClass = "spent-token"

	// ErrIncomplete and ErrInterrupted are apply's own verdicts on a whole run:
	// some steps are not done, and running the same command again continues.
	ErrIncomplete  ErrorClass = "incomplete"
	ErrInterrupted ErrorClass = "interrupted"
)

// Error is a failure a person will read: which step, what was sent where, what
// came back, what to do. It never holds secrets.
type Error struct {
	Class      ErrorClass
	Code       string        // stable: "MF5101"
	Step       string        // what was being done, to what: "start instance host/mx1/instance"
	Sent       string        // "POST https://ecs.cn-hongkong.aliyuncs.com RunInstances"
	Got        string        // "403 Forbidden.RAM: User not authorized …" (request id included)
	Fix        string        // what to do now
	RetryAfter time.Duration // with ErrThrottled; 0 when unknown
	Err        error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Step)
	if e.Sent != "" {
		fmt.Fprintf(&b, ": %s", e.Sent)
	}
	if e.Got != "" {
		fmt.Fprintf(&b, ": %s", e.Got)
	} else if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of the first Error in err's chain, ErrFatal without one.
func ClassOf(err error) ErrorClass {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ErrFatal
}

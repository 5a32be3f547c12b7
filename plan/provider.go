package plan

import (
	"context"
	"time"

	"mailform/specs"
)

// Token makes one intent recognisable to an outside system: the same intent in
// the same generation gives the same token on any machine. At most 64 ASCII characters.
type Token string

// Verdict is what a provider found out about an operation whose answer was lost.
type Verdict string

// The verdicts.
const (
	Done        Verdict = "done"
	NotDone     Verdict = "not done"
	Undecidable Verdict = "unknown" // the next observation decides
)

// Result is what an operation brought about.
type Result struct {
	// Outputs by address: everything later operations may refer to. Never secret.
	Outputs map[Address]Attrs `json:"outputs,omitempty"`
	// Secrets are shown to the person once and never stored: first passwords by mailbox address.
	Secrets map[Address]string `json:"-"`
}

// Scope is what a provider is asked to observe.
type Scope struct {
	Stack   string
	Desired []Resource // this provider's declared resources
	// Known gives the outputs of objects that providers named in After have observed.
	Known func(Ref) (Value, bool)
}

// Progress reports how an operation is getting on, such as "instance is Starting"
// or bytes uploaded. total is 0 when there is nothing to count.
type Progress func(message string, done, total int64)

// Provider is one outside system. Declare and Compile are pure. Do has at most
// one outside effect and may be called again with the same token. Resolve finds
// out by machine whether an interrupted Do took effect; a provider cannot be
// written without it.
type Provider interface {
	Name() string
	// After names the providers whose objects must be observed first.
	After() []string
	Declare(*specs.Spec) ([]Resource, specs.Diagnostics)
	Observe(context.Context, Scope) (Observed, error)
	// Compile turns this provider's changes (all of them, NoOps and blocked ones
	// included, which it must leave as they are) into operations.
	Compile([]Change) []Op
	Do(context.Context, Op, Token, Progress) (Result, error)
	Resolve(context.Context, Op, Token) (Verdict, Result, error)
}

// Merger is a provider that can join a wanted resource with an unmarked object
// in the same slot instead of reporting a conflict: an SPF record that another
// service is already in. Once applied the object is ours and Merge is not asked
// again: Observe must then report it so that it equals the plain wish, or the
// next plan would take out what was joined.
type Merger interface {
	// Merge returns the joined wish and true, or false when the two conflict.
	Merge(Resource, Object) (Resource, bool)
}

// Scheduling is what there is to say about time between observing and comparing.
type Scheduling struct {
	Now      time.Time
	Desired  []Resource // of all providers
	Observed []Object   // of all providers
	Renew    []string   // addresses or globs that are to be made anew, see Input.Replace
	Destroy  bool
}

// Scheduler is a provider whose wishes depend on what was found and on the time:
// keys that follow each other. It keeps no state. What is to come next follows from
// the world alone, so that it may be asked at any interval and after any crash.
type Scheduler interface {
	// Schedule returns the wishes and the objects as they are to be compared, and those
	// of the patterns in Renew that it has seen to. It is pure.
	Schedule(Scheduling) (desired []Resource, observed []Object, renewed []string, diags specs.Diagnostics)
}

// Price is what one thing costs while it exists, before taxes.
type Price struct {
	Address  Address `json:"address"`        // of what costs it
	Monthly  float64 `json:"monthly"`        // for 730 hours
	Before   float64 `json:"before"`         // what it costs now, for 730 hours; 0 for what is made
	Currency string  `json:"currency"`       // ISO 4217: "CNY"
	Note     string  `json:"note,omitempty"` // what is not in it, for people
}

// Pricer is a provider that knows what its things cost. Prices are shown beside
// a plan and are no part of it: the same plan stays the same plan when they move.
type Pricer interface {
	// Price asks for the prices of what the changes make or make larger. It only
	// reads, and answers nothing for changes that cost nothing.
	Price(context.Context, []Change) ([]Price, error)
}

// Checker is a provider that can find out beforehand that an outside system would
// refuse what a plan does: there is no room for it.
type Checker interface {
	// Check looks at the operations of a plan, those of other providers included. It
	// only reads. Its error, of class ErrBlocked, says why the plan cannot be carried
	// out; what it cannot find out is none.
	Check(context.Context, []Op) error
}

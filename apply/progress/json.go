package progress

import (
	"encoding/json"
	"errors"
	"io"
	"time"

	"mailform/apply"
	"mailform/plan"
)

// JSONVersion is the version of the objects that JSON writes. Fields may be
// added under the same version; none changes its meaning or goes away.
const JSONVersion = 1

// JSONEvent is one line of `mailform apply --json` and `mailform destroy --json`.
// Keys that do not apply are left out.
//
//	{"v":1,"kind":"done","time":"2026-01-02T03:04:05Z","op":"alicloud.RunInstances host/mx1/instance",
//	 "provider":"alicloud","title":"start the instance","addresses":["host/mx1/instance"],"elapsed_ms":12345}
type JSONEvent struct {
	V         int             `json:"v"`                    // 1
	Kind      apply.EventKind `json:"kind"`                 // what happened
	Time      time.Time       `json:"time"`                 // RFC 3339, UTC
	Op        string          `json:"op,omitempty"`         // the operation's id in the plan
	Provider  string          `json:"provider,omitempty"`   // whose operation it is
	Title     string          `json:"title,omitempty"`      // for people
	Addresses []plan.Address  `json:"addresses,omitempty"`  // what it is about
	Message   string          `json:"message,omitempty"`    // for people
	ElapsedMS *int64          `json:"elapsed_ms,omitempty"` // with observed, done, failed, stopped and end: how long it took
	// How long the operation typically takes, with begin; all of them, with start.
	EstimateMS int64 `json:"estimate_ms,omitempty"`
	// How many operations (with end), objects (observed) or units of the provider's,
	// such as bytes (progress).
	Done *int64 `json:"done,omitempty"`
	// Of how many operations (with start and end) or units (progress, unless unknown).
	Total   *int64     `json:"total,omitempty"`
	Attempt int        `json:"attempt,omitempty"` // with retry: which one failed, from 1
	WaitMS  int64      `json:"wait_ms,omitempty"` // with retry: until the next attempt
	Error   *JSONError `json:"error,omitempty"`   // with failed, stopped, retry, warning and an end that is one

	Advice *plan.Advice `json:"advice,omitempty"` // with advice
}

// JSONError is an error in the JSON output.
type JSONError struct {
	Message string          `json:"message"`         // all of it on one line, for people
	Class   plan.ErrorClass `json:"class,omitempty"` // decides the exit code; left out when trying again would not help
	Code    string          `json:"code,omitempty"`  // stable: "MF5101"
	Step    string          `json:"step,omitempty"`  // what was being done, to what
	Sent    string          `json:"sent,omitempty"`  // what was sent where
	Got     string          `json:"got,omitempty"`   // what came back
	Fix     string          `json:"fix,omitempty"`   // what to do now
}

// JSON writes one JSONEvent per line.
type JSON struct {
	w   io.Writer
	err error
}

// NewJSON returns a JSON that writes to w.
func NewJSON(w io.Writer) *JSON { return &JSON{w: w} }

// Event writes one event. It is an apply.Sink.
func (j *JSON) Event(e apply.Event) {
	if j.err != nil {
		return
	}
	out := JSONEvent{
		V: JSONVersion, Kind: e.Kind, Time: e.Time.UTC(),
		Op: e.Op, Provider: e.Provider, Title: e.Title, Addresses: e.Addresses, Message: e.Message,
		EstimateMS: e.Estimate.Milliseconds(), Attempt: e.Attempt, WaitMS: e.Wait.Milliseconds(),
		Error: jsonError(e.Err), Advice: e.Advice,
	}
	switch e.Kind {
	case apply.EventObserved, apply.EventDone, apply.EventFailed, apply.EventStopped, apply.EventEnd:
		ms := e.Elapsed.Milliseconds()
		out.ElapsedMS = &ms
	}
	switch e.Kind {
	case apply.EventObserved:
		out.Done = &e.Done
	case apply.EventProgress:
		if e.Total > 0 {
			out.Done, out.Total = &e.Done, &e.Total
		} else if e.Done > 0 {
			out.Done = &e.Done
		}
	case apply.EventStart:
		out.Total = &e.Total
	case apply.EventEnd:
		out.Done, out.Total = &e.Done, &e.Total
	}
	enc := json.NewEncoder(j.w)
	enc.SetEscapeHTML(false)
	j.err = enc.Encode(out)
}

// Close reports the first failed write.
func (j *JSON) Close() error { return j.err }

func jsonError(err error) *JSONError {
	if err == nil {
		return nil
	}
	out := &JSONError{Message: err.Error(), Class: plan.ClassOf(err)}
	var pe *plan.Error
	if errors.As(err, &pe) {
		out.Code, out.Step, out.Sent, out.Got, out.Fix = pe.Code, pe.Step, pe.Sent, pe.Got, pe.Fix
	}
	return out
}

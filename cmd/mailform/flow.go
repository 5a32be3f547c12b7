package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/apply"
	"mailform/plan"
)

// mailFlow measures how long it takes from the beginning of an apply until mail
// flows on machines that it met for the first time: until their ports have
// answered, and other servers are told of them.
type mailFlow struct {
	start, flows time.Time
	met          bool // a machine for the first time
}

// watch passes events on and takes note of them.
func (f *mailFlow) watch(sink apply.Sink) apply.Sink {
	return func(e apply.Event) {
		switch {
		case e.Kind == apply.EventStart:
			f.start = e.Time
		case e.Kind != apply.EventDone:
		case strings.HasPrefix(e.Op, "host.Connect "):
			f.met = true
		case strings.HasPrefix(e.Op, "host.Verify "), slices.ContainsFunc(e.Addresses, isMX):
			f.flows = e.Time
		}
		sink(e)
	}
}

func isMX(a plan.Address) bool {
	s := a.Segments()
	return len(s) == 3 && s[0] == "dns" && s[2] == "mx"
}

// text is "Mail flows after 3m12s.", "" when there was no first time.
func (f *mailFlow) text() string {
	if !f.met || f.start.IsZero() || f.flows.IsZero() {
		return ""
	}
	return fmt.Sprintf("Mail flows after %s.", f.flows.Sub(f.start).Round(time.Second))
}

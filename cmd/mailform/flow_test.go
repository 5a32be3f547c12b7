package main

import (
	"testing"
	"time"

	"mailform/apply"
	"mailform/plan"
)

// Only a first contact has a time until mail flows, and it ends when the last of
// the ports' check and the MX record is there.
func TestMailFlow(t *testing.T) {
	start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	events := func(kinds ...string) *mailFlow {
		f := &mailFlow{}
		sink := f.watch(func(apply.Event) {})
		sink(apply.Event{Kind: apply.EventStart, Time: start})
		for i, op := range kinds {
			e := apply.Event{Kind: apply.EventDone, Op: op, Time: start.Add(time.Duration(i+1) * 64 * time.Second)}
			if op == "mx" {
				e.Addresses = []plan.Address{"dns/acme.example/mx", "dns/acme.example/spf"}
			}
			sink(e)
		}
		return f
	}
	for want, f := range map[string]*mailFlow{
		"Mail flows after 3m12s.": events("host.Connect host/mx1/agent", "host.Verify server/mx1", "mx", "cloudflare.Other"),
		"Mail flows after 2m8s.":  events("host.Connect host/mx1/agent", "host.Verify server/mx1"),
	} {
		if got := f.text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, f := range []*mailFlow{events("host.Verify server/mx1", "mx"), events("host.Connect host/mx1/agent"), {}} {
		if got := f.text(); got != "" {
			t.Error(got)
		}
	}
}

package host

import (
	"fmt"
	"testing"

	"mailform/providers/host/hostsim"
	"mailform/specs"
)

// A stack of 5,000 mailboxes is read and planned with the same number of
// commands as one of two.
func TestFiveThousandMailboxes(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	before := l.commands(spec)
	for i := range 5000 {
		spec.Domains[0].Mailboxes = append(spec.Domains[0].Mailboxes, &specs.Mailbox{Local: fmt.Sprintf("user%04d", i), PasswordHash: canaryHash})
	}
	r := l.converge(spec)
	if got := len(r.plan.Ops); got != 1 {
		t.Errorf("%d operations", got)
	}
	l.mustSettle(spec)
	if after := l.commands(spec); after != before {
		t.Errorf("%d commands to observe 5,002 mailboxes, %d for 2", after, before)
	}
}

// commands counts what one observation takes.
func (l *lab) commands(spec *specs.Spec) int {
	l.t.Helper()
	p := l.provider(spec)
	desired, _ := p.Declare(spec)
	o, err := p.Observe(l.t.Context(), scopeOf(desired))
	if err != nil {
		l.t.Fatal(err)
	}
	return o.Calls
}

package host

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/specs"
)

// These tests let something go wrong in the middle of a change, and look whether
// running the same command again ends it.

// windows is what became of each.
type windows struct {
	l     *lab
	spec  *specs.Spec
	turn  int
	agent string // another version to install meanwhile; "" for none
	lines []string
}

// open makes a change during which something happens. arm prepares it and returns
// what puts an end to it, before the same change is made again.
func (w *windows) open(name string, arm func() (mend func())) {
	l := w.l
	l.t.Helper()
	w.next()
	mend := arm()
	p := w.provider()
	r, err := l.plan(p, w.spec, nil)
	if err == nil {
		err = r.apply()
	}
	p.Close()
	mend()
	first := "it succeeded"
	var e *plan.Error
	switch {
	case errors.As(err, &e):
		text := strings.Join(strings.Fields(e.Got), " ")
		if text == "" && e.Err != nil {
			text = e.Err.Error()
		}
		first = e.Code + " " + text[max(0, len(text)-90):]
	case err != nil:
		first = err.Error()
	}
	start := time.Now()
	p = w.provider()
	if r, err = l.plan(p, w.spec, nil); err == nil {
		err = r.apply()
	}
	if err != nil {
		l.t.Fatalf("%s: run again: %v\n%s", name, err, l.log())
	}
	took := time.Since(start)
	if r, err = l.plan(p, w.spec, nil); err != nil {
		l.t.Fatalf("%s: look again: %v", name, err)
	} else if left := r.pending(); len(left) > 0 {
		l.t.Fatalf("%s: %q are left", name, left)
	}
	w.lines = append(w.lines, fmt.Sprintf("%s\t%s\tconverges in %s", name, first, took.Round(10*time.Millisecond)))
}

func (w *windows) provider() *Provider {
	p := w.l.provider(w.spec)
	if w.agent != "" {
		p.Agents = agentFile(w.agent)
	}
	return p
}

// next changes a mailbox and what the server takes.
func (w *windows) next() {
	w.turn++
	w.spec.Domains[0].Mailboxes[1].QuotaBytes = int64(5+w.turn%2) << 30
	w.spec.Server.MaxMessageBytes = int64(20+w.turn%2) << 20
}

func (w *windows) print() {
	w.l.t.Helper()
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "window\tthe run\trun again")
	for _, line := range w.lines {
		fmt.Fprintln(tw, line)
	}
	tw.Flush()
	w.l.t.Log("\n" + b.String())
}

// TestCutAtEveryMessage cuts the connection at each message of the commands that
// change something on a simulated host: asked, heard, each line that they say, and
// their end.
func TestCutAtEveryMessage(t *testing.T) {
	var mu sync.Mutex
	at, seen, converges := 0, 0, 0
	l := newLab(t, hostsim.Config{Watch: func(s hostsim.Step) bool {
		if onlyReads(s.Command) {
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		seen++
		if strings.HasSuffix(s.Command, " converge") {
			converges++
		}
		return seen != at
	}})
	set := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		was := seen
		at, seen = n, 0
		return was
	}
	w := &windows{l: l, spec: l.spec()}
	l.converge(w.spec)
	set(0)
	converges = 0
	w.next()
	l.converge(w.spec)
	total := set(0)
	t.Logf("%d messages, %d of them converge's", total, converges)
	if converges < 20 {
		t.Fatal("too few")
	}
	for n := 1; n <= total; n++ {
		w.open(fmt.Sprintf("cut at message %d of %d", n, total), func() func() {
			set(n)
			return func() { set(0) }
		})
	}
	w.print()
}

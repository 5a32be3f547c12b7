package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
)

// op makes an operation of the provider "cloud" at an address of the same name.
func op(id string, after ...string) plan.Op {
	return plan.Op{ID: id, Provider: "cloud", Kind: "create", Title: "make", Addresses: []plan.Address{plan.Address(id)}, After: after}
}

// planOf makes a plan that creates what its operations name.
func planOf(ops ...plan.Op) *plan.Plan {
	p := &plan.Plan{Stack: "test", Ops: ops}
	seen := map[plan.Address]bool{}
	for _, o := range ops {
		for _, a := range o.Addresses {
			if !seen[a] {
				seen[a] = true
				p.Changes = append(p.Changes, plan.Change{Address: a, Provider: o.Provider, Action: plan.Create})
			}
		}
	}
	return p
}

func statuses(o Outcome) string {
	var s []string
	for _, op := range o.Ops {
		s = append(s, op.ID+":"+string(op.Status))
	}
	return strings.Join(s, " ")
}

func TestOrderIsThatOfTheGraph(t *testing.T) {
	cloud := &fake{name: "cloud"}
	b := newBench(t, cloud)
	out, err := b.run(context.Background(), planOf(op("a", "z"), op("b", "a"), op("c", "a", "b"), op("z")))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.world.effects, " "); got != "z a b c" {
		t.Errorf("order %q", got)
	}
	if want := []plan.Address{"a", "b", "c", "z"}; !slices.Equal(out.Completed, want) || len(out.Remaining) != 0 {
		t.Errorf("completed %v, remaining %v", out.Completed, out.Remaining)
	}
	if end := b.events.of(EventEnd); len(end) != 1 || end[0].Done != 4 || end[0].Total != 4 {
		t.Errorf("end %+v", end)
	}
}

func TestIndependentOperationsRunTogetherUpToTheLimit(t *testing.T) {
	const limit = 3
	var mu sync.Mutex
	running, most := 0, 0
	full := make(chan struct{})
	cloud := &fake{name: "cloud", do: func(context.Context, plan.Op, plan.Token, plan.Progress) (plan.Result, error) {
		mu.Lock()
		running++
		if most = max(most, running); running == limit {
			close(full) // only once: later there are never three waiting
		}
		mu.Unlock()
		<-full
		mu.Lock()
		running--
		mu.Unlock()
		return plan.Result{}, nil
	}}
	b := newBench(t, cloud)
	b.config.Parallelism = limit
	// Three that must meet, then one at a time behind them.
	ops := []plan.Op{op("a"), op("b"), op("c"), op("d", "a", "b", "c"), op("e", "d")}
	if _, err := b.run(context.Background(), planOf(ops...)); err != nil {
		t.Fatal(err)
	}
	if most != limit {
		t.Errorf("at most %d at a time, want %d", most, limit)
	}
}

func TestFailureSkipsOnlyDependents(t *testing.T) {
	cloud := &fake{name: "cloud", faults: map[string][]fault{
		"b": {{err: &plan.Error{Step: "make b", Sent: "POST /b", Got: "403 no", Fix: "ask for it", Code: "MF5101"}}},
	}}
	b := newBench(t, cloud)
	out, err := b.run(context.Background(), planOf(op("a"), op("b"), op("c", "b"), op("d", "c"), op("e", "a")))
	if got := statuses(out); got != "a:done b:failed c:skipped d:skipped e:done" {
		t.Errorf("%s", got)
	}
	for _, o := range out.Ops[2:4] {
		if o.Because != "b" {
			t.Errorf("%s was skipped because of %q", o.ID, o.Because)
		}
	}
	if skipped := b.events.of(EventSkipped); len(skipped) != 2 || !strings.Contains(skipped[1].Message, "make b") {
		t.Errorf("skipped events %+v", skipped)
	}
	if !slices.Equal(out.Remaining, []plan.Address{"b", "c", "d"}) {
		t.Errorf("remaining %v", out.Remaining)
	}
	var pe *plan.Error
	if !errors.As(err, &pe) {
		t.Fatalf("error %v", err)
	}
	if pe.Class != plan.ErrIncomplete || pe.Step != "make b" || pe.Sent != "POST /b" || pe.Got != "403 no" || pe.Code != "MF5101" {
		t.Errorf("final error %+v", pe)
	}
	for _, want := range []string{"ask for it", "2 of 5 steps are done", "running the same command again continues"} {
		if !strings.Contains(pe.Fix, want) {
			t.Errorf("fix %q does not say %q", pe.Fix, want)
		}
	}
}

// TestErrorClasses holds what each class leads to: how many calls, which waits,
// which class the whole run ends with.
func TestErrorClasses(t *testing.T) {
	e := func(c plan.ErrorClass) error { return &plan.Error{Class: c, Step: "make a", Got: string(c)} }
	times := func(n int, f fault) []fault { return slices.Repeat([]fault{f}, n) }
	throttled := &plan.Error{Class: plan.ErrThrottled, RetryAfter: 90 * time.Second}
	patience := &plan.Error{Class: plan.ErrThrottled, RetryAfter: time.Hour}
	s := time.Second
	for name, c := range map[string]struct {
		faults   []fault
		verdicts []plan.Verdict
		class    plan.ErrorClass // of the run; "" when it succeeds
		calls    int
		resolves int
		waits    []time.Duration
		tokens   int // distinct ones
		open     bool
	}{
		"transient heals":    {faults: times(2, fault{err: e(plan.ErrTransient)}), calls: 3, waits: []time.Duration{s / 2, s}, tokens: 1},
		"transient for good": {faults: times(9, fault{err: e(plan.ErrTransient)}), class: plan.ErrIncomplete, calls: 6, waits: []time.Duration{s / 2, s, 2 * s, 4 * s, 8 * s}, tokens: 1},
		"throttled obeys":    {faults: times(1, fault{err: throttled}), calls: 2, waits: []time.Duration{90 * s}, tokens: 1},
		"throttled for long": {faults: times(1, fault{err: patience}), class: plan.ErrThrottled, calls: 1, tokens: 1},
		"throttled, no hint": {faults: times(1, fault{err: e(plan.ErrThrottled)}), calls: 2, waits: []time.Duration{s / 2}, tokens: 1},
		"fatal":              {faults: times(1, fault{err: e(plan.ErrFatal)}), class: plan.ErrIncomplete, calls: 1, tokens: 1, open: true},
		"untyped":            {faults: times(1, fault{err: errors.New("what")}), class: plan.ErrIncomplete, calls: 1, tokens: 1, open: true},
		"credentials":        {faults: times(1, fault{err: e(plan.ErrCredentials)}), class: plan.ErrCredentials, calls: 1, tokens: 1},
		"spent token":        {faults: times(3, fault{err: e(plan.ErrSpentToken)}), calls: 4, tokens: 4},
		"ambiguous, done":    {faults: times(1, fault{err: e(plan.ErrAmbiguous), after: true}), calls: 1, resolves: 1, tokens: 1},
		"ambiguous, not done": {faults: times(1, fault{err: e(plan.ErrAmbiguous)}), verdicts: []plan.Verdict{plan.NotDone},
			calls: 2, resolves: 1, waits: []time.Duration{s / 2}, tokens: 1},
		"ambiguous, visible later": {faults: times(1, fault{err: e(plan.ErrAmbiguous), after: true}), verdicts: []plan.Verdict{plan.Undecidable, plan.Undecidable},
			calls: 1, resolves: 3, waits: []time.Duration{s / 2, s}, tokens: 1},
		"ambiguous for good": {faults: times(1, fault{err: e(plan.ErrAmbiguous)}), verdicts: slices.Repeat([]plan.Verdict{plan.Undecidable}, 9),
			class: plan.ErrIncomplete, calls: 1, resolves: 6, waits: []time.Duration{s / 2, s, 2 * s, 4 * s, 8 * s}, tokens: 1, open: true},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := &fake{name: "cloud", faults: map[string][]fault{"a": c.faults}, verdicts: c.verdicts}
			b := newBench(t, cloud)
			b.config.State = b.open()
			defer b.config.State.Close()
			_, err := Run(context.Background(), b.config, planOf(op("a")))
			if (err != nil) != (c.class != "") || plan.ClassOf(err) != c.class {
				t.Errorf("error %v of class %q, want class %q", err, plan.ClassOf(err), c.class)
			}
			if got := len(cloud.tokensOf["a"]); got != c.calls {
				t.Errorf("%d calls, want %d", got, c.calls)
			}
			distinct := slices.Compact(slices.Sorted(slices.Values(cloud.tokensOf["a"])))
			if len(distinct) != c.tokens {
				t.Errorf("%d tokens, want %d", len(distinct), c.tokens)
			}
			if len(cloud.resolves) != c.resolves {
				t.Errorf("%d times resolved, want %d", len(cloud.resolves), c.resolves)
			}
			if !slices.Equal(b.waits, c.waits) {
				t.Errorf("waits %v, want %v", b.waits, c.waits)
			}
			if got := len(b.config.State.Unfinished()) == 1; got != c.open {
				t.Errorf("left open: %v, want %v", got, c.open)
			}
			if err == nil && len(b.world.objects) != 1 {
				t.Errorf("%d objects were made", len(b.world.objects))
			}
		})
	}
}

func TestIntentIsDurableBeforeTheEffect(t *testing.T) {
	var b *bench
	cloud := &fake{name: "cloud"}
	cloud.do = func(_ context.Context, op plan.Op, token plan.Token, _ plan.Progress) (plan.Result, error) {
		b.disk.mu.Lock()
		defer b.disk.mu.Unlock()
		found, _, _, err := parseJournal(b.disk.durable["/stack/.mailform/journal"].synced)
		if err != nil || len(found.open) != 1 || !found.open[0].is(op.ID, token) {
			t.Errorf("when %s was done the disk held %+v, %v", op.ID, found.open, err)
		}
		return plan.Result{}, nil
	}
	b = newBench(t, cloud)
	if _, err := b.run(context.Background(), planOf(op("a"), op("b", "a"))); err != nil {
		t.Fatal(err)
	}
}

func TestReferencesAreResolved(t *testing.T) {
	seen := map[string]string{}
	var mu sync.Mutex
	cloud := &fake{name: "cloud"}
	cloud.do = func(_ context.Context, op plan.Op, _ plan.Token, _ plan.Progress) (plan.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		seen[op.ID] = op.Inputs["v"].String()
		return plan.Result{Outputs: map[plan.Address]plan.Attrs{op.Addresses[0]: {"id": plan.String("new")}}}, nil
	}
	use := func(id string, after []string, on plan.Address) plan.Op {
		o := op(id, after...)
		o.Inputs = plan.Attrs{"v": plan.Concat(plan.String("id="), plan.Unknown(on, "id"))}
		return o
	}
	old := plan.Attrs{"id": plan.String("old")}
	p := planOf(op("made"), use("m", []string{"made"}, "made"), use("o", nil, "observed"), use("r", nil, "replaced"), use("own", nil, "replaced"))
	p.Ops[4].Addresses = []plan.Address{"replaced"}
	p.Changes = append(p.Changes,
		plan.Change{Address: "observed", Action: plan.NoOp, Outputs: old},
		plan.Change{Address: "replaced", Action: plan.Replace, Outputs: old})
	b := newBench(t, cloud)
	b.config.Parallelism = 1
	out, err := b.run(context.Background(), p)
	if got := statuses(out); got != "made:done m:done o:done r:done own:done" {
		t.Errorf("%s, %v", got, err)
	}
	// "own" replaces the object and so sees the old one; "r", after it, sees the new one.
	for id, want := range map[string]string{"m": `"id=new"`, "o": `"id=old"`, "own": `"id=old"`, "r": `"id=new"`} {
		if seen[id] != want {
			t.Errorf("%s was given %s, want %s", id, seen[id], want)
		}
	}

	// As long as nothing gives the new one, the old one does not stand in for it.
	p = planOf(use("r", nil, "replaced"))
	p.Changes = append(p.Changes, plan.Change{Address: "replaced", Action: plan.Replace, Outputs: old})
	b = newBench(t, cloud)
	out, err = b.run(context.Background(), p)
	if got := statuses(out); got != "r:failed" || !strings.Contains(err.Error(), "replaced.id") {
		t.Errorf("%s, %v", got, err)
	}

	b = newBench(t, cloud)
	out, err = b.run(context.Background(), planOf(use("a", nil, "nowhere"), op("b", "a")))
	if got := statuses(out); got != "a:failed b:skipped" || !strings.Contains(err.Error(), "nowhere.id") {
		t.Errorf("%s, %v", got, err)
	}
}

func TestPanicOfAProviderSpoilsOneOperation(t *testing.T) {
	cloud := &fake{name: "cloud", faults: map[string][]fault{"a": {{panic: "boom"}}}}
	b := newBench(t, cloud)
	out, err := b.run(context.Background(), planOf(op("a"), op("b"), op("c", "a")))
	if got := statuses(out); got != "a:failed b:done c:skipped" {
		t.Errorf("%s", got)
	}
	var p *PanicError
	if !errors.As(err, &p) || !strings.Contains(string(p.Stack), "fake") {
		t.Errorf("no stack in %v", err)
	}
	for _, want := range []string{"cloud", "boom", "make a"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}

func TestStopFinishesWhatIsInFlight(t *testing.T) {
	stop := make(chan struct{})
	waiting := make(chan struct{})
	cloud := &fake{name: "cloud"}
	cloud.do = func(ctx context.Context, op plan.Op, _ plan.Token, _ plan.Progress) (plan.Result, error) {
		switch op.ID {
		case "a": // an effect, in flight when the person says stop
			<-waiting
			close(stop)
			return plan.Result{}, ctx.Err()
		case "w": // a wait is given up at once
			close(waiting)
			<-ctx.Done()
			return plan.Result{}, ctx.Err()
		}
		t.Errorf("%s was begun after the stop", op.ID)
		return plan.Result{}, nil
	}
	b := newBench(t, cloud)
	b.config.Stop = stop
	w := op("w")
	w.ReadOnly = true
	destroy := planOf(op("a"), op("b", "a"), w)
	destroy.Destroy = true
	out, err := b.run(context.Background(), destroy)
	if got := statuses(out); got != "a:done b:not begun w:stopped" {
		t.Errorf("%s", got)
	}
	if plan.ClassOf(err) != plan.ErrInterrupted || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 of 3 steps are done") {
		t.Errorf("error %v", err)
	}
	if e := new(plan.Error); !errors.As(err, &e) || e.Step != "destroy test" {
		t.Errorf("it was %q", e.Step)
	}
	if left := b.open().Unfinished(); len(left) != 0 {
		t.Errorf("unfinished %v", left)
	}
}

func TestStopEndsAWaitForARetry(t *testing.T) {
	stop := make(chan struct{})
	cloud := &fake{name: "cloud", faults: map[string][]fault{"a": slices.Repeat([]fault{{err: &plan.Error{Class: plan.ErrTransient}}}, 5)}}
	b := newBench(t, cloud)
	b.config.Stop = stop
	b.config.Sleep = func(ctx context.Context, _ time.Duration) error {
		close(stop)
		<-ctx.Done()
		return ctx.Err()
	}
	out, err := b.run(context.Background(), planOf(op("a")))
	if got := statuses(out); got != "a:stopped" || plan.ClassOf(err) != plan.ErrInterrupted {
		t.Errorf("%s, %v", got, err)
	}
}

func TestCancelLeavesTheIntentForTheNextRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cloud := &fake{name: "cloud"}
	cloud.do = func(ctx context.Context, op plan.Op, token plan.Token, _ plan.Progress) (plan.Result, error) {
		cloud.world.effect(cloud, op, token)
		cancel()
		return plan.Result{}, fmt.Errorf("read the answer: %w", ctx.Err())
	}
	b := newBench(t, cloud)
	out, err := b.run(ctx, planOf(op("a"), op("b", "a")))
	if got := statuses(out); got != "a:stopped b:not begun" || plan.ClassOf(err) != plan.ErrInterrupted {
		t.Errorf("%s, %v", got, err)
	}

	b.config.State = b.open()
	defer b.config.State.Close()
	folded, err := Fold(context.Background(), b.config)
	if err != nil || !slices.Equal(folded.Done, []string{"a"}) {
		t.Errorf("folded %+v, %v", folded, err)
	}
	if r := b.events.of(EventResolved); len(r) != 1 || r[0].Op != "a" {
		t.Errorf("resolved events %+v", r)
	}
	if left := b.config.State.Unfinished(); len(left) != 0 {
		t.Errorf("still unfinished %v", left)
	}
}

func TestRefusalRenewsTheToken(t *testing.T) {
	cloud := &fake{name: "cloud", faults: map[string][]fault{"a": {{err: &plan.Error{Got: "NoStock"}}}}}
	b := newBench(t, cloud)
	b.run(context.Background(), planOf(op("a")))
	b.config.State = b.open()
	defer b.config.State.Close()
	if f, err := Fold(context.Background(), b.config); err != nil || !slices.Equal(f.NotDone, []string{"a"}) {
		t.Fatalf("folded %+v, %v", f, err)
	}
	if _, err := Run(context.Background(), b.config, planOf(op("a"))); err != nil {
		t.Fatal(err)
	}
	if ts := cloud.tokensOf["a"]; len(ts) != 2 || ts[0] == ts[1] {
		t.Errorf("tokens %v: a refused token is replayed", ts)
	}
}

func TestFoldKeepsWhatNobodyKnows(t *testing.T) {
	cloud := &fake{name: "cloud", cannot: true, faults: map[string][]fault{"a": {{err: errors.New("?")}}}}
	b := newBench(t, cloud)
	b.run(context.Background(), planOf(op("a")))
	b.config.State = b.open()
	defer b.config.State.Close()
	f, err := Fold(context.Background(), b.config)
	if err != nil || !slices.Equal(f.Undecided, []string{"a"}) || len(b.config.State.Unfinished()) != 1 {
		t.Errorf("folded %+v, %v", f, err)
	}
	// A provider that the spec no longer uses cannot be asked, which is no reason to stop.
	b.config.Providers = nil
	if f, err := Fold(context.Background(), b.config); err != nil || !slices.Equal(f.Undecided, []string{"a"}) {
		t.Errorf("folded %+v, %v", f, err)
	}
}

func TestDiskFaults(t *testing.T) {
	full := errors.New("no space left on device")
	t.Run("before the effect", func(t *testing.T) {
		b := newBench(t, &fake{name: "cloud"})
		b.config.State = b.open()
		defer b.config.State.Close()
		b.disk.fail = func(op, name string) error {
			if op == "sync" && strings.Contains(name, journalName) {
				return full
			}
			return nil
		}
		out, err := Run(context.Background(), b.config, planOf(op("a"), op("b", "a")))
		if len(b.world.effects) != 0 {
			t.Errorf("effects without a durable intent: %v", b.world.effects)
		}
		if got := statuses(out); got != "a:failed b:skipped" || !errors.Is(err, full) {
			t.Errorf("%s, %v", got, err)
		}
	})
	t.Run("after the effect", func(t *testing.T) {
		b := newBench(t, &fake{name: "cloud"})
		b.config.State = b.open()
		b.config.Parallelism = 1
		syncs := 0
		b.disk.fail = func(op, name string) error {
			if op == "sync" && strings.Contains(name, journalName) {
				if syncs++; syncs >= 2 {
					return full
				}
			}
			return nil
		}
		out, err := Run(context.Background(), b.config, planOf(op("a"), op("b")))
		if got := statuses(out); got != "a:done b:not begun" {
			t.Errorf("%s", got)
		}
		if !errors.Is(err, full) || plan.ClassOf(err) != plan.ErrIncomplete || !strings.Contains(err.(*plan.Error).Fix, "1 of 2") {
			t.Errorf("error %v", err)
		}
		// The failed fsync has lost the record of the end, as a power cut would.
		b.disk.fail = nil
		b.config.State.Close()
		b.disk.restart(b.fate, true)
		b.config.State = b.open()
		defer b.config.State.Close()
		if f, err := Fold(context.Background(), b.config); err != nil || !slices.Equal(f.Done, []string{"a"}) {
			t.Errorf("folded %+v, %v", f, err)
		}
	})
	t.Run("the ledger is only a cache", func(t *testing.T) {
		b := newBench(t, &fake{name: "cloud"})
		b.disk.fail = func(op, name string) error {
			if strings.Contains(name, ledgerName) && op != "open" {
				return fs.ErrPermission
			}
			return nil
		}
		if _, err := b.run(context.Background(), planOf(op("a"))); err != nil {
			t.Errorf("%v", err)
		}
		if w := b.events.of(EventWarning); len(w) != 1 || !strings.Contains(w[0].Message, "ledger") {
			t.Errorf("warnings %+v", w)
		}
	})
}

func TestSecretsAreHandedOverAndNowhereElse(t *testing.T) {
	const password = "correct horse battery staple"
	cloud := &fake{name: "cloud"}
	cloud.do = func(context.Context, plan.Op, plan.Token, plan.Progress) (plan.Result, error) {
		return plan.Result{Secrets: map[plan.Address]string{"mailbox/bob@x": password}}, nil
	}
	b := newBench(t, cloud)
	o := op("a")
	o.Inputs = plan.Attrs{"password": plan.Secret("fingerprint")}
	out, err := b.run(context.Background(), planOf(o))
	if err != nil || out.Secrets["mailbox/bob@x"] != password {
		t.Errorf("secrets %v, %v", out.Secrets, err)
	}
	events, err := json.Marshal(b.events.events)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{b.disk.read(journalName), b.disk.read(ledgerName), string(events)} {
		if strings.Contains(text, password) {
			t.Errorf("the password is in %s", text)
		}
	}
}

func TestBadPlansAreRefusedWhole(t *testing.T) {
	foreign := op("a")
	foreign.Provider = "elsewhere"
	other := planOf(op("a"))
	other.Stack = "other"
	for name, c := range map[string]struct {
		plan *plan.Plan
		says string
	}{
		"cycle":     {planOf(op("a", "b"), op("b", "a"), op("c")), "a, b"},
		"self":      {planOf(op("a", "a")), "wait for each other"},
		"dangling":  {planOf(op("a", "x")), `"x"`},
		"twice":     {planOf(op("a"), op("a")), "not unique"},
		"provider":  {planOf(foreign), "elsewhere"},
		"the stack": {other, "not of the stack"},
	} {
		b := newBench(t, &fake{name: "cloud"})
		if _, err := b.run(context.Background(), c.plan); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if len(b.world.effects) != 0 {
			t.Errorf("%s: %v", name, b.world.effects)
		}
	}
}

func TestTokenBucket(t *testing.T) {
	now := epoch
	var mu sync.Mutex
	b := newBench(t, &fake{name: "cloud"})
	b.config.Limits = map[string]Limit{"cloud": {PerSecond: 2, Burst: 1}}
	b.config.Parallelism = 1
	b.config.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	b.config.Sleep = func(_ context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
		return nil
	}
	if _, err := b.run(context.Background(), planOf(op("a"), op("b"), op("c"), op("d"))); err != nil {
		t.Fatal(err)
	}
	if took := now.Sub(epoch); took != 1500*time.Millisecond {
		t.Errorf("four calls at 2/s took %v of the clock, want 1.5s", took)
	}
}

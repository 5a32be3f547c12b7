package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
	"mailform/specs"
)

// epoch is when every test begins.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is what outside systems keep: it survives any crash.
type world struct {
	mu      sync.Mutex
	next    int
	objects []*thing
	tokens  map[plan.Token]*thing // what a token made, remembered for ever
	effects []string              // in order
}

type thing struct {
	id       string
	address  plan.Address
	provider string
	attrs    plan.Attrs
	gone     bool
	unseen   int // observations that will not show it yet
}

func newWorld() *world { return &world{tokens: map[plan.Token]*thing{}} }

func (w *world) at(a plan.Address) *thing {
	for _, t := range w.objects {
		if t.address == a && !t.gone {
			return t
		}
	}
	return nil
}

// dump describes the world without ids, one object a line: duplicates and
// orphans show.
func (w *world) dump() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, t := range w.objects {
		if t.gone {
			continue
		}
		s := string(t.address)
		for _, n := range t.attrs.Names() {
			v := t.attrs[n].Str()
			if n == "ref" && w.byID(v) != nil {
				v = "id of " + string(w.byID(v).address)
			}
			s += fmt.Sprintf(" %s=%s", n, v)
		}
		lines = append(lines, s)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (w *world) byID(id string) *thing {
	for _, t := range w.objects {
		if t.id == id && !t.gone {
			return t
		}
	}
	return nil
}

// fault is one scripted failure of an operation.
type fault struct {
	err   error
	after bool // the effect happens before the failure
	panic any
}

// nth gives one call of all, counted from 1 over all providers, a fault.
type nth struct {
	mu            sync.Mutex
	calls, target int
	fault         fault
	op            string // which got it
}

func (n *nth) next(id string) fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.calls++; n.calls != n.target {
		return fault{}
	}
	n.op = id
	return n.fault
}

// fake is a provider over the world.
type fake struct {
	name  string
	after []string
	world *world
	fate  *fate

	tokens  bool // honours idempotency tokens, as Alibaba Cloud does
	lag     int  // observations that miss a new object
	cannot  bool // Resolve can never tell
	observe func(context.Context, plan.Scope) (plan.Observed, error)
	do      func(context.Context, plan.Op, plan.Token, plan.Progress) (plan.Result, error)

	nth *nth

	mu       sync.Mutex
	faults   map[string][]fault // by operation id, consumed from the front
	verdicts []plan.Verdict     // scripted answers of Resolve
	tokensOf map[string][]plan.Token
	resolves []string
}

func (f *fake) Name() string                                             { return f.name }
func (f *fake) After() []string                                          { return f.after }
func (f *fake) Declare(*specs.Spec) ([]plan.Resource, specs.Diagnostics) { return nil, nil }
func (f *fake) Compile([]plan.Change) []plan.Op                          { return nil }

func (f *fake) Observe(ctx context.Context, s plan.Scope) (plan.Observed, error) {
	if f.observe != nil {
		return f.observe(ctx, s)
	}
	if f.fate != nil && !f.fate.point("observe "+f.name) {
		return plan.Observed{}, errDead
	}
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	out := plan.Observed{Calls: 1}
	for _, t := range f.world.objects {
		if t.provider != f.name || t.gone {
			continue
		}
		if t.unseen > 0 {
			t.unseen--
			continue
		}
		out.Objects = append(out.Objects, plan.Object{
			Address: t.address, ID: t.id, Owner: plan.Ours, Attrs: t.attrs,
			Outputs: plan.Attrs{"id": plan.String(t.id)},
		})
	}
	return out, nil
}

func (f *fake) Do(ctx context.Context, op plan.Op, token plan.Token, report plan.Progress) (plan.Result, error) {
	f.mu.Lock()
	if f.tokensOf == nil {
		f.tokensOf = map[string][]plan.Token{}
	}
	f.tokensOf[op.ID] = append(f.tokensOf[op.ID], token)
	var now fault
	if q := f.faults[op.ID]; len(q) > 0 {
		now, f.faults[op.ID] = q[0], q[1:]
	}
	f.mu.Unlock()
	if f.nth != nil {
		now = f.nth.next(op.ID)
	}
	if f.do != nil {
		return f.do(ctx, op, token, report)
	}
	if f.fate != nil && !f.fate.point("before "+op.ID) {
		return plan.Result{}, errDead
	}
	if now.panic != nil {
		panic(now.panic)
	}
	if now.err != nil && !now.after {
		return plan.Result{}, now.err
	}
	result, err := f.world.effect(f, op, token)
	if f.fate != nil && !f.fate.point("after "+op.ID) {
		return plan.Result{}, errDead
	}
	if now.err != nil {
		return plan.Result{}, now.err
	}
	return result, err
}

// effect changes the world as the vendors do.
func (w *world) effect(f *fake, op plan.Op, token plan.Token) (plan.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := op.Addresses[0]
	if op.Kind == "wait" {
		w.at(a).unseen = 0
		return plan.Result{}, nil
	}
	w.effects = append(w.effects, op.ID)
	switch op.Kind {
	case "create":
		if t := w.tokens[token]; f.tokens && t != nil {
			if t.gone {
				return plan.Result{}, &plan.Error{Class: plan.ErrSpentToken, Step: op.Title, Got: "the token made " + t.id + ", which is gone"}
			}
			return outputs(t), nil
		}
		w.next++
		t := &thing{id: fmt.Sprintf("%s-%d", f.name, w.next), address: a, provider: f.name, attrs: op.Inputs, unseen: f.lag}
		w.objects = append(w.objects, t)
		w.tokens[token] = t
		return outputs(t), nil
	case "update":
		t := w.at(a)
		t.attrs = op.Inputs
		return outputs(t), nil
	case "delete":
		if t := w.byID(op.Inputs["id"].Str()); t != nil {
			t.gone = true
		}
	}
	return plan.Result{}, nil
}

func outputs(t *thing) plan.Result {
	return plan.Result{Outputs: map[plan.Address]plan.Attrs{t.address: {"id": plan.String(t.id)}}}
}

func (f *fake) Resolve(_ context.Context, op plan.Op, token plan.Token) (plan.Verdict, plan.Result, error) {
	f.mu.Lock()
	f.resolves = append(f.resolves, op.ID)
	if len(f.verdicts) > 0 {
		v := f.verdicts[0]
		f.verdicts = f.verdicts[1:]
		f.mu.Unlock()
		return v, plan.Result{}, nil
	}
	f.mu.Unlock()
	if f.fate != nil && !f.fate.point("resolve "+op.ID) {
		return "", plan.Result{}, errDead
	}
	if f.cannot {
		return plan.Undecidable, plan.Result{}, nil
	}
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	t := f.world.at(op.Addresses[0])
	done := false
	switch op.Kind {
	case "create":
		if t != nil && t.unseen > 0 {
			return plan.Undecidable, plan.Result{}, nil
		}
		done = t != nil
	case "update":
		done = t != nil && t.attrs["size"].Equal(op.Inputs["size"])
	case "delete":
		t = f.world.byID(op.Inputs["id"].Str())
		done = t == nil
	}
	if !done {
		return plan.NotDone, plan.Result{}, nil
	}
	if t == nil {
		return plan.Done, plan.Result{}, nil
	}
	return plan.Done, outputs(t), nil
}

// want is one wish of a test's "spec".
type want struct {
	address  plan.Address
	provider string
	size     string       // may be changed in place
	shape    string       // a change means delete and create again
	ref      plan.Address // its input "ref" is that one's id
}

// planFor is a small planner: wishes and what was observed to changes and operations.
func planFor(wants []want, observed []plan.Object) *plan.Plan {
	p := &plan.Plan{FormatVersion: 1, Stack: "test"}
	have := map[plan.Address]plan.Object{}
	for _, o := range observed {
		have[o.Address] = o
	}
	id := func(kind string, a plan.Address) string { return kind + " " + string(a) }
	made := map[plan.Address]string{} // address: operation that creates or updates it
	for _, w := range wants {
		o, exists := have[w.address]
		delete(have, w.address)
		attrs := plan.Attrs{"size": plan.String(w.size), "shape": plan.String(w.shape)}
		if w.ref != "" {
			attrs["ref"] = plan.Unknown(w.ref, "id")
		}
		c := plan.Change{Address: w.address, Provider: w.provider, After: attrs, ID: o.ID, Outputs: o.Outputs, Action: plan.NoOp}
		kind := ""
		switch {
		case !exists:
			kind, c.Action = "create", plan.Create
		case !o.Attrs["shape"].Equal(attrs["shape"]):
			kind, c.Action = "create", plan.Replace
		case !o.Attrs["size"].Equal(attrs["size"]):
			kind, c.Action = "update", plan.Update
		}
		p.Changes = append(p.Changes, c)
		if kind == "" {
			continue
		}
		made[w.address] = id(kind, w.address)
		op := plan.Op{ID: id(kind, w.address), Provider: w.provider, Kind: kind, Title: kind + " it", Addresses: []plan.Address{w.address}, Inputs: attrs}
		if c.Action == plan.Replace {
			p.Ops = append(p.Ops, deletion(o))
			op.After = append(op.After, id("delete", w.address))
		}
		if on := made[w.ref]; on != "" {
			op.After = append(op.After, on)
		}
		p.Ops = append(p.Ops, op)
		if kind == "create" {
			// As every provider whose reads lag must, it waits until what it made is listed.
			made[w.address] = id("wait", w.address)
			p.Ops = append(p.Ops, plan.Op{
				ID: id("wait", w.address), Provider: w.provider, Kind: "wait", Title: "wait for it", ReadOnly: true,
				Addresses: []plan.Address{w.address}, After: []string{op.ID},
			})
		}
	}
	for _, a := range slices.Sorted(maps.Keys(have)) {
		o := have[a]
		p.Changes = append(p.Changes, plan.Change{Address: a, Provider: o.Provider, Action: plan.Delete, ID: o.ID, Outputs: o.Outputs})
		p.Ops = append(p.Ops, deletion(o))
	}
	slices.SortFunc(p.Changes, func(a, b plan.Change) int { return strings.Compare(string(a.Address), string(b.Address)) })
	slices.SortFunc(p.Ops, func(a, b plan.Op) int { return strings.Compare(a.ID, b.ID) })
	return p
}

func deletion(o plan.Object) plan.Op {
	return plan.Op{
		ID: "delete " + string(o.Address), Provider: o.Provider, Kind: "delete", Title: "delete it",
		Addresses: []plan.Address{o.Address}, Inputs: plan.Attrs{"id": plan.String(o.ID)},
	}
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) sink(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) of(kind EventKind) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Event
	for _, e := range r.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// bench is one test's executor: a disk, a world, providers and a recorded clock.
type bench struct {
	t      *testing.T
	disk   *memFS
	world  *world
	fate   *fate
	events *recorder
	config Config

	mu    sync.Mutex
	waits []time.Duration
}

func newBench(t *testing.T, providers ...*fake) *bench {
	t.Helper()
	b := &bench{t: t, world: newWorld(), fate: &fate{}, events: &recorder{}}
	b.disk = newMemFS(b.fate)
	b.config = Config{
		Sink: b.events.sink,
		Now:  func() time.Time { return epoch },
		Sleep: func(ctx context.Context, d time.Duration) error {
			b.mu.Lock()
			b.waits = append(b.waits, d)
			b.mu.Unlock()
			return ctx.Err()
		},
		Retry: Retry{Rand: func() float64 { return 0 }},
	}
	for _, p := range providers {
		p.world, p.fate = b.world, b.fate
		b.config.Providers = append(b.config.Providers, p)
	}
	return b
}

// open opens the state directory or fails the test.
func (b *bench) open() *State {
	b.t.Helper()
	s, err := NewDir(b.disk, "/stack").Open("test", Holder{Who: "tester", PID: 1, Since: epoch})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// run opens, runs one plan and closes.
func (b *bench) run(ctx context.Context, p *plan.Plan) (Outcome, error) {
	b.t.Helper()
	b.config.State = b.open()
	defer b.config.State.Close()
	return Run(ctx, b.config, p)
}

// converge is a whole apply: lock, fold, observe, plan, run.
func (b *bench) converge(wants []want) (Outcome, error) {
	s, err := NewDir(b.disk, "/stack").Open("test", Holder{Who: "tester", PID: 1, Since: epoch})
	if err != nil {
		return Outcome{}, err
	}
	defer s.Close()
	c := b.config
	c.State = s
	if _, err := Fold(context.Background(), c); err != nil {
		return Outcome{}, err
	}
	observed, _, _, err := Observe(context.Background(), c, "test", nil)
	if err != nil {
		return Outcome{}, err
	}
	return Run(context.Background(), c, planFor(wants, observed))
}

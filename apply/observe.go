package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"mailform/plan"
)

// Stats says what an observation cost.
type Stats struct {
	Calls map[string]int // requests to the outside system, by provider
	Depth int            // longest chain of providers that had to wait for each other
}

// Total returns the number of requests to all systems.
func (s Stats) Total() int {
	n := 0
	for _, c := range s.Calls {
		n += c
	}
	return n
}

// observing is one provider's part in an observation.
type observing struct {
	provider plan.Provider
	after    []*observing // only those that take part
	depth    int
	done     chan struct{}

	observed plan.Observed
	err      error
	skipped  bool // one of after could not be read
}

// Observe reads the world through all providers: each as soon as those it names
// in After have been read, the others at the same time. desired holds the
// declared resources of all providers. Objects are sorted by address, then id.
// When a provider cannot be read the observation is an error, which names every
// provider that failed; those that had to wait for it are left out.
func Observe(ctx context.Context, c Config, stack string, desired []plan.Resource) ([]plan.Object, []plan.Foreign, Stats, error) {
	e, err := newEngine(c)
	if err != nil {
		return nil, nil, Stats{}, err
	}
	parts, err := e.waves()
	if err != nil {
		return nil, nil, Stats{}, err
	}
	wanted := map[string][]plan.Resource{}
	for _, r := range desired {
		if e.byName[r.Provider] == nil {
			return nil, nil, Stats{}, fmt.Errorf("observe: %s belongs to the provider %q, which is not there", r.Address, r.Provider)
		}
		wanted[r.Provider] = append(wanted[r.Provider], r)
	}

	ctx, cancel := e.stoppable(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, o := range parts {
		wg.Go(func() {
			defer close(o.done)
			for _, a := range o.after {
				<-a.done
				if a.err != nil || a.skipped {
					o.skipped = true
				}
			}
			if !o.skipped {
				o.observe(ctx, e, plan.Scope{Stack: stack, Desired: wanted[o.provider.Name()], Known: o.known()})
			}
		})
	}
	wg.Wait()

	stats := Stats{Calls: map[string]int{}}
	var objects []plan.Object
	var foreign []plan.Foreign
	var errs []error
	for _, o := range parts {
		stats.Depth = max(stats.Depth, o.depth)
		stats.Calls[o.provider.Name()] = o.observed.Calls
		objects = append(objects, o.observed.Objects...)
		foreign = append(foreign, o.observed.Foreign...)
		errs = append(errs, o.err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, stats, err
	}
	slices.SortStableFunc(objects, func(a, b plan.Object) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.ID, b.ID))
	})
	slices.SortStableFunc(foreign, func(a, b plan.Foreign) int { return cmp.Compare(a.Scope, b.Scope) })
	return objects, foreign, stats, nil
}

// waves links the providers by After and measures how deep the chains are.
func (e *engine) waves() ([]*observing, error) {
	byName := map[string]*observing{}
	var parts []*observing
	for _, p := range e.Providers {
		o := &observing{provider: p, done: make(chan struct{})}
		byName[p.Name()] = o
		parts = append(parts, o)
	}
	slices.SortFunc(parts, func(a, b *observing) int { return cmp.Compare(a.provider.Name(), b.provider.Name()) })
	for _, o := range parts {
		for _, name := range o.provider.After() {
			// A provider that this stack does not use has nothing to wait for.
			if a := byName[name]; a != nil && !slices.Contains(o.after, a) {
				o.after = append(o.after, a)
			}
		}
	}
	var visit func(o *observing, path []string) error
	visit = func(o *observing, path []string) error {
		name := o.provider.Name()
		if i := slices.Index(path, name); i >= 0 {
			return fmt.Errorf("observe: providers wait for each other: %s", strings.Join(append(path[i:], name), " → "))
		}
		if o.depth > 0 {
			return nil
		}
		depth := 1
		for _, a := range o.after {
			if err := visit(a, append(path, name)); err != nil {
				return err
			}
			depth = max(depth, a.depth+1)
		}
		o.depth = depth
		return nil
	}
	for _, o := range parts {
		if err := visit(o, nil); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

func (o *observing) observe(ctx context.Context, e *engine, scope plan.Scope) {
	name := o.provider.Name()
	about := Event{Op: "observe " + name, Provider: name, Title: "read " + name}
	begun := e.now()
	begin := about
	begin.Kind, begin.Time, begin.Message = EventObserve, begun, whereabouts(scope.Desired)
	e.emit(begin)
	err := e.read(ctx, name, about, func(ctx context.Context) error {
		observed, err := o.provider.Observe(ctx, scope)
		observed.Calls += o.observed.Calls // what failed attempts cost counts too
		o.observed = observed
		return err
	})
	if err == nil {
		err = o.check()
	}
	if err != nil {
		o.observed.Objects, o.observed.Foreign = nil, nil
		o.err = fmt.Errorf("observe %s: %w", name, err)
		return
	}
	about.Kind, about.Elapsed, about.Done = EventObserved, e.now().Sub(begun), int64(len(o.observed.Objects))
	e.emit(about)
}

// whereabouts names what a provider is read for: "host mx1, zone acme.example".
func whereabouts(desired []plan.Resource) string {
	const shown = 3
	var names []string
	for _, r := range desired {
		seg := r.Address.Segments()
		switch seg[0] {
		case "host", "zone", "cert", "server":
			if name := strings.Join(seg[:min(2, len(seg))], " "); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	if more := len(names) - shown; more > 0 {
		names = append(names[:shown], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// check holds the provider to its promises and fills in its name.
func (o *observing) check() error {
	name := o.provider.Name()
	for i := range o.observed.Objects {
		obj := &o.observed.Objects[i]
		if obj.Provider == "" {
			obj.Provider = name
		}
		if obj.Address == "" || obj.Provider != name {
			return &plan.Error{
				Code: codeProvider,
				Step: "check what was observed",
				Got:  fmt.Sprintf("an object with the address %q and the provider %q", obj.Address, obj.Provider),
				Fix:  "this is a bug in mailform, please report it",
			}
		}
	}
	return nil
}

// known gives the outputs of everything that the providers before this one,
// directly or not, have found.
func (o *observing) known() func(plan.Ref) (plan.Value, bool) {
	outputs := map[plan.Address]plan.Attrs{}
	seen := map[*observing]bool{}
	var gather func(*observing)
	gather = func(o *observing) {
		for _, a := range o.after {
			if seen[a] {
				continue
			}
			seen[a] = true
			for _, obj := range a.observed.Objects {
				if outputs[obj.Address] == nil {
					outputs[obj.Address] = obj.Outputs
				}
			}
			gather(a)
		}
	}
	gather(o)
	return func(r plan.Ref) (plan.Value, bool) {
		v := outputs[r.Address][r.Attr]
		return v, !v.IsNull()
	}
}

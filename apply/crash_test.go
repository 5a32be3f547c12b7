package apply

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailform/plan"
)

// stages are what a stack lives through: built, changed, destroyed and built again.
var stages = [][]want{
	{
		{address: "host/a/network", provider: "cloud", size: "1"},
		{address: "host/a/subnet", provider: "cloud", size: "1", ref: "host/a/network"},
		{address: "host/a/vm", provider: "cloud", size: "1", ref: "host/a/subnet"},
		{address: "dns/a/mx", provider: "dns", size: "1", ref: "host/a/vm"},
	},
	{
		{address: "host/a/network", provider: "cloud", size: "1"},
		{address: "host/a/subnet", provider: "cloud", size: "2", ref: "host/a/network"},
		{address: "host/a/vm", provider: "cloud", size: "1", shape: "big", ref: "host/a/subnet"},
		{address: "dns/a/spf", provider: "dns", size: "1"},
	},
	nil,
	{
		{address: "host/a/network", provider: "cloud", size: "1"},
		{address: "host/a/vm", provider: "cloud", size: "1", ref: "host/a/network"},
	},
}

// life runs all stages in a world whose first process dies at the target-th
// crash point, and returns the world after each stage, the number of points that
// were passed, and where the process died.
func life(t *testing.T, target int, setup func() *bench, powerCut bool) (dumps []string, passed int, where string) {
	t.Helper()
	b := setup()
	b.setFate(&fate{target: target})
	first := b.fate
	for i, wants := range stages {
		for attempt := 0; ; attempt++ {
			_, err := b.converge(wants)
			if !b.fate.alive() {
				b.setFate(&fate{})
				b.disk.restart(b.fate, powerCut)
				continue
			}
			if err == nil {
				break
			}
			if attempt == 3 {
				t.Fatalf("killed at %d (%s): stage %d does not converge: %v", target, first.where, i, err)
			}
		}
		dumps = append(dumps, b.world.dump())
	}
	return dumps, first.passed, first.where
}

func (b *bench) setFate(f *fate) {
	b.fate = f
	b.disk.fate = f
	for _, p := range b.config.Providers {
		p.(*fake).fate = f
	}
}

// crashWorlds are the outside systems that the enumerations run against.
func crashWorlds(t *testing.T) map[string]func() *bench {
	return map[string]func() *bench{
		"resolvable": func() *bench {
			return newBench(t, &fake{name: "cloud", tokens: true}, &fake{name: "dns", after: []string{"cloud"}})
		},
		// New objects are missed by the next observation, and Resolve cannot tell:
		// only the tokens stand between us and a second machine.
		"eventually consistent": func() *bench {
			return newBench(t, &fake{name: "cloud", tokens: true, lag: 1, cannot: true}, &fake{name: "dns", after: []string{"cloud"}})
		},
	}
}

// TestCrashEnumeration kills the process at every write, sync and rename of the
// state directory (also halfway through a write) and before and after every call
// to an outside system, once for each, runs the same command again and compares
// the world with the one of an uninterrupted life.
func TestCrashEnumeration(t *testing.T) {
	for name, world := range crashWorlds(t) {
		for _, powerCut := range []bool{false, true} {
			for _, parallelism := range []int{1, 4} {
				ending := map[bool]string{false: "kill", true: "power cut"}[powerCut]
				t.Run(fmt.Sprintf("%s, %s, %d at a time", name, ending, parallelism), func(t *testing.T) {
					setup := func() *bench {
						b := world()
						b.config.Parallelism = parallelism
						return b
					}
					reference, k, _ := life(t, 0, setup, powerCut)
					same := 0
					for target := 1; target <= k; target++ {
						dumps, _, where := life(t, target, setup, powerCut)
						ok := true
						for i := range stages {
							if dumps[i] != reference[i] {
								ok = false
								t.Errorf("killed at %d (%s): stage %d\n got:\n%s\n want:\n%s", target, where, i, indent(dumps[i]), indent(reference[i]))
								break
							}
						}
						if ok {
							same++
						}
					}
					t.Logf("crash points: %d/%d end in the world of an uninterrupted run", same, k)
				})
			}
		}
	}
}

// TestFaultEnumeration gives each call of a whole life each kind of failure. The
// same command, repeated while it fails, ends in the world of a faultless life.
func TestFaultEnumeration(t *testing.T) {
	e := func(c plan.ErrorClass) error { return &plan.Error{Class: c, Step: "call", Got: string(c)} }
	faults := map[string]fault{
		"reset before":      {err: e(plan.ErrTransient)},
		"429":               {err: &plan.Error{Class: plan.ErrThrottled, RetryAfter: 5}},
		"lost before":       {err: e(plan.ErrAmbiguous)},
		"lost after":        {err: e(plan.ErrAmbiguous), after: true},
		"refused":           {err: e(plan.ErrFatal)},
		"malformed answer":  {err: e(plan.ErrFatal), after: true},
		"untyped, after":    {err: errors.New("unexpected EOF"), after: true},
		"expired":           {err: e(plan.ErrCredentials)},
		"panic":             {panic: "nil map"},
		"token is spent":    {err: e(plan.ErrSpentToken)},
		"patience runs out": {err: &plan.Error{Class: plan.ErrThrottled, RetryAfter: 1 << 60}},
	}
	for name, world := range crashWorlds(t) {
		reference, _ := faultyLife(t, world(), &nth{})
		counter := &nth{}
		faultyLife(t, world(), counter)
		same, k := 0, counter.calls*len(faults)
		for kind, f := range faults {
			for target := 1; target <= counter.calls; target++ {
				n := &nth{target: target, fault: f}
				dumps, runs := faultyLife(t, world(), n)
				if slices.Equal(dumps, reference) {
					same++
					continue
				}
				t.Errorf("%s: %s at call %d (%s), %d runs:\n got:\n%s\n want:\n%s", name, kind, target, n.op, runs,
					indent(strings.Join(dumps, "\n--\n")), indent(strings.Join(reference, "\n--\n")))
			}
		}
		t.Logf("%s: faults: %d/%d end in the world of a faultless run", name, same, k)
	}
}

func faultyLife(t *testing.T, b *bench, n *nth) (dumps []string, runs int) {
	t.Helper()
	for _, p := range b.config.Providers {
		p.(*fake).nth = n
	}
	for i, wants := range stages {
		for attempt := 0; ; attempt++ {
			runs++
			out, err := b.converge(wants)
			if err == nil {
				break
			}
			if attempt == 3 {
				t.Fatalf("stage %d does not converge: %s: %v", i, statuses(out), err)
			}
		}
		dumps = append(dumps, b.world.dump())
	}
	return dumps, runs
}

// TestLostStateDirectory deletes .mailform between destroying and building again,
// so that the old tokens come up once more.
func TestLostStateDirectory(t *testing.T) {
	b := newBench(t, &fake{name: "cloud", tokens: true}, &fake{name: "dns"})
	for i, wants := range [][]want{stages[0], nil, stages[0], nil, stages[0]} {
		if _, err := b.converge(wants); err != nil {
			t.Fatalf("stage %d: %v", i, err)
		}
		b.disk.current, b.disk.durable = map[string]*inode{}, map[string]*inode{}
	}
	if got := strings.Count(b.world.dump(), "\n") + 1; got != len(stages[0]) {
		t.Errorf("%d objects, want %d:\n%s", got, len(stages[0]), b.world.dump())
	}
}

func indent(s string) string { return "    " + strings.ReplaceAll(s, "\n", "\n    ") }

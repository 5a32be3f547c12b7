package apply

import (
	"fmt"
	"strings"
	"testing"
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
		{address: "host/a/vm", provider: "cloud", size: "1", ref: "host/a/subnet"},
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
		// A finished run has waited until what it made can be seen.
		for _, o := range b.world.objects {
			o.unseen = 0
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

// TestCrashEnumeration kills the process at every write, sync and rename of the
// state directory (also halfway through a write) and before and after every call
// to an outside system, once for each, runs the same command again and compares
// the world with the one of an uninterrupted life.
func TestCrashEnumeration(t *testing.T) {
	worlds := []struct {
		name  string
		setup func() *bench
	}{
		{"resolvable", func() *bench {
			return newBench(t, &fake{name: "cloud", tokens: true}, &fake{name: "dns", after: []string{"cloud"}})
		}},
		// New objects are missed by the first observation, and Resolve cannot tell:
		// only the tokens stand between us and a second machine.
		{"eventually consistent", func() *bench {
			return newBench(t, &fake{name: "cloud", tokens: true, lag: 1, cannot: true}, &fake{name: "dns", after: []string{"cloud"}})
		}},
	}
	for _, w := range worlds {
		for _, powerCut := range []bool{false, true} {
			for _, parallelism := range []int{1, 4} {
				ending := map[bool]string{false: "kill", true: "power cut"}[powerCut]
				t.Run(fmt.Sprintf("%s, %s, %d at a time", w.name, ending, parallelism), func(t *testing.T) {
					setup := func() *bench {
						b := w.setup()
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

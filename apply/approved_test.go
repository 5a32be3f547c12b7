package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"mailform/plan"
)

// saved is a plan of four effects, as a file holds it.
func saved() *plan.Plan {
	p := planOf(op("a"), op("b", "a"), op("c", "b"), op("d", "c"))
	p.FormatVersion = plan.FormatVersion
	return p
}

// runApproved runs a saved plan as far as it gets.
func (b *bench) runApproved(p *plan.Plan) error {
	b.t.Helper()
	s, err := NewDir(b.disk, "/stack").Open("test", Holder{Who: "tester", PID: 1, Since: epoch})
	if err != nil {
		return err
	}
	defer s.Close()
	c := b.config
	c.State, c.Approved = s, plan.Hash(p)
	if _, err := Fold(context.Background(), c); err != nil {
		return err
	}
	_, err = Run(context.Background(), c, p)
	return err
}

func (b *bench) made(p *plan.Plan) plan.Made {
	b.t.Helper()
	s := b.open()
	defer s.Close()
	return s.Made(p)
}

// TestMadeAfterAnyCrash kills a run of a saved plan at every crash point. What
// the next one is told to be complete was done, what was done is told, and the
// ids are those of what was made.
func TestMadeAfterAnyCrash(t *testing.T) {
	for target := 1; ; target++ {
		b := newBench(t, &fake{name: "cloud", tokens: true})
		doomed := &fate{target: target}
		b.setFate(doomed)
		if err := b.runApproved(saved()); err == nil && doomed.alive() {
			t.Logf("%d crash points", target-1)
			break
		}
		b.setFate(&fate{})
		b.disk.restart(b.fate, true)
		s := b.open()
		c := b.config
		c.State = s
		if _, err := Fold(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		made := s.Made(saved())
		s.Close()
		for _, a := range []plan.Address{"a", "b", "c", "d"} {
			thing, step := b.world.at(a), made[a]
			switch {
			case step.Complete && thing == nil:
				t.Errorf("killed at %d (%s): %s is told to be done and is not there", target, doomed.where, a)
			case step.Complete && step.ID != thing.id:
				t.Errorf("killed at %d (%s): %s is %s, told to be %s", target, doomed.where, a, thing.id, step.ID)
			}
			if _, told := made[a]; thing != nil && !told {
				// All of it done and the journal emptied: there is nothing to carry on.
				if b.world.at("d") == nil {
					t.Errorf("killed at %d (%s): %s was made and nobody says so", target, doomed.where, a)
				}
			}
		}
	}
}

// TestMadeSurvivesFurtherFailures lets several runs of one plan fail, so that the
// journal is compacted in between, and the last one finish.
func TestMadeSurvivesFurtherFailures(t *testing.T) {
	refused := fault{err: &plan.Error{Step: "make it", Got: "quota"}}
	cloud := &fake{name: "cloud", tokens: true, faults: map[string][]fault{"b": {refused}, "c": {refused}}}
	b := newBench(t, cloud)
	p := saved()
	for round, want := range []map[plan.Address]bool{{"a": true, "b": false}, {"a": true, "b": true, "c": false}} {
		rest := planOf(op("a"), op("b", "a"), op("c", "b"), op("d", "c"))
		if round == 1 {
			rest = planOf(op("b"), op("c", "b"), op("d", "c")) // a is there
		}
		b.runRest(p, rest)
		made := b.made(p)
		got := map[plan.Address]bool{}
		for a, s := range made {
			got[a] = s.Complete
		}
		if !maps.Equal(got, want) {
			t.Errorf("after run %d: %v, want %v", round+1, got, want)
		}
		if made["a"].ID != "cloud-1" {
			t.Errorf("after run %d: the id of a is %q", round+1, made["a"].ID)
		}
	}
	if other := b.made(planOf(op("a"))); len(other) > 0 {
		t.Errorf("another plan is told %v", other)
	}
	b.runRest(p, planOf(op("c"), op("d", "c")))
	if made := b.made(p); len(made) > 0 {
		t.Errorf("after the end: %v", made)
	}
}

// runRest runs what is left of a saved plan.
func (b *bench) runRest(saved, rest *plan.Plan) {
	b.t.Helper()
	c := b.config
	c.State, c.Approved = b.open(), plan.Hash(saved)
	defer c.State.Close()
	var incomplete *plan.Error
	if _, err := Run(context.Background(), c, rest); err != nil && !errors.As(err, &incomplete) {
		b.t.Fatal(err)
	}
}

func TestApprovedPlanIsKeptUntilItIsDone(t *testing.T) {
	cloud := &fake{name: "cloud", faults: map[string][]fault{"c": {{err: &plan.Error{Step: "make it", Got: "no"}}}}}
	b := newBench(t, cloud)
	p := saved()
	hash := plan.Hash(p)
	s := b.open()
	if err := s.KeepApproved(p); err != nil {
		t.Fatal(err)
	}
	if got := s.KeptApproved(hash); got != nil {
		t.Error("a plan is carried on that was never begun")
	}
	s.Close()
	b.runRest(p, p)
	s = b.open()
	if got := s.KeptApproved(hash); got == nil || !slices.Equal(plan.Encode(got), plan.Encode(p)) {
		t.Errorf("kept: %v", got)
	}
	if got := s.KeptApproved("0123"); got != nil {
		t.Error("another hash gets the plan")
	}
	s.Close()
	b.runRest(p, p)
	s = b.open()
	defer s.Close()
	if got := s.KeptApproved(hash); got != nil {
		t.Error("a plan that is done is carried on")
	}
	if _, err := b.disk.OpenFile(fmt.Sprintf("/stack/%s/%s", DirName, approvedName), 0, 0); err == nil {
		t.Error("the plan that is done is still there")
	}
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// crashVariable says how many crash points and faults are looked at: "everything"
// is all of them. "full" is one crash point of each class of those that leave the same
// behind, and all faults, of the small examples, and a sample of the large ones', as CI
// does. Without it there are samples of all: a few minutes are too long between two
// edits.
const crashVariable = "MAILFORM_CRASH"

func everything() bool { return os.Getenv(crashVariable) == "everything" }

// stride says which ones are in a sample: every so many-th of the large examples in
// mode "full", and of any without a mode. What comes in pairs (asked, done) or in sixes
// (the kinds of faults) is alternated through.
type stride struct{ large, any int }

var (
	ofPoints = stride{5, 11}
	ofFaults = stride{11, 25}
)

// large is the example with nearly everything, whose life has as many steps as those of
// the others together, and slower ones.
const large = "full"

// twoHosts is the example whose steps are those of two machines.
const twoHosts = "two-hosts"

// sample takes those steps of an example's life that are to be looked at, and a note
// for the test's output when these are not all.
func sample(example string, every stride, steps []string) (taken []string, note string) {
	n := every.any
	switch full := os.Getenv(crashVariable) == "full"; {
	case everything(), full && example != large && example != twoHosts:
		return steps, ""
	case full:
		n = every.large
	}
	for i := 0; i < len(steps); i += n {
		taken = append(taken, steps[i])
	}
	return taken, fmt.Sprintf(" - ONLY EVERY %dth WAS TRIED; %s=everything tries all", n, crashVariable)
}

// TestCrashEnumeration kills the real program at every step of a whole life of
// each example: built from nothing, changed in many ways, destroyed. A step is
// each write, sync and rename of the state directory, and each message of its
// conversations with the cloud, DNS and CA and with mailformd on the host: before it
// has its effect, and after that, before the answer. The process is gone, what it
// was told stays told. The same command, run again, asks nothing and ends in the
// world of an uninterrupted run: nothing is there twice, was made twice, or is left
// over.
func TestCrashEnumeration(t *testing.T) {
	th := newTheater(t)
	for _, example := range examples(t) {
		name := filepath.Base(example)
		t.Run(name, func(t *testing.T) {
			for _, s := range th.life(t, name, example) {
				if name == twoHosts && s.act == "apply" {
					continue // which machine gets which address is chance: two good runs end in different worlds
				}
				t.Run(s.act, func(t *testing.T) { th.enumerate(t, s) })
			}
		})
	}
}

// TestCrashWhileSaving kills "plan --out" at every step of writing the file: there is
// the old plan, or none, or the new one, and never a part of it.
func TestCrashWhileSaving(t *testing.T) {
	th := newTheater(t)
	const example, file = "../../examples/quickstart", "saved"
	config, err := specOf(example)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{act: "plan", spec: example, config: config, command: []string{"plan", "--out", file}}
	p, err := th.raise(s, &turnstile{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	path := filepath.Join(p.folder(), file)
	for _, old := range []string{"", "old"} {
		if err := p.must(s.command...); err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := p.steps()
		if err != nil {
			t.Fatal(err)
		}
		steps = slices.DeleteFunc(steps, func(s string) bool { return !strings.HasPrefix(s, "disk: ") })
		for _, step := range steps {
			os.Remove(path)
			if old != "" {
				if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if died, c, err := p.dieAt(step); err != nil || !died {
				t.Fatalf("killed at %q: not killed: %v\n%s", step, err, &c.output)
			}
			if left, _ := os.ReadFile(path); string(left) != old && string(left) != string(whole) {
				t.Errorf("killed at %q: the file holds %d of %d bytes", step, len(left), len(whole))
			}
		}
		t.Logf("crash points: %d, with an earlier plan: %v", len(steps), old != "")
	}
	if err := p.must(s.command...); err != nil {
		t.Fatal(err)
	}
	if err := p.must("apply", file); err != nil {
		t.Fatal(err)
	}
}

// examples are the folders with specs.
func examples(t *testing.T) []string {
	t.Helper()
	specs, err := filepath.Glob("../../examples/*/*.hcl")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, file := range specs {
		out = append(out, filepath.Dir(file))
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) < 2 {
		t.Fatalf("only these examples were found: %v", out)
	}
	return out
}

// life makes the stages of an example: the second and the third begin where the
// first has ended.
func (th *theater) life(t *testing.T, name, example string) []*stage {
	t.Helper()
	changed := filepath.Join(th.dir, "changed-"+name)
	if err := changeSpec(example, changed); err != nil {
		t.Fatal(err)
	}
	// The zones of both specs are in the account from the beginning.
	config, err := specOf(changed)
	if err != nil {
		t.Fatal(err)
	}
	apply := []string{"apply", "--auto-approve"}
	first := &stage{act: "apply", example: name, spec: example, config: config, command: apply}
	p, err := th.raise(first, &turnstile{}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.must(apply...); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(th.dir, "state-"+name)
	if err := os.CopyFS(state, os.DirFS(filepath.Join(p.folder(), ".mailform"))); err != nil {
		t.Fatal(err)
	}
	applied, err := p.world.Snapshot(filepath.Join(th.dir, "snapshot-"+name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { applied.Close() })
	return []*stage{
		first,
		{act: "change", example: name, spec: changed, config: config, from: applied, state: state, command: append(apply, "--allow", "mailbox/*")},
		{act: "destroy", example: name, spec: example, config: config, from: applied, state: state, command: []string{"destroy", "--auto-approve"}},
	}
}

// enumerate kills a stage's command at each of its steps.
func (th *theater) enumerate(t *testing.T, s *stage) {
	start := time.Now()
	want, orders := th.uninterrupted(t, s)
	reads := th.readingSteps(t, s, orders)
	steps := slices.DeleteFunc(orders[0], func(step string) bool { return slices.Contains(reads, step) })
	all, allReads := len(steps), len(reads)
	if !everything() {
		steps = oneOfEach(classes(steps))
	}
	different := len(steps)
	steps, note := sample(s.example, ofPoints, steps)
	reads, _ = sample(s.example, ofPoints, reads)
	var mu sync.Mutex
	good := 0
	parallel(steps, func(step string) {
		err := th.killedAt(s, step, want)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("killed at %q: %v", step, err)
			return
		}
		good++
	})
	read := th.killedReading(t, s, reads)
	t.Logf("crash points: %d, %d of which leave something different behind: %d/%d end in the world of an uninterrupted run; %d/%d of %d more, while reading, leave the world as it is (%s)%s",
		all, different, good, len(steps), read, len(reads), allReads, time.Since(start).Round(time.Second), note)
}

// parallel does something with each step, a few at a time: much of it is waiting.
func parallel(steps []string, do func(string)) {
	next := make(chan string)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) + 1 {
		wg.Go(func() {
			for step := range next {
				do(step)
			}
		})
	}
	for _, step := range steps {
		next <- step
	}
	close(next)
	wg.Wait()
}

// uninterrupted runs a stage's command to its end, twice: it describes the world
// that this leads to, and names the steps on the way in the order of each run. Both
// worlds must be the same, and both ways but for the order.
func (th *theater) uninterrupted(t *testing.T, s *stage) (want []string, orders [][]string) {
	t.Helper()
	for n := range 2 {
		p, err := th.raise(s, &turnstile{}, false)
		if err != nil {
			t.Fatal(err)
		}
		if err = p.must(s.command...); err != nil {
			t.Fatal(err)
		}
		seen, err := p.steps()
		if err != nil {
			t.Fatal(err)
		}
		orders = append(orders, seen)
		got, err := p.world.Describe()
		if err != nil {
			t.Fatal(err)
		}
		if s.act != "destroy" {
			if err := p.must("plan", "--detailed-exitcode"); err != nil {
				t.Fatal(err)
			}
		}
		p.close()
		if n == 0 {
			want = got
			continue
		}
		if d := difference(got, want); d != "" {
			t.Fatalf("two uninterrupted runs end differently:\n%s", d)
		}
		if d := difference(slices.Sorted(slices.Values(seen)), slices.Sorted(slices.Values(orders[0]))); d != "" {
			t.Fatalf("two uninterrupted runs go different ways:\n%s", d)
		}
	}
	return want, orders
}

// readingSteps are the steps that come, in every run, before the first one that is
// no step of the plan command: that one may change something, such as the lease.
func (th *theater) readingSteps(t *testing.T, s *stage, orders [][]string) []string {
	t.Helper()
	p, err := th.raise(s, &turnstile{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	args := []string{"plan"}
	if s.act == "destroy" {
		args = append(args, "--destroy")
	}
	if _, err := p.run(args...); err != nil {
		t.Fatal(err)
	}
	seen := slices.Clone(p.gate.steps)
	for _, order := range orders {
		order = conversation(order)
		end := slices.IndexFunc(order, func(step string) bool { return !slices.Contains(seen, step) })
		if end < 0 {
			end = len(order)
		}
		seen = slices.DeleteFunc(seen, func(step string) bool { return !slices.Contains(order[:end], step) })
	}
	return seen
}

// conversation leaves the program's own disk out.
func conversation(order []string) []string {
	return slices.DeleteFunc(slices.Clone(order), func(step string) bool { return strings.HasPrefix(step, "disk: ") })
}

// killedAt kills the command at a step and runs it again.
func (th *theater) killedAt(s *stage, step string, want []string) error {
	// A step that chance has left out of a run is waited for in another one.
	const tries = 4
	for range tries {
		p, err := th.raise(s, &turnstile{}, false)
		if err != nil {
			return err
		}
		defer p.close()
		died, first, err := p.dieAt(step)
		if err != nil {
			return err
		}
		if !died {
			if first.code() != 0 {
				return fmt.Errorf("not killed; exit code %d:\n%s", first.code(), first.end())
			}
			continue
		}
		again, err := p.run(s.command...)
		if err != nil {
			return err
		}
		if again.code() != 0 {
			return fmt.Errorf("the same command, run again, ends with %d:\n%s\nIt was killed after:\n%s", again.code(), again.end(), first.end())
		}
		got, err := p.world.Describe()
		if err != nil {
			return err
		}
		if d := difference(got, want); d != "" {
			return fmt.Errorf("the world is another one:\n%s\nThe second run:\n%s", d, again.end())
		}
		return nil
	}
	return fmt.Errorf("%d runs did not come by", tries)
}

// killedReading kills the command while it reads, in one and the same world: there
// is nothing to make good.
func (th *theater) killedReading(t *testing.T, s *stage, steps []string) (good int) {
	t.Helper()
	p, err := th.raise(s, &turnstile{}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	before, err := p.world.Describe()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		p.gate.forget()
		died, _, err := p.dieAt(step)
		if err != nil {
			t.Fatal(err)
		}
		after, err := p.world.Describe()
		if err != nil {
			t.Fatal(err)
		}
		switch d := difference(unleased(after), unleased(before)); {
		case !died:
			t.Errorf("killed at %q: not killed", step)
		case d != "":
			t.Errorf("killed at %q: the world has changed:\n%s", step, d)
		default:
			good++
		}
	}
	return good
}

// unleased is a world without what a run holds while it lives, and for a minute
// after it was killed: whether it is taken before the last read is chance.
func unleased(world []string) []string {
	return slices.DeleteFunc(slices.Clone(world), func(thing string) bool { return strings.Contains(thing, "/etc/mailform/lease.json ") })
}

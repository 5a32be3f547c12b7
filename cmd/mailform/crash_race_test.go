package main

import (
	"slices"
	"sync"
	"testing"

	"mailform/apply"
)

// TestAtTheSameTime holds an apply in every state that its conversations lead to, and there
// lets others try: a second apply is told who is at work, and drift reads what there
// is. Neither changes anything, and the first comes to its end as if it had been
// alone.
func TestAtTheSameTime(t *testing.T) {
	th := newTheater(t)
	const example = "../../examples/quickstart"
	config, err := specOf(example)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{act: "apply", spec: example, config: config, command: []string{"apply", "--auto-approve"}}
	want, orders := th.uninterrupted(t, s)
	stops := conversation(orders[0])
	all := len(stops)
	if !everything() {
		stops = oneOfEach(classes(stops))
	}
	stops, note := sample(s.example, ofPoints, stops)
	chosen := len(stops)
	g := &turnstile{}
	p, err := th.raise(s, g, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	held := 0
	codes := map[string]map[int]int{"apply": {}, "drift": {}}
	g.pause = func(step string) {
		i := slices.Index(stops, step)
		if i < 0 {
			return // or it was held at
		}
		stops = slices.Delete(stops, i, i+1)
		held++
		for command, allowed := range map[string][]int{"apply": {exitLocked}, "drift": {exitOK, exitDrift}} {
			args := []string{command}
			if command == "apply" {
				args = s.command
			}
			c, err := p.run(args...)
			if err != nil {
				t.Error(err)
				return
			}
			codes[command][c.code()]++
			if !slices.Contains(allowed, c.code()) {
				t.Errorf("at %q: %s ended with %d:\n%s", step, command, c.code(), &c.output)
			}
		}
	}
	if err := p.must(s.command...); err != nil {
		t.Error(err)
	}
	g.mu.Lock()
	g.pause = nil
	g.mu.Unlock()
	got, err := p.world.Describe()
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(got, want); d != "" {
		t.Errorf("the world is another one:\n%s", d)
	}
	// Conversations go on beside the one that is held: what they come by then is missed.
	if held*2 < chosen {
		t.Errorf("held only %d times, not at %q", held, stops)
	}
	t.Logf("held at %d of %d steps; exit codes of a second apply %v, of drift %v%s", held, all, codes["apply"], codes["drift"], note)
}

// TestRace starts three processes at once, again and again: whoever comes first
// does the work, and the world is one.
func TestRace(t *testing.T) {
	th := newTheater(t)
	stages := th.life(t, "quickstart", "../../examples/quickstart")
	for _, s := range stages {
		t.Run(s.act, func(t *testing.T) {
			want, _ := th.uninterrupted(t, s)
			for range 3 {
				p, err := th.raise(s, &turnstile{}, false)
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				codes := make([]int, 3)
				for i, args := range [][]string{s.command, s.command, {"drift"}} {
					wg.Go(func() {
						c, err := p.run(args...)
						if err != nil {
							t.Error(err)
							return
						}
						if codes[i] = c.code(); i < 2 && c.code() != exitOK && c.code() != exitLocked {
							t.Errorf("%v ended with %d:\n%s", args, c.code(), &c.output)
						}
					})
				}
				wg.Wait()
				if codes[0] != exitOK && codes[1] != exitOK {
					t.Errorf("nobody did it: %v", codes)
				}
				got, err := p.world.Describe()
				if err != nil {
					t.Fatal(err)
				}
				if d := difference(got, want); d != "" {
					t.Errorf("the world is another one:\n%s", d)
				}
				if left, err := apply.NewDir(apply.OS{}, p.folder()).ReadLedger("quickstart"); err != nil {
					t.Errorf("the ledger: %v, %v", left, err)
				}
				t.Logf("exit codes: %v", codes)
				p.close()
			}
		})
	}
}

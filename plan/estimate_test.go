package plan

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurationFollowsTheGraphAndTheParallelism(t *testing.T) {
	p := &Plan{Ops: []Op{
		{ID: "a", Seconds: 10}, {ID: "b", Seconds: 4}, {ID: "c", Seconds: 4}, {ID: "d", Seconds: 4, After: []string{"b", "c"}},
		{ID: "e", Seconds: 1, After: []string{"a", "d"}},
	}}
	for parallelism, want := range map[int]time.Duration{0: 23 * time.Second, 1: 23 * time.Second, 2: 13 * time.Second, 3: 11 * time.Second, 8: 11 * time.Second} {
		if got := p.Duration(parallelism, ownDuration); got != want {
			t.Errorf("%d at a time: %s, want %s", parallelism, got, want)
		}
	}
	if got := p.Duration(8, func(op Op) time.Duration { return ownDuration(op) / 2 }); got != 5500*time.Millisecond {
		t.Errorf("with recorded durations: %s", got)
	}
}

// No schedule beats the longest chain or the work divided by the hands, and
// list scheduling is never worse than twice the better bound (Graham 1966).
func TestPropertyDurationIsBetweenItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Plan{}
		var all, longest time.Duration
		chain := map[string]time.Duration{}
		for i := range rapid.IntRange(0, 20).Draw(t, "ops") {
			op := Op{ID: string(rune('a' + i)), Seconds: rapid.IntRange(0, 30).Draw(t, "seconds")}
			var before time.Duration
			for _, d := range p.Ops {
				if rapid.IntRange(0, 4).Draw(t, "after") == 0 {
					op.After = append(op.After, d.ID)
					before = max(before, chain[d.ID])
				}
			}
			chain[op.ID] = before + ownDuration(op)
			longest, all = max(longest, chain[op.ID]), all+ownDuration(op)
			p.Ops = append(p.Ops, op)
		}
		hands := rapid.IntRange(1, 8).Draw(t, "parallelism")
		least := max(longest, all/time.Duration(hands))
		if got := p.Duration(hands, ownDuration); got < least || got > 2*least+time.Second {
			t.Fatalf("%s with %d hands, at least %s", got, hands, least)
		}
	})
}

func TestPricesAreNoPartOfThePlan(t *testing.T) {
	p := samples(t)["first"]
	hash, file := Hash(p), Encode(p)
	_ = jsonOf(estimates["first"])(discard{}, p)
	if Hash(p) != hash || !slices.Equal(Encode(p), file) {
		t.Error("showing a price changed the plan")
	}
	sum := Estimate{Prices: []Price{{Monthly: 10.004, Currency: "USD"}, {Monthly: 1000, Before: 2500.5, Currency: "CNY"}}}
	if got := sum.costWords(); got != "- 1,500.50 CNY/month, + 10.00 USD/month" {
		t.Errorf("sum: %q", got)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

package apply

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailform/plan"
)

// TestDurationsAreRemembered runs operations under a clock that ticks, and
// expects the next estimate to follow what was measured, not what was promised.
func TestDurationsAreRemembered(t *testing.T) {
	now := epoch
	cloud := &fake{name: "cloud", do: func(_ context.Context, op plan.Op, _ plan.Token, _ plan.Progress) (plan.Result, error) {
		now = now.Add(30 * time.Second)
		return plan.Result{}, nil
	}}
	b := newBench(t, cloud)
	b.config.Now = func() time.Time { return now }
	b.config.Parallelism = 1
	first, second := op("a"), op("b", "a")
	first.Seconds, second.Seconds = 5, 5
	p := planOf(first, second)
	if _, err := b.run(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	dir := NewDir(b.disk, "/stack")
	if got := p.Duration(8, dir.Typical()); got != time.Minute {
		t.Errorf("estimate after the first run: %s", got)
	}
	if start := b.events.of(EventStart)[0]; start.Estimate != 10*time.Second {
		t.Errorf("estimate of the first run: %s", start.Estimate)
	}
	p.Ops[0].ID, p.Ops[1].ID, p.Ops[1].After = "c", "d", []string{"c"}
	if _, err := b.run(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if start := b.events.of(EventStart)[1]; start.Estimate != time.Minute {
		t.Errorf("estimate of the second run: %s", start.Estimate)
	}
}

func TestDurationsAreSmoothedAndBounded(t *testing.T) {
	d := durations{}
	d.add(op("a"), 10*time.Second)
	d.add(op("a"), 40*time.Second)
	if got := d.typical(op("a")); got != 20*time.Second {
		t.Errorf("after 10 s and 40 s: %s", got)
	}
	d.add(op("a"), -time.Second)
	d.add(op("a"), 1000*time.Hour)
	if got := d.typical(op("a")); got != 20*time.Second {
		t.Errorf("after nonsense: %s", got)
	}
	for i := range 2 * maxDurationKinds {
		d.add(plan.Op{Provider: "p", Kind: fmt.Sprint(i)}, time.Second)
	}
	if len(d) != maxDurationKinds {
		t.Errorf("%d kinds are remembered", len(d))
	}
}

func TestDamagedDurationsAreForgotten(t *testing.T) {
	for _, damage := range []string{"", "nonsense", `{"cloud.create": -5}`, `{"cloud.create": 1e30}`, `[`, strings.Repeat("[", 1000), "{}{}"} {
		b := newBench(t, &fake{name: "cloud"})
		b.open().Close()
		f, err := replaceFile(b.disk, "/stack/.mailform/"+durationsName, []byte(damage))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if d := NewDir(b.disk, "/stack").loadDurations(); len(d) != 0 {
			t.Errorf("%q was read as %v", damage, d)
		}
		if _, err := b.run(context.Background(), planOf(op("a"))); err != nil {
			t.Errorf("%q: %v", damage, err)
		}
		if warnings := b.events.of(EventWarning); len(warnings) > 0 {
			t.Errorf("%q: %v", damage, warnings)
		}
	}
}

package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/server/manifest"
)

// A year in which mailform is run every few minutes, hours, days, weeks or months, and
// killed at random. One name server lags by hours, and all resolvers keep asking for keys
// that are not there yet and remember that. No letter is signed with a key that any of
// them cannot find, some key always signs, and every key goes in time, with its record.
func TestAYearOfRotation(t *testing.T) {
	const rotate = 60 * day
	intervals := []time.Duration{2 * time.Hour, 8 * time.Hour, 16 * time.Hour, 2 * day, 3 * day, 14 * day, 40 * day, 75 * day}
	var total struct{ runs, kills, keys, verified atomic.Int64 }
	t.Run("years", func(t *testing.T) {
		for seed := range uint64(3 * len(intervals)) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				c := newCalendar(t, seed, rotate)
				if seed%3 != 0 { // the very first apply comes to its end, as a person sees to it
					if _, err := c.run(never); err != nil {
						t.Fatal(err)
					}
				}
				c.lags = true
				longest := intervals[seed%uint64(len(intervals))]
				start, kills, runs := c.now, 0, 0
				for c.now.Sub(start) < 365*day && runs < 10000 {
					runs++
					_, err := c.run(func() bool { return c.rand.IntN(8) == 0 })
					switch {
					case errors.Is(err, errKilled):
						kills++
					case err != nil && c.applied != nil:
						c.fail("%v", err) // only the very first keys are waited for
					}
					c.pass(time.Minute + time.Duration(c.rand.Int64N(int64(longest))))
					// A change takes a run for each of its phases, and one more when it is killed.
					c.overdue(rotate + settle + negativeTTL + keepRetired + 12*longest + day)
				}
				if c.now.Sub(start) < 365*day {
					t.Errorf("%d runs are over before the year is", runs)
				}
				c.settle()
				t.Logf("runs within %s of each other: %d, %d killed, %d keys, %d signatures verified in %d days",
					longest, runs, kills, c.made, c.verified, int(c.now.Sub(start).Hours()/24))
				if want := 2 * int(c.now.Sub(start)/(rotate+4*longest)); c.made < want {
					t.Errorf("%d keys were made, want at least %d", c.made, want)
				}
				total.runs.Add(int64(runs))
				total.kills.Add(int64(kills))
				total.keys.Add(int64(c.made))
				total.verified.Add(int64(c.verified))
			})
		}
	})
	t.Logf("all years: %d runs, %d killed, %d keys, %d signatures verified", total.runs.Load(), total.kills.Load(), total.keys.Load(), total.verified.Load())
	if total.kills.Load() < 100 || total.verified.Load() < 10000 {
		t.Error("that was no trial")
	}
}

// overdue looks for keys and records that are older than any may be.
func (c *calendar) overdue(limit time.Duration) {
	c.t.Helper()
	for s, k := range c.keys {
		if c.now.Sub(k.born) > limit {
			c.fail("%s, made on %s, is still there", s, k.born.Format(time.DateOnly))
		}
	}
	for name, r := range c.records {
		if !r.gone && c.now.Sub(r.published) > limit {
			c.fail("%s, published on %s, is still there", name, r.published.Format(time.DateOnly))
		}
	}
}

// The phases as a person sees them.
func TestRotationInPlans(t *testing.T) {
	c := newCalendar(t, 1, 180*day)
	c.settle()
	changes := func() []string {
		var out []string
		for _, ch := range c.plan().Changes {
			if ch.Action != plan.NoOp {
				out = append(out, ch.Action.Glyph()+" "+string(ch.Address))
			}
		}
		return out
	}
	check := func(want ...string) {
		t.Helper()
		if got := changes(); !slices.Equal(got, want) {
			c.fail("plan: %q, want %q", got, want)
		}
	}
	check()
	c.pass(181 * day)
	check("+ dkim/acme.example/mf1-ed25519-2", "+ dkim/acme.example/mf1-rsa-2",
		"+ dns/acme.example/dkim/mf1-ed25519-2", "+ dns/acme.example/dkim/mf1-rsa-2", "~ server/mx1")
	c.run(never)
	c.pass(2 * time.Minute)
	check("… dkim/acme.example/mf1-ed25519-2", "… dkim/acme.example/mf1-rsa-2")
	p := c.plan()
	if p.HasChanges() || len(p.Ops) > 0 {
		t.Errorf("waiting is a change: %v", p.Ops)
	}
	ch, _ := p.Change("dkim/acme.example/mf1-rsa-2")
	if !strings.Contains(ch.Reason, "signs from 2026-07-01 04:3") || !strings.Contains(ch.Reason, "run again after that") {
		t.Errorf("reason: %q", ch.Reason)
	}
	c.pass(4 * time.Hour)
	check("… dkim/acme.example/mf1-ed25519-2", "… dkim/acme.example/mf1-rsa-2")
	c.pass(40 * time.Minute)
	check("~ server/mx1")
	c.run(never)
	check()
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"mf1-ed25519-2", "mf1-rsa-2"}) {
		t.Errorf("signs with %q", got)
	}
	c.pass(6 * day)
	check()
	c.pass(2 * day)
	check("- dkim/acme.example/mf1-ed25519", "- dkim/acme.example/mf1-rsa", "- dns/acme.example/dkim/mf1-ed25519", "- dns/acme.example/dkim/mf1-rsa", "~ server/mx1")
	c.run(never)
	check()
}

// Another algorithm, another selector, and a kind less: each in its time.
func TestRotationFollowsTheSpec(t *testing.T) {
	c := newCalendar(t, 2, 0)
	c.settle()
	dkim := c.spec.Domains[0].DKIM
	dkim.Algorithms = []string{"rsa4096", "ed25519"}
	for range 4 {
		c.settle()
		c.pass(2 * time.Hour)
	}
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"mf1-ed25519", "mf1-rsa-2"}) || c.keys["mf1-rsa-2"].Algorithm != "rsa4096" {
		t.Errorf("another algorithm: %q", got)
	}
	dkim.Selector = "s"
	for range 4 {
		c.settle()
		c.pass(2 * time.Hour)
	}
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"s-ed25519", "s-rsa"}) {
		t.Errorf("another selector: %q", got)
	}
	dkim.Algorithms = []string{"ed25519"}
	c.settle()
	if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"s-ed25519"}) || c.keys["s-rsa"] == nil {
		t.Errorf("a kind less: %q", got)
	}
	for range 9 {
		c.pass(day)
		c.settle()
	}
	if got := slices.Sorted(maps.Keys(c.keys)); !slices.Equal(got, []string{"s-ed25519"}) {
		t.Errorf("after nine days there are %q", got)
	}
}

// A key that got into wrong hands: one command, killed anywhere and repeated,
// brings in new keys, and the old ones are revoked once nothing is signed with them.
func TestEmergencyRotation(t *testing.T) {
	for at := 0; ; at++ {
		c := newCalendar(t, uint64(at), 180*day)
		c.curious = false // there is no time to wait until they forget
		c.settle()
		c.pass(day)
		c.replaces = []string{"dkim/acme.example/mf1-*"}
		n := 0
		_, err := c.run(func() bool { n++; return n == at+1 })
		if errors.Is(err, errKilled) {
			c.replaces = []string{"dkim/acme.example/mf1-rsa", "dkim/acme.example/mf1-ed25519"}
			if _, err := c.run(never); err != nil {
				c.fail("%v", err)
			}
		}
		if got := signingKeysOf(c.applied); !slices.Equal(got, []string{"mf1-ed25519-2", "mf1-rsa-2"}) {
			c.fail("killed at %d: signs with %q", at, got)
		}
		for _, s := range []string{"mf1-rsa", "mf1-ed25519"} {
			if r := c.records[recordName(s)]; c.keys[s] != nil || !strings.HasSuffix(r.text, "; p=") || r.gone {
				c.fail("killed at %d: %s is still good: %+v", at, s, r)
			}
		}
		c.replaces = nil
		c.settle()
		for range 9 {
			c.pass(day)
			c.settle()
		}
		if len(c.keys) != 2 || !c.records[recordName("mf1-rsa")].gone {
			c.fail("killed at %d: %d keys are left", at, len(c.keys))
		}
		if err == nil {
			t.Logf("killed at %d moments", at)
			return
		}
	}
}

// The real agent notes what a key does, and the name servers are asked about the
// one that is coming up and about no other.
func TestKeysAreLookedFor(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	r := l.converge(spec)
	target, err := r.p.target("mx1")
	if err != nil {
		t.Fatal(err)
	}
	req := manifest.KeysRequest{Claim: r.p.claim("mx1"), Keys: []manifest.DKIMWanted{{Domain: "acme.example", Selector: "mf1-ed25519-2", Algorithm: "ed25519"}}}
	if _, err := r.p.agent(t.Context(), target, "make a key", paths.Binary(), "keys", req, nil); err != nil {
		t.Fatal(err)
	}
	var asked []string
	p := l.provider(spec)
	p.Published = func(ctx context.Context, records []TXT) []Sighting {
		for _, r := range records {
			asked = append(asked, r.Name)
		}
		return []Sighting{{Everywhere: ctx.Err() == nil, Negative: 30 * time.Minute}}
	}
	desired, _ := p.Declare(spec)
	got, err := p.Observe(t.Context(), scopeOf(desired))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []string{"mf1-ed25519-2._domainkey.acme.example"}) {
		t.Errorf("asked about %q", asked)
	}
	for _, o := range got.Objects {
		switch a := o.Attrs; {
		case o.Address == dkimAddr("acme.example", "mf1-ed25519-2"):
			if a["signs"].True() || !a["seen"].True() || a["negative_seconds"].Num() != 1800 || !a["signs_since"].IsNull() || timeOf(a["created"]).IsZero() {
				t.Errorf("coming up: %v", a)
			}
		case o.Kind == kindKey:
			if !a["signs"].True() || timeOf(a["signs_since"]).IsZero() || !a["signed_until"].IsNull() || !a["seen"].IsNull() {
				t.Errorf("%s: %v", o.Address, a)
			}
		}
	}
}

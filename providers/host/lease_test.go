package host

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/server/manifest"
)

// keeper remembers the leases it was given.
type keeper struct {
	kept    map[string]plan.Lease
	locks   map[string]plan.Lock
	dropped []string
}

func newKeeper() *keeper { return &keeper{map[string]plan.Lease{}, map[string]plan.Lock{}, nil} }

func (k *keeper) Keep(lock plan.Lock, lease plan.Lease, asked time.Time) {
	k.kept[lock.Name()], k.locks[lock.Name()] = lease, lock
}

func (k *keeper) Drop(name string) {
	k.dropped = append(k.dropped, name)
	delete(k.kept, name)
}

func someone(who, place string) plan.Holder {
	return plan.Holder{Stack: "acme-mail", Who: who, Host: "laptop", PID: 7, Command: "mailform apply", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Place: place}
}

func (l *lab) owner() manifest.Owner {
	l.t.Helper()
	var o manifest.Owner
	if err := json.Unmarshal(l.read("/var/lib/mailform/owner.json"), &o); err != nil {
		l.t.Fatal(err)
	}
	return o
}

// Two runs on one host: the first has the lease from the moment it installs
// mailformd, the second learns who it is, and what the first sends after it was
// taken over is refused.
func TestLeaseOnTheHost(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	ctx := context.Background()

	a, ka := l.provider(spec), newKeeper()
	a.UseLeases(someone("alice", "here"), ka)
	first, err := l.plan(a, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(ka.kept) != 0 {
		t.Fatalf("a lease on a bare machine: %+v", ka.kept)
	}
	if err := first.apply(); err != nil {
		t.Fatalf("%v\n%s", err, l.log())
	}
	lease := ka.kept[LeaseName("mx1")]
	if lease.Epoch != 1 || l.owner().Epoch != 1 {
		t.Fatalf("lease %+v, owner %+v", lease, l.owner())
	}
	lock := ka.locks[LeaseName("mx1")]
	if _, err := lock.Renew(ctx, lease); err != nil {
		t.Errorf("renew: %v", err)
	}

	// A plan takes none and is not kept out; an apply is.
	if p, err := l.plan(l.provider(spec), spec, nil); err != nil || len(p.pending()) != 0 {
		t.Errorf("a plan beside an apply: %v", err)
	}
	b, kb := l.provider(spec), newKeeper()
	b.UseLeases(someone("bob", "there"), kb)
	_, err = l.plan(b, spec, nil)
	if plan.ClassOf(err) != plan.ErrLocked || !strings.Contains(err.Error(), "alice on laptop (process 7") {
		t.Fatalf("a second apply: %v", err)
	}
	if held, err := b.Lock("mx1").Held(ctx); err != nil || held == nil || held.ID != lease.ID || held.Left <= 0 || held.Holder.Who != "alice" {
		t.Errorf("who has it: %+v, %v", held, err)
	}

	// From the folder whose lock proves that the first run is dead, it is taken over.
	c, kc := l.provider(spec), newKeeper()
	c.UseLeases(someone("alice", "here"), kc)
	if _, err := l.plan(c, spec, nil); err != nil {
		t.Fatal(err)
	}
	if got := kc.kept[LeaseName("mx1")]; got.Epoch != 2 {
		t.Errorf("taken over: %+v", got)
	}
	if _, err := lock.Renew(ctx, lease); !errors.Is(err, plan.ErrLeaseLost) {
		t.Errorf("renew what was taken over: %v", err)
	}
	keys := first.ordered()
	for _, op := range keys {
		if op.Kind != opKeys && op.Kind != opConverge && op.Kind != opInstall {
			continue
		}
		if err := first.do(op); plan.ClassOf(err) != plan.ErrStale {
			t.Errorf("%s of a run that was taken over: %v", op.Kind, err)
		}
	}

	// Given back, it is free; taken again, its epoch has risen.
	if err := kc.locks[LeaseName("mx1")].Release(ctx, kc.kept[LeaseName("mx1")]); err != nil {
		t.Error(err)
	}
	if held, err := b.Lock("mx1").Held(ctx); err != nil || held != nil {
		t.Errorf("given back and held: %+v, %v", held, err)
	}
	if _, err := l.plan(b, spec, nil); err != nil {
		t.Fatal(err)
	}
	if got := kb.kept[LeaseName("mx1")]; got.Epoch != 3 {
		t.Errorf("after it was given back: %+v", got)
	}

	// Broken by a person, its holder is fenced.
	if err := a.Lock("mx1").Break(ctx, kb.kept[LeaseName("mx1")]); err != nil {
		t.Fatal(err)
	}
	if _, err := kb.locks[LeaseName("mx1")].Renew(ctx, kb.kept[LeaseName("mx1")]); !errors.Is(err, plan.ErrLeaseLost) {
		t.Errorf("renew what was broken: %v", err)
	}
	if l.owner().Epoch != 4 {
		t.Errorf("owner %+v", l.owner())
	}
}

// Taking the lease costs no command: it is part of the observation.
func TestLeaseIsTakenOnTheWay(t *testing.T) {
	var mu sync.Mutex
	var commands []string
	l := newLab(t, hostsim.Config{Watch: func(s hostsim.Step) bool {
		mu.Lock()
		defer mu.Unlock()
		if s.At == hostsim.Asked {
			commands = append(commands, s.Command)
		}
		return true
	}})
	spec := l.spec()
	count := func(f func(p *Provider)) int {
		p := l.provider(spec)
		mu.Lock()
		commands = nil
		mu.Unlock()
		f(p)
		r, err := l.plan(p, spec, nil)
		if err == nil {
			err = r.apply()
		}
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		return len(commands)
	}
	count(func(*Provider) {}) // settles
	without := count(func(*Provider) {})
	with := count(func(p *Provider) { p.UseLeases(someone("alice", "here"), newKeeper()) })
	if without == 0 || with != without {
		t.Errorf("%d commands with a lease, %d without: %q", with, without, commands)
	}
}

// Taking mailform off a machine ends the lease with the rest.
func TestLeaseEndsWithTheHost(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	p, k := l.provider(spec), newKeeper()
	p.UseLeases(someone("alice", "here"), k)
	r, err := l.plan(p, spec, func(in *plan.Input) { in.Destroy = true; in.Allow = []string{"*"} })
	if err != nil {
		t.Fatal(err)
	}
	if len(k.kept) != 1 {
		t.Fatalf("%+v", k.kept)
	}
	for _, op := range r.ordered() {
		if op.Kind == opRemove {
			if err := r.do(op); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(k.kept) != 0 || len(k.dropped) != 1 {
		t.Errorf("kept %+v, dropped %q", k.kept, k.dropped)
	}
}

// A host that could not be reached when the run looked is leased before the first
// command that changes it, whichever that is.
func TestLateLease(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	before, kb := l.provider(spec), newKeeper()
	before.UseLeases(someone("alice", "here"), kb)
	first, err := l.plan(before, spec, nil)
	if err == nil {
		err = first.apply()
	}
	if err != nil {
		t.Fatal(err)
	}

	// late is a run whose observation was elsewhere; op is its first.
	late := func(who, place, kind string) (*keeper, *Provider, error) {
		p, k := l.provider(spec), newKeeper()
		p.UseLeases(someone(who, place), k)
		for _, op := range first.ordered() {
			if op.Kind == kind {
				r := &run{l: l, p: p, plan: first.plan, outputs: first.outputs, secrets: map[plan.Address]string{}}
				return k, p, r.do(op)
			}
		}
		t.Fatalf("no %s among %q", kind, first.kinds())
		return nil, nil, nil
	}
	epoch := l.owner().Epoch
	for _, kind := range []string{opInstall, opKeys, opConverge} {
		// It is another's, who lives.
		k, _, err := late("bob", "there", kind)
		if plan.ClassOf(err) != plan.ErrLocked || !strings.Contains(err.Error(), "alice on laptop (process 7") || len(k.kept) != 0 {
			t.Errorf("%s beside a live run: %v, %+v", kind, err, k.kept)
		}
		// It is that of a run that is dead, from the same place.
		k, p, err := late("alice", "here", kind)
		if err != nil {
			t.Errorf("%s after a dead run: %v", kind, err)
		}
		epoch++
		lease := k.kept[LeaseName("mx1")]
		if lease.Epoch != epoch || l.owner().Epoch != epoch {
			t.Errorf("%s: lease %+v, owner %+v; want epoch %d", kind, lease, l.owner(), epoch)
		}
		if _, err := p.AccountKey(t.Context(), "mx1", "https://ca.example/dir"); err != nil || k.kept[LeaseName("mx1")].Epoch != epoch {
			t.Errorf("%s: the next command: %v, %+v", kind, err, k.kept)
		}
	}
	// It is nobody's: also what a certificate needs takes it.
	if err := kb.locks[LeaseName("mx1")].Break(t.Context(), plan.Lease{ID: l.lease().ID}); err != nil {
		t.Fatal(err)
	}
	p, k := l.provider(spec), newKeeper()
	p.UseLeases(someone("bob", "there"), k)
	p.remember(before.targets["mx1"])
	if _, err := p.AccountKey(t.Context(), "mx1", "https://ca.example/dir"); err != nil || len(k.kept) != 1 {
		t.Errorf("fetch the account key: %v, %+v", err, k.kept)
	}
}

func (l *lab) lease() manifest.Lease {
	l.t.Helper()
	var m manifest.Lease
	if err := json.Unmarshal(l.read("/etc/mailform/lease.json"), &m); err != nil {
		l.t.Fatal(err)
	}
	return m
}

package apply

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"mailform/plan"
)

// seer is a provider that finds given objects.
func seer(name string, after []string, look func(context.Context, plan.Scope) (plan.Observed, error)) *fake {
	return &fake{name: name, after: after, observe: look}
}

func TestObserveRunsInWaves(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2) // the independent two must be reading at the same time
	host := plan.Object{Address: "host/a/address", Outputs: plan.Attrs{"ip": plan.String("203.0.113.7"), "none": plan.Null()}}
	known := map[string]string{}
	look := func(s plan.Scope, refs ...plan.Ref) {
		for _, r := range refs {
			if v, ok := s.Known(r); ok {
				known[r.String()] = v.Str()
			}
		}
	}
	cloud := seer("alicloud", nil, func(_ context.Context, s plan.Scope) (plan.Observed, error) {
		both.Done()
		both.Wait()
		if len(s.Desired) != 1 || s.Desired[0].Address != "host/a/address" || s.Stack != "test" {
			t.Errorf("scope %+v", s)
		}
		return plan.Observed{Objects: []plan.Object{host}, Calls: 5, Foreign: []plan.Foreign{{Scope: "z", Count: 1}}}, nil
	})
	dns := seer("cloudflare", nil, func(_ context.Context, s plan.Scope) (plan.Observed, error) {
		both.Done()
		both.Wait()
		look(s, plan.Ref{Address: "host/a/address", Attr: "nobody tells cloudflare"})
		return plan.Observed{Objects: []plan.Object{{Address: "dns/x", ID: "2"}, {Address: "dns/x", ID: "1"}}, Calls: 2, Foreign: []plan.Foreign{{Scope: "a", Count: 3}}}, nil
	})
	hosts := seer("host", []string{"alicloud", "not used here"}, func(_ context.Context, s plan.Scope) (plan.Observed, error) {
		look(s, plan.Ref{Address: "host/a/address", Attr: "ip"}, plan.Ref{Address: "host/a/address", Attr: "none"}, plan.Ref{Address: "dns/x", Attr: "id"})
		return plan.Observed{Calls: 1}, nil
	})
	acme := seer("acme", []string{"host"}, func(_ context.Context, s plan.Scope) (plan.Observed, error) {
		return plan.Observed{}, nil
	})
	b := newBench(t)
	b.config.Providers = []plan.Provider{acme, hosts, dns, cloud}
	objects, foreign, stats, err := Observe(context.Background(), b.config, "test", []plan.Resource{{Address: "host/a/address", Provider: "alicloud"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(known) != 1 || known["host/a/address.ip"] != "203.0.113.7" {
		t.Errorf("known %v", known)
	}
	if len(objects) != 3 || objects[0].ID != "1" || objects[2].Provider != "alicloud" {
		t.Errorf("objects %+v", objects)
	}
	if len(foreign) != 2 || foreign[0].Scope != "a" {
		t.Errorf("foreign %+v", foreign)
	}
	if stats.Depth != 3 || stats.Total() != 8 || stats.Calls["alicloud"] != 5 {
		t.Errorf("stats %+v", stats)
	}
	if seen := b.events.of(EventObserved); len(seen) != 4 {
		t.Errorf("observed events %+v", seen)
	}
}

func TestObserveJoinsAllErrors(t *testing.T) {
	fail := func(name string, err error, after ...string) *fake {
		return seer(name, after, func(context.Context, plan.Scope) (plan.Observed, error) { return plan.Observed{Calls: 1}, err })
	}
	called := false
	b := newBench(t)
	b.config.Providers = []plan.Provider{
		fail("alicloud", &plan.Error{Class: plan.ErrCredentials, Got: "403"}),
		fail("cloudflare", errors.New("bad gateway")),
		seer("host", []string{"alicloud"}, func(context.Context, plan.Scope) (plan.Observed, error) {
			called = true
			return plan.Observed{}, nil
		}),
		seer("acme", []string{"host"}, func(context.Context, plan.Scope) (plan.Observed, error) { panic("boom") }),
		seer("lonely", nil, func(context.Context, plan.Scope) (plan.Observed, error) { panic("boom") }),
	}
	objects, _, stats, err := Observe(context.Background(), b.config, "test", nil)
	if err == nil || objects != nil || called {
		t.Fatalf("objects %v, error %v, called %v", objects, err, called)
	}
	for _, want := range []string{"observe alicloud: ", "403", "observe cloudflare: ", "bad gateway", "lonely panicked: boom"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "acme") {
		t.Errorf("%q blames a provider that was not read", err)
	}
	if plan.ClassOf(err) != plan.ErrCredentials || stats.Total() != 2 {
		t.Errorf("class %q, stats %+v", plan.ClassOf(err), stats)
	}
}

func TestObserveTriesAgainWhenThrottled(t *testing.T) {
	n := 0
	b := newBench(t)
	b.config.Providers = []plan.Provider{seer("a", nil, func(context.Context, plan.Scope) (plan.Observed, error) {
		if n++; n < 3 {
			return plan.Observed{Calls: 1}, &plan.Error{Class: plan.ErrThrottled}
		}
		return plan.Observed{Calls: 2}, nil
	})}
	if _, _, stats, err := Observe(context.Background(), b.config, "test", nil); err != nil || stats.Calls["a"] != 4 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	if r := b.events.of(EventRetry); len(r) != 2 || r[1].Attempt != 2 {
		t.Errorf("retries %+v", r)
	}
}

func TestObserveRefusesBrokenPromises(t *testing.T) {
	quiet := func(context.Context, plan.Scope) (plan.Observed, error) { return plan.Observed{}, nil }
	for name, c := range map[string]struct {
		providers []plan.Provider
		desired   []plan.Resource
		says      string
	}{
		"cycle":   {providers: []plan.Provider{seer("a", []string{"b"}, quiet), seer("b", []string{"a"}, quiet)}, says: "a → b → a"},
		"twice":   {providers: []plan.Provider{seer("a", nil, quiet), seer("a", nil, quiet)}, says: `"a"`},
		"desired": {desired: []plan.Resource{{Address: "x", Provider: "b"}}, says: `"b"`},
		"foreign object": {providers: []plan.Provider{seer("a", nil, func(context.Context, plan.Scope) (plan.Observed, error) {
			return plan.Observed{Objects: []plan.Object{{Address: "x", Provider: "b"}}}, nil
		})}, says: "bug in mailform"},
	} {
		b := newBench(t)
		b.config.Providers = c.providers
		_, _, _, err := Observe(context.Background(), b.config, "test", c.desired)
		var pe *plan.Error
		if err == nil || !(strings.Contains(err.Error(), c.says) || errors.As(err, &pe) && strings.Contains(pe.Fix, c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

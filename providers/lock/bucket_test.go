package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailform/apply"
	"mailform/plan"
	"mailform/server/bucket"
	"mailform/server/bucket/bucketsim"
	"mailform/specs"
)

const (
	onS3  = "https://s3.example"
	onOSS = "https://oss-cn-hongkong.aliyuncs.com"
)

func newSim() *bucketsim.Sim {
	return &bucketsim.Sim{Bucket: "acme-locks", Keys: map[string]string{"id": "secret"}, Now: time.Now}
}

// contender is one machine's view of the bucket; wire, when given, stands in its way.
func contender(t *testing.T, sim *bucketsim.Sim, endpoint string, wire http.RoundTripper) *bucketLock {
	t.Helper()
	env := map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
	l, err := New(Config{
		Stack: "acme", Spec: &specs.Lock{Kind: KindBucket, Endpoint: endpoint, Bucket: "acme-locks", Key: "team/lock"},
		Getenv: func(n string) string { return env[n] }, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	b := l.(*bucketLock)
	if wire == nil {
		wire = sim.Transport()
	}
	b.client.HTTP.Transport = wire
	return b
}

// bubble runs a test in its own time, on both kinds of service: time.Sleep moves
// that clock on (testing/synctest), and nothing waits.
func bubble(t *testing.T, f func(t *testing.T, endpoint string)) {
	for name, endpoint := range map[string]string{"S3": onS3, "OSS": onOSS} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, endpoint) }) })
	}
}

func TestBucketHasOneHolder(t *testing.T) {
	bubble(t, func(t *testing.T, endpoint string) {
		sim := newSim()
		a, b := contender(t, sim, endpoint, nil), contender(t, sim, endpoint, nil)
		first, err := a.Acquire(t.Context(), holder("alice", "here"))
		if err != nil || first.Epoch != 1 {
			t.Fatalf("%+v, %v", first, err)
		}
		if _, err := b.Acquire(t.Context(), holder("bob", "there")); plan.ClassOf(err) != plan.ErrLocked || !strings.Contains(err.Error(), "alice on laptop (process 7") {
			t.Errorf("second holder: %v", err)
		}
		time.Sleep(50 * time.Second)
		if first, err = a.Renew(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		if _, err := b.Acquire(t.Context(), holder("bob", "there")); plan.ClassOf(err) != plan.ErrLocked {
			t.Errorf("a renewed lease was taken over: %v", err)
		}
		if err := a.Release(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if held, err := b.Held(t.Context()); err != nil || held != nil {
			t.Errorf("given back and yet held: %+v, %v", held, err)
		}
		second, err := b.Acquire(t.Context(), holder("bob", "there"))
		if err != nil || second.Epoch != 2 {
			t.Fatalf("%+v, %v", second, err)
		}
		if got := sim.Objects(); len(got) != 1 || got[0] != "team/lock/0000000000000002" {
			t.Errorf("objects: %q", got)
		}
	})
}

func TestBucketLeaseOfTheDeadEnds(t *testing.T) {
	bubble(t, func(t *testing.T, endpoint string) {
		sim := newSim()
		a, b := contender(t, sim, endpoint, nil), contender(t, sim, endpoint, nil)
		first, err := a.Acquire(t.Context(), holder("alice", "here"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(first.TTL + grace)
		if _, err := b.Acquire(t.Context(), holder("bob", "there")); plan.ClassOf(err) != plan.ErrLocked {
			t.Errorf("taken over too early: %v", err)
		}
		time.Sleep(time.Second)
		second, err := b.Acquire(t.Context(), holder("bob", "there"))
		if err != nil || second.Epoch != 2 {
			t.Fatalf("%+v, %v", second, err)
		}
		if _, err := a.Renew(t.Context(), first); !errors.Is(err, plan.ErrLeaseLost) || !strings.Contains(err.Error(), "bob") {
			t.Errorf("the dead came back: %v", err)
		}
		// What it wrote then is in nobody's way.
		if held, err := a.Held(t.Context()); err != nil || held == nil || held.Holder.Who != "bob" {
			t.Errorf("%+v, %v", held, err)
		}
		// From the same place, which only one can have locked, nobody has to wait.
		third, err := a.Acquire(t.Context(), holder("bob", "there"))
		if err != nil || third.Epoch != 3 {
			t.Errorf("%+v, %v", third, err)
		}
	})
}

// A contender that stood still between looking and taking finds the number it
// takes free, because its holder is gone and the number with it. It must notice
// that there is a higher one.
func TestBucketOldKnowledge(t *testing.T) {
	bubble(t, func(t *testing.T, endpoint string) {
		sim := newSim()
		a, late := contender(t, sim, endpoint, nil), contender(t, sim, endpoint, nil)
		take := func() plan.Lease {
			l, err := a.Acquire(t.Context(), holder("alice", "here"))
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		giveBack := func(l plan.Lease) {
			if err := a.Release(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		giveBack(take())
		sim.SetFault(func(r *http.Request) bucketsim.Fault {
			if r.Method == http.MethodPut {
				sim.SetFault(nil)
				giveBack(take())
				take()
			}
			return bucketsim.Fault{}
		})
		if _, err := late.Acquire(t.Context(), holder("bob", "there")); plan.ClassOf(err) != plan.ErrLocked {
			t.Errorf("took what was long past: %v", err)
		}
		if held, err := late.Held(t.Context()); err != nil || held == nil || held.Epoch != 3 || held.Holder.Who != "alice" {
			t.Errorf("%+v, %v", held, err)
		}
	})
}

func TestBucketBreak(t *testing.T) {
	bubble(t, func(t *testing.T, endpoint string) {
		sim := newSim()
		a, b := contender(t, sim, endpoint, nil), contender(t, sim, endpoint, nil)
		lease, err := a.Acquire(t.Context(), holder("alice", "here"))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Break(t.Context(), plan.Lease{ID: "another", Epoch: lease.Epoch}); err != nil {
			t.Error(err)
		}
		if lease, err = a.Renew(t.Context(), lease); err != nil {
			t.Fatalf("breaking another lease broke this one: %v", err)
		}
		held, err := b.Held(t.Context())
		if err != nil || held == nil {
			t.Fatalf("%+v, %v", held, err)
		}
		if err := b.Break(t.Context(), *held); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Renew(t.Context(), lease); !errors.Is(err, plan.ErrLeaseLost) {
			t.Errorf("%v", err)
		}
		if next, err := b.Acquire(t.Context(), holder("bob", "there")); err != nil || next.Epoch != 3 {
			t.Errorf("%+v, %v", next, err)
		}
	})
}

// A service that overwrites what it should not must not be taken for a lock.
func TestBucketWithoutConditions(t *testing.T) {
	for name, c := range map[string]struct {
		sim      *bucketsim.Sim
		endpoint string
	}{
		"S3 that ignores If-None-Match": {&bucketsim.Sim{Naive: true}, onS3},
		"OSS with versioning":           {&bucketsim.Sim{Version: true}, onOSS},
	} {
		synctest.Test(t, func(t *testing.T) {
			c.sim.Bucket, c.sim.Keys, c.sim.Now = "acme-locks", map[string]string{"id": "secret"}, time.Now
			_, err := contender(t, c.sim, c.endpoint, nil).Acquire(t.Context(), holder("alice", "here"))
			if err == nil || !strings.Contains(err.Error(), "overwrote") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// Every request of an acquisition, a renewal and a release fails once in every
// way: the answer is the same as without.
func TestBucketFaults(t *testing.T) {
	bubble(t, func(t *testing.T, endpoint string) {
		for _, fault := range []bucketsim.Fault{
			{Drop: true}, {Lose: true}, {Status: 503, Code: "SlowDown"}, {Status: 500, Code: "InternalError"}, {Status: 409, Code: "ConditionalRequestConflict"},
		} {
			for at := 1; ; at++ {
				sim := newSim()
				n := 0
				sim.SetFault(func(*http.Request) bucketsim.Fault {
					if n++; n == at {
						return fault
					}
					return bucketsim.Fault{}
				})
				b := contender(t, sim, endpoint, nil)
				lease, err := b.Acquire(t.Context(), holder("alice", "here"))
				if err == nil {
					lease, err = b.Renew(t.Context(), lease)
				}
				if err == nil {
					err = b.Release(t.Context(), lease)
				}
				if err == nil {
					lease, err = b.Acquire(t.Context(), holder("bob", "there"))
				}
				if err != nil || lease.Epoch != 2 || len(sim.Objects()) != 1 {
					// A deletion that failed leaves an old number behind, for the next one to delete.
					if err != nil || lease.Epoch != 2 || len(sim.Objects()) != 2 {
						t.Errorf("%+v at request %d: %+v, %v, %q", fault, at, lease, err, sim.Objects())
					}
				}
				if n < at {
					break // all requests have had their turn
				}
			}
		}
	})
}

func TestBucketRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, endpoint string) {
		sim := newSim()
		b := contender(t, sim, endpoint, nil)
		b.client.Credentials.SecretAccessKey = "wrong"
		if _, err := b.Acquire(t.Context(), holder("alice", "")); plan.ClassOf(err) != plan.ErrCredentials {
			t.Errorf("wrong secret: %v", err)
		}
		b = contender(t, sim, endpoint, nil)
		if err := b.client.Put(t.Context(), b.object(3), strings.NewReader("somebody's"), bucket.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Acquire(t.Context(), holder("alice", "")); plan.ClassOf(err) != plan.ErrBlocked {
			t.Errorf("a foreign object: %v", err)
		}
		if got := sim.Objects(); len(got) != 1 {
			t.Errorf("objects: %q", got)
		}
	})
	if _, err := New(Config{Stack: "a", Spec: &specs.Lock{Kind: KindBucket, Endpoint: onS3, Bucket: "abc"}, Getenv: func(string) string { return "" }}); plan.ClassOf(err) != plan.ErrCredentials {
		t.Errorf("no credentials: %v", err)
	}
	if _, err := New(Config{Stack: "a", Spec: &specs.Lock{Kind: "paper"}}); plan.ClassOf(err) != plan.ErrSpec {
		t.Errorf("an unknown kind: %v", err)
	}
}

// wire is a bad network: it delays, loses requests and loses answers, and now and
// then is down for longer than a lease.
type wire struct {
	sim  *bucketsim.Sim
	mu   sync.Mutex
	rand *rand.Rand
	down time.Time // until when nothing passes
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	before, after := w.delay(), w.delay()
	drop, lose := w.rand.IntN(20) == 0, w.rand.IntN(20) == 0
	down := time.Now().Before(w.down)
	w.mu.Unlock()
	time.Sleep(before)
	if down || drop {
		return nil, errors.New("no route to host")
	}
	// Whoever gave up meanwhile cannot call a request back that is on its way.
	resp, err := w.sim.Transport().RoundTrip(r.Clone(context.WithoutCancel(r.Context())))
	time.Sleep(after)
	switch {
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	case lose:
		return nil, errors.New("connection reset by peer")
	}
	return resp, err
}

// delay is short, as a rule.
func (w *wire) delay() time.Duration {
	if w.rand.IntN(30) == 0 {
		return time.Duration(w.rand.IntN(100)) * time.Second
	}
	return time.Duration(w.rand.IntN(300)) * time.Millisecond
}

// Many contenders on bad networks, whose clocks differ and who die without a
// word, never have effects out of order: once one has had an effect under an
// epoch, nobody has one under a lower epoch or under the same as somebody else.
func TestBucketProperty(t *testing.T) {
	runs := 60
	if testing.Short() {
		runs = 10
	}
	acquired := 0
	for seed := range uint64(runs) {
		endpoint := []string{onS3, onOSS}[seed%2]
		synctest.Test(t, func(t *testing.T) { acquired += property(t, seed, endpoint) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d acquisitions", acquired)
	if acquired < 10*runs {
		t.Errorf("only %d acquisitions in %d runs: nothing was tested", acquired, runs)
	}
}

func property(t *testing.T, seed uint64, endpoint string) int {
	const contenders, lasting = 5, 40 * time.Minute
	sim := newSim()
	var (
		mu       sync.Mutex
		top      int64
		owner    int
		acquired int
		clock    = rand.New(rand.NewPCG(seed, 99))
	)
	// The service is many machines, whose clocks differ a little.
	sim.Now = func() time.Time {
		return time.Now().Add(time.Duration(clock.Int64N(int64(grace-4*time.Second))) - (grace-4*time.Second)/2)
	}
	end := time.Now().Add(lasting)
	var wg sync.WaitGroup
	for me := range contenders {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(me)))
			w := &wire{sim: sim, rand: rand.New(rand.NewPCG(seed, uint64(me)+50))}
			skew := time.Duration(r.IntN(20)-10) * time.Minute
			for time.Now().Before(end) {
				lock := contender(t, sim, endpoint, w)
				lock.client.Now = func() time.Time { return time.Now().Add(skew) }
				leases := apply.NewLeases(nil, nil)
				asked := time.Now()
				lease, err := lock.Acquire(t.Context(), holder(fmt.Sprint(me), ""))
				if err != nil {
					time.Sleep(time.Duration(r.IntN(30)) * time.Second)
					continue
				}
				leases.Keep(lock, lease, asked)
				mu.Lock()
				acquired++
				mu.Unlock()
				for range r.IntN(200) {
					if leases.Err() != nil {
						break
					}
					mu.Lock()
					if lease.Epoch < top || lease.Epoch == top && owner != me {
						t.Errorf("%d has an effect under epoch %d after %d had one under %d", me, lease.Epoch, owner, top)
					}
					top, owner = lease.Epoch, me
					mu.Unlock()
					time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
					if r.IntN(100) == 0 {
						w.mu.Lock()
						w.down = time.Now().Add(time.Duration(r.IntN(180)) * time.Second)
						w.mu.Unlock()
					}
				}
				if r.IntN(3) == 0 {
					leases.Drop(lock.Name()) // dies
				} else if leases.Err() == nil {
					leases.Release(t.Context())
				} else {
					leases.Drop(lock.Name())
				}
			}
		})
	}
	wg.Wait()
	return acquired
}

func FuzzReadRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"X","ttl_seconds":60,"holder":{"who":"a\u001b[31m","pid":3}}`))
	f.Add([]byte(`{"format":1,"id":"X","ttl_seconds":99999999999}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRecord(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		if l := r.lease(1); l.TTL <= 0 || l.TTL > maxTTL || strings.ContainsRune(l.Holder.String(), 0x1b) {
			t.Fatalf("%+v", l)
		}
	})
}

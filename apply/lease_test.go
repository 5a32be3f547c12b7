package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailform/plan"
)

// paperLock is a lock whose keeper does what the test says.
type paperLock struct {
	name string

	mu       sync.Mutex
	renewals int
	renew    func() error // nil: granted
	log      *[]string
}

func (p *paperLock) Name() string { return p.name }

func (p *paperLock) Acquire(context.Context, plan.Holder) (plan.Lease, error) {
	*p.log = append(*p.log, "acquire "+p.name)
	return plan.Lease{ID: p.name, Epoch: 1, TTL: time.Minute}, nil
}

func (p *paperLock) Renew(ctx context.Context, l plan.Lease) (plan.Lease, error) {
	p.mu.Lock()
	p.renewals++
	renew := p.renew
	p.mu.Unlock()
	if renew == nil {
		return l, nil
	}
	if err := renew(); err != nil {
		return l, err
	}
	<-ctx.Done() // hangs
	return l, ctx.Err()
}

func (p *paperLock) Release(context.Context, plan.Lease) error {
	*p.log = append(*p.log, "release "+p.name)
	return nil
}

func (p *paperLock) Held(context.Context) (*plan.Lease, error) { return nil, nil }
func (p *paperLock) Break(context.Context, plan.Lease) error   { return nil }
func (p *paperLock) Close()                                    {}

func (p *paperLock) failing(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renew = func() error { return err }
}

// The tests below run in bubbles of testing/synctest: time.Sleep moves a clock of
// their own on, and nothing waits.

func leased(t *testing.T, names ...string) (*Leases, []*paperLock, *[]string) {
	t.Helper()
	log := &[]string{}
	leases := NewLeases(nil, nil)
	var locks []*paperLock
	for _, n := range names {
		l := &paperLock{name: n, log: log}
		if err := leases.Acquire(t.Context(), l, Holder{}); err != nil {
			t.Fatal(err)
		}
		locks = append(locks, l)
	}
	return leases, locks, log
}

func TestLeasesAreRenewedAndGivenBackInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases, locks, log := leased(t, "bucket", "host mx1")
		time.Sleep(10*time.Minute + time.Second)
		if err := leases.Err(); err != nil {
			t.Error(err)
		}
		if n := locks[0].renewals; n != 30 {
			t.Errorf("%d renewals in 10 minutes, want one every 20 s", n)
		}
		if err := leases.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if want := []string{"acquire bucket", "acquire host mx1", "release host mx1", "release bucket"}; !slices.Equal(*log, want) {
			t.Errorf("%q", *log)
		}
		time.Sleep(10 * time.Minute)
		if leases.Err() != nil {
			t.Error("what was given back got lost")
		}
	})
}

// A lease that cannot be renewed is lost before others may take it, not earlier.
func TestLeaseIsLostInTime(t *testing.T) {
	for name, err := range map[string]error{"refused": errors.New("no route to host"), "hanging": nil} {
		synctest.Test(t, func(t *testing.T) {
			leases, locks, _ := leased(t, "bucket")
			locks[0].failing(err)
			time.Sleep(54 * time.Second)
			if err := leases.Err(); err != nil {
				t.Errorf("%s: lost while it lasts: %v", name, err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			select {
			case <-leases.lost:
			default:
				t.Errorf("%s: nobody is told", name)
			}
			if plan.ClassOf(leases.Err()) != plan.ErrIncomplete {
				t.Errorf("%s: %v", name, leases.Err())
			}
			leases.Release(t.Context())
		})
	}
}

// A failure that passes is no loss.
func TestLeaseSurvivesTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases, locks, _ := leased(t, "bucket")
		locks[0].failing(errors.New("503 SlowDown"))
		time.Sleep(45 * time.Second)
		locks[0].mu.Lock()
		locks[0].renew = nil
		locks[0].mu.Unlock()
		time.Sleep(time.Hour)
		if err := leases.Err(); err != nil {
			t.Error(err)
		}
		leases.Release(t.Context())
	})
}

func TestLeaseTakenByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases, locks, log := leased(t, "bucket", "host mx1")
		leases.Forgive("host mx1")
		locks[1].failing(fmt.Errorf("%w: bob has it", plan.ErrLeaseLost))
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if err := leases.Err(); err == nil || !strings.Contains(err.Error(), "host mx1") || !strings.Contains(err.Error(), "bob has it") {
			t.Errorf("%v", err)
		}
		leases.Release(t.Context())
		if !slices.Contains(*log, "release bucket") {
			t.Errorf("%q: the lease that is held must be given back", *log)
		}
	})
}

func TestLeaseThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases := NewLeases(nil, nil)
		gone := make(chan struct{})
		leases.Keep(&paperLock{name: "database"}, plan.Lease{TTL: time.Minute, Gone: gone}, time.Now())
		synctest.Wait()
		if leases.Err() != nil {
			t.Error(leases.Err())
		}
		close(gone)
		synctest.Wait()
		if leases.Err() == nil {
			t.Error("a connection that ended is no loss")
		}
		leases.Drop("database")
	})
}

// A machine that the plan deletes may be silent.
func TestForgivenLeaseMayBeSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases, locks, _ := leased(t, "host mx1")
		leases.Forgive("host mx1")
		locks[0].failing(errors.New("no route to host"))
		time.Sleep(time.Hour)
		if err := leases.Err(); err != nil {
			t.Error(err)
		}
		leases.Release(t.Context())
	})
}

// The monotonic clock and timers stand still while a laptop sleeps; the wall
// clock does not.
func TestLeaseAfterTheLaptopSlept(t *testing.T) {
	now := epoch
	never := func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return ctx.Err() }
	leases := NewLeases(func() time.Time { return now }, never)
	leases.Keep(&paperLock{name: "bucket"}, plan.Lease{TTL: time.Minute}, now)
	now = now.Add(54 * time.Second)
	if err := leases.Err(); err != nil {
		t.Error(err)
	}
	now = now.Add(time.Second)
	if leases.Err() == nil {
		t.Error("still ours after it ended")
	}
	leases.Drop("bucket")
}

// A run that loses a lease finishes what is in flight, begins nothing more, cuts
// its waits short and says that it is to be run again.
func TestRunStopsWhenALeaseIsLost(t *testing.T) {
	gone := make(chan struct{})
	cloud := &fake{name: "cloud"}
	b := newBench(t, cloud)
	leases := NewLeases(nil, func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return ctx.Err() })
	defer leases.Drop("bucket")
	leases.Keep(&paperLock{name: "bucket"}, plan.Lease{TTL: time.Minute, Gone: gone}, time.Now())
	b.config.Leases = leases
	cloud.do = func(_ context.Context, op plan.Op, _ plan.Token, _ plan.Progress) (plan.Result, error) {
		close(gone)
		<-leases.lost
		return plan.Result{}, nil
	}
	p := planOf(op("a"), op("b", "a"))
	out, err := b.run(context.Background(), p)
	if got := statuses(out); got != "a:done b:not begun" {
		t.Errorf("%s", got)
	}
	var pe *plan.Error
	if !errors.As(err, &pe) || pe.Class != plan.ErrIncomplete || pe.Code != codeLeaseLost || !strings.Contains(pe.Got, "1 of 2 steps are done") || !strings.Contains(pe.Step, "bucket") {
		t.Errorf("%+v", err)
	}
}

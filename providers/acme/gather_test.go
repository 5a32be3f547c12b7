package acme

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailform/plan"
	"mailform/providers/acme/acmesim"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/server/manifest"
	"mailform/specs"
)

// board is a DNS that notes what it is told.
type board struct {
	mu    sync.Mutex
	said  []string
	fails string
}

func (b *board) note(what string, records map[string][]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, what+" "+strings.Join(slices.Sorted(maps.Keys(records)), " "))
}

func (b *board) Present(_ context.Context, records map[string][]string) map[string]error {
	b.note("up", records)
	return map[string]error{b.fails: errors.New("refused")}
}

func (b *board) CleanUp(_ context.Context, records map[string][]string) error {
	b.note("down", records)
	return nil
}

func TestGathering(t *testing.T) {
	all := []string{"a", "b", "c"}
	rec := func(name string) map[string][]string { return map[string][]string{name: {"value of " + name}} }
	for _, c := range []struct {
		name string
		run  func(g *gathering, order func(name string, after, lasts time.Duration))
		want string
		took time.Duration
	}{
		{"all at once", func(_ *gathering, order func(string, time.Duration, time.Duration)) {
			order("a", 0, 3*time.Second)
			order("b", time.Second, 0)
			order("c", 2*time.Second, time.Second)
		}, "up a b c, down a b c", 5 * time.Second},
		{"one has nothing to prove", func(g *gathering, order func(string, time.Duration, time.Duration)) {
			order("a", 0, 0)
			order("b", 0, 0)
			time.Sleep(time.Second)
			g.end("c")
		}, "up a b, down a b", time.Second},
		{"one is late", func(_ *gathering, order func(string, time.Duration, time.Duration)) {
			order("a", 0, 0)
			order("b", time.Second, 0)
			order("c", 20*time.Second, 0)
		}, "up a b, down a b, up c, down c", 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &board{}
				g := newGathering(b, sleep)
				var wg sync.WaitGroup
				begun := time.Now()
				c.run(g, func(name string, after, lasts time.Duration) {
					g.begin(name)
					wg.Go(func() {
						time.Sleep(after)
						down, err := g.publish(t.Context(), name, all, rec(name))
						if err != nil {
							t.Error(err)
						}
						time.Sleep(lasts)
						g.end(name)
						if err := down(t.Context()); err != nil {
							t.Error(err)
						}
					})
				})
				wg.Wait()
				if got := strings.Join(b.said, ", "); got != c.want || time.Since(begun) != c.took {
					t.Errorf("%s in %v, want %s in %v", got, time.Since(begun), c.want, c.took)
				}
			})
		})
	}
}

// One name that cannot go up spoils the order it belongs to, and no other.
func TestGatheringFailsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGathering(&board{fails: "b"}, sleep)
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b"} {
			wg.Go(func() {
				down, err := g.publish(t.Context(), name, []string{"a", "b"}, map[string][]string{name: {"x"}})
				if (err != nil) != (name == "b") {
					t.Errorf("%s: %v", name, err)
				}
				down(t.Context())
			})
		}
		wg.Wait()
	})
}

// farm is several hosts.
type farm map[string]*hosts

func (f farm) CertificateRequest(ctx context.Context, host, name string, names []string, kind string, keep bool) ([]byte, error) {
	return f[host].CertificateRequest(ctx, host, name, names, kind, keep)
}
func (f farm) InstallCertificate(ctx context.Context, host, name string, chain []byte, meta map[string]string) error {
	return f[host].InstallCertificate(ctx, host, name, chain, meta)
}
func (f farm) RemoveCertificate(ctx context.Context, host, name string) error {
	return f[host].RemoveCertificate(ctx, host, name)
}
func (f farm) Certificates(host string) ([]manifest.Certificate, bool) {
	return f[host].Certificates(host)
}
func (f farm) AccountKey(ctx context.Context, host, directory string) ([]byte, error) {
	return f[host].AccountKey(ctx, host, directory)
}
func (f farm) Order(ctx context.Context, host, name, directory string) (string, error) {
	return f[host].Order(ctx, host, name, directory)
}
func (f farm) KeepOrder(ctx context.Context, host, name, directory, location string) error {
	return f[host].KeepOrder(ctx, host, name, directory, location)
}

// Three hosts with several names each: the zone is written twice, once to put all
// challenge records up and once to take them down.
func TestOneTransactionForAllCertificates(t *testing.T) {
	w := newWorld(t, acmesim.Config{})
	s := testSpec()
	f := farm{"mx1": w.hosts}
	for i := 2; i <= 3; i++ {
		name := fmt.Sprintf("mx%d", i)
		f[name] = &hosts{}
		s.Hosts = append(s.Hosts, &specs.Host{Name: name, Hostname: fmt.Sprintf("mail%d.acme.example", i)})
	}
	s.Domains[0].Discovery = true
	w.p = w.provider(func(c *Config) {
		c.Hosts = f
		c.Sleep = func(ctx context.Context, d time.Duration) error {
			if d == gatherFor { // nobody is late here
				<-ctx.Done()
				return ctx.Err()
			}
			return noSleep(ctx, d)
		}
	})
	var mu sync.Mutex
	var writes []string
	w.sim.SetFault(func(r *http.Request) cloudflaresim.Fault {
		if r.Method != http.MethodGet {
			mu.Lock()
			defer mu.Unlock()
			writes = append(writes, r.Method+" "+r.URL.Path[strings.LastIndexByte(r.URL.Path, '/'):])
		}
		return cloudflaresim.Fault{}
	})
	if err := w.runParallel(w.plan(s)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(writes, ", "); got != "POST /batch, POST /batch" {
		t.Errorf("the zone was written by %s", got)
	}
	for name, h := range f {
		if h.cert == nil {
			t.Errorf("%s has no certificate", name)
		}
	}
	if left := w.sim.Records("acme.example"); len(left) != 0 {
		t.Errorf("challenge records are left: %v", left)
	}
	if got := actions(w.plan(s)); got != "" {
		t.Errorf("after apply there is still %s", got)
	}
}

// runParallel does operations as apply does: each as soon as those before it are done.
func (w *world) runParallel(p *plan.Plan) error {
	done := map[string]chan struct{}{}
	for _, op := range p.Ops {
		done[op.ID] = make(chan struct{})
	}
	var mu sync.Mutex
	var errs []error
	results := map[plan.Ref]plan.Value{}
	var wg sync.WaitGroup
	for _, op := range p.Ops {
		wg.Go(func() {
			defer close(done[op.ID])
			for _, id := range op.After {
				<-done[id]
			}
			mu.Lock()
			op.Inputs = op.Inputs.Resolve(func(r plan.Ref) (plan.Value, bool) { v, ok := results[r]; return v, ok })
			mu.Unlock()
			res, err := w.p.Do(w.t.Context(), op, "token", nil)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			for a, attrs := range res.Outputs {
				for k, v := range attrs {
					results[plan.Ref{Address: a, Attr: k}] = v
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

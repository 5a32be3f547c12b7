package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailform/server/bucket/bucketsim"
	"mailform/server/manifest"
	"mailform/server/store"
)

// small makes all that happens in a large store happen in a small one.
var small = store.Options{SegmentBytes: 20_000, MemoryBody: 1500, CheckpointBytes: 30_000, ReserveBytes: -1}

var settings = manifest.Backup{Endpoint: "http://127.0.0.1:9", Bucket: "acme-mail", Prefix: "mail", AccessKeyID: "id", SecretAccessKey: "secret",
	EverySeconds: 3600, KeepSeconds: 86400}

// world is a store, a bucket and a clock.
type world struct {
	*testing.T
	sim     *bucketsim.Sim
	clock   atomic.Int64 // seconds
	layout  manifest.Layout
	log     *store.Log
	faultMu sync.Mutex
	fault   func(*http.Request) bucketsim.Fault // nil: none
}

// spoil has f asked about every request to the bucket from now on, and nothing else
// any more, even about those that a backup which was killed has left on the way; nil
// is for good days.
func (w *world) spoil(f func(*http.Request) bucketsim.Fault) {
	w.faultMu.Lock()
	defer w.faultMu.Unlock()
	w.fault = f
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, layout: manifest.Layout{Root: t.TempDir()}}
	w.clock.Store(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).Unix())
	w.sim = &bucketsim.Sim{Bucket: "acme-mail", Keys: map[string]string{"id": "secret"}, Now: w.now, Page: 7}
	w.sim.SetFault(func(r *http.Request) bucketsim.Fault {
		w.faultMu.Lock()
		defer w.faultMu.Unlock()
		if w.fault == nil {
			return bucketsim.Fault{}
		}
		return w.fault(r)
	})
	w.log = w.open(w.layout.StoreDir())
	w.Cleanup(func() { w.must(w.log.Close()) })
	for _, a := range []string{"a@x", "b@x"} {
		w.must(w.log.EnsureAccount(t.Context(), a, 0))
	}
	return w
}

func (w *world) now() time.Time          { return time.Unix(w.clock.Load(), 0).UTC() }
func (w *world) advance(d time.Duration) { w.clock.Add(int64(d / time.Second)) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) open(dir string) *store.Log {
	w.Helper()
	l, err := store.Open(dir, small)
	w.must(err)
	return l
}

func (w *world) config() Config {
	return Config{Logger: slog.New(slog.DiscardHandler), HTTP: &http.Client{Transport: w.sim.Transport()}, Now: w.now, Rate: -1,
		Sleep: func(context.Context, time.Duration) error { return nil }}
}

func (w *world) place() *Place {
	p, err := NewPlace(w.config(), settings, "mx1")
	w.must(err)
	return p
}

func (w *world) source() Source {
	return Source{Store: w.log, Layout: w.layout, Stack: "acme", Host: "mx1", Version: "test"}
}

func (w *world) backup(ctx context.Context) (*Manifest, error) {
	return w.place().Backup(ctx, w.source())
}

func (w *world) deliver(account, text string) {
	w.Helper()
	d := store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)), Targets: []store.Target{{Account: account, Mailbox: "INBOX"}}}
	_, err := w.log.Deliver(context.Background(), d)
	w.must(err)
}

// restore brings a backup back and returns its state directory.
func (w *world) restore(t time.Time) string {
	w.Helper()
	dir := filepath.Join(w.TempDir(), "state")
	_, err := w.place().Restore(w.Context(), t, dir, Owner{})
	w.must(err)
	return dir
}

// dump is all that a store holds, by content.
func dump(t testing.TB, l *store.Log) string {
	t.Helper()
	ctx := context.Background()
	var b strings.Builder
	read := func(r io.ReadCloser, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, a := range []string{"a@x", "b@x"} {
		boxes, err := l.Mailboxes(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		for _, box := range boxes {
			snap, watch, err := l.Open(ctx, a, box.Name)
			if err != nil {
				t.Fatal(err)
			}
			watch.Close()
			fmt.Fprintf(&b, "%s %s %d\n", a, box.Name, box.UIDValidity)
			for _, m := range snap.Messages.All() {
				fmt.Fprintf(&b, "  %d %v %s\n", m.UID, m.Flags, read(l.Read(ctx, a, *m)))
			}
		}
	}
	entries, err := l.Queue(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fmt.Fprintf(&b, "queue %s %v %s\n", e.ID, e.Recipients, read(l.OpenQueued(ctx, e)))
	}
	return b.String()
}

// dumpDir is dump of a restored state directory.
func dumpDir(t testing.TB, dir string) string {
	t.Helper()
	l, err := store.Open(filepath.Join(dir, "store"), small)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if d := l.Damage(); len(d) > 0 {
		t.Errorf("damage: %v", d)
	}
	return dump(t, l)
}

// step changes the store at random, and waits for nothing else.
func (w *world) step(rng *rand.Rand, n int) {
	w.Helper()
	ctx := context.Background()
	account := []string{"a@x", "b@x"}[rng.IntN(2)]
	switch rng.IntN(8) {
	case 0:
		snap, watch, err := w.log.Open(ctx, account, "INBOX")
		w.must(err)
		watch.Close()
		for _, m := range snap.Messages.All() {
			if rng.IntN(2) == 0 {
				_, err := w.log.UpdateFlags(ctx, account, store.Named("INBOX"), []store.UID{m.UID}, store.FlagsAdd, []string{`\Deleted`})
				w.must(err)
			}
		}
		_, err = w.log.Expunge(ctx, account, store.Named("INBOX"), nil)
		w.must(err)
	case 1:
		d := store.Delivery{Body: strings.NewReader(fmt.Sprintf("queued %d", n)), Size: -1,
			Queue: []store.QueueEntry{{Recipients: []string{"x@elsewhere.example"}, Domain: "elsewhere.example"}}}
		_, err := w.log.Deliver(ctx, d)
		w.must(err)
	case 2:
		entries, err := w.log.Queue(ctx)
		w.must(err)
		if len(entries) > 0 {
			w.must(w.log.RemoveQueue(ctx, entries[0].ID))
		}
	case 3:
		w.deliver(account, fmt.Sprintf("large %d %s", n, strings.Repeat("x", 2000+rng.IntN(20_000))))
	default:
		w.deliver(account, fmt.Sprintf("message %d %s", n, strings.Repeat("y", rng.IntN(1000))))
	}
}

// tag is one message of TestBackupUnderLoad and what is known of it, as positions
// of one counter: 0 is not yet.
type tag struct{ begun, delivered, leaving, gone atomic.Int64 }

// Backups are made while mail comes in and goes, from a bucket that loses answers
// and fails, and by runs that are killed anywhere. Each that was made has all that
// was acknowledged before it began, and nothing that had gone by then.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var tick atomic.Int64
	var mu sync.Mutex
	tags := map[string]*tag{}
	ctx := context.Background()
	work := func(worker, n int, rng *rand.Rand) {
		account, box := []string{"a@x", "b@x"}[worker%2], fmt.Sprintf("box%d", worker)
		id := fmt.Sprintf("%d-%d", worker, n)
		g := &tag{}
		mu.Lock()
		tags[id] = g
		mu.Unlock()
		g.begun.Store(tick.Add(1))
		text := id + " " + strings.Repeat("z", rng.IntN(2000))
		list, err := w.log.Deliver(ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)),
			Targets: []store.Target{{Account: account, Mailbox: box, Flags: []string{`\Deleted`}}}})
		if err != nil {
			t.Error(err)
			return
		}
		g.delivered.Store(tick.Add(1))
		if n%3 != 0 {
			g.leaving.Store(tick.Add(1))
			if _, err := w.log.Expunge(ctx, account, store.Named(box), []store.UID{list[0].UID}); err != nil {
				t.Error(err)
			}
			g.gone.Store(tick.Add(1))
		}
	}
	rng := rand.New(rand.NewPCG(7, 8))
	made, killed := 0, 0
	for round := 0; made < 6 && !t.Failed(); round++ {
		var load sync.WaitGroup
		for worker := range 4 {
			load.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(round), uint64(worker)))
				for n := range 20 {
					work(worker, 20*round+n, rng)
				}
			})
		}
		run, kill := context.WithCancel(t.Context())
		left := 1 + rng.IntN(40)
		w.spoil(func(*http.Request) bucketsim.Fault {
			if left--; left == 0 && round%2 == 0 {
				kill()
				return bucketsim.Fault{Lose: rng.IntN(2) == 0, Drop: true}
			}
			switch rng.IntN(24) {
			case 0:
				return bucketsim.Fault{Lose: true}
			case 1:
				return bucketsim.Fault{Drop: true}
			case 2:
				return bucketsim.Fault{Status: 503, Code: "SlowDown"}
			}
			return bucketsim.Fault{}
		})
		w.advance(time.Minute)
		from := tick.Add(1)
		m, err := w.backup(run)
		kill()
		until := tick.Add(1)
		load.Wait()
		w.spoil(nil)
		if err != nil {
			if run.Err() == nil {
				t.Fatal(err)
			}
			killed++
			continue
		}
		made++
		have := map[string]bool{}
		for line := range strings.Lines(dumpDir(t, w.restore(m.Time))) {
			if f := strings.Fields(line); strings.HasPrefix(line, "  ") {
				have[f[2]] = true
			}
		}
		mu.Lock()
		known := maps.Clone(tags)
		mu.Unlock()
		for id, g := range known {
			delivered, leaving := g.delivered.Load(), g.leaving.Load()
			if acked := delivered != 0 && delivered < from; acked && !have[id] && (leaving == 0 || leaving > until) {
				t.Errorf("%s was acknowledged before the backup and is not in it", id)
			}
			if gone := g.gone.Load(); have[id] && (g.begun.Load() > until || gone != 0 && gone < from) {
				t.Errorf("%s was not there during the backup and is in it", id)
			}
		}
	}
	if killed == 0 {
		t.Error("no run was killed")
	}
	w.advance(time.Minute)
	m, err := w.backup(t.Context())
	w.must(err)
	if got, want := dumpDir(t, w.restore(m.Time)), dump(t, w.log); got != want {
		t.Errorf("after the load: got %d octets, want %d", len(got), len(want))
	}
	w.must(w.log.Check(t.Context()))
	t.Logf("%d backups, %d runs killed, %d messages", made, killed, len(tags))
}

// Whatever is kept, for how long, and however runs end: each backup that is still
// listed restores to exactly what there was.
func TestRetention(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			rng := rand.New(rand.NewPCG(seed, 99))
			want := map[time.Time]string{}
			pruned := 0
			for n := range 18 {
				for i := range rng.IntN(15) {
					w.step(rng, n*100+i)
				}
				w.advance(time.Duration(rng.IntN(7200)) * time.Second)
				if rng.IntN(4) == 0 { // a run that is killed
					ctx, kill := context.WithCancel(t.Context())
					left := rng.IntN(20)
					w.spoil(func(*http.Request) (f bucketsim.Fault) {
						if left--; left <= 0 {
							kill()
							f.Drop, f.Lose = rng.IntN(2) == 0, true
						}
						return f
					})
					at := dump(t, w.log)
					m, err := w.backup(ctx)
					kill()
					w.spoil(nil)
					if err == nil {
						want[m.Time] = at
					} else if times, _ := w.place().Times(t.Context()); len(times) > 0 {
						if last := times[len(times)-1]; want[last] == "" { // only its answer was lost
							want[last] = at
						}
					}
				}
				if rng.IntN(3) > 0 {
					at := dump(t, w.log)
					m, err := w.backup(t.Context())
					w.must(err)
					want[m.Time] = at
				}
				if rng.IntN(3) > 0 {
					continue
				}
				keep := time.Duration(rng.IntN(36)) * time.Hour
				before, err := w.place().Times(t.Context())
				w.must(err)
				ctx, kill := context.WithCancel(t.Context())
				if left := rng.IntN(60); rng.IntN(3) == 0 {
					w.spoil(func(*http.Request) (f bucketsim.Fault) {
						if left--; left == 0 {
							kill()
							f.Lose = true
						}
						return f
					})
				}
				err = w.place().Prune(ctx, keep)
				interrupted := ctx.Err() != nil
				kill()
				w.spoil(nil)
				if err != nil && !interrupted {
					t.Fatal(err)
				}
				times, err := w.place().Times(t.Context())
				w.must(err)
				pruned += len(before) - len(times)
				if len(before) > 0 && (len(times) == 0 || times[len(times)-1] != before[len(before)-1]) {
					t.Fatal("the newest backup is gone")
				}
				for i, at := range times {
					if !interrupted && i < len(times)-1 && at.Before(w.now().Add(-keep)) {
						t.Errorf("%v is older than %v and still there", at, keep)
					}
					if got := dumpDir(t, w.restore(at)); got != want[at] {
						t.Fatalf("the backup of %v restores to\n%.2000s\nwant\n%.2000s", at, got, want[at])
					}
				}
				if err == nil && !interrupted { // nothing is left behind
					p := w.place()
					used, err := p.used(t.Context(), times)
					w.must(err)
					for _, key := range w.sim.Objects() {
						if s, ok := p.keys.sumOf(key); ok && len(times) > 0 && !used[s] {
							t.Errorf("%s is named by no backup", key)
						}
					}
				}
			}
			t.Logf("%d backups, %d removed", len(want), pruned)
		})
	}
}

// Each object is damaged in turn: the restore refuses, names it, and leaves nothing.
func TestRestoreRefusesDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(os.WriteFile(w.layout.CredentialsFile(), []byte(`{"format":1,"hashes":{"a@x":"h"}}`), 0o600))
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 120 {
		w.step(rng, n)
	}
	for n := range 6 {
		w.deliver("b@x", fmt.Sprintf("large %d %s", n, strings.Repeat("x", 5000)))
	}
	m, err := w.backup(t.Context())
	w.must(err)
	p := w.place()
	ctx := t.Context()
	objects := 0
	for i, key := range w.sim.Objects() {
		if _, ok := p.keys.sumOf(key); !ok {
			continue
		}
		objects++
		whole, err := p.text(ctx, key, 1<<30)
		w.must(err)
		want := "its checksum does not match"
		switch bad := slices.Clone(whole); i % 3 {
		case 0:
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			w.must(p.put(ctx, key, strings.NewReader(string(bad)), 1))
		case 1:
			w.must(p.put(ctx, key, strings.NewReader(string(bad[:len(bad)-1])), 1))
			want = "" // of a page its checksum, of a part its length
		case 2:
			w.must(p.remove(ctx, key))
			want = "404"
		}
		dir := filepath.Join(t.TempDir(), "state")
		_, err = p.Restore(ctx, m.Time, dir, Owner{})
		var damage *DamageError
		if !errors.As(err, &damage) || len(damage.Objects) != 1 || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", key, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", key, left, err)
		}
		w.must(p.put(ctx, key, strings.NewReader(string(whole)), 1))
	}
	if objects < 10 {
		t.Errorf("%d objects only", objects)
	}
	if got := dumpDir(t, w.restore(m.Time)); got != dump(t, w.log) {
		t.Error("the mended backup does not restore")
	}
	// Somebody removed objects: the next run puts them back.
	for _, key := range w.sim.Objects() {
		if _, ok := p.keys.sumOf(key); ok && rng.IntN(2) == 0 {
			w.must(p.remove(ctx, key))
		}
	}
	m, err = w.backup(ctx)
	w.must(err)
	if got := dumpDir(t, w.restore(m.Time)); got != dump(t, w.log) {
		t.Error("what was removed was not sent again")
	}
	key := p.keys.manifest(m.Time)
	w.must(p.put(ctx, key, strings.NewReader("{"), 1))
	if _, err := p.Restore(ctx, m.Time, filepath.Join(t.TempDir(), "s"), Owner{}); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("damaged manifest: %v", err)
	}
	if _, err := w.backup(ctx); err != nil {
		t.Errorf("a damaged manifest stops the next backup: %v", err)
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	credentials := []byte(`{"format":1,"hashes":{"a@x":"old"}}`)
	w.must(os.WriteFile(w.layout.CredentialsFile(), credentials, 0o600))
	if _, err := w.place().Newest(ctx, time.Time{}); !errors.Is(err, ErrNoBackup) {
		t.Errorf("no backup: %v", err)
	}
	w.deliver("a@x", "first")
	first, err := w.backup(ctx)
	w.must(err)
	want := dump(t, w.log)
	w.advance(time.Hour)
	w.deliver("a@x", "second")
	second, err := w.backup(ctx)
	w.must(err)
	for _, c := range []struct {
		at   time.Time
		want time.Time
	}{{time.Time{}, second.Time}, {first.Time, first.Time}, {second.Time.Add(-time.Second), first.Time}, {second.Time.Add(time.Hour), second.Time}} {
		if got, err := w.place().Newest(ctx, c.at); err != nil || got != c.want {
			t.Errorf("at %v: %v, %v", c.at, got, err)
		}
	}
	if _, err := w.place().Newest(ctx, first.Time.Add(-time.Second)); !errors.Is(err, ErrNoBackup) || !strings.Contains(err.Error(), "the oldest is of 2026") {
		t.Errorf("before the first: %v", err)
	}

	dir := w.restore(first.Time)
	if got := dumpDir(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "credentials.json")); err != nil || string(got) != string(credentials) {
		t.Errorf("credentials: %s, %v", got, err)
	}
	// The second message had a UID, and clients know it: none may get it again.
	l := w.open(filepath.Join(dir, "store"))
	list, err := l.Deliver(ctx, store.Delivery{Body: strings.NewReader("third"), Size: 5, Targets: []store.Target{{Account: "a@x", Mailbox: "INBOX"}}})
	w.must(err)
	box, err := l.CreateMailbox(ctx, "a@x", "new", "")
	w.must(err)
	w.must(l.Close())
	if list[0].UID < 1000 || list[0].ModSeq < 1000 || box.UIDValidity < 1000 {
		t.Errorf("after a restore: UID %d, modseq %d, UIDVALIDITY %d", list[0].UID, list[0].ModSeq, box.UIDValidity)
	}

	if _, err := w.place().Restore(ctx, first.Time, dir, Owner{}); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over a store: %v", err)
	}
	w.must(os.Rename(filepath.Join(dir, "store"), filepath.Join(dir, "store.old")))
	w.must(os.Mkdir(filepath.Join(dir, "store"), 0o700))
	out, err := w.place().Restore(ctx, second.Time, dir, Owner{})
	w.must(err)
	if len(out.Beside) != 1 || out.Beside[0] != filepath.Join(dir, "credentials.json.restored") {
		t.Errorf("beside: %v", out.Beside)
	}
	if got := dumpDir(t, dir); got != dump(t, w.log) {
		t.Error("the second backup restores to something else")
	}
}

// What is there is not sent again, and a growing file does not become a heap of
// small objects.
func TestBackupSendsWhatIsNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.log.Close())
	l, err := store.Open(w.layout.StoreDir(), store.Options{})
	w.must(err)
	w.log = l
	sent := func() (n int) {
		w.spoil(func(r *http.Request) bucketsim.Fault {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/objects/") {
				n++
			}
			return bucketsim.Fault{}
		})
		w.advance(time.Hour)
		_, err := w.backup(t.Context())
		w.must(err)
		return n
	}
	sent()
	if n := sent(); n != 0 {
		t.Errorf("nothing is new, and %d objects were sent", n)
	}
	for range smallParts + 10 {
		w.deliver("a@x", "one more")
		if n := sent(); n > 2 { // a part and a page
			t.Errorf("one message is new, and %d objects were sent", n)
		}
	}
	times, err := w.place().Times(t.Context())
	w.must(err)
	m, err := w.place().Manifest(t.Context(), times[len(times)-1])
	w.must(err)
	for _, o := range m.Pages {
		files, err := w.place().page(t.Context(), o)
		w.must(err)
		for _, f := range files {
			if len(f.Parts) > smallParts+1 {
				t.Errorf("%s has %d parts", f.Name, len(f.Parts))
			}
		}
	}
	if got := dumpDir(t, w.restore(m.Time)); got != dump(t, w.log) {
		t.Error("it restores to something else")
	}
}

package progress

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailform/apply"
	"mailform/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// story is a run in which everything happens once.
func story() []apply.Event {
	at := func(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }
	op := func(kind apply.EventKind, id, title string, addresses ...plan.Address) apply.Event {
		return apply.Event{Kind: kind, Op: id, Provider: "alicloud", Title: title, Addresses: addresses}
	}
	with := func(e apply.Event, change func(*apply.Event)) apply.Event { change(&e); return e }
	vm := func(k apply.EventKind) apply.Event {
		return op(k, "alicloud.RunInstances host/mx1/instance", "start the instance", "host/mx1/instance")
	}
	dns := func(k apply.EventKind) apply.Event {
		return op(k, "cloudflare.Batch acme.example", "write the records", "dns/acme.example/spf", "dns/acme.example/dmarc", "dns/acme.example/a/mx1")
	}
	lost := &plan.Error{Class: plan.ErrAmbiguous, Step: "start the instance host/mx1/instance", Got: "connection reset"}
	refused := &plan.Error{
		Code: "MF5101", Step: "write the records of acme.example",
		Sent: "POST https://api.cloudflare.com/client/v4/zones/z/dns_records/batch",
		Got:  "400 81057: an identical record already exists\n\x1b[2Jrequest 8f3a", Fix: "remove the record by hand, or adopt it",
	}
	read := apply.Event{Op: "observe alicloud", Provider: "alicloud", Title: "read alicloud"}
	var ops []plan.Op
	for _, e := range []apply.Event{
		vm(""), dns(""),
		op("", "mx", "publish MX", "dns/acme.example/mx"),
		op("", "autoconfig", "publish autoconfig", "dns/acme.example/autoconfig"),
		op("", "check", "check the server", "server/mx1"),
		op("", "w", "wait for the server", "server/mx1"),
		op("", "vm2", "start the instance", "host/mx2/instance"),
		op("", "spf", "write the records", "dns/bravo.example/spf"),
	} {
		ops = append(ops, plan.Op{ID: e.Op, Title: e.Title, Addresses: e.Addresses})
	}
	return []apply.Event{
		with(read, func(e *apply.Event) { e.Kind, e.Time = apply.EventObserve, at(0) }),
		with(read, func(e *apply.Event) {
			e.Kind, e.Time, e.Elapsed, e.Done = apply.EventObserved, at(0.4), 400*time.Millisecond, 7
		}),
		{Kind: apply.EventWarning, Time: at(0.5), Message: "the ledger is left out", Err: errors.New("the ledger is left out")},
		with(op(apply.EventResolved, "x", "make the network", "host/mx1/network"), func(e *apply.Event) { e.Time, e.Message = at(0.6), "an earlier run had done it" }),
		{Kind: apply.EventStart, Time: at(1), Total: 12, Estimate: 95 * time.Second, Ops: ops},
		with(vm(apply.EventBegin), func(e *apply.Event) { e.Time, e.Estimate = at(1), 30*time.Second }),
		with(dns(apply.EventBegin), func(e *apply.Event) { e.Time = at(1) }),
		with(vm(apply.EventRetry), func(e *apply.Event) {
			e.Time, e.Attempt, e.Wait, e.Err, e.Message = at(2), 1, 1500*time.Millisecond, lost, lost.Error()
		}),
		with(vm(apply.EventProgress), func(e *apply.Event) {
			e.Time, e.Message, e.Done, e.Total = at(4), "uploading mailformd", 3<<20, 8<<20
		}),
		with(vm(apply.EventDone), func(e *apply.Event) { e.Time, e.Elapsed = at(65), 64*time.Second }),
		with(dns(apply.EventFailed), func(e *apply.Event) { e.Time, e.Elapsed, e.Err = at(66), 65*time.Second, refused }),
		with(op(apply.EventSkipped, "mx", "publish MX", "dns/acme.example/mx"), func(e *apply.Event) {
			e.Time, e.Message = at(66), `needs "write the records dns/acme.example/spf", which failed`
		}),
		with(op(apply.EventSkipped, "autoconfig", "publish autoconfig", "dns/acme.example/autoconfig"), func(e *apply.Event) {
			e.Time, e.Message = at(66), `needs "write the records dns/acme.example/spf", which failed`
		}),
		with(op(apply.EventSkipped, "check", "check the server", "server/mx1"), func(e *apply.Event) {
			e.Time, e.Message = at(66), `needs "something else", which failed`
		}),
		with(op(apply.EventStopped, "w", "wait for the server", "server/mx1"), func(e *apply.Event) {
			e.Time, e.Elapsed, e.Err = at(67), 2*time.Second, context.Canceled
		}),
		{Kind: apply.EventEnd, Time: at(68), Elapsed: 67 * time.Second, Done: 1, Total: 12, Err: &plan.Error{Class: plan.ErrIncomplete, Step: "apply", Got: "1 failed"}},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestPlain(t *testing.T) {
	for name, o := range map[string]PlainOptions{"plain.txt": {}, "plain-color.txt": {Color: true}} {
		var b bytes.Buffer
		p := NewPlain(&b, o)
		for _, e := range story() {
			p.Event(e)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if !o.Color && strings.Contains(b.String(), "\x1b") {
			t.Errorf("%s: an escape character", name)
		}
		golden(t, name, b.String())
	}
}

// TestWaitingSpeaksOnlyAfterAWhile reads a world in which one provider is slow.
func TestWaitingSpeaksOnlyAfterAWhile(t *testing.T) {
	var b bytes.Buffer
	now := epoch
	tick := make(chan time.Time)
	v := NewWaiting(&b, WaitingOptions{Now: func() time.Time { return now }, Tick: tick})
	pass := func(d time.Duration) {
		v.mu.Lock()
		now = now.Add(d)
		v.mu.Unlock()
		tick <- now
		tick <- now // the first was taken in when the second is taken
	}
	read := func(kind apply.EventKind, name, what string) {
		v.Event(apply.Event{Kind: kind, Time: now, Op: "observe " + name, Title: "read " + name, Message: what})
	}
	read(apply.EventObserve, "cloudflare", "zone acme.example")
	read(apply.EventObserve, "host", "host mx1")
	pass(2 * time.Second)
	read(apply.EventObserved, "cloudflare", "")
	for range 40 {
		pass(time.Second)
	}
	v.Event(apply.Event{Kind: apply.EventRetry, Op: "observe host", Title: "read host", Attempt: 1, Wait: time.Second, Err: errors.New("no route to host")})
	read(apply.EventObserved, "host", "")
	pass(time.Minute)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	want := `note  still waiting to read host (host mx1), for 3.0s
note  still waiting to read host (host mx1), for 33.0s
note  read host  again in 1.0s (attempt 2): no route to host
`
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	j := NewJSON(&b)
	for _, e := range story() {
		j.Event(e)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		var e JSONEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.V != JSONVersion {
			t.Errorf("%s: %v", line, err)
		}
	}
	golden(t, "events.jsonl", b.String())
}

// TestTTYStory looks at the screen after every event.
func TestTTYStory(t *testing.T) {
	for _, width := range []int{40, 80, 200} {
		s := newScreen(t, width, 24)
		var shots strings.Builder
		now := epoch
		tty := NewTTY(s, TTYOptions{Size: func() (int, int) { return width, 24 }, Now: func() time.Time { return now }})
		for _, e := range story() {
			now = e.Time
			tty.Event(e)
			fmt.Fprintf(&shots, "---- %s\n%s\n", e.Kind, s)
		}
		if err := tty.Close(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&shots, "---- closed\n%s\n", s)
		golden(t, fmt.Sprintf("tty-%d.txt", width), shots.String())
	}
}

// TestTTYNeverGarbles plays random runs with long and wide texts on terminals of
// many sizes that change their width on the way. Whatever the region did, at the
// end there is exactly what scrolled up, in order, and nothing of the region.
func TestTTYNeverGarbles(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		width, height := 1+rng.IntN(120), 1+rng.IntN(12)
		s := newScreen(t, width, height)
		now := epoch
		tty := NewTTY(s, TTYOptions{Color: seed%2 == 0, Size: func() (int, int) { return width, height }, Now: func() time.Time { return now }})
		var want, done, running []string
		total := 1 + rng.IntN(40)
		tty.Event(apply.Event{Kind: apply.EventStart, Time: now, Total: int64(total)})
		for begun := 0; begun < total || len(running) > 0; {
			now = now.Add(time.Duration(rng.IntN(3000)) * time.Millisecond)
			e := apply.Event{Time: now}
			switch k := rng.IntN(6); {
			case k < 2 && begun < total:
				e.Kind, e.Op = apply.EventBegin, fmt.Sprintf("op%d", begun)
				begun++
				running = append(running, e.Op)
			case k == 2 && len(running) > 0:
				e.Kind, e.Op = apply.EventProgress, running[rng.IntN(len(running))]
				e.Message, e.Done, e.Total = words(rng), rng.Int64N(100), rng.Int64N(100)
			case k == 3 && len(running) > 0:
				e.Kind, e.Op = apply.EventRetry, running[rng.IntN(len(running))]
				e.Err, e.Wait = errors.New(words(rng)), time.Second
			case k == 4 && len(running) > 0:
				i := rng.IntN(len(running))
				e.Kind, e.Op, e.Elapsed = apply.EventDone, running[i], time.Second
				running = slices.Delete(running, i, i+1)
			case k == 5:
				e.Kind, e.Message = apply.EventWarning, words(rng)
			default:
				continue
			}
			e.Title = e.Op + " " + words(rng)
			tty.Event(e)
			switch e.Kind {
			case apply.EventDone:
				done = append(done, "  ✓ "+clean(e.Title)+" 1.0s")
			case apply.EventWarning:
				want = append(want, "! "+clean(e.Message))
			}
			if visible := len(s.cells) - s.top(); visible > height {
				t.Fatalf("seed %d: %d rows on a terminal of %d", seed, visible, height)
			}
		}
		tty.Event(apply.Event{Kind: apply.EventEnd, Elapsed: time.Second})
		tty.Close()
		got := squeezed(s.lines())
		heading := slices.IndexFunc(s.lines(), func(l string) bool { return strings.HasPrefix(l, "✓ other") })
		if heading != len(want) {
			t.Fatalf("seed %d: the group stands at %d, not %d:\n%s", seed, heading, len(want), s)
		}
		want = append(append(want, got[heading]), done...)
		want = append(want, fmt.Sprintf("  %d of %d done in 1.0s", total, total))
		if !slices.Equal(got, squeezed(want)) {
			t.Fatalf("seed %d, %d×%d:\n%s\nwant:\n%s", seed, width, height, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// squeezed drops the blanks at line ends, which a terminal does not show, and
// those that stand things beside each other.
func squeezed(lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, strings.Join(strings.Fields(l), " "))
	}
	return out
}

func TestTTYSurvivesANarrowerTerminal(t *testing.T) {
	width := 100
	s := newScreen(t, width, 24)
	now := epoch
	tty := NewTTY(s, TTYOptions{Size: func() (int, int) { return width, 24 }, Now: func() time.Time { return now }})
	tty.Event(apply.Event{Kind: apply.EventStart, Time: now, Total: 2})
	long := strings.Repeat("long title ", 12)
	for _, op := range []string{"a", "b"} {
		tty.Event(apply.Event{Kind: apply.EventBegin, Time: now, Op: op, Title: op + " " + long})
	}
	width = 30
	s.resize(width)
	tty.Event(apply.Event{Kind: apply.EventDone, Time: now, Op: "a", Title: "a", Elapsed: time.Second})
	want := []string{"⠋ other 1/2 0.0s", "⠋ b long titl… 0.0s", "1 of 2 done 0.0s"}
	if got := squeezed(s.lines()); !slices.Equal(got, want) {
		t.Errorf("screen:\n%s", s)
	}
	tty.Close()
}

func TestTTYTicksAndEnds(t *testing.T) {
	tick := make(chan time.Time)
	s := newScreen(t, 80, 24)
	now := epoch
	tty := NewTTY(s, TTYOptions{Tick: tick, Now: func() time.Time { return now }})
	tty.Event(apply.Event{Kind: apply.EventObserve, Time: now, Op: "a", Title: "boot"})
	now = now.Add(7 * time.Second)
	tick <- now
	tick <- now // the second is taken only after the first has been drawn
	tty.mu.Lock()
	if got := s.String(); !strings.Contains(got, "boot    7.0s") {
		t.Errorf("after a tick:\n%s", got)
	}
	tty.mu.Unlock()
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != "" {
		t.Errorf("after Close:\n%s", got)
	}
}

func TestAFailedWriteIsReported(t *testing.T) {
	broken := errors.New("broken pipe")
	for name, r := range map[string]interface {
		Event(apply.Event)
		Close() error
	}{
		"plain": NewPlain(failing{broken}, PlainOptions{}),
		"tty":   NewTTY(failing{broken}, TTYOptions{}),
		"json":  NewJSON(failing{broken}),
	} {
		for _, e := range story() {
			r.Event(e)
		}
		if err := r.Close(); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// words makes text as vendors and people do: long, wide, accented, and hostile.
func words(rng *rand.Rand) string {
	pool := []string{"start", "the instance", "邮箱", "服务器正在启动", "e\u0301te\u0301", "x", "\x1b[31mred", "a\nb", "\u202eevil", "🙂", strings.Repeat("long", 20)}
	var b strings.Builder
	for range 1 + rng.IntN(8) {
		b.WriteString(pool[rng.IntN(len(pool))])
		b.WriteByte(' ')
	}
	return strings.TrimSpace(b.String())
}

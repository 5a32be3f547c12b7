package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailform/server/store"
)

// seeds is how many stores each torture test goes through; more of them find more.
var seeds = flag.Uint64("store.seeds", 40, "number of simulated stores in each torture test")

// action is one change that a worker makes, as plain data: a ledger can hold it.
type action struct {
	Kind  string
	Box   string      `json:",omitempty"`
	To    string      `json:",omitempty"`
	Text  string      `json:",omitempty"`
	Large int         `json:",omitempty"` // octets behind the text
	UIDs  []store.UID `json:",omitempty"`
	Flag  string      `json:",omitempty"`
	ID    string      `json:",omitempty"`
	// N is a number that the text of the action's messages has only once.
	N int
}

func (a action) body() string { return a.Text + strings.Repeat("x", a.Large) }

// model is what one account must hold.
type model struct {
	Boxes map[string]*modelBox
	Queue map[string]string // id: text and attempts
}

type modelBox struct {
	Next     store.UID
	Messages map[store.UID]modelMessage
}

type modelMessage struct {
	Text  string
	Flags string
}

func newModel() *model {
	m := &model{Boxes: map[string]*modelBox{}, Queue: map[string]string{}}
	for _, n := range []string{"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"} {
		m.Boxes[n] = &modelBox{Next: 1, Messages: map[store.UID]modelMessage{}}
	}
	return m
}

func (m *model) clone() *model {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	c := &model{}
	if err := json.Unmarshal(b, c); err != nil {
		panic(err)
	}
	return c
}

func (m *model) String() string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(m.Boxes)) {
		box := m.Boxes[n]
		fmt.Fprintf(&b, "%s:", n)
		for _, uid := range slices.Sorted(maps.Keys(box.Messages)) {
			fmt.Fprintf(&b, " %d=%s[%s]", uid, box.Messages[uid].Text, box.Messages[uid].Flags)
		}
		b.WriteString("\n")
	}
	for _, id := range slices.Sorted(maps.Keys(m.Queue)) {
		fmt.Fprintf(&b, "queue: %s=%s\n", id, m.Queue[id])
	}
	return b.String()
}

func summary(text string) string {
	head := strings.TrimRight(text, "x")
	return fmt.Sprintf("%s+%d", head, len(text)-len(head))
}

// apply changes the model as the action must change the account. It returns
// false when the action must be refused.
func (m *model) apply(a action) bool {
	add := func(box string, msg modelMessage) {
		b := m.Boxes[box]
		b.Messages[b.Next] = msg
		b.Next++
	}
	fresh := func() *modelBox { return &modelBox{Next: 1, Messages: map[store.UID]modelMessage{}} }
	box := m.Boxes[a.Box]
	switch a.Kind {
	case "deliver", "create", "try", "unqueue":
	default:
		if box == nil {
			return false
		}
	}
	switch a.Kind {
	case "deliver", "append":
		if box == nil {
			m.Boxes[a.Box] = fresh()
		}
		add(a.Box, modelMessage{Text: summary(a.body())})
		if a.Kind == "deliver" && a.ID != "" {
			m.Queue[a.ID] = summary(a.body()) + " 0"
		}
	case "flag":
		for _, uid := range a.UIDs {
			if msg, ok := box.Messages[uid]; ok && !strings.Contains(msg.Flags, a.Flag) {
				f := append(strings.Fields(msg.Flags), a.Flag)
				slices.Sort(f)
				msg.Flags = strings.Join(f, " ")
				box.Messages[uid] = msg
			}
		}
	case "expunge":
		for uid, msg := range box.Messages {
			if strings.Contains(msg.Flags, `\Deleted`) {
				delete(box.Messages, uid)
			}
		}
	case "copy", "move":
		if m.Boxes[a.To] == nil {
			return false
		}
		for _, uid := range a.UIDs {
			if msg, ok := box.Messages[uid]; ok {
				add(a.To, msg)
				if a.Kind == "move" {
					delete(box.Messages, uid)
				}
			}
		}
	case "create":
		if box != nil {
			return false
		}
		m.Boxes[a.Box] = fresh()
	case "rename":
		if m.Boxes[a.To] != nil {
			return false
		}
		m.Boxes[a.To] = box
		delete(m.Boxes, a.Box)
	case "delete":
		delete(m.Boxes, a.Box)
	case "try":
		text, _, there := strings.Cut(m.Queue[a.ID], " ")
		if !there {
			return false
		}
		m.Queue[a.ID] = fmt.Sprintf("%s %d", text, a.N)
	case "unqueue":
		delete(m.Queue, a.ID)
	}
	return true
}

// choose makes up the next action for a model.
func (m *model) choose(rng *rand.Rand, account string, n int) action {
	boxes := slices.Sorted(maps.Keys(m.Boxes))
	box := boxes[rng.IntN(len(boxes))]
	other := boxes[rng.IntN(len(boxes))]
	var uids []store.UID
	for _, uid := range slices.Sorted(maps.Keys(m.Boxes[box].Messages)) {
		if rng.IntN(3) == 0 {
			uids = append(uids, uid)
		}
	}
	a := action{Box: box, N: n}
	special := !strings.HasPrefix(box, "box")
	switch k := rng.IntN(22); {
	case k < 8:
		a.Kind, a.Text = "deliver", fmt.Sprintf("m%d,", n)
		if rng.IntN(6) == 0 {
			a.Large = rng.IntN(3000)
		}
		if rng.IntN(4) == 0 {
			a.ID = fmt.Sprintf("%s-%d", account, n)
		}
	case k < 10:
		a.Kind, a.Text = "append", fmt.Sprintf("m%d,", n)
	case k < 13:
		a.Kind, a.UIDs, a.Flag = "flag", uids, []string{`\Seen`, `\Deleted`, "$Work"}[rng.IntN(3)]
	case k < 14:
		a.Kind = "expunge"
	case k < 15:
		a.Kind, a.UIDs, a.To = "copy", uids, other
	case k < 17:
		a.Kind, a.UIDs, a.To = "move", uids, other
	case k < 18:
		a.Kind, a.Box = "create", fmt.Sprintf("box%d", n)
	case k < 19 && !special:
		a.Kind, a.To = "rename", fmt.Sprintf("box%d", n)
	case k < 20 && !special:
		a.Kind = "delete"
	default:
		ids := slices.Sorted(maps.Keys(m.Queue))
		if len(ids) == 0 {
			a.Kind, a.Text = "deliver", fmt.Sprintf("m%d,", n)
			break
		}
		a.ID = ids[rng.IntN(len(ids))]
		a.Kind = []string{"try", "unqueue"}[rng.IntN(2)]
	}
	return a
}

// perform carries the action out.
func perform(ctx context.Context, s store.Store, account string, a action) error {
	var err error
	switch a.Kind {
	case "deliver":
		d := store.Delivery{Body: strings.NewReader(a.body()), Size: int64(len(a.body())), Targets: []store.Target{{Account: account, Mailbox: a.Box}}}
		if a.ID != "" {
			d.Queue = []store.QueueEntry{{ID: a.ID, Account: account, Domain: "example.net"}}
		}
		_, err = s.Deliver(ctx, d)
	case "append":
		_, _, err = s.Append(ctx, account, a.Box, strings.NewReader(a.body()), -1, nil, time.Time{})
	case "flag":
		_, err = s.UpdateFlags(ctx, account, a.Box, a.UIDs, store.FlagsAdd, []string{a.Flag})
	case "expunge":
		_, err = s.Expunge(ctx, account, a.Box, nil)
	case "copy":
		_, _, _, err = s.Copy(ctx, account, a.Box, a.UIDs, a.To)
	case "move":
		_, _, _, err = s.Move(ctx, account, a.Box, a.UIDs, a.To)
	case "create":
		_, err = s.CreateMailbox(ctx, account, a.Box, "")
	case "rename":
		err = s.RenameMailbox(ctx, account, a.Box, a.To)
	case "delete":
		err = s.DeleteMailbox(ctx, account, a.Box)
	case "try":
		err = s.UpdateQueue(ctx, store.QueueEntry{ID: a.ID, Account: account, Domain: "example.net", Attempts: a.N})
	case "unqueue":
		err = s.RemoveQueue(ctx, a.ID)
	}
	return err
}

// read makes a model of what an account holds. It fails when UIDs or modseqs
// have gone back.
func read(ctx context.Context, s store.Store, account string) (*model, error) {
	m := &model{Boxes: map[string]*modelBox{}, Queue: map[string]string{}}
	boxes, err := s.Mailboxes(ctx, account)
	if err != nil {
		return nil, err
	}
	for _, info := range boxes {
		snap, w, err := s.Open(ctx, account, info.Name)
		if err != nil {
			return nil, err
		}
		w.Close()
		b := &modelBox{Next: snap.Info.UIDNext, Messages: map[store.UID]modelMessage{}}
		m.Boxes[info.Name] = b
		for _, msg := range snap.Messages {
			text, err := content(s.Read(ctx, *msg))
			if err != nil {
				return nil, fmt.Errorf("%s UID %d: %w", info.Name, msg.UID, err)
			}
			b.Messages[msg.UID] = modelMessage{Text: summary(text), Flags: strings.Join(msg.Flags, " ")}
		}
	}
	queue, err := s.Queue(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range queue {
		if e.Account == account {
			text, err := content(s.OpenQueued(ctx, e))
			if err != nil {
				return nil, fmt.Errorf("queue entry %s: %w", e.ID, err)
			}
			m.Queue[e.ID] = fmt.Sprintf("%s %d", summary(text), e.Attempts)
		}
	}
	return m, nil
}

func content(r io.ReadCloser, err error) (string, error) {
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

// worker makes changes to one account and knows what was acknowledged.
type worker struct {
	account string
	rng     *rand.Rand
	model   *model
	doubt   *action // begun, not answered
	n       int
}

// run makes n changes, or fewer when one fails.
func (w *worker) run(ctx context.Context, s store.Store, n int) error {
	for range n {
		w.n++
		a := w.model.choose(w.rng, w.account, w.n)
		w.doubt = &a
		if err := perform(ctx, s, w.account, a); err != nil {
			return fmt.Errorf("%s: %+v: %w", w.account, a, err)
		}
		w.model.apply(a)
		w.doubt = nil
	}
	return nil
}

// verify compares the account with what was acknowledged. A change that was
// not answered may have taken effect or not.
func (w *worker) verify(ctx context.Context, s store.Store) error {
	got, err := read(ctx, s, w.account)
	if err != nil {
		return err
	}
	if got.String() != w.model.String() {
		with := w.model.clone()
		if w.doubt != nil {
			with.apply(*w.doubt)
		}
		if got.String() != with.String() {
			return fmt.Errorf("%s: got\n%swant\n%sor, with %+v,\n%s", w.account, got, w.model, w.doubt, with)
		}
	}
	for name, b := range w.model.Boxes {
		if g := got.Boxes[name]; g != nil && g.Next < b.Next {
			return fmt.Errorf("%s, %s: UIDNEXT went back from %d to %d", w.account, name, b.Next, g.Next)
		}
	}
	w.model, w.doubt = got, nil
	return nil
}

func newWorkers(seed uint64, n int) []*worker {
	ws := make([]*worker, n)
	for i := range ws {
		ws[i] = &worker{account: fmt.Sprintf("a%d@example.org", i), rng: rand.New(rand.NewPCG(seed, uint64(i))), model: newModel()}
	}
	return ws
}

// together runs all workers at once until each has made n changes or failed.
func together(ctx context.Context, s store.Store, ws []*worker, n int) error {
	errs := make([]error, len(ws))
	var wg sync.WaitGroup
	for i, w := range ws {
		wg.Go(func() { errs[i] = w.run(ctx, s, n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func tortureOptions(seed uint64, fs store.FS) store.Options {
	return store.Options{
		FS: fs, ReserveBytes: -1,
		SegmentBytes:    []int64{500, 4000, 1 << 20}[seed%3],
		MemoryBody:      []int64{100, 2000}[seed%2],
		CheckpointBytes: []int64{700, 5000, 1 << 30}[seed/3%3],
	}
}

// TestPowerCuts cuts the power at every kind of moment, again and again over
// the same store: what was acknowledged is there, what was not is there whole
// or not at all.
func TestPowerCuts(t *testing.T) {
	cuts := 0
	for seed := range *seeds {
		cuts += powerCuts(t, seed)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d power cuts", cuts)
}

func powerCuts(t *testing.T, seed uint64) (cuts int) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 99))
	fs := store.NewSimFS(rng)
	workers := newWorkers(seed, 1+int(seed%4))
	for life := range 6 {
		fs.CutAfter(1 + rng.IntN(1+rng.IntN(400)))
		l, err := store.Open("/s", tortureOptions(seed, fs))
		if err == nil {
			for _, w := range workers {
				if err = l.EnsureAccount(ctx, w.account, 0); err != nil {
					break
				}
			}
			if err == nil {
				err = together(ctx, l, workers, 60)
			}
			closed := l.Close()
			if err == nil {
				err = closed
			}
		}
		if err != nil && !errors.Is(err, store.ErrPower) && !errors.Is(err, store.ErrFull) {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		cuts++
		fs = fs.Survivors()
		if l, err = store.Open("/s", tortureOptions(seed, fs)); err != nil {
			t.Fatalf("seed %d, life %d: open: %v", seed, life, err)
		}
		for _, d := range l.Damage() {
			if !d.Tail {
				t.Fatalf("seed %d, life %d: damage: %v", seed, life, d)
			}
		}
		for _, w := range workers {
			if err := l.EnsureAccount(ctx, w.account, 0); err != nil {
				t.Fatal(err)
			}
			if err := w.verify(ctx, l); err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
		}
		if err := l.Check(ctx); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return cuts
}

// TestDiskFaults fails writes, syncs and truncations while the power is on:
// what is refused has no effect, neither now nor after a restart, and the store
// works again when the disk does.
func TestDiskFaults(t *testing.T) {
	for seed := range *seeds / 2 {
		diskFaults(t, seed)
		if t.Failed() {
			return
		}
	}
}

func diskFaults(t *testing.T, seed uint64) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 7))
	fs := store.NewSimFS(rng)
	workers := newWorkers(seed, 3)
	for life := range 3 {
		l, err := store.Open("/s", tortureOptions(seed, fs))
		if err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		for _, w := range workers {
			if err := l.EnsureAccount(ctx, w.account, 0); err != nil {
				t.Fatal(err)
			}
			if err := w.verify(ctx, l); err != nil {
				t.Fatalf("seed %d, life %d: after a restart: %v", seed, life, err)
			}
		}
		for round := range 8 {
			fs.SetFault(func(string) error {
				if rng.IntN(5) == 0 {
					return store.DiskFault(rng)
				}
				return nil
			})
			for range 5 {
				if err := together(ctx, l, workers, 20); err != nil && !errors.Is(err, store.ErrFull) {
					t.Fatalf("seed %d, life %d: %v", seed, life, err)
				}
				for _, w := range workers {
					w.doubt = nil // refused: it must have had no effect
				}
			}
			fs.SetFault(nil)
			for _, w := range workers {
				if err := w.verify(ctx, l); err != nil {
					t.Fatalf("seed %d, life %d, round %d: %v", seed, life, round, err)
				}
			}
			if err := together(ctx, l, workers, 3); err != nil {
				t.Fatalf("seed %d, life %d: the disk works again, but %v", seed, life, err)
			}
		}
		if err := l.Check(ctx); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
		if err := l.Close(); err != nil {
			t.Fatalf("seed %d, life %d: %v", seed, life, err)
		}
	}
}

// TestReserve refuses new messages while there is still room to remove old ones.
func TestReserve(t *testing.T) {
	ctx := t.Context()
	fs := store.NewSimFS(rand.New(rand.NewPCG(1, 1)))
	l, err := store.Open("/s", store.Options{FS: fs, ReserveBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.EnsureAccount(ctx, "a@b", 0); err != nil {
		t.Fatal(err)
	}
	put := func() error {
		return perform(ctx, l, "a@b", action{Kind: "deliver", Box: "INBOX", Text: "text"})
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	fs.SetFree(1003)
	if err := put(); !errors.Is(err, store.ErrFull) {
		t.Errorf("a delivery below the reserve: %v", err)
	}
	for _, a := range []action{{Kind: "flag", Box: "INBOX", UIDs: []store.UID{1}, Flag: `\Deleted`}, {Kind: "expunge", Box: "INBOX"}} {
		if err := perform(ctx, l, "a@b", a); err != nil {
			t.Errorf("%s: %v", a.Kind, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

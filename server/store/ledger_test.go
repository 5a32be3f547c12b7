package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"mailform/server/store"
)

// action is one change that a worker makes, as plain data: a ledger can hold it.
type action struct {
	Kind  string
	Box   string      `json:",omitempty"`
	To    string      `json:",omitempty"`
	Text  string      `json:",omitempty"`
	Large int         `json:",omitempty"` // octets behind the text
	Head  string      `json:",omitempty"` // a prefix for the delivery's message
	Both  bool        `json:",omitempty"` // the delivery also goes to the account's other, see otherOf
	UIDs  []store.UID `json:",omitempty"`
	Flag  string      `json:",omitempty"`
	ID    string      `json:",omitempty"`
	// N is a number that the text of the action's messages has only once.
	N int
}

// body is the text and, behind it, octets that no other action has.
func (a action) body() string {
	if a.Large == 0 {
		return a.Text
	}
	fill := make([]byte, a.Large)
	rng := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, a.Text, a.N)))
	_, _ = rng.Read(fill)
	return a.Text + string(fill)
}

// model is what one account must hold.
type model struct {
	Boxes map[string]*modelBox
	Queue map[string]string // id: text and attempts
	// MaxValidity is the highest UIDVALIDITY that the store has shown.
	MaxValidity uint32
	wiped
}

// modelBox is one mailbox. What the store alone decides is zero until it has
// shown it; from then on it may not go back.
type modelBox struct {
	Validity uint32
	Above    uint32 // what another mailbox had before this one was made
	Next     store.UID
	Highest  store.ModSeq
	Messages map[store.UID]modelMessage
}

type modelMessage struct {
	Text   string // see summary
	Flags  string
	ModSeq store.ModSeq
}

func newModel() *model {
	m := &model{Queue: map[string]string{}}
	m.empty()
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
	fmt.Fprintf(&b, "note: %s\nother: %s\n", m.Note, m.Other)
	return b.String()
}

// summary is what the ledger keeps of a message: how it begins, its length and a hash.
func summary(text string) string {
	head, _, _ := strings.Cut(text, ",")
	return fmt.Sprintf("%.40q+%d:%.4x", head, len(text), sha256.Sum256([]byte(text)))
}

// apply changes the model as the action must change the account. It returns
// false when the action must be refused.
func (m *model) apply(a action) bool {
	add := func(box string, msg modelMessage) {
		b := m.Boxes[box]
		b.Messages[b.Next] = msg
		b.Next++
	}
	fresh := func() *modelBox {
		return &modelBox{Next: 1, Above: m.MaxValidity, Messages: map[store.UID]modelMessage{}}
	}
	box := m.Boxes[a.Box]
	switch a.Kind {
	case "deliver", "create", "try", "unqueue", "note", "empty", "erase", "erase other":
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
		add(a.Box, modelMessage{Text: summary(a.Head + a.body())})
		if a.Kind == "deliver" && a.ID != "" {
			m.Queue[a.ID] = summary(a.body()) + " 0"
		}
		if a.Both {
			m.Other = append(m.Other, summary(a.body()))
		}
	case "flag":
		for _, uid := range a.UIDs {
			if msg, ok := box.Messages[uid]; ok && !strings.Contains(msg.Flags, a.Flag) {
				f := append(strings.Fields(msg.Flags), a.Flag)
				slices.Sort(f)
				msg.Flags, msg.ModSeq = strings.Join(f, " "), 0
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
				if a.Kind == "move" {
					delete(box.Messages, uid)
				}
				msg.ModSeq = 0
				add(a.To, msg)
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
	default:
		m.wipe(a)
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
	if m.chooseWipe(rng, account, &a, uids) {
		return a
	}
	special := !strings.HasPrefix(box, "box")
	mark := m.mark(account)
	k := rng.IntN(22)
	if m.crowded() {
		k = []int{11, 12, 13, 13, 19, 21}[rng.IntN(6)] // what makes room
	}
	switch {
	case k < 8:
		a.Kind, a.Text = "deliver", fmt.Sprintf("m%d,%s", n, mark)
		if rng.IntN(6) == 0 {
			a.Large = rng.IntN(3000)
		}
		if rng.IntN(3) == 0 {
			a.Head = fmt.Sprintf("Delivered-To: %s\r\n", mark)
		}
		if rng.IntN(6) == 0 {
			a.Text, a.Both = fmt.Sprintf("m%d,from %s", n, account), true // the other has it, too: it stays when this account is erased
		}
		if rng.IntN(4) == 0 {
			a.ID = fmt.Sprintf("%s-%d", account, n)
		}
	case k < 10:
		a.Kind, a.Text = "append", fmt.Sprintf("m%d,%s", n, mark)
	case k < 13:
		a.Kind, a.UIDs, a.Flag = "flag", uids, []string{`\Seen`, `\Deleted`, "$Work"}[rng.IntN(3)]
	case k < 14:
		a.Kind = "expunge"
	case k < 15:
		a.Kind, a.UIDs, a.To = "copy", uids, other
	case k < 17:
		a.Kind, a.UIDs, a.To = "move", uids, other
	case k < 18:
		a.Kind, a.Box = "create", fmt.Sprintf("box%d%s", n, mark)
	case k < 19 && !special:
		a.Kind, a.To = "rename", fmt.Sprintf("box%d%s", n, mark)
	case k < 20 && !special:
		a.Kind = "delete"
	default:
		ids := slices.Sorted(maps.Keys(m.Queue))
		if len(ids) == 0 {
			a.Kind, a.Text = "deliver", fmt.Sprintf("m%d,%s", n, mark)
			break
		}
		a.ID = ids[rng.IntN(len(ids))]
		a.Kind = []string{"try", "unqueue"}[rng.IntN(2)]
	}
	return a
}

// crowded keeps a model at a size that is quick to compare.
func (m *model) crowded() bool {
	n := len(m.Queue) + 4*len(m.Boxes) + len(m.Other)
	for _, b := range m.Boxes {
		n += len(b.Messages)
	}
	return n > 120
}

// perform carries the action out.
func perform(ctx context.Context, s store.Store, account string, a action) error {
	var err error
	switch a.Kind {
	case "deliver":
		d := store.Delivery{Body: strings.NewReader(a.body()), Size: int64(len(a.body())), Targets: []store.Target{{Account: account, Mailbox: a.Box, Prefix: []byte(a.Head)}}}
		if a.ID != "" {
			d.Queue = []store.QueueEntry{{ID: a.ID, Account: account, Domain: "example.net"}}
		}
		if a.Both {
			d.Targets = append(d.Targets, store.Target{Account: otherOf(account), Mailbox: "INBOX"})
		}
		_, err = s.Deliver(ctx, d)
	case "append":
		_, _, err = s.Append(ctx, account, a.Box, strings.NewReader(a.body()), -1, nil, time.Time{})
	case "flag":
		_, err = s.UpdateFlags(ctx, account, store.Named(a.Box), a.UIDs, store.FlagsAdd, []string{a.Flag})
	case "expunge":
		_, err = s.Expunge(ctx, account, store.Named(a.Box), nil)
	case "copy":
		_, _, _, err = s.Copy(ctx, account, store.Named(a.Box), a.UIDs, store.Named(a.To))
	case "move":
		_, _, _, err = s.Move(ctx, account, store.Named(a.Box), a.UIDs, store.Named(a.To))
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
	default:
		err = performWipe(ctx, s, account, a)
	}
	return err
}

// note has the model know what the store shows of a mailbox after an
// acknowledged change.
func (m *model) note(name string, shown *modelBox) error {
	b := m.Boxes[name]
	switch {
	case b == nil && shown == nil:
		return nil
	case b == nil || shown == nil:
		return fmt.Errorf("%s: there is %v, there must be %v", name, shown, b)
	}
	if err := b.compare(name, shown); err != nil {
		return err
	}
	if b.Next != shown.Next {
		return fmt.Errorf("%s: UIDNEXT is %d, not %d", name, shown.Next, b.Next)
	}
	m.MaxValidity = max(m.MaxValidity, shown.Validity)
	b.Validity, b.Highest = shown.Validity, shown.Highest
	for uid, msg := range b.Messages {
		msg.ModSeq = shown.Messages[uid].ModSeq
		b.Messages[uid] = msg
	}
	return nil
}

// compare says which of a mailbox's numbers are not as they were, or have gone back.
func (was *modelBox) compare(name string, is *modelBox) error {
	switch {
	case was.Validity != 0 && is.Validity != was.Validity:
		return fmt.Errorf("%s: UIDVALIDITY was %d and is %d", name, was.Validity, is.Validity)
	case is.Validity <= was.Above:
		return fmt.Errorf("%s: a new mailbox has UIDVALIDITY %d, one had %d", name, is.Validity, was.Above)
	case is.Next < was.Next:
		return fmt.Errorf("%s: UIDNEXT went back from %d to %d", name, was.Next, is.Next)
	case is.Highest < was.Highest:
		return fmt.Errorf("%s: HIGHESTMODSEQ went back from %d to %d", name, was.Highest, is.Highest)
	}
	for uid, msg := range was.Messages {
		now, there := is.Messages[uid]
		switch {
		case !there:
			return fmt.Errorf("%s: UID %d is gone", name, uid)
		case msg.ModSeq != 0 && now.ModSeq != msg.ModSeq:
			return fmt.Errorf("%s: UID %d did not change, its modseq did from %d to %d", name, uid, msg.ModSeq, now.ModSeq)
		case msg.ModSeq == 0 && now.ModSeq <= was.Highest && was.Highest > 1:
			return fmt.Errorf("%s: UID %d changed and has modseq %d, the mailbox had %d before", name, uid, now.ModSeq, was.Highest)
		case now.ModSeq > is.Highest:
			return fmt.Errorf("%s: UID %d has modseq %d, the mailbox %d", name, uid, now.ModSeq, is.Highest)
		}
	}
	return nil
}

// show is what the store says of a mailbox, without the messages' texts; nil
// when it does not exist.
func show(ctx context.Context, s store.Store, account, name string) (*modelBox, error) {
	snap, w, err := s.Open(ctx, account, name)
	if errors.Is(err, store.ErrNoMailbox) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.Close()
	return numbers(snap), nil
}

func numbers(snap store.Snapshot) *modelBox {
	b := &modelBox{Validity: snap.Info.UIDValidity, Next: snap.Info.UIDNext, Highest: snap.Info.HighestModSeq, Messages: map[store.UID]modelMessage{}}
	for _, msg := range snap.Messages.All() {
		b.Messages[msg.UID] = modelMessage{Flags: strings.Join(msg.Flags, " "), ModSeq: msg.ModSeq}
	}
	return b
}

// touched are the mailboxes whose numbers an action may change.
func (a action) touched() []string {
	if a.Kind == "empty" || a.Kind == "erase" {
		return standard
	}
	return slices.DeleteFunc([]string{a.Box, a.To}, func(n string) bool { return n == "" })
}

// read makes a model of what an account holds.
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
		b := numbers(snap)
		m.Boxes[info.Name] = b
		m.MaxValidity = max(m.MaxValidity, b.Validity)
		for _, msg := range snap.Messages.All() {
			text, err := content(s.Read(ctx, account, *msg))
			if err != nil {
				return nil, fmt.Errorf("%s UID %d: %w", info.Name, msg.UID, err)
			}
			known := b.Messages[msg.UID]
			known.Text = summary(text)
			b.Messages[msg.UID] = known
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
	return m, m.readWiped(ctx, s, account)
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
	done    int  // changes that were acknowledged
	moved   int  // bodies that compaction moved meanwhile
	disk    disk // when it is known, it is searched for what was erased
}

// run makes n changes, or fewer when one fails.
func (w *worker) run(ctx context.Context, s store.Store, n int) error {
	for range n {
		w.n++
		if err := w.make(ctx, s, w.model.choose(w.rng, w.account, w.n)); err != nil {
			return err
		}
	}
	return nil
}

// make makes one change and takes note of what became of it.
func (w *worker) make(ctx context.Context, s store.Store, a action) error {
	w.doubt = &a
	if err := perform(ctx, s, w.account, a); err != nil {
		return fmt.Errorf("%s: %+v: %w", w.account, a, err)
	}
	w.model.apply(a)
	w.doubt = nil
	w.done++
	if a.Kind == "erase" && w.disk != nil {
		if err := gone(w.disk, []*worker{w}); err != nil {
			return err
		}
	}
	for _, name := range a.touched() {
		shown, err := show(ctx, s, w.account, name)
		if err == nil {
			err = w.model.note(name, shown)
		}
		if err != nil {
			return fmt.Errorf("%s: after %+v: %w", w.account, a, err)
		}
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
	may := []*model{w.model}
	if w.doubt != nil {
		full := w.model.clone()
		full.apply(*w.doubt)
		may = append(may, full)
		if w.doubt.Kind == "erase" {
			may = append(may, w.model.halfErased(got))
		}
	}
	var held *model
	var why []error
	for _, m := range may {
		err := m.compare(got)
		if err == nil {
			held = m
			break
		}
		why = append(why, err)
	}
	if held == nil {
		return fmt.Errorf("%s: not answered: %+v: %w", w.account, w.doubt, errors.Join(why...))
	}
	got.MaxValidity = max(got.MaxValidity, held.MaxValidity)
	got.Era = w.model.Era // an erasure that was not answered proves nothing
	w.model, w.doubt = got, nil
	return nil
}

// compare says what an account has that a model has not, or what has gone back.
func (m *model) compare(got *model) error {
	if got.String() != m.String() {
		return fmt.Errorf("got\n%swant\n%s", got, m)
	}
	for name, b := range m.Boxes {
		if err := b.compare(name, got.Boxes[name]); err != nil {
			return err
		}
	}
	return nil
}

func newWorkers(seed uint64, n int) []*worker {
	ws := make([]*worker, n)
	for i := range ws {
		ws[i] = &worker{account: fmt.Sprintf("a%d@example.org", i), rng: rand.New(rand.NewPCG(seed, uint64(i))), model: newModel()}
	}
	return ws
}

// compacting compacts the store, and encrypts what is not, again and again until stop is called, which
// says how many bodies were moved. What fails then has failed the workers, too,
// or shows in what they verify.
func compacting(ctx context.Context, s store.Store) (stop func() int) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	moved := 0
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c, err := s.(*store.Log).Compact(ctx, store.CompactOptions{MaxLive: 0.9})
			moved += c.Bodies
			if err == nil {
				_, err = s.(*store.Log).Seal(ctx, store.CompactOptions{})
			}
			if err != nil && !errors.Is(err, store.ErrFull) {
				return
			}
			runtime.Gosched()
		}
	}()
	return func() int {
		cancel()
		<-done
		return moved
	}
}

// together runs all workers at once until each has made n changes or failed.
func together(ctx context.Context, s store.Store, ws []*worker, n int) error {
	stop := compacting(ctx, s)
	defer func() { ws[0].moved += stop() }()
	errs := make([]error, len(ws))
	var wg sync.WaitGroup
	for i, w := range ws {
		wg.Go(func() { errs[i] = w.run(ctx, s, n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"mailform/server/store"
	"mailform/server/store/seal"
)

// Config is what an Indexer needs. Store, Dir and Logger must be set.
type Config struct {
	Store  store.Store
	Dir    string // of all accounts' indexes
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
	// Keys returns the keys of the store's accounts; nil, or one that returns nil, when
	// nothing is encrypted. The index of an account that has a key is encrypted.
	Keys func() *seal.Ring
}

// keysOf is Keys for one account.
func (c *Config) keysOf(account string) keysOf {
	return func() *seal.Ring {
		if ring := c.Keys(); ring != nil && ring.Has(account) {
			return ring
		}
		return nil
	}
}

const (
	// maxPending is how many new messages of an account are remembered one by one;
	// beyond that all of the account is gone through.
	maxPending = 10_000
	// tidyAfter is how long the words of expunged messages may stay in an index.
	tidyAfter = time.Hour
	// closeAfter is when an index that nobody asks is written and closed.
	closeAfter = 10 * time.Minute
	// tick is how often that is looked at, and after what time the memory of an index
	// that nobody asks is given back.
	tick = time.Minute
)

// Indexer keeps the indexes of all accounts up to date, with one goroutine.
type Indexer struct {
	cfg  Config
	wake chan struct{}

	mu    sync.Mutex
	todo  map[string]*pending
	order []string // accounts in todo, in the order in which they came
	open  map[string]*entry
	ended bool

	work      sync.Mutex // held while an account is brought up to date, or erased
	workspace workspace  // of Run
}

type pending struct {
	added   []*store.Message
	all     bool      // go through all messages
	removed time.Time // when the first of those was expunged that are still indexed; zero is none
}

type entry struct {
	x       *Index
	used    time.Time
	trimmed bool // since then
}

// NewIndexer returns an indexer; Run makes it work.
func NewIndexer(cfg Config) *Indexer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Keys == nil {
		cfg.Keys = func() *seal.Ring { return nil }
	}
	return &Indexer{cfg: cfg, wake: make(chan struct{}, 1), todo: map[string]*pending{}, open: map[string]*entry{}}
}

// Changed tells that messages have come to an account, or that some have gone.
// It returns at once; it is what store.Options.Changed calls.
func (n *Indexer) Changed(account string, added []*store.Message, removed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pendingOf(account)
	for _, m := range added {
		if p.all {
			break
		}
		p.added = append(p.added, m)
		p.all = len(p.added) > maxPending
	}
	if p.all {
		p.added = nil
	}
	if removed && p.removed.IsZero() {
		p.removed = n.cfg.Now()
	}
	if len(added) > 0 {
		n.kick()
	}
}

// Check has all messages of an account gone through: at start, and when an index was lost.
func (n *Indexer) Check(account string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pendingOf(account).all = true
	n.kick()
}

func (n *Indexer) pendingOf(account string) *pending {
	p := n.todo[account]
	if p == nil {
		p = &pending{}
		n.todo[account] = p
		n.order = append(n.order, account)
	}
	return p
}

func (n *Indexer) kick() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then writes and closes all indexes.
func (n *Indexer) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		for ctx.Err() == nil {
			if more, _ := n.step(ctx, false); !more {
				break
			}
		}
		select {
		case <-ctx.Done():
			return n.close()
		case <-n.wake:
		case <-t.C:
			n.closeIdle("", closeAfter)
		}
	}
}

// Tidy takes the words of expunged messages off the disk now. When it returns nil
// nothing is left of those that were expunged before.
func (n *Indexer) Tidy(ctx context.Context) error {
	var failed error
	for ctx.Err() == nil {
		more, err := n.step(ctx, true)
		failed = errors.Join(failed, err)
		if !more {
			return failed
		}
	}
	return ctx.Err()
}

// step brings one account up to date and says whether there was one to be; those that
// fail are not tried again in this round.
func (n *Indexer) step(ctx context.Context, atOnce bool) (bool, error) {
	n.work.Lock()
	defer n.work.Unlock()
	account, p, ok := n.next(atOnce)
	if !ok {
		return false, nil
	}
	err := n.update(ctx, account, p)
	if err == nil {
		return true, nil
	}
	if ctx.Err() == nil {
		n.cfg.Logger.Warn("search: index an account; its messages are read when they are searched", "account", account, "err", err)
	}
	err = fmt.Errorf("search index of %s: %w", account, err)
	if p.removed.IsZero() {
		return true, err
	}
	n.mu.Lock() // what was to go has to go another time
	defer n.mu.Unlock()
	if again := n.pendingOf(account); again.removed.IsZero() {
		again.removed = n.cfg.Now()
	}
	return !atOnce, err
}

// next takes the work of the account that waits for the longest time. One from
// which messages have only gone waits until it is worth while, unless at once.
func (n *Indexer) next(atOnce bool) (string, *pending, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, account := range n.order {
		p := n.todo[account]
		tidy := !p.removed.IsZero() && (atOnce || n.cfg.Now().Sub(p.removed) >= tidyAfter)
		if !p.all && len(p.added) == 0 && !tidy {
			continue
		}
		delete(n.todo, account)
		n.order = append(n.order[:i:i], n.order[i+1:]...)
		if p.all = p.all || tidy; !p.all && !p.removed.IsZero() {
			n.pendingOf(account).removed = p.removed // later
		}
		return account, p, true
	}
	return "", nil, false
}

func (n *Indexer) update(ctx context.Context, account string, p *pending) error {
	n.mu.Lock()
	wasOpen := n.open[account] != nil
	n.mu.Unlock()
	x, err := n.index(account)
	if err != nil {
		return err
	}
	if p.all && !wasOpen {
		// At a start all accounts are gone through: they are not all to be in memory.
		defer n.closeIdle(account, 0)
	}
	if !p.all {
		for _, m := range p.added {
			if err := n.add(ctx, x, m); err != nil {
				return err
			}
		}
		return nil
	}
	boxes, err := n.cfg.Store.Mailboxes(ctx, account)
	if err != nil && !errors.Is(err, store.ErrNoMailbox) {
		return err
	}
	messages := 0
	for _, b := range boxes {
		messages += int(b.Messages)
	}
	alive := make([]bodyPlace, 0, messages)
	for _, b := range boxes {
		snap, watch, err := n.cfg.Store.Open(ctx, account, b.Name)
		if errors.Is(err, store.ErrNoMailbox) {
			continue
		}
		if err != nil {
			return err
		}
		watch.Close()
		var m store.Message
		for row := range snap.Messages.Rows(0, snap.Messages.Len()) {
			row.Read(&m)
			alive = append(alive, placeOfBody(m.Body))
			if err := n.add(ctx, x, &m); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(alive, bodyPlace.compare)
	// What has come since is not in alive: it is not in the index either.
	for more := true; more && ctx.Err() == nil; {
		if more, err = x.Tidy(func(ref store.BodyRef) bool {
			_, found := slices.BinarySearchFunc(alive, placeOfBody(ref), bodyPlace.compare)
			return found
		}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// bodyPlace is what tells bodies apart, in little memory.
type bodyPlace struct {
	segment uint64
	offset  int64
}

func placeOfBody(ref store.BodyRef) bodyPlace { return bodyPlace{ref.Segment, ref.Offset} }

func (p bodyPlace) compare(q bodyPlace) int {
	return cmp.Or(cmp.Compare(p.segment, q.segment), cmp.Compare(p.offset, q.offset))
}

// add indexes a message under its body, with the header lines that were added at
// its delivery: in one account they are the same wherever the body is.
func (n *Indexer) add(ctx context.Context, x *Index, m *store.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.Body.Size == 0 || x.Has(m.Body) {
		return nil
	}
	runtime.Gosched() // somebody waits for deliveries, nobody for this: what is not indexed is read when it is searched
	r, err := n.cfg.Store.Read(ctx, x.account, *m)
	if err == nil {
		if src, ok := r.(Source); ok {
			err = x.Add(m.Body, src)
		}
		err = errors.Join(err, r.Close())
	}
	if errors.Is(err, store.ErrNoMessage) || errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrNoKey) {
		return nil // it is gone, or cannot be searched in any way
	}
	return err
}

// index returns the open index of an account.
func (n *Indexer) index(account string) (*Index, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return nil, fs.ErrClosed
	}
	e := n.open[account]
	if e == nil {
		x, err := openFor(filepath.Join(n.cfg.Dir, url.PathEscape(account)), n.cfg.Logger, account, n.cfg.keysOf(account), &n.workspace)
		if err != nil {
			return nil, err
		}
		e = &entry{x: x}
		n.open[account] = e
	}
	e.used, e.trimmed = n.cfg.Now(), false
	return e.x, nil
}

// Find looks for a folded text in some fields of an account's messages.
func (n *Indexer) Find(account string, fields Field, text string) (*Hits, error) {
	for {
		x, err := n.index(account)
		if err != nil {
			return nil, err
		}
		h, err := x.Find(fields, text)
		if !errors.Is(err, fs.ErrClosed) { // closed as idle meanwhile
			return h, err
		}
	}
}

// closeIdle writes and closes the indexes, or that of one account, that nobody has
// asked for some time.
func (n *Indexer) closeIdle(account string, after time.Duration) {
	n.mu.Lock()
	var idle []*Index
	for name, e := range n.open {
		unused := n.cfg.Now().Sub(e.used)
		switch {
		case account != "" && account != name:
		case unused >= after:
			delete(n.open, name)
			idle = append(idle, e.x)
		case unused >= tick && !e.trimmed:
			e.x.Trim()
			e.trimmed = true
		}
	}
	n.mu.Unlock()
	for _, x := range idle {
		if err := x.Close(); err != nil {
			n.cfg.Logger.Warn("search: write an index", "err", err)
		}
	}
}

func (n *Indexer) close() error {
	n.mu.Lock()
	n.ended = true
	open := n.open
	n.open = nil
	n.mu.Unlock()
	var err error
	for _, e := range open {
		err = errors.Join(err, e.x.Close())
	}
	return err
}

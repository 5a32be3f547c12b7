package summary

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"mailform/server/store"
)

// Store is what a Keeper needs of a mail store.
type Store interface {
	Mailboxes(ctx context.Context, account string) ([]store.MailboxInfo, error)
	Open(ctx context.Context, account, mailbox string) (store.Snapshot, store.Watch, error)
	// Read returns a reader that is also an io.ReaderAt.
	Read(ctx context.Context, account string, m store.Message) (io.ReadCloser, error)
}

// Config is what a Keeper needs. Store, Dir and Logger must be set.
type Config struct {
	Store  Store
	Dir    string // of all accounts' summaries
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
	// Cipher returns what seals an account's summaries: AES-256-GCM with the
	// account's key. nil, or one that returns nil, keeps them in the clear; with
	// an error nothing is kept.
	Cipher func(account string) (cipher.AEAD, error)
	// Least is how many new messages are worth a file; default 256. As many may
	// always be missing.
	Least int
}

const (
	// tidyAfter is how long what is known of expunged messages may stay.
	tidyAfter = time.Hour
	// forgetAfter is when the list of a mailbox's runs is forgotten.
	forgetAfter = 10 * time.Minute
	tick        = time.Minute
)

// Keeper keeps the summaries of all accounts up to date, with one goroutine.
// Messages are taken in by the block: the few that have come since are read when
// they are asked for.
type Keeper struct {
	cfg     Config
	wake    chan struct{}
	work    sync.Mutex // held by whoever changes files
	readers sync.Pool  // of *Reader, for their buffers

	mu    sync.Mutex
	todo  map[string]*pending
	order []string // accounts in todo, in the order in which they came
	boxes map[boxKey]*box
}

type pending struct {
	added   int
	all     bool      // go through all mailboxes
	removed time.Time // when the first message was expunged of which something is still kept; zero is none
}

type boxKey struct {
	account string
	id      uint32 // the mailbox's UIDVALIDITY
}

// box is what is known of the files of a mailbox.
type box struct {
	runs []runName // in the order of UIDs; replaced, never changed
	next uint32    // the next run's number
	used time.Time
	// gone is how many messages had left the mailbox when the runs had none of
	// them; -1: not known.
	gone int64
}

// cleanFile holds a box's gone, so that not every mailbox is gone through at start.
const cleanFile = "clean"

// goneFrom is how many messages have left a mailbox so far.
func goneFrom(i store.MailboxInfo) int64 { return int64(i.UIDNext) - 1 - int64(i.Messages) }

// clean notes that the runs have none of the messages that have left.
func (k *Keeper) clean(b boxKey, s *box, gone int64) error {
	if s.gone == gone || len(k.runsOf(s)) == 0 {
		return nil
	}
	s.gone = gone
	return os.WriteFile(filepath.Join(k.dir(b), cleanFile), strconv.AppendInt(nil, gone, 10), 0o600)
}

// NewKeeper returns a keeper; Run makes it work.
func NewKeeper(cfg Config) *Keeper {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Least == 0 {
		cfg.Least = blockLen
	}
	if cfg.Cipher == nil {
		cfg.Cipher = func(string) (cipher.AEAD, error) { return nil, nil }
	}
	k := &Keeper{cfg: cfg, wake: make(chan struct{}, 1), todo: map[string]*pending{}, boxes: map[boxKey]*box{}}
	k.readers.New = func() any { return &Reader{} }
	return k
}

// Changed tells that messages have come to an account, or that some have gone.
// It returns at once; it is for store.Options.Changed.
func (k *Keeper) Changed(account string, added []*store.Message, removed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pendingOf(account)
	if removed && p.removed.IsZero() {
		p.removed = k.cfg.Now()
	}
	if p.added += len(added); p.added >= k.cfg.Least {
		k.kick()
	}
}

// Check has all mailboxes of an account gone through: at start, and when
// summaries were lost.
func (k *Keeper) Check(account string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pendingOf(account).all = true
	k.kick()
}

func (k *Keeper) pendingOf(account string) *pending {
	p := k.todo[account]
	if p == nil {
		p = &pending{}
		k.todo[account] = p
		k.order = append(k.order, account)
	}
	return p
}

func (k *Keeper) kick() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	if err := k.checkKept(); err != nil {
		k.cfg.Logger.Warn("summary: look for accounts that are gone", "err", err)
	}
	for {
		k.Catch(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-t.C:
			k.work.Lock() // a pass goes by what is known
			k.forget()
			k.work.Unlock()
		}
	}
}

// checkKept has all accounts gone through of which something is kept: they may
// have gone while nobody looked.
func (k *Keeper) checkKept() error {
	dirs, err := os.ReadDir(k.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range dirs {
		if account, err := url.PathUnescape(d.Name()); err == nil {
			k.Check(account)
		}
	}
	return nil
}

// Catch does the work that is due.
func (k *Keeper) Catch(ctx context.Context) {
	k.work.Lock()
	defer k.work.Unlock()
	for ctx.Err() == nil {
		account, p, ok := k.next(false)
		if !ok {
			return
		}
		k.update(ctx, account, p)
	}
}

// Tidy takes what is known of expunged messages off the disk now. When it
// returns nil nothing is left of those that were expunged before.
func (k *Keeper) Tidy(ctx context.Context) error {
	k.work.Lock()
	defer k.work.Unlock()
	var failed error
	for ctx.Err() == nil {
		account, p, ok := k.next(true)
		if !ok {
			return failed
		}
		failed = errors.Join(failed, k.update(ctx, account, p))
	}
	return ctx.Err()
}

// next takes the work of the account that waits for the longest time. An account
// from which messages have only gone waits until it is worth while, unless at once.
func (k *Keeper) next(atOnce bool) (string, *pending, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, account := range k.order {
		p := k.todo[account]
		tidy := !p.removed.IsZero() && (atOnce || k.cfg.Now().Sub(p.removed) >= tidyAfter)
		if !p.all && p.added < k.cfg.Least && !tidy {
			continue
		}
		delete(k.todo, account)
		k.order = append(k.order[:i:i], k.order[i+1:]...)
		if p.all = p.all || tidy; !p.all && !p.removed.IsZero() {
			k.pendingOf(account).removed = p.removed // later
		}
		return account, p, true
	}
	return "", nil, false
}

func (k *Keeper) update(ctx context.Context, account string, p *pending) error {
	err := k.account(ctx, account, p.all)
	if err == nil {
		return nil
	}
	if !p.removed.IsZero() { // it has to be tried again
		k.mu.Lock()
		if again := k.pendingOf(account); again.removed.IsZero() {
			again.removed = p.removed
		}
		k.mu.Unlock()
	}
	if ctx.Err() == nil {
		k.cfg.Logger.Warn("summary: summarise an account; its messages are read when they are asked for", "account", account, "err", err)
	}
	return fmt.Errorf("summaries of %s: %w", account, err)
}

func (k *Keeper) account(ctx context.Context, account string, tidy bool) error {
	key, err := k.cfg.Cipher(account)
	if err != nil {
		return err
	}
	infos, err := k.cfg.Store.Mailboxes(ctx, account)
	if err != nil && !errors.Is(err, store.ErrNoMailbox) {
		return err
	}
	for _, info := range infos {
		if err := k.mailbox(ctx, boxKey{account, info.UIDValidity}, info, key, tidy); err != nil {
			return err
		}
	}
	if !tidy {
		return nil
	}
	if len(infos) == 0 {
		return k.remove(account)
	}
	// Folders of mailboxes that are gone.
	dirs, err := os.ReadDir(k.accountDir(account))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	for _, d := range dirs {
		if slices.ContainsFunc(infos, func(i store.MailboxInfo) bool { return d.Name() == boxName(i.UIDValidity) }) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(k.accountDir(account), d.Name())); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for b := range k.boxes {
		if b.account == account && !slices.ContainsFunc(infos, func(i store.MailboxInfo) bool { return b.id == i.UIDValidity }) {
			delete(k.boxes, b)
		}
	}
	return nil
}

// Erase removes all that is kept of an account.
func (k *Keeper) Erase(account string) error {
	k.work.Lock()
	defer k.work.Unlock()
	return k.remove(account)
}

// remove is Erase for who holds work.
func (k *Keeper) remove(account string) error {
	err := os.RemoveAll(k.accountDir(account))
	k.mu.Lock()
	defer k.mu.Unlock()
	for b := range k.boxes {
		if b.account == account {
			delete(k.boxes, b)
		}
	}
	return err
}

func (k *Keeper) accountDir(account string) string {
	return filepath.Join(k.cfg.Dir, url.PathEscape(account))
}

func boxName(id uint32) string { return fmt.Sprintf("%08x", id) }

func (k *Keeper) dir(b boxKey) string { return filepath.Join(k.accountDir(b.account), boxName(b.id)) }

// state returns what is known of a mailbox's files, looking at its folder when
// that is nothing.
func (k *Keeper) state(b boxKey) (*box, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.boxes[b]
	if s == nil {
		k.mu.Unlock() // commits do not wait for the disk
		fresh, err := readBox(k.dir(b))
		k.mu.Lock()
		if err != nil {
			return nil, err
		}
		if s = k.boxes[b]; s == nil {
			s = fresh
			k.boxes[b] = s
		}
	}
	s.used = k.cfg.Now()
	return s, nil
}

func readBox(dir string) (*box, error) {
	runs, _, err := listRuns(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &box{runs: runs, next: 1, gone: -1}
	for _, n := range runs {
		s.next = max(s.next, n.number+1)
	}
	if len(runs) == 0 {
		return s, nil
	}
	// What cannot be read there is found out again.
	if text, err := os.ReadFile(filepath.Join(dir, cleanFile)); err == nil {
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			s.gone = n
		}
	}
	return s, nil
}

func (k *Keeper) runsOf(s *box) []runName {
	k.mu.Lock()
	defer k.mu.Unlock()
	return s.runs
}

// replace puts runs in the place of others, and removes the files of those.
func (k *Keeper) replace(b boxKey, s *box, old, new []runName) error {
	k.mu.Lock()
	runs := slices.DeleteFunc(slices.Clone(s.runs), func(n runName) bool { return slices.Contains(old, n) })
	runs = append(runs, new...)
	slices.SortFunc(runs, func(a, b runName) int { return int(int64(a.first) - int64(b.first)) })
	s.runs = runs
	k.mu.Unlock()
	var failed error
	for _, n := range old {
		if err := os.Remove(filepath.Join(k.dir(b), n.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// drop gives up a run that is damaged, and has it made anew.
func (k *Keeper) drop(b boxKey, name runName, why error) {
	k.cfg.Logger.Warn("summary: a file is given up; its messages are summarised anew", "account", b.account, "err", why)
	s, err := k.state(b)
	if err == nil {
		err = k.replace(b, s, []runName{name}, nil)
	}
	if err != nil {
		k.cfg.Logger.Warn("summary: remove a file", "account", b.account, "err", err)
	}
	k.Check(b.account)
}

func (k *Keeper) openRun(b boxKey, name runName) (*run, error) {
	key, err := k.cfg.Cipher(b.account)
	if err != nil {
		return nil, err
	}
	return openRun(k.dir(b), name, b.id, key)
}

// Reader returns the summaries of a mailbox, which UIDVALIDITY names. The caller
// closes it.
func (k *Keeper) Reader(account string, validity uint32) *Reader {
	if k == nil {
		return nil
	}
	b := boxKey{account, validity}
	s, err := k.state(b)
	if err != nil {
		k.cfg.Logger.Warn("summary: read; the messages are read instead", "account", account, "err", err)
		return nil
	}
	r := k.readers.Get().(*Reader)
	r.k, r.box, r.runs = k, b, k.runsOf(s)
	return r
}

// forget lets go of what was not asked for in a while.
func (k *Keeper) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for b, s := range k.boxes {
		if k.cfg.Now().Sub(s.used) > forgetAfter {
			delete(k.boxes, b)
		}
	}
}

// sumOf is how many messages some runs have.
func sumOf(runs []runName) (n int) {
	for _, r := range runs {
		n += int(r.count)
	}
	return n
}

// stretch is the messages of a mailbox from one place up to another, not included.
type stretch struct {
	list     *store.List
	from, to int
}

// between returns the messages with UIDs from first to last.
func between(list *store.List, first, last store.UID) stretch {
	s := stretch{list, list.Index(first), list.Len()}
	if last < ^store.UID(0) {
		s.to = list.Index(last + 1)
	}
	return s
}

func (s stretch) len() int { return s.to - s.from }

// cut returns the first n messages and the others.
func (s stretch) cut(n int) (first, rest stretch) {
	return stretch{s.list, s.from, s.from + n}, stretch{s.list, s.from + n, s.to}
}

// all yields the messages, each until the next.
func (s stretch) all(yield func(*store.Message) bool) {
	var m store.Message
	for row := range s.list.Rows(s.from, s.to) {
		if row.Read(&m); !yield(&m) {
			return
		}
	}
}

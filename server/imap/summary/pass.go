package summary

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mailform/server/store"
)

// piece is a stretch of a mailbox: the messages within a run, or those between
// two of them.
type piece struct {
	run   *runName // nil: there is none yet
	msgs  stretch
	dead  bool // the run has others, too
	write bool // the run does not stay as it is
}

// mailbox brings the runs of a mailbox up to date. With tidy nothing stays of
// messages that are gone.
func (k *Keeper) mailbox(ctx context.Context, b boxKey, info store.MailboxInfo, key cipher.AEAD, tidy bool) error {
	s, err := k.state(b)
	if err != nil {
		return err
	}
	if tidy {
		if err := k.sweep(b, s); err != nil {
			return err
		}
		if err := k.unlike(b, s, key); err != nil {
			return err
		}
	}
	runs := k.runsOf(s)
	if info.Messages == 0 {
		return k.replace(b, s, runs, nil)
	}
	due := int(info.Messages)-sumOf(runs) >= k.cfg.Least
	if n := len(runs); n > 0 && s.gone != goneFrom(info) {
		// Some that were kept may be gone: then more than that are missing.
		due = due || tidy || int(info.UIDNext)-1-int(runs[n-1].last) >= k.cfg.Least
	}
	if !due {
		return nil
	}
	if err := roomFor(k.cfg.Dir); err != nil {
		return err
	}
	snap, watch, err := k.cfg.Store.Open(ctx, b.account, info.Name)
	if errors.Is(err, store.ErrNoMailbox) {
		return nil
	}
	if err != nil {
		return err
	}
	watch.Close()
	if snap.Info.UIDValidity != b.id {
		return nil // another one has the name now
	}
	pieces, err := k.survey(ctx, b, s, &snap.Messages, key, tidy)
	if err != nil {
		return err
	}
	w := &writer{k: k, box: b, state: s, key: key, make: newMaker()}
	defer w.old.open(nil)
	for i := 0; i < len(pieces); {
		j := i
		for j < len(pieces) && pieces[j].write && (j == i || pieces[j].msgs.len() < maxRun && pieces[j-1].msgs.len() < maxRun) {
			j++
		}
		if j > i {
			if err := w.sequence(ctx, pieces[i:j]); err != nil {
				return err
			}
		}
		i = max(j, i+1)
	}
	for _, p := range pieces {
		if p.dead && !p.write {
			return nil
		}
	}
	return k.clean(b, s, goneFrom(snap.Info))
}

// sweep removes files that are no runs in use: what a crash has left.
func (k *Keeper) sweep(b boxKey, s *box) error {
	entries, err := os.ReadDir(k.dir(b))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	used := map[string]bool{cleanFile: true}
	for _, n := range k.runsOf(s) {
		used[n.String()] = true
	}
	for _, e := range entries {
		if !used[e.Name()] {
			if err := os.Remove(filepath.Join(k.dir(b), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// unlike gives up the runs of an account that has a key and whose are not encrypted.
func (k *Keeper) unlike(b boxKey, s *box, key cipher.AEAD) error {
	if key == nil {
		return nil
	}
	for _, name := range k.runsOf(s) {
		r, err := openRun(k.dir(b), name, b.id, key)
		switch {
		case err == nil:
			err = r.file.Close()
		case errors.Is(err, errRun), errors.Is(err, fs.ErrNotExist):
			err = k.replace(b, s, []runName{name}, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// survey says which stretches a mailbox has and which are to be written.
func (k *Keeper) survey(ctx context.Context, b boxKey, s *box, msgs *store.List, key cipher.AEAD, tidy bool) ([]piece, error) {
	var pieces []piece
	next := store.UID(0)
	gap := func(upTo store.UID, final bool) {
		list := between(msgs, next, upTo)
		for list.len() >= maxRun {
			p := piece{write: true}
			p.msgs, list = list.cut(maxRun)
			pieces = append(pieces, p)
		}
		if list.len() > 0 {
			pieces = append(pieces, piece{msgs: list, write: !final || list.len() >= k.cfg.Least})
		}
	}
	for _, name := range k.runsOf(s) {
		inside := between(msgs, name.first, name.last)
		have, err := k.count(ctx, b, name, inside, key)
		if errors.Is(err, errRun) || errors.Is(err, fs.ErrNotExist) {
			k.cfg.Logger.Warn("summary: a file is made anew", "account", b.account, "err", err)
			if err := k.replace(b, s, []runName{name}, nil); err != nil {
				return nil, err
			}
			continue // a gap
		}
		if err != nil {
			return nil, err
		}
		if name.first > 0 {
			gap(name.first-1, false)
		}
		next = name.last + 1
		dead := have < int(name.count)
		pieces = append(pieces, piece{run: &name, msgs: inside, dead: dead, write: have < inside.len() || tidy && dead})
	}
	gap(^store.UID(0), true)
	absorb(pieces)
	return pieces, nil
}

// count returns how many of some messages a run has.
func (k *Keeper) count(ctx context.Context, b boxKey, name runName, msgs stretch, key cipher.AEAD) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	r, err := openRun(k.dir(b), name, b.id, key)
	if err != nil {
		return 0, err
	}
	c := &cursor{}
	c.open(r)
	defer c.open(nil)
	for m := range msgs.all {
		found, err := c.seek(m)
		if err != nil {
			return 0, err
		}
		if found {
			n++
		}
	}
	return n, nil
}

// absorb has runs written anew together with what comes beside them, when they
// are not much larger: so there are few, and none is written often.
func absorb(pieces []piece) {
	for i := range pieces {
		if !pieces[i].write || pieces[i].msgs.len() >= maxRun {
			continue
		}
		size := pieces[i].msgs.len()
		for j := i - 1; j >= 0; j-- {
			n := pieces[j].msgs.len()
			if size+n > maxRun || n >= 4*size && !pieces[j].write {
				break
			}
			pieces[j].write = true
			size += n
		}
	}
	// What is left over at the end comes along.
	if n := len(pieces); n > 1 && pieces[n-2].write && pieces[n-1].run == nil && pieces[n-2].msgs.len()+pieces[n-1].msgs.len() <= maxRun {
		pieces[n-1].write = true
	}
}

// writer writes the runs of a mailbox.
type writer struct {
	k     *Keeper
	box   boxKey
	state *box
	key   cipher.AEAD
	make  *maker
	old   cursor
}

// sequence writes pieces that stand side by side, and then does away with the
// runs that they were.
func (w *writer) sequence(ctx context.Context, pieces []piece) (err error) {
	var made, gone []runName
	defer func() {
		if err != nil { // nobody knows of them
			for _, n := range made {
				err = errors.Join(err, os.Remove(filepath.Join(w.k.dir(w.box), n.String())))
			}
		}
	}()
	b := &builder{box: w.box.id}
	flush := func() error {
		if b.count == 0 {
			return nil
		}
		dir := w.k.dir(w.box)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		n, err := b.write(dir, w.state.next, w.key)
		w.state.next++
		if err != nil {
			return err
		}
		made = append(made, n)
		b = &builder{box: w.box.id}
		return nil
	}
	for _, p := range pieces {
		w.old.open(nil)
		if p.run != nil {
			r, err := openRun(w.k.dir(w.box), *p.run, w.box.id, w.key)
			if err != nil {
				return err
			}
			w.old.open(r)
			gone = append(gone, *p.run)
		}
		for m := range p.msgs.all {
			e, err := w.entry(ctx, m)
			if err != nil {
				return err
			}
			if b.add(&e); b.full() {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	w.old.open(nil)
	err = w.k.replace(w.box, w.state, gone, made)
	made = nil
	return err
}

// leaveFree is how much of a disk is left to mail.
const leaveFree = 256 << 20

// roomFor says whether a disk has room for a cache.
func roomFor(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < leaveFree {
		return fmt.Errorf("%d octets are free on the disk: they are left for mail", free)
	}
	return nil
}

// entry takes a message's entry from the run in which it was, or makes it.
func (w *writer) entry(ctx context.Context, m *store.Message) (entry, error) {
	if err := ctx.Err(); err != nil {
		return entry{}, err
	}
	if w.old.run != nil {
		if found, err := w.old.seek(m); err == nil && found {
			if e, err := w.old.entry(); err == nil {
				return e, nil
			}
		}
	}
	r, err := w.k.cfg.Store.Read(ctx, w.box.account, *m)
	if err == nil {
		at, ok := r.(io.ReaderAt)
		if !ok {
			err = errors.New("the store's reader cannot read at a place")
		}
		var e entry
		if err == nil {
			e, err = w.make.make(m, at)
		}
		if err = errors.Join(err, r.Close()); err == nil {
			return e, nil
		}
	}
	if errors.Is(err, store.ErrNoMessage) || errors.Is(err, store.ErrDamaged) {
		// It is gone, or cannot be read: nothing is kept but that it is there.
		return entry{uid: m.UID, guard: guardOf(m), sent: Sent{Unix: unknownDate}}, nil
	}
	return entry{}, err
}

package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"mailform/server/store/kv"
)

// mendAgain is how long after one attempt to make the index file anew the next may
// come: each reads the newest checkpoint and the log behind it while commits wait.
const mendAgain = time.Minute

// mend makes the index file anew when it was found damaged while it is in use: from
// the newest checkpoint and the log, as a start does. The commit loop calls it, so
// that the log is still; what is in memory stays there.
func (l *Log) mend() error {
	bad := l.ix.file.Load()
	why := bad.err.Load()
	if why == nil {
		return nil // somebody else has had it done
	}
	if now := l.opt.Now(); !l.mended.IsZero() && now.Sub(l.mended) < mendAgain {
		return *why
	} else {
		l.mended = now
	}
	if !l.checkpoints.mu.TryLock() {
		l.mended = time.Time{}
		return *why // a checkpoint is being written
	}
	defer l.checkpoints.mu.Unlock()
	bad.mu.Lock() // no flush is under way
	defer bad.mu.Unlock()
	file, err := l.another()
	if err != nil {
		return fmt.Errorf("%w: it cannot be made anew: %w", *why, err)
	}
	l.takeFile(file)
	l.checkpoints.wg.Go(func() {
		if err := bad.close(); err != nil {
			l.opt.Logger.Warn("store: close the damaged index file", "err", err)
		}
	})
	l.opt.Logger.Info("store: the index file has been made anew")
	return nil
}

// another makes an index file that has all of what is durable.
func (l *Log) another() (_ *indexFile, err error) {
	s := &Log{fs: l.fs, dir: l.dir, opt: l.opt, ix: newIndex(), seg: l.seg, idle: idle{boxes: map[*mailbox]idleBox{}}, woken: make(chan struct{}, 1)}
	s.checkpoints.dir = l.checkpoints.dir
	if err := kv.Remove(l.indexPath()); err != nil {
		return nil, err
	}
	s.ix.file.Store(s.openIndex())
	if s.ix.file.Load() == nil {
		return nil, errIndex
	}
	defer func() {
		if f := s.ix.file.Load(); err != nil && f != nil {
			err = errors.Join(err, f.close())
		}
	}()
	cp, err := s.loadCheckpoint()
	if err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(l.seg.ids(kindLog), func(id uint64) bool { return id < cp.segment || id > l.last })
	slices.Sort(ids)
	chain, limits, err := s.chain(ids, cp.segment)
	if err != nil {
		return nil, err
	}
	limits[l.last] = l.end
	r := &recovery{log: s}
	for _, id := range chain {
		from := int64(segmentHeader)
		if id == cp.segment {
			from = cp.offset
		}
		limit, ok := limits[id]
		if !ok {
			limit = -1
		}
		if err := r.replay(id, from, limit, false); err != nil {
			return nil, err
		}
	}
	if r.failed != nil {
		return nil, r.failed
	}
	for name, a := range l.ix.accounts {
		b := s.ix.accounts[name]
		if b == nil || b.count != a.count || b.bytes != a.bytes || b.modseq > a.modseq {
			return nil, fmt.Errorf("%w: what the log says of account %s is not what is known", errIndex, name)
		}
	}
	at := l.place()
	if err := s.flushIndex(&at); err != nil {
		return nil, err
	}
	return s.ix.file.Load(), nil
}

// takeFile has the index be in another file, which has everything.
func (l *Log) takeFile(file *indexFile) {
	l.ix.mu.Lock()
	l.ix.tried = map[string]bool{}
	l.ix.mu.Unlock()
	file.mu.Lock() // no flush takes note of what is about to change
	defer file.mu.Unlock()
	l.ix.file.Store(file)
	file.behind.Store(true)
	for _, a := range l.ix.accounts {
		a.mu.Lock()
		// The next flush compares nothing and writes all but the messages once more.
		a.dirty, a.metaDirty, a.removed = true, true, nil
		a.settled++
		for _, m := range a.boxes {
			m.dirty, m.goneDirty, m.blocks = true, false, nil
			if !m.loaded {
				m.msgs, m.gone, m.goneHere = List{}, vanished{}, false
			} else if m.pins == 0 {
				l.idle.add(a, m)
			}
		}
		a.mu.Unlock()
	}
}

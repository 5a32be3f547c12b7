package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	"mailform/plan"
)

// ledgerFormat is the version of ledger.json that this package reads and writes.
const ledgerFormat = 1

// maxLedgerBytes bounds what is read; 5,000 mailboxes take about 3 MiB.
const maxLedgerBytes = 64 << 20

// ReadLedger returns the stack's ledger for plan.Build, empty when there is none.
// It needs no lock and changes nothing. A ledger that cannot be used comes back
// empty too, with an error that is only a warning: the ledger is a cache, and a
// plan without it has the same changes.
func (d *Dir) ReadLedger(stack string) (plan.Ledger, error) {
	l, err := d.loadLedger(stack)
	return living(l), err
}

// living leaves out what is kept of deleted things: their generations, which
// matter to tokens only. To a plan they were never there.
func living(l plan.Ledger) plan.Ledger {
	l.Entries = maps.Clone(l.Entries)
	maps.DeleteFunc(l.Entries, func(_ plan.Address, e plan.LedgerEntry) bool {
		return e.ID == "" && e.Applied == nil
	})
	return l
}

func (d *Dir) loadLedger(stack string) (plan.Ledger, error) {
	empty := plan.Ledger{FormatVersion: ledgerFormat, Stack: stack, Entries: map[plan.Address]plan.LedgerEntry{}}
	name := filepath.Join(d.path, ledgerName)
	data, err := readBounded(d.fs, name, maxLedgerBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	var l plan.Ledger
	if err == nil {
		l, err = parseLedger(data, stack)
	}
	if err != nil {
		return empty, fmt.Errorf("the ledger %s is left out: %w; only the memory of who changed what is lost", name, err)
	}
	return l, nil
}

func parseLedger(data []byte, stack string) (plan.Ledger, error) {
	var l plan.Ledger
	if err := decodeStrict(data, &l); err != nil {
		return l, err
	}
	switch {
	case l.FormatVersion != ledgerFormat:
		return l, fmt.Errorf("its format is %d, this mailform knows %d", l.FormatVersion, ledgerFormat)
	case l.Stack != stack:
		return l, fmt.Errorf("it belongs to the stack %q", l.Stack)
	}
	for a, e := range l.Entries {
		if e.Generation < 0 {
			return l, fmt.Errorf("the generation of %s is negative", a)
		}
	}
	if l.Entries == nil {
		l.Entries = map[plan.Address]plan.LedgerEntry{}
	}
	return l, nil
}

func encodeLedger(l plan.Ledger) ([]byte, error) {
	data, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// settle writes the ledger that follows from a walk and then empties the
// journal of everything the ledger now holds: all of it when the walk was
// complete, all but the operations whose end is unknown otherwise.
func (s *State) settle(w *walk, complete bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if complete {
		// The world is as wished, whichever way these ended: wishing the same again is a new wish.
		for _, o := range s.journal.open {
			s.journal.use(o)
		}
	}
	next := nextLedger(s.ledger, w, s.journal.generations)
	data, err := encodeLedger(next)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	f, err := replaceFile(s.dir.fs, filepath.Join(s.dir.path, ledgerName), data)
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	s.ledger = next
	return s.journal.compact(complete, w.now(), w.Approved)
}

// nextLedger remembers, for every address that now is as the plan wanted it, its
// id and the values that were applied. Addresses that did not get there keep
// what was remembered of them.
func nextLedger(old plan.Ledger, w *walk, generations map[plan.Address]int) plan.Ledger {
	next := plan.Ledger{FormatVersion: ledgerFormat, Stack: w.plan.Stack, Entries: maps.Clone(old.Entries)}
	for a, g := range generations {
		e := next.Entries[a]
		e.Generation = max(e.Generation, g)
		next.Entries[a] = e
	}
	for _, c := range w.plan.Changes {
		// What was put off keeps what is remembered of it: it was not applied as it is.
		if c.Blocked != nil || c.LeftOut != "" || (c.Action != plan.NoOp && !w.completed[c.Address]) {
			continue
		}
		e := plan.LedgerEntry{Generation: next.Entries[c.Address].Generation}
		if c.Action != plan.Delete && c.Action != plan.Forget {
			e.ID = c.ID
			if id := w.results[c.Address]["id"].Str(); id != "" {
				e.ID = id
			}
			e.Applied = c.After.Resolve(w.output)
		}
		if e.ID == "" && e.Applied == nil && e.Generation == 0 {
			delete(next.Entries, c.Address)
			continue
		}
		next.Entries[c.Address] = e
	}
	return next
}

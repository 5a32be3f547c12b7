package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"mailform/plan"
)

// DirName is the folder inside a stack's folder that holds apply's files.
const DirName = ".mailform"

// LockName is the name of the lock file in it.
const LockName = "lock"

const (
	journalName = "journal"
	ledgerName  = "ledger.json"
	ignoreName  = ".gitignore"

	damagedSuffix = ".damaged"
)

// Codes of the errors that apply itself reports.
const (
	codeState      = "MF6001" // the state directory cannot be read or written
	codeLocked     = "MF6002" // somebody else is applying
	codeJournal    = "MF6003" // the journal cannot be used
	codePlan       = "MF6101" // the plan breaks its own rules
	codeUnresolved = "MF6102" // an operand never became known
	codePanic      = "MF6103" // a provider panicked
	codeUndecided  = "MF6104" // nobody can say whether an operation took effect
	codeProvider   = "MF6105" // a provider broke its promise
	codeIncomplete = "MF6201" // some steps failed
	codeStopped    = "MF6202" // stopped by the person
)

// Dir is the state directory of one stack. It holds the lock, the journal and
// the ledger; none of them is needed to find what mailform owns.
type Dir struct {
	fs   FS
	path string
}

// NewDir returns the state directory inside a stack's folder. Nothing is
// touched before the first Lock, Open or ReadLedger.
func NewDir(fsys FS, folder string) *Dir {
	return &Dir{fs: fsys, path: filepath.Join(folder, DirName)}
}

// Path returns the directory's path.
func (d *Dir) Path() string { return d.path }

// create makes the directory, private, and keeps it out of version control.
func (d *Dir) create() error {
	if err := d.fs.Mkdir(d.path, 0o700); err != nil {
		return d.failure("make the state directory", err)
	}
	if err := d.fs.SyncDir(filepath.Dir(d.path)); err != nil {
		return d.failure("make the state directory durable", err)
	}
	f, err := d.fs.OpenFile(filepath.Join(d.path, ignoreName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return d.failure("write into the state directory", err)
	}
	_, err = f.Write([]byte("*\n"))
	if err = errors.Join(err, f.Close()); err != nil {
		return d.failure("write into the state directory", err)
	}
	return nil
}

func (d *Dir) failure(step string, err error) *plan.Error {
	return &plan.Error{
		Code: codeState,
		Step: step,
		Got:  err.Error(),
		Fix:  fmt.Sprintf("make %s writable for you and check that the disk is not full, then run the same command again", d.path),
		Err:  err,
	}
}

// State is an opened state directory: the lock is held, the journal read and
// open for appending, the ledger loaded. It is safe for concurrent use.
type State struct {
	dir   *Dir
	lock  *Lock
	stack string

	durations durations // used by one run at a time

	mu       sync.Mutex
	journal  *journal
	ledger   plan.Ledger
	warnings []error
}

// Open locks the directory and reads what earlier runs left. Damage to the
// journal or the ledger is no error but a warning: see Warnings.
func (d *Dir) Open(stack string, h Holder) (*State, error) {
	lock, err := d.Lock(h)
	if err != nil {
		return nil, err
	}
	s := &State{dir: d, lock: lock, stack: stack, durations: d.loadDurations()}
	var damage error
	s.ledger, damage = d.loadLedger(stack)
	if damage != nil {
		s.warnings = append(s.warnings, damage)
		name := filepath.Join(d.path, ledgerName)
		if err := d.fs.Rename(name, name+damagedSuffix); err != nil {
			s.warnings = append(s.warnings, fmt.Errorf("set the ledger aside: %w", err))
		}
	}
	s.journal, damage, err = d.openJournal()
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	if damage != nil {
		s.warnings = append(s.warnings, damage)
	}
	return s, nil
}

// Warnings tells what Open found damaged and what became of it.
func (s *State) Warnings() []error { return s.warnings }

// Ledger returns what the last applies left behind, for plan.Build.
func (s *State) Ledger() plan.Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return living(s.ledger)
}

// Unfinished returns the operations that were begun and whose end is not known,
// in the order in which they were begun.
func (s *State) Unfinished() []plan.Op {
	var ops []plan.Op
	for _, o := range s.open() {
		ops = append(ops, o.op)
	}
	return ops
}

// Close closes the journal and releases the lock.
func (s *State) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.journal.close(), s.lock.Release())
}

// generation returns the generation in which a new wish at these addresses is.
func (s *State) generation(addresses []plan.Address) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := 0
	for _, a := range addresses {
		g = max(g, s.ledger.Entries[a].Generation, s.journal.generations[a])
	}
	return g
}

// again is contents.again.
func (s *State) again(op plan.Op) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.again(s.stack, op)
}

// write makes a record durable. Only after a begin has been written may its effect be tried.
func (s *State) write(r record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.append(r)
}

func (s *State) open() []intent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.journal.open)
}

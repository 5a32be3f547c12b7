// Package monitor lets a host write to somebody about itself: a mail when
// something begins to be wrong, one when that is over, a reminder each day in
// between. It also answers Prometheus.
//
// What was told is kept in a small file, so that a restart tells nothing again.
// A condition is over once it has not been seen for half an hour, so that one
// that comes and goes does not fill a mailbox. A host whose store cannot be
// written can send no mail either: its state is still in the metrics and in
// `mailformd status`.
//
// It imports server/manifest, server/route and server/store.
package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mailform/server/manifest"
	"mailform/server/route"
)

// Settings are what a reload exchanges.
type Settings struct {
	Monitor  *manifest.Monitor // nil: nobody is written to, and the limits are the defaults
	Hostname string
	Routes   *route.Table
	Signer   Signer // may be nil
}

// Config is what a Monitor needs. All but Now and After must be set.
type Config struct {
	Store     Store
	StateFile string
	Logger    *slog.Logger
	// Look gathers the facts, but for Unwritable and Backup.Since.
	Look   func(ctx context.Context) (Facts, error)
	Queued func() // called after a mail for elsewhere was queued

	Now func() time.Time // default time.Now
	// After returns a channel that is sent to once d has passed, and how to
	// forget it; default a time.Timer.
	After func(d time.Duration) (fired <-chan time.Time, stop func())
}

const (
	interval    = 5 * time.Minute
	settleTime  = 30 * time.Minute // a condition not seen for so long is over
	remindAfter = 24 * time.Hour
)

// Monitor watches one host.
type Monitor struct {
	cfg Config

	mu       sync.Mutex
	settings *Settings
	state    state
	current  []Condition
	facts    Facts
}

// state is what survives a restart.
type state struct {
	Format int              `json:"format"`
	Open   map[string]*open `json:"open"`
	// BackupSince is since when backups are configured, BackupLast when the
	// newest known one was made.
	BackupSince time.Time `json:"backup_since,omitzero"`
	BackupLast  time.Time `json:"backup_last,omitzero"`
}

// open is a condition that has begun.
type open struct {
	Title string    `json:"title"`
	Since time.Time `json:"since"`
	Told  time.Time `json:"told,omitzero"` // last mail about it; zero: nobody knows yet
	Gone  time.Time `json:"gone,omitzero"` // since when it is not seen any more
}

const stateFormat = 1

// New reads the state. One that cannot be read is begun anew: at worst something
// is told again.
func New(cfg Config, s *Settings) (*Monitor, error) {
	if cfg.Store == nil || cfg.StateFile == "" || cfg.Logger == nil || cfg.Look == nil || cfg.Queued == nil {
		return nil, errors.New("monitor.Config needs Store, StateFile, Logger, Look and Queued")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.After == nil {
		cfg.After = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTimer(d)
			return t.C, func() { t.Stop() }
		}
	}
	m := &Monitor{cfg: cfg, settings: s}
	text, err := os.ReadFile(cfg.StateFile)
	if err == nil {
		m.state, err = readState(text)
	}
	if err != nil {
		m.state = state{}
		if !errors.Is(err, fs.ErrNotExist) {
			cfg.Logger.Warn("monitor: what was told before cannot be read", "err", err)
		}
	}
	if m.state.Open == nil {
		m.state.Open = map[string]*open{}
	}
	m.state.Format = stateFormat
	return m, nil
}

func readState(text []byte) (state, error) {
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return state{}, err
	}
	if s.Format != stateFormat {
		return state{}, fmt.Errorf("it has format %d", s.Format)
	}
	maps.DeleteFunc(s.Open, func(_ string, o *open) bool { return o == nil })
	return s, nil
}

// Set exchanges the settings.
func (m *Monitor) Set(s *Settings) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settings = s
}

// Conditions returns what is wrong now, in words.
func (m *Monitor) Conditions() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, c := range m.current {
		out = append(out, c.Title+": "+c.Found)
	}
	return out
}

// Last returns what the last check found.
func (m *Monitor) Last() (Facts, []Condition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.facts, m.current
}

// Run checks until ctx ends, first at once.
func (m *Monitor) Run(ctx context.Context) error {
	for {
		if err := m.check(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Error("monitor: check", "err", err)
		}
		fired, stop := m.cfg.After(interval)
		select {
		case <-fired:
		case <-ctx.Done():
			stop()
			return nil
		}
		stop()
	}
}

// check looks once, and tells what is to be told.
func (m *Monitor) check(ctx context.Context) error {
	f, err := m.cfg.Look(ctx)
	if err != nil {
		return err
	}
	now := m.cfg.Now().UTC()
	m.mu.Lock()
	s := m.settings
	m.mu.Unlock()
	m.rememberBackup(&f, now)
	f.Unwritable = m.save() // also finds out whether that is possible
	current := Check(s.Monitor, f, now)
	m.mu.Lock()
	m.facts, m.current = f, current
	m.mu.Unlock()
	for _, n := range m.state.due(current, now) {
		if err := m.tell(ctx, s, n, now); err != nil {
			m.cfg.Logger.Error("monitor: nobody could be told, trying again", "condition", n.Key, "err", err)
			continue
		}
		m.state.told(n, now)
	}
	if f.Unwritable == nil {
		return m.save()
	}
	return nil
}

// rememberBackup adds what earlier runs of the daemon knew: a bucket that cannot
// be reached does not tell when the last backup was made.
func (m *Monitor) rememberBackup(f *Facts, now time.Time) {
	st := &m.state
	if f.Backup == nil {
		st.BackupSince, st.BackupLast = time.Time{}, time.Time{}
		return
	}
	if st.BackupSince.IsZero() {
		st.BackupSince = now
	}
	if f.Backup.Last.After(st.BackupLast) {
		st.BackupLast = f.Backup.Last
	}
	f.Backup.Since, f.Backup.Last = st.BackupSince, st.BackupLast
}

// news is what is to be told about a condition.
type news struct {
	Condition
	kind  newsKind
	since time.Time
}

type newsKind uint8

const (
	begins newsKind = iota
	goesOn
	ends
)

// due brings the open conditions up to date and returns what is to be told. What
// nobody could be told is due again the next time.
func (st *state) due(current []Condition, now time.Time) []news {
	var out []news
	seen := map[string]bool{}
	for _, c := range current {
		seen[c.Key] = true
		o := st.Open[c.Key]
		if o == nil {
			o = &open{Since: now}
			st.Open[c.Key] = o
		}
		o.Title, o.Gone = c.Title, time.Time{}
		switch {
		case o.Told.IsZero():
			out = append(out, news{c, begins, o.Since})
		case now.Sub(o.Told) >= remindAfter:
			out = append(out, news{c, goesOn, o.Since})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(st.Open)) {
		o := st.Open[key]
		switch {
		case seen[key]:
		case o.Gone.IsZero():
			o.Gone = now
		case now.Sub(o.Gone) < settleTime:
		case o.Told.IsZero():
			delete(st.Open, key) // nobody knew
		default:
			out = append(out, news{Condition{Key: key, Title: o.Title}, ends, o.Since})
		}
	}
	return out
}

func (st *state) told(n news, now time.Time) {
	if n.kind == ends {
		delete(st.Open, n.Key)
		return
	}
	st.Open[n.Key].Told = now
}

// save replaces the state's file.
func (m *Monitor) save() (err error) {
	text, err := json.MarshalIndent(m.state, "", "  ")
	if err != nil {
		return err
	}
	temp := m.cfg.StateFile + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, m.cfg.StateFile)
}

// Disk returns the size of the file system that dir is on and what is free of it
// for the service, in octets.
func Disk(dir string) (total, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(st.Blocks) * int64(st.Bsize), int64(st.Bavail) * int64(st.Bsize), nil
}

// Size is what the files below dir take, in octets. Files that go meanwhile do
// not count.
func Size(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				n += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return n, err
}

package backup

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"mailform/server/manifest"
)

// ErrOff is answered to who asks for a backup where none are configured.
var ErrOff = errors.New("no backups are configured: the spec has no backup block")

var errEnded = errors.New("mailformd is stopping")

// Settings are what a reload exchanges.
type Settings struct {
	Backup manifest.Backup
	Stack  string
	Host   string
}

// Status is what a Runner knows. It is a copy.
type Status struct {
	Every time.Duration // 0: no backups are configured
	Since time.Time     // since when this place is configured, as far as this process knows
	Last  time.Time     // time of the newest backup; zero when there is none, or it is not known yet
	Err   error         // of the last attempt; nil when it succeeded
}

// RunnerConfig is what a Runner needs. Store, Layout and Config.Logger must be set.
type RunnerConfig struct {
	Config
	Store   Store
	Layout  manifest.Layout
	Version string
	// After returns a channel that is sent to once d has passed, and how to
	// forget it; default a time.Timer.
	After func(d time.Duration) (fired <-chan time.Time, stop func())
}

// Runner makes backups at their times, one after the other.
type Runner struct {
	cfg     RunnerConfig
	changed chan struct{}
	asked   chan chan answer
	ended   chan struct{} // closed when Run returns

	mu       sync.Mutex
	settings *Settings
	status   Status
}

type answer struct {
	manifest *Manifest
	err      error
}

// NewRunner returns a runner; Run makes it work. nil settings are no backups.
func NewRunner(cfg RunnerConfig, s *Settings) (*Runner, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("backup.RunnerConfig needs Store and Logger")
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
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
	r := &Runner{cfg: cfg, changed: make(chan struct{}, 1), asked: make(chan chan answer), ended: make(chan struct{})}
	r.Set(s)
	select {
	case <-r.changed: // nobody has begun with others
	default:
	}
	return r, nil
}

// Set exchanges the settings. A backup that is being made ends with the old ones.
func (r *Runner) Set(s *Settings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := (s == nil) == (r.settings == nil) && (s == nil || *s == *r.settings)
	if same {
		return
	}
	moved := s == nil || r.settings == nil || s.Host != r.settings.Host || s.Backup.Endpoint != r.settings.Backup.Endpoint ||
		s.Backup.Bucket != r.settings.Backup.Bucket || s.Backup.Prefix != r.settings.Backup.Prefix
	r.settings = s
	if moved {
		r.status = Status{Since: r.cfg.Now()}
	}
	r.status.Every = 0
	if s != nil {
		r.status.Every = time.Duration(s.Backup.EverySeconds) * time.Second
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Status returns what is known now.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Now makes a backup, after the one that may be under way. The backup goes on
// when ctx ends, only nobody waits for it any more.
func (r *Runner) Now(ctx context.Context) (*Manifest, error) {
	if r.Status().Every == 0 {
		return nil, ErrOff
	}
	c := make(chan answer, 1)
	select {
	case r.asked <- c:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.ended:
		return nil, errEnded
	}
	select {
	case a := <-c:
		return a.manifest, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

const (
	firstRetry = time.Minute
	maxRetry   = time.Hour
	// pruneEvery is how often old backups are removed.
	pruneEvery = 24 * time.Hour
)

// Run works until ctx ends. It is called once.
func (r *Runner) Run(ctx context.Context) error {
	defer close(r.ended)
	defer r.cfg.HTTP.CloseIdleConnections()
	var l loop
	for ctx.Err() == nil {
		wait, on := l.wait(r)
		var fired <-chan time.Time
		stop := func() {}
		if on {
			fired, stop = r.cfg.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-r.changed:
			l = loop{}
		case <-fired:
			_, _ = r.work(ctx, &l, false)
		case c := <-r.asked:
			m, err := r.work(ctx, &l, true)
			c <- answer{m, err}
		}
		stop()
	}
	return nil
}

// loop is what Run remembers from one backup to the next.
type loop struct {
	looked   bool // the newest backup in the bucket is known
	failures int
	tried    time.Time // when the last attempt that failed ended
	pruned   time.Time
}

// wait is how long it is until there is something to do.
func (l *loop) wait(r *Runner) (d time.Duration, on bool) {
	st := r.Status()
	now := r.cfg.Now()
	switch {
	case st.Every == 0:
		return 0, false
	case l.failures > 0:
		retry := min(firstRetry<<min(l.failures-1, 10), maxRetry, st.Every)
		return max(l.tried.Add(retry).Sub(now), 0), true
	case !l.looked || st.Last.IsZero():
		return 0, true
	}
	return max(st.Last.Add(st.Every).Sub(now), 0), true
}

// work looks what there is, makes a backup when one is due or asked for, and
// removes old ones.
func (r *Runner) work(ctx context.Context, l *loop, asked bool) (m *Manifest, err error) {
	r.mu.Lock()
	s := r.settings
	r.mu.Unlock()
	if s == nil {
		return nil, ErrOff
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if ctx.Err() != nil {
			return // not the bucket's fault
		}
		if s != r.settings {
			return // a result about another place
		}
		r.status.Err = err
		if err == nil {
			l.failures = 0
			return
		}
		l.failures++
		l.tried = r.cfg.Now()
		r.cfg.Logger.Error("backup: failed", "failures", l.failures, "err", err)
	}()
	p, err := NewPlace(r.cfg.Config, s.Backup, s.Host)
	if err != nil {
		return nil, err
	}
	note := func(t time.Time) {
		r.mu.Lock()
		if s == r.settings && t.After(r.status.Last) {
			r.status.Last = t
		}
		r.mu.Unlock()
	}
	if !l.looked {
		t, err := p.Newest(ctx, time.Time{})
		if err != nil && !errors.Is(err, ErrNoBackup) {
			return nil, err
		}
		l.looked = true
		note(t)
	}
	last := r.Status().Last
	due := last.IsZero() || !last.Add(time.Duration(s.Backup.EverySeconds)*time.Second).After(r.cfg.Now())
	if asked || due || l.failures > 0 {
		m, err = p.Backup(ctx, Source{Store: r.cfg.Store, Layout: r.cfg.Layout, Stack: s.Stack, Host: s.Host, Version: r.cfg.Version})
		if err != nil {
			return nil, err
		}
		note(m.Time)
		if r.cfg.Now().Sub(l.pruned) >= pruneEvery {
			if err := p.Prune(ctx, time.Duration(s.Backup.KeepSeconds)*time.Second); err != nil {
				r.cfg.Logger.Error("backup: old ones could not be removed, trying again after the next one", "err", err)
				return m, nil
			}
			l.pruned = r.cfg.Now()
		}
	}
	return m, nil
}

// Package session wires one run of a command over one stack: the spec, the
// providers with their endpoints and credentials, the state directory, and the
// steps from reading the world to a finished apply. It decides nothing; what is
// wanted is the spec's business, what happens is the plan's.
package session

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailform/apply"
	"mailform/plan"
	"mailform/providers/acme"
	"mailform/providers/host"
	"mailform/providers/host/agentbin"
	"mailform/specs"
)

// Env is everything a session takes from its surroundings. Tests and the
// rehearsal replace what they need.
type Env struct {
	Version string
	Getenv  func(string) string
	Environ []string
	Home    string
	Now     func() time.Time
	Dial    DialFunc
	// Confirm asks the person whether an unknown SSH host key is right. nil answers no.
	Confirm func(question string) bool
	// Passphrase asks the person for the passphrase of a key file; wrong says that
	// the one before was. nil: there is nobody to ask.
	Passphrase func(file string, wrong bool) ([]byte, error)
	Warn       func(string)

	// What follows is nil for the real things: tests stand in for the disk of the
	// state directory, for time that passes while waiting, and for the network.
	Files     apply.FS
	Sleep     func(context.Context, time.Duration) error
	Transport http.RoundTripper // of all vendors' APIs
	Agents    agentbin.Source   // gives the mailformd that is put on hosts
	// LeaseNow is the clock that leases and the hosts' clocks are compared with, where Now runs ahead of the hosts'.
	LeaseNow func() time.Time
}

// Options say which stack and how.
type Options struct {
	Dir      string // the stack's folder
	StateDir string // where .mailform goes; "" is Dir
	Vars     []string
	VarFiles []string
	// ReadOnly makes a session that cannot write: its providers refuse, and so does
	// what carries their requests.
	ReadOnly bool
	// DeleteMail deletes the mail, too, on machines that were there before mailform.
	DeleteMail bool
	// Adjust changes the spec after it was read: the rehearsal takes endpoints and
	// passwords out so that its own are used.
	Adjust func(*specs.Spec)
}

// Session is one stack, ready to be planned and applied.
type Session struct {
	Spec      *specs.Spec
	Sources   *specs.Sources
	Warnings  specs.Diagnostics
	Providers []plan.Provider

	env    Env
	opts   Options
	state  *apply.State
	leases *apply.Leases // from Lock to Close
	hosts  *host.Provider
	certs  *acme.Provider

	advisors []plan.Advisor
	closers  []func()
}

// SpecError says that a spec, or the plan made from it, has errors.
type SpecError struct {
	Sources     *specs.Sources
	Diagnostics specs.Diagnostics
}

func (e *SpecError) Error() string {
	n := 0
	first := ""
	for _, d := range e.Diagnostics {
		if d.Severity == specs.SeverityError {
			if n == 0 {
				first = d.Summary
			}
			n++
		}
	}
	if n == 1 {
		return "the spec has an error: " + first
	}
	return fmt.Sprintf("the spec has %d errors, the first: %s", n, first)
}

// Load reads the spec only: no network, no credentials.
func Load(env Env, opts Options) (*specs.Spec, *specs.Sources, specs.Diagnostics) {
	return specs.Load(specs.LoadOptions{
		Dir:      opts.Dir,
		ReadDir:  os.ReadDir,
		Open:     func(name string) (fs.File, error) { return os.Open(name) },
		Environ:  env.Environ,
		Vars:     opts.Vars,
		VarFiles: opts.VarFiles,
		Home:     env.Home,
	})
}

// Open reads the spec and makes the providers. The error is a *SpecError when
// the spec is wrong.
func Open(env Env, opts Options) (*Session, error) {
	spec, sources, diags := Load(env, opts)
	if diags.HasErrors() {
		return nil, &SpecError{sources, diags}
	}
	if opts.Adjust != nil {
		opts.Adjust(spec)
	}
	return open(env, opts, &Session{Spec: spec, Sources: sources, Warnings: diags})
}

// open makes the providers of a session whose spec is known.
func open(env Env, opts Options, s *Session) (*Session, error) {
	s.env, s.opts = env, opts
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	if s.Providers, err = s.providers(roots); err != nil {
		return nil, err
	}
	for _, p := range s.Providers {
		if a, ok := p.(plan.Advisor); ok {
			s.advisors = append(s.advisors, a)
		}
	}
	if opts.ReadOnly {
		s.readOnly()
	}
	return s, nil
}

// Close ends connections and releases the lock when one is held.
func (s *Session) Close() error {
	s.release()
	for _, c := range s.closers {
		c()
	}
	s.closers = nil
	if s.state == nil {
		return nil
	}
	err := s.state.Close()
	s.state = nil
	return err
}

func (s *Session) dir() *apply.Dir {
	var files apply.FS = apply.OS{}
	if s.env.Files != nil {
		files = s.env.Files
	}
	return apply.NewDir(files, first(s.opts.StateDir, s.opts.Dir))
}

func (s *Session) warn(text string) {
	if s.env.Warn != nil {
		s.env.Warn(text)
	}
}

// PlanOptions are what a person may ask of a plan.
type PlanOptions struct {
	Destroy               bool
	Allow, Take           []string
	Only, Except, Replace []string
	// Approved is a saved plan to be made again; it decides all of the above.
	Approved *plan.Plan

	Differences bool     // only the differences are of interest: no operations
	Overlook    []string // with Differences: see plan.Input
}

// Planned is a plan and what it cost to make.
type Planned struct {
	Plan     *plan.Plan
	Input    plan.Input // what it was made of; Made is what Compare needs
	Warnings specs.Diagnostics
	Stats    apply.Stats
	Refused  error // why an outside system would refuse it; nil when nothing is known of that
}

// Plan reads the world and compares it with the spec. It changes nothing.
func (s *Session) Plan(ctx context.Context, opts PlanOptions, sink apply.Sink) (*Planned, error) {
	var desired []plan.Resource
	diags := append(specs.Diagnostics{}, s.Warnings...)
	for _, p := range s.Providers {
		r, d := p.Declare(s.Spec)
		desired = append(desired, r...)
		diags = append(diags, d...)
	}
	if diags.HasErrors() {
		return nil, &SpecError{s.Sources, diags}
	}
	objects, foreign, stats, err := apply.Observe(ctx, s.config(sink), s.Spec.Stack.Name, plan.Remembered(desired, s.Spec.Forget))
	if err != nil {
		return nil, err
	}
	replace := opts.Replace
	if opts.Approved != nil && opts.Approved.Asked != nil {
		replace = opts.Approved.Asked.Replace
	}
	var renewed []string
	for _, p := range s.Providers {
		if scheduler, ok := p.(plan.Scheduler); ok {
			var r []string
			var d specs.Diagnostics
			desired, objects, r, d = scheduler.Schedule(plan.Scheduling{Now: s.env.Now(), Desired: desired, Observed: objects, Renew: replace, Destroy: opts.Destroy})
			renewed, diags = append(renewed, r...), append(diags, d...)
		}
	}
	in := plan.Input{
		Stack:      s.Spec.Stack.Name,
		Renewed:    renewed,
		Desired:    desired,
		Observed:   objects,
		Foreign:    foreign,
		Ledger:     s.ledger(),
		Protection: s.Spec.Protection,
		Ignore:     s.Spec.Ignore,
		Forget:     s.Spec.Forget,
		Overlook:   opts.Overlook,
		Destroy:    opts.Destroy,
		Allow:      opts.Allow,
		Take:       opts.Take,
		Only:       opts.Only,
		Except:     opts.Except,
		Replace:    opts.Replace,
		Approved:   opts.Approved,
		Mergers:    map[string]plan.Merger{},
	}
	if opts.Approved != nil && s.state != nil {
		in.Made = s.state.Made(opts.Approved)
	}
	if !opts.Differences {
		in.Compilers = map[string]func([]plan.Change) []plan.Op{}
	}
	for _, p := range s.Providers {
		if in.Compilers != nil {
			in.Compilers[p.Name()] = p.Compile
		}
		if m, ok := p.(plan.Merger); ok {
			in.Mergers[p.Name()] = m
		}
	}
	built, d := plan.Build(in)
	diags = append(diags, d...)
	if diags.HasErrors() {
		return nil, &SpecError{s.Sources, diags}
	}
	return &Planned{Plan: built, Input: in, Warnings: diags, Stats: stats, Refused: s.check(ctx, built)}, nil
}

// check asks the providers whether what a plan does would be refused.
func (s *Session) check(ctx context.Context, p *plan.Plan) error {
	var refused []error
	for _, provider := range s.Providers {
		if c, ok := provider.(plan.Checker); ok && len(p.Ops) > 0 {
			refused = append(refused, c.Check(ctx, p.Ops))
		}
	}
	return errors.Join(refused...)
}

// pricePatience bounds asking for prices: nobody waits for them. Nor for advice.
const (
	pricePatience  = 15 * time.Second
	advicePatience = 15 * time.Second
)

// Upcoming are the renewals whose time has not come.
func (s *Session) Upcoming(p *Planned) []plan.Upcoming {
	return plan.FindUpcoming(p.Input.Observed, p.Plan, s.env.Now())
}

// Advise collects what the providers have to say about what they have seen.
func (s *Session) Advise() []plan.Advice {
	var out []plan.Advice
	for _, a := range s.advisors {
		out = append(out, a.Advise()...)
	}
	return plan.SortAdvice(out)
}

// AdviseAfter is Advise once a plan was carried out, from what came of it: servers
// that it has changed, and those that have got another address, look again.
func (s *Session) AdviseAfter(ctx context.Context, p *plan.Plan, outputs map[plan.Address]plan.Attrs) []plan.Advice {
	hosts := map[string]string{}
	for _, c := range p.Changes {
		part := c.Address.Segments()
		if !c.Pending() || c.Action == plan.Delete || len(part) < 2 {
			continue
		}
		if link := plan.Addr("host", part[1], "address-link"); part[0] == "server" || c.Address == link {
			hosts[part[1]] = outputs[link]["ip"].Str()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, advicePatience)
	defer cancel()
	s.hosts.LookAgain(ctx, hosts)
	return s.Advise()
}

// Estimate finds out what a plan will cost and how long an apply with so many
// operations at a time will take. What it cannot find out it leaves out.
func (s *Session) Estimate(ctx context.Context, p *plan.Plan, parallelism int) plan.Estimate {
	e := plan.Estimate{Duration: p.Duration(parallelism, s.dir().Typical())}
	if !p.Destroy {
		e.Advice = s.Advise()
	}
	ctx, cancel := context.WithTimeout(ctx, pricePatience)
	defer cancel()
	for _, provider := range s.Providers {
		pricer, ok := provider.(plan.Pricer)
		if !ok {
			continue
		}
		var changes []plan.Change
		for _, c := range p.Changes {
			if c.Provider == provider.Name() && c.Pending() && (c.Action == plan.Create || c.Action == plan.Replace || c.Action == plan.Update) {
				changes = append(changes, c)
			}
		}
		if len(changes) == 0 {
			continue
		}
		prices, err := pricer.Price(ctx, changes)
		e.Prices = append(e.Prices, prices...)
		if err != nil {
			e.PriceNote = "prices are not known: " + shortly(err)
		}
	}
	return e
}

// shortly is an error in a few words: what came back, without the way there.
func shortly(err error) string {
	var pe *plan.Error
	if errors.As(err, &pe) && pe.Got != "" {
		return pe.Got
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

// ledger returns what the last apply left behind.
func (s *Session) ledger() *plan.Ledger {
	if s.state != nil {
		l := s.state.Ledger()
		return &l
	}
	l, err := s.dir().ReadLedger(s.Spec.Stack.Name)
	if err != nil {
		s.warn(err.Error())
	}
	return &l
}

// RunOptions are how a plan is applied.
type RunOptions struct {
	Sink        apply.Sink
	Stop        <-chan struct{}
	Parallelism int
	Approved    string // the hash of the saved plan that is carried out, "" for none
}

// Interrupted returns the plan that was approved by this hash when an earlier run
// of it on this machine was cut short, nil otherwise. The lock must be held.
func (s *Session) Interrupted(hash string) *plan.Plan { return s.state.KeptApproved(hash) }

// Keep keeps a plan that is approved by its hash until it is done, for
// Interrupted. The lock must be held.
func (s *Session) Keep(p *plan.Plan) error { return s.state.KeepApproved(p) }

// Fold finds out what became of operations that an earlier run began and did
// not finish. The lock must be held.
func (s *Session) Fold(ctx context.Context, sink apply.Sink) (apply.Folded, error) {
	return apply.Fold(ctx, s.config(sink))
}

// Apply carries a plan out. The lock must be held.
func (s *Session) Apply(ctx context.Context, p *plan.Plan, opts RunOptions) (apply.Outcome, error) {
	c := s.config(opts.Sink)
	c.Stop, c.Parallelism, c.Approved = opts.Stop, opts.Parallelism, opts.Approved
	s.forgive(p)
	return apply.Run(ctx, c, p)
}

// NewPassword gives a mailbox, named by its e-mail address, a new password and
// returns it. The lock must be held.
func (s *Session) NewPassword(ctx context.Context, mailbox string) (string, error) {
	name, err := s.hostOf(mailbox)
	if err != nil {
		return "", err
	}
	// The observation finds the host's address and its SSH host key.
	if _, err := s.Plan(ctx, PlanOptions{}, nil); err != nil {
		return "", err
	}
	return s.hosts.NewPassword(ctx, name, mailbox)
}

// hostOf finds the host of a mailbox whose password is not the spec's business.
func (s *Session) hostOf(mailbox string) (string, error) {
	local, domain, _ := strings.Cut(mailbox, "@")
	var known []string
	for _, d := range s.Spec.Domains {
		for _, m := range d.Mailboxes {
			if d.Name != domain || m.Local != local {
				known = append(known, m.Local+"@"+d.Name)
				continue
			}
			if m.PasswordHash != "" {
				return "", fmt.Errorf("%s has a password_hash in the spec; make a new one with: mailform hash-password", mailbox)
			}
			return d.Host, nil
		}
	}
	const shown = 5
	if len(known) > shown {
		known = append(known[:shown], "…")
	}
	return "", fmt.Errorf("the spec has no mailbox %q; it has: %s", mailbox, strings.Join(known, ", "))
}

func (s *Session) config(sink apply.Sink) apply.Config {
	return apply.Config{
		Providers: s.Providers,
		State:     s.state,
		Sink:      sink,
		Leases:    s.leases,
		Now:       s.env.Now,
		Sleep:     s.env.Sleep,
		// Well below what the vendors allow one user; others may be working too.
		Limits: map[string]apply.Limit{
			"alicloud":   {PerSecond: 10, Burst: 20},
			"cloudflare": {PerSecond: 3, Burst: 10},
		},
	}
}

// roots are the system's certificate authorities and the bundle the spec or
// MAILFORM_CA_BUNDLE adds. nil means the system's.
func (s *Session) roots() (*x509.CertPool, error) {
	path := first(s.Spec.CABundle, s.env.Getenv("MAILFORM_CA_BUNDLE"))
	if path == "" {
		return nil, nil
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		path = filepath.Join(s.env.Home, rest)
	} else if s.Spec.CABundle != "" && !filepath.IsAbs(path) {
		path = filepath.Join(s.opts.Dir, path)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("CA bundle: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA bundle %s: no PEM certificate in it", path)
	}
	return pool, nil
}

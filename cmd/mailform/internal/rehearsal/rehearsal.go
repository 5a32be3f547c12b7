// Package rehearsal applies a spec to the simulated world, sends and reads real
// mail through the real server there, and destroys it all again. It is what
// "mailform rehearse" does; the command only prints its steps.
package rehearsal

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailform/apply"
	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/providers/world"
	"mailform/specs"
)

// Step is one finished step.
type Step struct {
	Name    string        `json:"name"` // for people
	OK      bool          `json:"ok"`   // whether it succeeded
	Elapsed time.Duration `json:"-"`
	Millis  int64         `json:"elapsed_ms"`        // how long it took
	Detail  string        `json:"detail,omitempty"`  // what was seen
	Error   string        `json:"error,omitempty"`   // why it failed
	Look    string        `json:"look_at,omitempty"` // where to look when it failed
}

// Config says what to rehearse and who watches.
type Config struct {
	Env      session.Env // its Getenv, Dial and Home are replaced by the world's
	Dir      string      // the stack's folder
	Vars     []string
	VarFiles []string

	Work string    // folder for the world; kept by the caller
	Log  io.Writer // the simulators' and servers' log

	Begin func(name string)           // a step begins
	End   func(Step)                  // it ended
	Plan  func(*plan.Plan)            // the plan, to be shown
	Apply func() (apply.Sink, func()) // a sink for each apply, and its end
	Stop  <-chan struct{}
}

// Rehearsal is a world with a stack applied to it.
type Rehearsal struct {
	World *world.World
	Spec  *specs.Spec
	// Passwords of the mailboxes, by e-mail address.
	Passwords map[string]string

	cfg     Config
	session *session.Session
	mail    *mailer
	boxes   []string // e-mail addresses of the mailboxes that take part
}

// errFailed ends a rehearsal whose failing step was reported already.
var errFailed = errors.New("the rehearsal failed")

// Run goes through the steps up to the second plan and stops at the first that
// fails. The Rehearsal is never nil; Close it, after Destroy if that is wanted.
func Run(ctx context.Context, cfg Config) (*Rehearsal, error) {
	r := &Rehearsal{cfg: cfg, Passwords: map[string]string{}}
	for _, s := range []struct {
		name string
		look string
		do   func(context.Context) (string, error)
	}{
		{"read the spec", "what is said about the spec; mailform validate " + cfg.Dir, r.readSpec},
		{"start the simulated cloud, DNS, CA and hosts", "the log in " + cfg.Work, r.startWorld},
		{"plan", "the message above", r.plan},
		{"apply", "the failed operation above, and the logs in " + cfg.Work, r.apply},
		{"an outside server delivers on port 25 with STARTTLS", "the host's log", r.deliver},
		{"an unknown recipient is refused", "the host's log", r.refuse},
		{"a mailbox user submits on port 465", "the host's log", r.submit},
		{"both messages are read over IMAPS", "the host's log", r.read},
		{"DKIM verifies against the published record", "the dns/… records of the plan", r.dkim},
		{"the certificate chains to the CA and names the host", "cert/… of the plan", r.certificate},
		{"the submitted message reaches the outside", "the host's log; mailformd queue list", r.outbound},
		{"a second plan has no changes", "the changes above", r.replan},
	} {
		if err := r.step(ctx, s.name, s.look, s.do); err != nil {
			return r, err
		}
	}
	if r.backsUp() {
		return r, r.step(ctx, "each host backs up its mail to the bucket", "the host's log; mailformd backup now", r.backup)
	}
	return r, nil
}

// Destroy deletes everything again and looks that nothing is left.
func (r *Rehearsal) Destroy(ctx context.Context) error {
	if r.backsUp() {
		if err := r.step(ctx, "the bucket is emptied by hand, so that it can go", "the bucket in the vendor's console", r.emptyBucket); err != nil {
			return err
		}
	}
	if err := r.step(ctx, "destroy", "the failed operation above", r.destroy); err != nil {
		return err
	}
	return r.step(ctx, "nothing is left", "the list above", r.empty)
}

// Close stops the world.
func (r *Rehearsal) Close() {
	if r.session != nil {
		r.session.Close()
	}
	if r.World != nil {
		r.World.Close()
	}
}

func (r *Rehearsal) step(ctx context.Context, name, look string, do func(context.Context) (string, error)) error {
	r.cfg.Begin(name)
	begun := time.Now()
	detail, err := do(ctx)
	s := Step{Name: name, OK: err == nil, Elapsed: time.Since(begun), Detail: detail}
	s.Millis = s.Elapsed.Milliseconds()
	if err != nil {
		s.Error, s.Look = err.Error(), look
	}
	r.cfg.End(s)
	if err != nil {
		return fmt.Errorf("%s: %w", name, errors.Join(errFailed, err))
	}
	return nil
}

func (r *Rehearsal) readSpec(context.Context) (string, error) {
	spec, sources, diags := session.Load(r.cfg.Env, r.options())
	if diags.HasErrors() {
		return "", &session.SpecError{Sources: sources, Diagnostics: diags}
	}
	r.Spec = spec
	boxes := 0
	for _, d := range spec.Domains {
		boxes += len(d.Mailboxes)
	}
	if boxes == 0 {
		return "", errors.New("the spec has no mailbox, so no mail can be rehearsed")
	}
	return fmt.Sprintf("stack %s: hosts %d, domains %d, mailboxes %d", spec.Stack.Name, len(spec.Hosts), len(spec.Domains), boxes), nil
}

func (r *Rehearsal) options() session.Options {
	return session.Options{
		Dir: r.cfg.Dir, StateDir: r.cfg.Work, Vars: r.cfg.Vars, VarFiles: r.cfg.VarFiles,
		Adjust: r.adjust,
	}
}

func (r *Rehearsal) adjust(s *specs.Spec) { Untie(s, r.World) }

// Untie takes out of a spec what ties it to the real world: endpoints, which the
// simulated world's environment then gives, the key of its backups, and password
// hashes, whose passwords nobody here knows.
func Untie(s *specs.Spec, w *world.World) {
	s.AliCloud.ECSEndpoint, s.AliCloud.VPCEndpoint, s.AliCloud.OSSEndpoint = "", "", ""
	s.Cloudflare.BaseURL, s.Resolver, s.CABundle = "", "", ""
	// CAA records are those of the real CA, for which the simulated one stands in.
	s.ACME = specs.ACME{Issuer: cmp.Or(s.ACME.Issuer, specs.IssuerOf(s.ACME.Directory)), Range: s.ACME.Range}
	s.Server.Relay = nil
	s.Lock = nil // the simulated world is nobody else's
	for _, h := range s.Hosts {
		if key := w.HostKey(h.Address); key != "" {
			h.SSH.HostKey = key
		}
	}
	if b := s.Backup; b != nil && b.Create && b.AccessKeyID != "" {
		b.AccessKeyID, b.SecretAccessKey = world.HostKeyID, world.HostKeySecret
	}
	for _, d := range s.Domains {
		for _, m := range d.Mailboxes {
			m.PasswordHash = ""
		}
	}
}

func (r *Rehearsal) startWorld(ctx context.Context) (string, error) {
	w, err := world.Start(ctx, world.ForSpec(r.Spec, world.Config{
		Dir: filepath.Join(r.cfg.Work, "world"), Log: r.cfg.Log,
	}))
	if err != nil {
		return "", err
	}
	r.World = w
	pem, err := os.ReadFile(w.CABundle())
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) { return w.DialOutside(ctx, addr) }
	r.mail = &mailer{dial: dial, roots: roots, resolver: w.Resolver(), now: r.cfg.Env.Now}

	env := r.cfg.Env
	vars := w.Environment()
	env.Getenv = func(name string) string { return vars[name] }
	env.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) { return w.Dial(ctx, addr) }
	env.Confirm = nil
	if r.session, err = session.Open(env, r.options()); err != nil {
		return "", err
	}
	r.Spec = r.session.Spec
	if err := r.session.Lock(ctx, "mailform rehearse"); err != nil {
		return "", err
	}
	return "resolver " + w.Resolver(), nil
}

func (r *Rehearsal) plan(ctx context.Context) (string, error) {
	p, err := r.session.Plan(ctx, session.PlanOptions{}, nil)
	if err != nil {
		return "", err
	}
	r.cfg.Plan(p.Plan)
	if p.Plan.HasBlocked() {
		return "", errors.New("a change is blocked")
	}
	return sum(p.Plan), nil
}

func (r *Rehearsal) apply(ctx context.Context) (string, error) {
	p, err := r.session.Plan(ctx, session.PlanOptions{}, nil)
	if err != nil {
		return "", err
	}
	out, err := r.carryOut(ctx, p.Plan)
	if err != nil {
		return "", err
	}
	for addr, password := range out.Secrets {
		r.Passwords[strings.TrimPrefix(string(addr), "mailbox/")] = password
	}
	for _, d := range r.Spec.Domains {
		for _, m := range d.Mailboxes {
			r.boxes = append(r.boxes, m.Local+"@"+d.Name)
		}
	}
	return fmt.Sprintf("%d changes, %d vendor calls", p.Plan.Summary().Changes(), r.World.Calls()), nil
}

func (r *Rehearsal) carryOut(ctx context.Context, p *plan.Plan) (apply.Outcome, error) {
	sink, done := r.cfg.Apply()
	defer done()
	return r.session.Apply(ctx, p, session.RunOptions{Sink: sink, Stop: r.cfg.Stop})
}

func (r *Rehearsal) replan(ctx context.Context) (string, error) {
	before := r.World.Calls()
	p, err := r.session.Plan(ctx, session.PlanOptions{}, nil)
	if err != nil {
		return "", err
	}
	if p.Plan.HasChanges() {
		r.cfg.Plan(p.Plan)
		return "", errors.New("a second plan wants changes: " + sum(p.Plan))
	}
	return fmt.Sprintf("%d vendor calls", r.World.Calls()-before), nil
}

func (r *Rehearsal) destroy(ctx context.Context) (string, error) {
	p, err := r.session.Plan(ctx, session.PlanOptions{Destroy: true}, nil)
	if err != nil {
		return "", err
	}
	if _, err := r.carryOut(ctx, p.Plan); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d changes", p.Plan.Summary().Changes()), nil
}

func (r *Rehearsal) empty(context.Context) (string, error) {
	if left := r.World.Inventory(); len(left) > 0 {
		return "", fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return "no instance, address, network, key or record", nil
}

// sum says in one line what a plan would do.
func sum(p *plan.Plan) string {
	s := p.Summary()
	return fmt.Sprintf("%d to create, %d to change, %d to delete", s.Create, s.Changes()-s.Create-s.Delete, s.Delete)
}

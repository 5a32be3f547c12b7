package baddays

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mailform/apply"
	"mailform/cmd/mailform/internal/rehearsal"
	"mailform/cmd/mailform/internal/session"
	"mailform/plan"
	"mailform/providers/world"
	"mailform/specs"
)

// maxRuns is how often a command may have to be run: what is over by then is no
// passing trouble any more.
const maxRuns = 4

// day is one fault in a world of its own.
type day struct {
	*run
	fault   fault
	weather *weather
	world   *world.World
	foreign *foreign
	dir     string
	env     session.Env

	mu       sync.Mutex
	retries  int
	said     string  // about the first call that was tried again
	failed   []error // of the operations of the command that runs now
	warnings []string
	advice   []plan.Advice // of the last apply, on a day that is about it
}

// ended is how a command ended.
type ended struct {
	err  error
	code int
}

// dawn makes the day's world.
func (r *run) dawn(ctx context.Context, f fault) (_ *day, err error) {
	d := &day{run: r, fault: f, weather: &weather{clock: &clock{}}}
	if f.bend != nil {
		f.bend(d.weather)
	}
	if d.dir, err = r.folder(f.id); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	c := d.weather.config(r.world)
	c.Dir = filepath.Join(d.dir, "world")
	front := c.Front
	c.Front = func(vendor string, api http.Handler) http.Handler {
		if vendor == "cloud" {
			return d.meddled(api)
		}
		return front(vendor, api)
	}
	// Whose key it is must not make the worlds different.
	if r.operator != "" {
		if err := os.CopyFS(c.Dir, os.DirFS(r.operator)); err != nil {
			return nil, err
		}
	}
	if d.world, err = world.Start(ctx, c); err != nil {
		return nil, err
	}
	if d.foreign, err = settle(d.world, r.exclusive); err != nil {
		return nil, err
	}
	vars := d.world.Environment()
	vars["MAILFORM_ACME_DIRECTORY"] = world.CADirectory
	d.env = r.Env
	d.env.Getenv = func(name string) string { return vars[name] }
	d.env.Home = d.dir
	d.env.Dial = func(ctx context.Context, _, addr string) (net.Conn, error) { return d.world.Dial(ctx, addr) }
	d.env.Transport = d.world.Transport()
	d.env.Now, d.env.Sleep = d.weather.clock.now, d.weather.clock.sleep
	d.env.LeaseNow = time.Now
	d.env.Agents = r.agents
	d.env.Confirm = nil
	d.env.Warn = d.warned
	return d, nil
}

// meddled stands before the cloud; the foreign things are there a moment later.
func (d *day) meddled(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.foreign.front(api).ServeHTTP(w, r)
	})
}

func (d *day) close() {
	if d.world != nil {
		d.world.Close()
	}
	os.RemoveAll(d.dir)
}

func (d *day) warned(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.warnings = append(d.warnings, text)
}

// heard takes note of the events of a command.
func (d *day) heard(e apply.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e.Kind {
	case apply.EventRetry:
		d.retries++
		if d.said == "" {
			d.said = fmt.Sprintf("%s; trying again in %s", inShort(e), e.Wait.Round(time.Second))
		}
	case apply.EventFailed:
		d.failed = append(d.failed, e.Err)
	case apply.EventWarning:
		d.warnings = append(d.warnings, e.Message)
	}
}

// inShort is what an event says, without the URLs.
func inShort(e apply.Event) string {
	var pe *plan.Error
	if !errors.As(e.Err, &pe) {
		return e.Message
	}
	if pe.Got != "" {
		return pe.Step + ": " + pe.Got
	}
	var cause *url.Error
	if errors.As(pe.Err, &cause) {
		return pe.Step + ": no answer: " + cause.Err.Error()
	}
	return e.Message
}

// command does what `mailform apply` or `mailform destroy` does, as a process of its own would.
func (d *day) command(ctx context.Context, opts session.PlanOptions) ended {
	applying := false
	d.mu.Lock()
	d.failed = nil
	d.mu.Unlock()
	err := d.session(ctx, func(s *session.Session) error {
		if _, err := s.Fold(ctx, d.heard); err != nil {
			return err
		}
		p, err := s.Plan(ctx, opts, d.heard)
		if err != nil {
			return err
		}
		d.findings(p.Warnings)
		applying = true
		out, err := s.Apply(ctx, p.Plan, session.RunOptions{Sink: d.heard})
		if err != nil {
			return err
		}
		if d.fault.cure != nil && !opts.Destroy {
			d.advice = s.AdviseAfter(ctx, p.Plan, out.Outputs)
		}
		if p.Plan.HasBlocked() {
			return blocked(p.Plan)
		}
		return nil
	})
	return ended{err, d.Exit(err, applying)}
}

// session opens the stack for one command.
func (d *day) session(ctx context.Context, do func(*session.Session) error) error {
	s, err := session.Open(d.env, session.Options{
		Dir: d.Dir, StateDir: d.dir, Vars: d.Vars, VarFiles: d.VarFiles,
		Adjust: func(s *specs.Spec) { rehearsal.Untie(s, d.world) },
	})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Lock(ctx, "mailform rehearse --faults"); err != nil {
		return err
	}
	return do(s)
}

// findings keeps what a plan says about the spec and the world.
func (d *day) findings(diags specs.Diagnostics) {
	for _, f := range diags {
		d.warned(f.Summary + ": " + f.Detail)
	}
}

// blocked is a plan's part that is held back, as an error.
func blocked(p *plan.Plan) error {
	var why []string
	for _, c := range p.Changes {
		if b := c.Blocked; b != nil {
			why = append(why, fmt.Sprintf("%s: %s", c.Address, b.Why))
		}
	}
	return &plan.Error{Class: plan.ErrBlocked, Step: "apply " + p.Stack, Got: strings.Join(why, "; ")}
}

// day goes through one fault: apply until it is done, look, destroy, look.
func (r *run) day(ctx context.Context, f fault) Row {
	begun := time.Now()
	row := Row{ID: f.id, System: f.system(), Fault: f.what}
	d, err := r.dawn(ctx, f)
	if err != nil {
		row.Wrong = []string{err.Error()}
		return row
	}
	defer d.close()
	d.spend(ctx, &row)
	d.mu.Lock()
	row.Retries = d.retries
	if row.Said == "" {
		row.Said = d.said
	}
	d.mu.Unlock()
	row.Struck = d.weather.hits()
	row.Waited = int64(d.weather.clock.skipped() / time.Second)
	row.Millis = time.Since(begun).Milliseconds()
	row.Skipped = row.Struck == 0
	row.OK = len(row.Wrong) == 0
	row.Did = d.did(row)
	return row
}

// did says in a few words what mailform did.
func (d *day) did(row Row) string {
	switch {
	case row.Skipped:
		return "nothing: this spec asks for no such thing"
	case d.fault.code != 0:
		return fmt.Sprintf("stopped with %d, then went on", d.fault.code)
	case d.fault.cure != nil:
		return "said what helps, and it did"
	case row.Runs > 1:
		return fmt.Sprintf("stopped with %d, run again", row.Codes[0])
	case row.Retries == 1:
		return "tried again once"
	case row.Retries > 1:
		return fmt.Sprintf("tried again %d times", row.Retries)
	}
	return "took its time"
}

// spend is the day.
func (d *day) spend(ctx context.Context, row *Row) {
	wrong := func(format string, args ...any) { row.Wrong = append(row.Wrong, fmt.Sprintf(format, args...)) }
	if d.weather.begin != nil {
		if err := d.weather.begin(d.world); err != nil {
			wrong("%v", err)
			return
		}
	}
	d.weather.blow(true)
	for {
		e := d.command(ctx, session.PlanOptions{})
		row.Runs++
		row.Codes = append(row.Codes, e.code)
		if ctx.Err() != nil {
			return
		}
		if e.err == nil {
			break
		}
		if row.Said == "" {
			row.Said = d.text(e.err)
		}
		for _, w := range d.judge(e, row.Runs) {
			wrong("%s", w)
		}
		if row.Runs == maxRuns {
			wrong("run %d times, apply still ends with %d: %s", row.Runs, e.code, d.Print(e.err))
			return
		}
		if d.fault.code != 0 && row.Runs == 1 {
			d.calm()
		}
	}
	if d.fault.code != 0 && row.Runs == 1 && d.weather.hits() > 0 {
		wrong("apply ended well although it could not")
	}
	if d.fault.cure != nil {
		if err := d.fault.cure(ctx, d, row); err != nil && ctx.Err() == nil {
			wrong("%v", err)
		}
	}
	d.check(ctx, row, d.applied, false)
	if d.fault.code == 0 {
		d.weather.blow(true) // all of it once more
	}
	for n := 1; ; n++ {
		e := d.command(ctx, session.PlanOptions{Destroy: true})
		if ctx.Err() != nil {
			return
		}
		if e.err == nil {
			break
		}
		for _, w := range d.judge(e, n) {
			wrong("destroy: %s", w)
		}
		if n == maxRuns {
			wrong("run %d times, destroy still ends with %d: %s", n, e.code, d.Print(e.err))
			return
		}
	}
	d.check(ctx, row, d.run.ended, true)
}

// text is what a command that failed has printed: of several operations that failed,
// each by itself, before the end.
func (d *day) text(err error) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.failed) < 2 {
		return d.Print(err)
	}
	return d.Print(errors.Join(append(slices.Clone(d.failed), err)...))
}

// calm ends the fault.
func (d *day) calm() {
	d.weather.blow(false)
	if d.weather.lift != nil {
		d.weather.lift(d.world)
	}
}

// judge looks at how a command that failed has ended.
func (d *day) judge(e ended, n int) []string {
	var out []string
	want := []int{8, 10} // incomplete, rate limited: run it again
	if d.fault.code != 0 && n == 1 {
		want = []int{d.fault.code}
	}
	text := d.text(e.err)
	if !slices.Contains(want, e.code) {
		out = append(out, fmt.Sprintf("it ended with %d, expected %v: %s", e.code, want, text))
	}
	if d.fault.code == 0 {
		return out
	}
	for _, word := range d.fault.says {
		if !strings.Contains(text, word) {
			out = append(out, fmt.Sprintf("%q is not in its message: %s", word, text))
		}
	}
	var pe *plan.Error
	if !errors.As(e.err, &pe) || pe.Fix == "" {
		out = append(out, "its message does not say what to do: "+text)
	}
	return out
}

// check compares the world with that of a good day and looks at what is foreign.
func (d *day) check(ctx context.Context, row *Row, want []string, destroyed bool) {
	when := "after apply"
	if destroyed {
		when = "after destroy"
	}
	wrong := func(format string, args ...any) {
		row.Wrong = append(row.Wrong, when+", "+fmt.Sprintf(format, args...))
	}
	// Whoever looks before the lists show everything sees an earlier world.
	d.weather.clock.rest(max(d.weather.cloudLag, d.weather.dnsLag))
	got, err := d.world.Describe()
	if err != nil {
		wrong("%v", err)
		return
	}
	if d.fault.alike != nil {
		got, want = d.fault.alike(got), d.fault.alike(want)
	}
	for _, l := range difference(got, want) {
		wrong("the world is another one: %s", l)
	}
	touched, err := d.foreign.touched(destroyed)
	if err != nil {
		wrong("%v", err)
	}
	for _, l := range touched {
		wrong("something foreign is another one: %s", l)
	}
	if destroyed {
		return
	}
	err = d.session(ctx, func(s *session.Session) error {
		p, err := s.Plan(ctx, session.PlanOptions{}, d.heard)
		if err == nil && p.Plan.HasChanges() {
			err = fmt.Errorf("a second plan wants to change %s", changes(p.Plan))
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		wrong("%v", err)
	}
}

// changes names what a plan changes.
func changes(p *plan.Plan) string {
	var out []string
	for _, c := range p.Changes {
		if c.Pending() {
			out = append(out, string(c.Action)+" "+string(c.Address))
		}
	}
	return strings.Join(out, ", ")
}

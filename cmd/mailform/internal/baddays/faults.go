// Package baddays takes a spec through the simulated world's bad days: one at a time,
// each in a world of its own, from nothing to a whole mail system and back. It is what
// "mailform rehearse --faults" does; the command only prints the rows.
//
// It imports what the rehearsal does: the session and the simulated world.
package baddays

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"mailform/cmd/mailform/internal/session"
	"mailform/providers/host/agentbin"
	"mailform/providers/world"
	"mailform/specs"
)

// Row is what became of one fault.
type Row struct {
	ID      string   `json:"id"`              // "alicloud/lost"
	System  string   `json:"system"`          // where it happened, for people
	Fault   string   `json:"fault"`           // what went wrong, for people
	Struck  int      `json:"struck"`          // calls, steps or transfers that went wrong
	Did     string   `json:"did"`             // what mailform did, for people
	Said    string   `json:"said,omitempty"`  // what it printed: of the run that stopped, the advice that helped, or else of the first call that was tried again
	Runs    int      `json:"runs"`            // of apply, until everything was done
	Codes   []int    `json:"exit_codes"`      // of those runs
	Retries int      `json:"retries"`         // calls that were tried again
	Waited  int64    `json:"waited_s"`        // seconds of simulated time that nobody had to wait for
	Millis  int64    `json:"elapsed_ms"`      // of real time
	OK      bool     `json:"ok"`              // whether everything was as it has to be
	Skipped bool     `json:"skipped"`         // whether the spec makes no such call
	Wrong   []string `json:"wrong,omitempty"` // what was not as it has to be
}

// Config says what to go through and who watches.
type Config struct {
	Env      session.Env // its Getenv, Dial, Home and clock are replaced by the worlds'
	Dir      string      // the stack's folder
	Vars     []string
	VarFiles []string
	Only     []string // globs of fault ids; none for all

	Work string    // folder for the worlds
	Log  io.Writer // the simulators' and servers' log

	// Exit is the exit code that the program would have ended with; applying says
	// that it had begun to. Print is how it would have printed the error.
	Exit  func(err error, applying bool) int
	Print func(error) string

	Begin func(total int) // the faults are about to begin
	End   func(Row)       // rows, in the table's order
}

// ErrFailed ends a run of which some rows are not as they have to be.
var ErrFailed = errors.New("not every bad day ended well")

// run is everything that the days share.
type run struct {
	Config
	world  world.Config // what the spec needs of a world
	agents agentbin.Source
	// exclusive says that the spec has foreign rules removed from its own firewall.
	exclusive bool
	// asks says that the spec has a host that gets an address, which looks for it in blocklist.
	asks bool
	// operator is a folder with the SSH key of the person who applies.
	operator string
	applied  []string // the world after an undisturbed apply
	ended    []string // and after an undisturbed destroy
}

// Run goes through the faults. The error is ErrFailed when there is a row that is not
// OK, and another one when a good day fails already.
func Run(ctx context.Context, cfg Config) error {
	todo, err := choose(cfg.Only)
	if err != nil {
		return err
	}
	spec, sources, diags := session.Load(cfg.Env, session.Options{Dir: cfg.Dir, Vars: cfg.Vars, VarFiles: cfg.VarFiles})
	if diags.HasErrors() {
		return &session.SpecError{Sources: sources, Diagnostics: diags}
	}
	r := &run{Config: cfg, world: world.ForSpec(spec, world.Config{Log: cfg.Log, NoBackups: true})}
	r.exclusive = slices.ContainsFunc(spec.Hosts, func(h *specs.Host) bool { return h.Exclusive })
	r.asks = slices.Contains(spec.Monitor.Blocklists, blocklist) && slices.ContainsFunc(spec.Hosts, func(h *specs.Host) bool { return h.Instance != nil })
	if r.agents = cfg.Env.Agents; r.agents == nil {
		executable, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program's own file: %w", err)
		}
		r.agents = agentbin.Default(executable)
	}
	if err := r.goodDay(ctx); err != nil {
		return fmt.Errorf("without any fault: %w", err)
	}
	cfg.Begin(len(todo))
	return r.all(ctx, todo)
}

// choose takes the faults that match one of the globs.
func choose(globs []string) ([]fault, error) {
	all := catalogue()
	if len(globs) == 0 {
		return all, nil
	}
	var out []fault
	for _, f := range all {
		for _, g := range globs {
			ok, err := path.Match(g, f.id)
			if err != nil {
				return nil, fmt.Errorf("%q is no pattern for the names of faults: %w", g, err)
			}
			if ok {
				out = append(out, f)
				break
			}
		}
	}
	if len(out) == 0 {
		var ids []string
		for _, f := range all {
			ids = append(ids, f.id)
		}
		return nil, fmt.Errorf("no fault is called %v; there are: %v", globs, ids)
	}
	return out, nil
}

// all goes through the faults, a few at a time (much of a day is waiting), and reports
// the rows in order.
func (r *run) all(ctx context.Context, todo []fault) error {
	rows := make([]Row, len(todo))
	done := make([]chan struct{}, len(todo))
	for i := range done {
		done[i] = make(chan struct{})
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0)+1, len(todo)) {
		wg.Go(func() {
			for i := range next {
				rows[i] = r.day(ctx, todo[i])
				close(done[i])
			}
		})
	}
	go func() {
		defer close(next)
		for i := range todo {
			next <- i
		}
	}()
	failed := false
	for i := range todo {
		<-done[i]
		if ctx.Err() == nil {
			r.End(rows[i])
			failed = failed || !rows[i].OK
		}
	}
	wg.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed:
		return ErrFailed
	}
	return nil
}

// goodDay finds out what the world comes to when nothing goes wrong.
func (r *run) goodDay(ctx context.Context) error {
	d, err := r.dawn(ctx, fault{id: "none"})
	if err != nil {
		return err
	}
	defer d.close()
	r.operator = filepath.Join(r.Work, "operator")
	if err := os.Mkdir(r.operator, 0o700); err != nil {
		return err
	}
	for _, suffix := range []string{"", ".pub"} {
		key, err := os.ReadFile(d.world.OperatorKey() + suffix)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.operator, filepath.Base(d.world.OperatorKey())+suffix), key, 0o600); err != nil {
			return err
		}
	}
	if a := d.command(ctx, session.PlanOptions{}); a.err != nil {
		return a.err
	}
	if r.applied, err = d.world.Describe(); err != nil {
		return err
	}
	if a := d.command(ctx, session.PlanOptions{Destroy: true}); a.err != nil {
		return a.err
	}
	r.ended, err = d.world.Describe()
	return err
}

// difference lists what is only in got (+) and only in want (-).
func difference(got, want []string) []string {
	var out []string
	for _, l := range got {
		if !slices.Contains(want, l) {
			out = append(out, "+ "+l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			out = append(out, "- "+l)
		}
	}
	if len(out) == 0 && !slices.Equal(got, want) {
		out = append(out, fmt.Sprintf("%d things instead of %d: something is there twice", len(got), len(want)))
	}
	return out
}

// folder makes a day's folder.
func (r *run) folder(id string) (string, error) {
	return os.MkdirTemp(r.Work, filepath.Base(filepath.Dir(id))+"-"+filepath.Base(id)+"-")
}

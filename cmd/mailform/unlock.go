package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan/style"
)

func (a *app) unlockCommand() *cobra.Command {
	var (
		stack  stackFlags
		force  []string
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "unlock [FOLDER]",
		Short: "show who holds the stack's locks, and take them from a run that is dead",
		Long: `unlock shows who holds the lock of the stack's folder, the lock that the team
shares and the leases on the hosts. A lease that is not renewed ends by itself
within a minute or so: unlock is for who cannot wait, or for a run that hangs.

It takes locks away after the stack's name was typed, or at once with --force
and the id of each. The run that held one is fenced: it begins nothing more once
it notices, at its next renewal, and hosts refuse what it still sends, because it
comes with an older epoch. What it has already asked the cloud or the DNS for
happens all the same, so make sure that it is gone first.

The folder's lock is the kernel's: it is free when its process has ended.

Exit codes: 0 nothing is held, or it was taken away · 7 something is held.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.open(&stack, args, false)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			sink, done := a.readingSink(asJSON)
			locks, err := s.Locks(ctx, sink)
			done()
			if err != nil {
				return interrupted(ctx, err)
			}
			if !asJSON {
				a.showLocks(s.Spec.Stack.Name, locks)
			}
			chosen, err := a.toBreak(ctx, s.Spec.Stack.Name, locks, force, asJSON)
			if err != nil {
				return err
			}
			var broken []string
			var failed []error
			for _, l := range chosen {
				if err := l.Break(ctx); err != nil {
					failed = append(failed, err)
					continue
				}
				broken = append(broken, l.Name)
				if !asJSON {
					fmt.Fprintf(a.term.out, "Taken away: %s.\n", l.Name)
				}
			}
			if asJSON {
				failed = append(failed, writeLocksJSON(a.term.out, s.Spec.Stack.Name, locks, broken))
			}
			if len(chosen) == 0 {
				failed = append(failed, stillHeld(locks))
			}
			return errors.Join(failed...)
		},
	}
	stack.add(c)
	c.Flags().StringArrayVar(&force, "force", nil, "take the lock with this `id` away without asking (repeatable)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the locks as JSON; nothing is asked")
	return c
}

// toBreak says which locks to take away: those whose ids are forced, or, after a
// person has confirmed it, all.
func (a *app) toBreak(ctx context.Context, stack string, locks []session.LockState, force []string, asJSON bool) ([]session.LockState, error) {
	var held []session.LockState
	found := map[string]bool{}
	for _, l := range locks {
		if l.Lease != nil && (len(force) == 0 || slices.Contains(force, l.Lease.ID)) {
			held = append(held, l)
			found[l.Lease.ID] = true
		}
	}
	for _, id := range force {
		if !found[id] {
			return nil, fmt.Errorf("no lock that is held has the id %q", id)
		}
	}
	if len(force) > 0 || len(held) == 0 || asJSON {
		if len(force) == 0 {
			held = nil
		}
		return held, nil
	}
	if !a.term.interactive {
		fmt.Fprintln(a.term.err, "Nothing was taken away: there is no terminal to ask on. --force with an id does it.")
		return nil, nil
	}
	question := fmt.Sprintf("\nA run that is alive must be stopped first: what it has asked for will still happen.\nType the stack's name (%s) to take %s away: ", stack, count(len(held), "lock"))
	return held, a.confirm(ctx, gate{question: question, answer: stack})
}

// stillHeld makes the exit code: what could not be looked at comes first.
func stillHeld(locks []session.LockState) error {
	var failed []error
	held := false
	for _, l := range locks {
		failed = append(failed, l.Err)
		held = held || l.Lease != nil || l.Local != nil
	}
	if held {
		return &codeError{code: exitLocked, err: errors.Join(failed...)}
	}
	return errors.Join(failed...)
}

func (a *app) showLocks(stack string, locks []session.LockState) {
	sheet := a.term.outStyle
	fmt.Fprintf(a.term.out, "Locks of stack %s\n", sheet.Bold(stack))
	width := 0
	for _, l := range locks {
		width = max(width, len(l.Name))
	}
	for _, l := range locks {
		text, more := sheet.Green("free"), ""
		switch {
		case l.Err != nil:
			text = sheet.Red("unknown")
		case l.Local != nil:
			text, more = sheet.Yellow("held by "+l.Local.String()), fmt.Sprintf("it is free when that process ends: kill -INT %d", l.Local.PID)
			if l.Local.PID == 0 {
				more = ""
			}
		case l.Lease != nil:
			text = sheet.Yellow("held by " + l.Lease.Holder.String())
			more = fmt.Sprintf("id %s · epoch %d", l.Lease.ID, l.Lease.Epoch)
			if l.Lease.Left > 0 {
				more += " · " + l.Lease.Left.Round(time.Second).String() + " left, unless it is renewed"
			}
		}
		fmt.Fprintf(a.term.out, "  %s  %s\n", style.Pad(l.Name, width), text)
		if more != "" {
			fmt.Fprintf(a.term.out, "  %s  %s\n", style.Pad("", width), sheet.Dim(style.Clean(more)))
		}
	}
}

// locksView is the document of `mailform unlock --json`. Keys that do not apply
// are left out of a lock.
type locksView struct {
	FormatVersion int        `json:"format_version"` // 1
	Stack         string     `json:"stack"`          // the stack's name
	Locks         []lockView `json:"locks"`          // all that a run of the stack takes
}

// lockView is one lock.
type lockView struct {
	Kind    string      `json:"kind"`                   // "folder", "bucket", "postgres" or "host"
	Name    string      `json:"name"`                   // for people
	Held    bool        `json:"held"`                   // whether somebody has it
	Broken  bool        `json:"broken"`                 // it was taken away just now
	ID      string      `json:"id,omitempty"`           // what --force takes
	Epoch   int64       `json:"epoch,omitempty"`        // grows with each holder; hosts refuse older ones
	Seconds int         `json:"seconds_left,omitempty"` // unless it is renewed; absent when that has no bound
	Holder  *holderView `json:"holder,omitempty"`       // who has it, or had it until just now
	Error   string      `json:"error,omitempty"`        // why it could not be looked at
}

type holderView struct {
	Who     string    `json:"who"`     // the person's log-in name
	Host    string    `json:"host"`    // the machine on which it runs
	PID     int       `json:"pid"`     // its process there
	Command string    `json:"command"` // such as "mailform apply"
	Since   time.Time `json:"since"`   // when it took the lock
}

func writeLocksJSON(w io.Writer, stack string, locks []session.LockState, broken []string) error {
	views := make([]lockView, len(locks))
	for i, l := range locks {
		v := lockView{Kind: l.Kind, Name: l.Name}
		h := l.Local
		if l.Lease != nil {
			v.ID, v.Epoch, v.Seconds = l.Lease.ID, l.Lease.Epoch, int(l.Lease.Left.Seconds())
			v.Broken = slices.Contains(broken, l.Name)
			h = &l.Lease.Holder
		}
		if v.Held = h != nil && !v.Broken; h != nil {
			v.Holder = &holderView{h.Who, h.Host, h.PID, h.Command, h.Since.UTC()}
		}
		if l.Err != nil {
			v.Error = l.Err.Error()
		}
		views[i] = v
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(locksView{1, stack, views})
}

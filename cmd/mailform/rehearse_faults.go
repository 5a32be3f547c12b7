package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailform/cmd/mailform/internal/baddays"
	"mailform/cmd/mailform/internal/session"
	"mailform/plan/style"
)

// faultsResult is the document of `mailform rehearse --faults --json`.
type faultsResult struct {
	FormatVersion int           `json:"format_version"` // 1
	OK            bool          `json:"ok"`             // whether every row is
	Millis        int64         `json:"elapsed_ms"`     // of all of them together
	Rows          []baddays.Row `json:"rows"`           // one for each bad day
}

// rehearseFaults goes through the simulated world's bad days with a spec.
func (a *app) rehearseFaults(ctx context.Context, opts session.Options, only []string, asJSON bool) error {
	work, err := os.MkdirTemp("", "mailform-faults-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	log, err := os.OpenFile(filepath.Join(work, "world.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	begun := time.Now()
	table := &faultTable{app: a}
	result := faultsResult{FormatVersion: 1}
	err = baddays.Run(ctx, baddays.Config{
		Env: a.env, Dir: opts.Dir, Vars: opts.Vars, VarFiles: opts.VarFiles, Only: only, Work: work, Log: log,
		Exit: func(err error, applying bool) int {
			if applying && err != nil {
				err = incomplete(err)
			}
			return exitCode(err)
		},
		Print: a.printed,
		Begin: func(total int) {
			if !asJSON {
				table.begin(total)
			}
		},
		End: func(r baddays.Row) {
			result.Rows = append(result.Rows, r)
			if !asJSON {
				table.row(r)
			}
		},
	})
	if err != nil && !errors.Is(err, baddays.ErrFailed) {
		if failedCode(err) == exitInterrupted {
			return &codeError{exitInterrupted, errors.New("interrupted; the simulated worlds are gone")}
		}
		return err
	}
	result.OK, result.Millis = err == nil, time.Since(begun).Milliseconds()
	if asJSON {
		enc := json.NewEncoder(a.term.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(result); err != nil {
			return err
		}
	} else {
		table.end(result)
	}
	if !result.OK {
		return &codeError{code: exitError}
	}
	return nil
}

// printed is what report prints about an error, without colours.
func (a *app) printed(err error) string {
	var text bytes.Buffer
	t := *a.term
	t.err, t.style, t.errColor, t.errWidth = &text, style.New(false), false, 0
	(&app{term: &t}).report(err)
	return strings.TrimSpace(text.String())
}

// faultTable prints the rows as they come.
type faultTable struct{ app *app }

// Widths of the table's columns.
const (
	systemWidth = 13
	faultWidth  = 53
	didWidth    = 28
)

func (t *faultTable) begin(total int) {
	fmt.Fprintf(t.app.term.out, "%s, each in a world of its own: from nothing to a mail system, and back.\n\n", count(total, "bad day"))
	fmt.Fprintf(t.app.term.out, "  %-*s  %-*s  %-*s  %4s  %6s\n", systemWidth, "where", faultWidth, "what goes wrong", didWidth, "mailform", "runs", "time")
}

func (t *faultTable) row(r baddays.Row) {
	out, s := t.app.term.out, t.app.term.outStyle
	mark := s.Green("✓")
	switch {
	case !r.OK:
		mark = s.Red("✗")
	case r.Skipped:
		mark = s.Dim("–")
	}
	fmt.Fprintf(out, "%s %s  %s  %s  %4d  %6s\n", mark, style.Pad(r.System, systemWidth), style.Pad(r.Fault, faultWidth),
		style.Pad(r.Did, didWidth), r.Runs, round(time.Duration(r.Millis)*time.Millisecond))
	const indent = "                 "
	lines := strings.Split(r.Said, "\n")
	for _, line := range lines {
		if line == "" {
			continue
		}
		// Of what was said in passing the JSON has all.
		if most := max(t.app.term.width-len(indent), 40); len(lines) == 1 && style.Width(line) > most {
			line = style.Head(line, most-1) + "…"
		}
		fmt.Fprintf(out, "%s%s\n", indent, s.Dim(line))
	}
	for _, w := range r.Wrong {
		fmt.Fprintf(out, "%s%s\n", indent, s.Red(strings.ReplaceAll(w, "\n", "\n"+indent)))
	}
}

func (t *faultTable) end(r faultsResult) {
	bad, skipped := 0, 0
	for _, row := range r.Rows {
		if !row.OK {
			bad++
		}
		if row.Skipped {
			skipped++
		}
	}
	took := round(time.Duration(r.Millis) * time.Millisecond)
	if bad > 0 {
		fmt.Fprintf(t.app.term.out, "\n%d of %s did not end as they have to (%s).\n", bad, count(len(r.Rows), "bad day"), took)
		return
	}
	fmt.Fprintf(t.app.term.out, "\n%s in %s: nothing was made twice, nothing of others was touched, and each ended in the world of a good day.\n",
		count(len(r.Rows)-skipped, "bad day"), took)
}

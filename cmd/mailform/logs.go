package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan/style"
	"mailform/server/manifest"
)

func (a *app) logsCommand() *cobra.Command {
	var (
		stack  stackFlags
		q      manifest.LogQuery
		since  string
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "logs [HOST] [FOLDER]",
		Short: "show what the servers have logged",
		Long: `logs reads the journal of a host, of all hosts when none is named. What it leaves
out is left out on the host. With --follow it goes on until ^C. Times are UTC.`,
		Example: `  mailform logs -f --level warn
  mailform logs mx1 --since 2h --grep 'queue_id=3f2a|remote=203\.0\.113\.9'
  mailform logs --unit ssh --lines 20`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			hosts, args := hostArgument(args)
			if err := readSince(since, &q, a.env.Now()); err != nil {
				return err
			}
			if q.Level != "" && !slices.Contains(manifest.LogLevels(), q.Level) {
				return fmt.Errorf("--level %q is none of %s", q.Level, strings.Join(manifest.LogLevels(), ", "))
			}
			if q.Lines < 0 || q.Lines > manifest.MaxLogLines {
				return fmt.Errorf("--lines %d is not between 0 and %d", q.Lines, manifest.MaxLogLines)
			}
			s, err := a.open(&stack, args, true)
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := a.interruptible(c.Context())
			defer cancel()
			show := a.logPrinter(s, asJSON, len(hosts) != 1 && len(s.Spec.Hosts) > 1)
			if q.Follow {
				return s.Logs(ctx, hosts, q, nil, func(h string, e manifest.LogEntry) error { return show(loggedBy(h, e)) })
			}
			// Of several hosts the entries are told in one order.
			var all []logged
			err = s.Logs(ctx, hosts, q, nil, func(h string, e manifest.LogEntry) error {
				all = append(all, loggedBy(h, e))
				return nil
			})
			slices.SortStableFunc(all, func(a, b logged) int { return a.Time.Compare(b.Time) })
			for _, e := range all {
				if err := show(e); err != nil {
					return err
				}
			}
			return interrupted(ctx, err)
		},
	}
	stack.add(c)
	f := c.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with what comes, until ^C")
	f.IntVarP(&q.Lines, "lines", "n", 100, "how many `entries` of the past, the newest of each host")
	f.StringVar(&q.Level, "level", "", "leave out what is below this `level`: debug, info, warn or error")
	f.StringVar(&q.Grep, "grep", "", "only what matches a regular `expression`; fields look as they are shown")
	f.StringVar(&since, "since", "", "nothing before a `time`: 30m, 2h, 3d, or 2006-01-02T15:04:05Z")
	f.StringVar(&q.Unit, "unit", "", "systemd `unit` (default "+manifest.ServiceUnit+")")
	f.BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// hostArgument takes the name of a host from the front of a command's arguments:
// the first of two, or a single one that is no folder.
func hostArgument(args []string) (hosts, rest []string) {
	if len(args) == 2 || len(args) == 1 && missing(args[0]) {
		return args[:1], args[1:]
	}
	return nil, args
}

// readSince reads --since: an age, by the host's clock, or a time.
func readSince(text string, q *manifest.LogQuery, now time.Time) error {
	if text == "" {
		return nil
	}
	days, isDays := strings.CutSuffix(text, "d")
	if n, err := strconv.ParseUint(days, 10, 16); isDays && err == nil {
		q.AgoSeconds = int64(n) * 24 * 60 * 60
		return nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		q.AgoSeconds = max(1, int64(d/time.Second))
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			if t.After(now) {
				return fmt.Errorf("--since %s lies in the future", text)
			}
			q.Since = t.UTC()
			return nil
		}
	}
	return errors.New(`--since takes an age such as 30m, 2h or 3d, or a time such as 2006-01-02T15:04:05Z or "2006-01-02 15:04" (UTC)`)
}

// logged is one line of mailform logs --json: an entry of a host's journal.
type logged struct {
	Host    string            `json:"host"`             // its name in the spec
	Time    time.Time         `json:"time"`             // RFC 3339 in UTC
	Level   string            `json:"level"`            // "debug", "info", "warn" or "error"
	Unit    string            `json:"unit,omitempty"`   // of systemd
	Source  string            `json:"source,omitempty"` // the program, when it is not mailformd
	Message string            `json:"message"`          // what happened
	Fields  map[string]string `json:"fields,omitempty"` // what mailformd says of it, by name: "queue_id", "remote"
}

func loggedBy(host string, e manifest.LogEntry) logged {
	return logged{host, e.Time, e.Level, e.Unit, e.Source, e.Message, e.Fields}
}

func (l logged) entry() manifest.LogEntry {
	return manifest.LogEntry{Time: l.Time, Level: l.Level, Unit: l.Unit, Source: l.Source, Message: l.Message, Fields: l.Fields}
}

// logPrinter returns what prints an entry.
func (a *app) logPrinter(s *session.Session, asJSON, named bool) func(logged) error {
	if asJSON {
		enc := json.NewEncoder(a.term.out)
		enc.SetEscapeHTML(false)
		return func(e logged) error { return enc.Encode(e) }
	}
	width := 0
	for _, h := range s.Spec.Hosts {
		width = max(width, len(h.Name))
	}
	return func(e logged) error {
		host := ""
		if named {
			host = style.Pad(e.Host, width) + "  "
		}
		_, err := io.WriteString(a.term.out, logLine(a.term.outStyle, host, e.entry()))
		return err
	}
}

// logLine is an entry as a person reads it: time, level, the part of the server,
// what it says, and its fields.
func logLine(sheet style.Sheet, host string, e manifest.LogEntry) string {
	part := e.Source
	if p, ok := e.Fields["part"]; ok {
		part = p
		rest := make(map[string]string, len(e.Fields))
		for name, v := range e.Fields {
			if name != "part" {
				rest[name] = v
			}
		}
		e.Fields = rest
	}
	level := style.Pad(strings.ToUpper(e.Level), 5)
	switch e.Level {
	case manifest.LogError:
		level = sheet.Red(level)
	case manifest.LogWarn:
		level = sheet.Yellow(level)
	case manifest.LogDebug:
		level = sheet.Dim(level)
	}
	message, fields := style.Clean(e.Message), strings.TrimPrefix(style.Clean(e.Line()), style.Clean(e.Message))
	return fmt.Sprintf("%s  %s%s  %s  %s%s\n", sheet.Dim(e.Time.Format("2006-01-02 15:04:05")), host, level, style.Pad(style.Clean(part), 8), message, sheet.Dim(fields))
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/agent"
	"mailform/server/journal"
	"mailform/server/manifest"
)

// logsCommand shows the journal to a person on the host.
func logsCommand() *cobra.Command {
	var q manifest.LogQuery
	var since time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use: "logs", Short: "show what the server has logged", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.AgoSeconds = int64(since / time.Second)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			write := func(e manifest.LogEntry) error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %-5s %s\n", e.Time.Format(time.DateTime), strings.ToUpper(e.Level), printable(e.Line()))
				return err
			}
			if asJSON {
				write = logWriter(cmd.OutOrStdout())
			}
			return readLogs(ctx, q, write)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with what comes, until ^C")
	f.IntVarP(&q.Lines, "lines", "n", 100, "how many `entries` of the past, the newest")
	f.StringVar(&q.Level, "level", "", "leave out what is below this `level`: debug, info, warn or error")
	f.StringVar(&q.Grep, "grep", "", "only what matches a regular `expression`")
	f.StringVar(&q.Unit, "unit", "", "systemd `unit` (default "+manifest.ServiceUnit+")")
	f.DurationVar(&since, "since", 0, "nothing older than this `duration`, such as 2h30m")
	f.BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

// readLogsCommand is what mailform runs: the query comes on standard input, whose
// end also ends following.
func readLogsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "read-logs", Short: "print what a query of mailform asks for", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var q manifest.LogQuery
			rest, err := readRequest(cmd.InOrStdin(), &q)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			if q.Follow {
				go func() {
					_, _ = io.Copy(io.Discard, rest)
					cancel()
				}()
			}
			return readLogs(ctx, q, logWriter(cmd.OutOrStdout()))
		},
	}
}

func readLogs(ctx context.Context, q manifest.LogQuery, each func(manifest.LogEntry) error) error {
	query, err := journal.NewQuery(q)
	if err != nil {
		return &agent.Error{Code: manifest.ExitRequest, Msg: err.Error()}
	}
	return journal.Read(ctx, journal.Journalctl, query, time.Now(), each)
}

// logWriter writes one JSON object a line.
func logWriter(w io.Writer) func(manifest.LogEntry) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(e manifest.LogEntry) error { return enc.Encode(e) }
}

// printable makes one line without what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

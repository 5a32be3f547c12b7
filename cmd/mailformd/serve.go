package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/agent"
	"mailform/server/daemon"
	"mailform/server/journal"
	"mailform/server/manifest"
	"mailform/server/queue"
)

// serveCommands are the service and the commands that talk to it over its
// control socket.
func serveCommands(version string) []*cobra.Command {
	queueCommand := &cobra.Command{Use: "queue", Short: "mail that waits for other hosts"}
	queueCommand.AddCommand(queueListCommand())
	return []*cobra.Command{serveCommand(version), reloadCommand(), statusCommand(), queueCommand, backupCommand(), restoreCommand(), importCommand(), exportCommand(), logsCommand(), storeCommand(), readLogsCommand()}
}

func serveCommand(version string) *cobra.Command {
	var listen []string
	var format, level string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the mail server",
		Long: `Run the mail server in the foreground, with the sockets that systemd passes or, by
hand, those of --listen. Everything else is found below MAILFORM_ROOT (default /).

Environment: MAILFORM_RESOLVER is the name server for mail to other hosts and for
the checks of mail from them (host:port; default those of /etc/resolv.conf),
MAILFORM_CA_BUNDLE a PEM file of further authorities for the relay's certificate,
MAILFORM_PORT25_PROBES domains whose mail servers are tried to see whether port 25 is open,
MAILFORM_METADATA where the instance asks for the credentials of its RAM role
(default http://100.100.100.200/latest/), ALL_PROXY a SOCKS5 proxy for outgoing connections.`,
		Example: `  MAILFORM_ROOT=/tmp/mx mailformd serve --listen smtp=127.0.0.1:2525 --listen submissions=127.0.0.1:4465`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), version, listen, format, level)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&listen, "listen", nil, "listen as NAME=HOST:PORT; names are those of systemd's sockets: smtp, submission, submissions, imap, imaps, https")
	f.StringVar(&format, "log-format", "auto", "json, text, journal, or auto: the journal when systemd has started it, text otherwise")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func serve(ctx context.Context, version string, listen []string, format, level string) error {
	logger, err := newLogger(os.Stderr, format, level)
	if err != nil {
		return err
	}
	listeners, err := daemon.SystemdListeners(os.Getenv)
	if err != nil {
		return err
	}
	byHand, err := daemon.Listen(listen)
	if err != nil {
		return err
	}
	if listeners == nil {
		listeners = byHand
	} else {
		for name, l := range byHand {
			listeners[name] = append(listeners[name], l...)
		}
	}
	if len(listeners) == 0 {
		return errors.New("no sockets: start it by systemd, or give --listen")
	}
	notify, err := daemon.Notifier(os.Getenv)
	if err != nil {
		return err
	}
	dial, err := daemon.Dialer(os.Getenv)
	if err != nil {
		return err
	}
	roots, err := daemon.Roots(os.Getenv("MAILFORM_CA_BUNDLE"))
	if err != nil {
		return fmt.Errorf("MAILFORM_CA_BUNDLE: %w", err)
	}
	resolver, err := queue.NewDNS(os.Getenv("MAILFORM_RESOLVER"), time.Now)
	if err != nil {
		return fmt.Errorf("MAILFORM_RESOLVER: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	return daemon.Run(ctx, daemon.Config{
		Layout: layout(), Version: version, Logger: logger, Listeners: listeners, Hangup: hangup,
		Notify: notify, Watchdog: daemon.WatchdogInterval(os.Getenv),
		Resolver: resolver, Dial: dial, Roots: roots, Reach: strings.Fields(os.Getenv("MAILFORM_PORT25_PROBES")),
		Metadata: os.Getenv("MAILFORM_METADATA"),
	})
}

// newLogger logs to w, or to systemd's journal when w is that.
func newLogger(w *os.File, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is none of debug, info, warn and error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	text := slog.NewTextHandler(w, options)
	switch {
	case format == "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case format == "text", format == "auto" && !journal.Connected(os.Getenv, w):
		return slog.New(text), nil
	case format == "journal", format == "auto":
		h, err := journal.New(layout().JournalSocket(), l, text)
		if err == nil {
			return slog.New(h), nil
		}
		if format == "auto" { // its lines get there all the same
			return slog.New(text), nil
		}
		return nil, fmt.Errorf("the journal: %w", err)
	}
	return nil, fmt.Errorf("--log-format %q is none of auto, json, text and journal", format)
}

func reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "make the running server read its configuration again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := agent.Control{Socket: layout().ControlSocket()}.Reload(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "reloaded, manifest %.12s\n", st.ManifestSHA256)
			return err
		},
	}
}

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "say what the running server serves", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := agent.Control{Socket: layout().ControlSocket()}.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return answer(cmd, st)
			}
			return printStatus(cmd.OutOrStdout(), st)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStatus(w io.Writer, st manifest.Status) error {
	cert := "none yet, TLS is not offered"
	if !st.CertNotAfter.IsZero() {
		cert = "until " + st.CertNotAfter.UTC().Format(time.DateTime) + " UTC"
	}
	if _, err := fmt.Fprintf(w, `mailformd %s, process %d, since %s UTC
services:    %s
certificate: %s
connections: %d open, %d refused
queue:       %d
filter:      %d refused, %d junk, %d asked to come back
manifest:    %s
`,
		st.Version, st.PID, st.Started.UTC().Format(time.DateTime), strings.Join(st.Listening, " "), cert, st.Connections, st.Refused,
		st.Queue, st.Filter.Refused, st.Filter.Junk, st.Filter.Deferred, st.ManifestSHA256); err != nil {
		return err
	}
	if !st.LastBackup.IsZero() {
		if _, err := fmt.Fprintf(w, "last backup: %s UTC\n", st.LastBackup.UTC().Format(time.DateTime)); err != nil {
			return err
		}
	}
	for _, r := range st.Retention {
		last := "not yet looked at"
		if !r.Last.IsZero() {
			last = fmt.Sprintf("%d messages removed since the start, last look %s UTC", r.Removed, r.Last.UTC().Format(time.DateTime))
		}
		if r.Failed != "" {
			last += "; failed: " + r.Failed
		}
		if _, err := fmt.Fprintf(w, "retention:   %s of %s, %s: %s\n", r.Rule, r.Domain, r.Mailbox, last); err != nil {
			return err
		}
	}
	for _, a := range st.Alerts {
		if _, err := fmt.Fprintf(w, "alert:       %s\n", a); err != nil {
			return err
		}
	}
	return nil
}

func queueListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "list the messages that wait for other hosts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := queued(cmd.Context(), layout().ControlSocket())
			if err != nil {
				return err
			}
			if asJSON {
				return answer(cmd, items)
			}
			return printQueue(cmd.OutOrStdout(), items)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// queued asks the running server for its queue.
func queued(ctx context.Context, socket string) (items []daemon.QueueItem, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return items, ask(ctx, socket, http.MethodGet, "/v1/queue", &items)
}

// ask sends a request to the running server.
func ask(ctx context.Context, socket, method, path string, into any) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://mailformd"+path, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return fmt.Errorf("mailformd answered %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("mailformd's answer: %w", err)
	}
	return nil
}

func printQueue(w io.Writer, items []daemon.QueueItem) error {
	if len(items) == 0 {
		_, err := fmt.Fprintln(w, "the queue is empty")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tQUEUED (UTC)\tSIZE\tTRIES\tNEXT (UTC)\tFROM\tTO")
	for _, i := range items {
		next := i.NextTry.UTC().Format(time.DateTime)
		if i.Hold {
			next = "held"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t<%s>\t%s\n", i.ID, i.Queued.UTC().Format(time.DateTime), i.Size, i.Attempts, next, i.From, strings.Join(i.Recipients, ","))
		if i.LastError != "" {
			fmt.Fprintf(t, "\t\t\t\t\t\t(%s)\n", i.LastError)
		}
	}
	return t.Flush()
}

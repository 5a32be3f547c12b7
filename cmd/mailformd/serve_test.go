package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"mailform/server/daemon"
	"mailform/server/manifest"
)

func TestPrintQueue(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	var b bytes.Buffer
	if err := printQueue(&b, []daemon.QueueItem{
		{ID: "a", From: "alice@example.com", Recipients: []string{"x@e.example", "y@e.example"}, Size: 1234, Queued: at, Attempts: 2, NextTry: at.Add(time.Hour), LastError: "mx: greylisted"},
		{ID: "b", Recipients: []string{"z@f.example"}, Queued: at, Hold: true},
	}); err != nil {
		t.Fatal(err)
	}
	want := `
ID  QUEUED (UTC)         SIZE  TRIES  NEXT (UTC)           FROM                 TO
a   2026-11-22 10:00:00  1234  2      2026-11-22 11:00:00  <alice@example.com>  x@e.example,y@e.example
                                                                                (mx: greylisted)
b   2026-11-22 10:00:00  0     0      held                 <>                   z@f.example
`
	if b.String() != want[1:] {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want[1:])
	}
	b.Reset()
	if err := printQueue(&b, nil); err != nil || b.String() != "the queue is empty\n" {
		t.Errorf("empty: %q, %v", b.String(), err)
	}
}

// Backups and what is wrong come last, when there is anything to tell.
func TestPrintStatusOfTheHost(t *testing.T) {
	var b bytes.Buffer
	st := manifest.Status{LastBackup: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Alerts: []string{"the disk is getting full: 1 GiB", "b"}}
	if err := printStatus(&b, st); err != nil || !strings.HasSuffix(b.String(), "\nlast backup: 2026-11-22 10:00:00 UTC\nalert:       the disk is getting full: 1 GiB\nalert:       b\n") {
		t.Errorf("%v, got\n%s", err, b.String())
	}
}

func TestPrintStatus(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	st := manifest.Status{Version: "1.0", PID: 7, Started: at, ManifestSHA256: "abc", Listening: []string{"smtp", "imaps"}, Queue: 3, Connections: 5, Refused: 2, Filter: manifest.FilterStatus{Refused: 7, Junk: 8, Deferred: 9}}
	for want, notAfter := range map[string]time.Time{
		"certificate: until 2026-11-22 10:00:00 UTC\n": at,
		"certificate: none yet, TLS is not offered\n":  {},
	} {
		st.CertNotAfter = notAfter
		var b bytes.Buffer
		if err := printStatus(&b, st); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(b.String(), "mailformd 1.0, process 7, since 2026-11-22 10:00:00 UTC\nservices:    smtp imaps\n"+want+
			"connections: 5 open, 2 refused\nqueue:       3\nfilter:      7 refused, 8 junk, 9 asked to come back\nmanifest:    abc\n") {
			t.Errorf("got\n%s", b.String())
		}
	}
}

// What is wrong with a start by hand is said before anything is opened.
func TestServeRefuses(t *testing.T) {
	t.Setenv("MAILFORM_ROOT", t.TempDir())
	for _, tc := range []struct {
		env    map[string]string
		listen []string
		format string
		want   string
	}{
		{nil, nil, "json", "no sockets"},
		{nil, []string{"http=127.0.0.1:0"}, "json", "NAME=HOST:PORT"},
		{nil, []string{"smtp=127.0.0.1:0"}, "xml", "--log-format"},
		{map[string]string{"MAILFORM_RESOLVER": "nowhere"}, []string{"smtp=127.0.0.1:0"}, "json", "MAILFORM_RESOLVER"},
		{map[string]string{"MAILFORM_CA_BUNDLE": "/nowhere.pem"}, []string{"smtp=127.0.0.1:0"}, "json", "MAILFORM_CA_BUNDLE"},
		{map[string]string{"MAILFORM_RESOLVER": "127.0.0.1:1"}, []string{"smtp=127.0.0.1:0"}, "json", "manifest.json"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			if err := serve(context.Background(), "test", tc.listen, tc.format, "info"); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one about %s", err, tc.want)
			}
		})
	}
}

func TestCommandsWithoutADaemon(t *testing.T) {
	t.Setenv("MAILFORM_ROOT", t.TempDir())
	for _, args := range [][]string{{"status"}, {"reload"}, {"queue", "list"}, {"backup", "now"}} {
		for _, c := range serveCommands("test") {
			if c.Name() == args[0] {
				c.SetArgs(args[1:])
				c.SilenceErrors, c.SilenceUsage = true, true
				if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "control.sock") {
					t.Errorf("%v: error %v does not name the socket", args, err)
				}
			}
		}
	}
}

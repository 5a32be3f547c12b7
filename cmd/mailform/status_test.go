package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"mailform/cmd/mailform/internal/session"
	"mailform/plan/style"
	"mailform/providers/host"
	"mailform/server/manifest"
)

// TestStatusTellsTrouble: what the host's monitor has found and when mail was last
// copied stand beside the rest, for people and for machines.
func TestStatusTellsTrouble(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	v := viewHost(session.HostStatus{Name: "mx1", Hostname: "mail.example.com", Inspection: host.Inspection{
		Address: "203.0.113.7", Facts: &manifest.Facts{Now: now, Agent: manifest.Agent{Version: "1.0"}, Service: manifest.Service{Active: "active"}},
		Server: &manifest.Status{Started: now.Add(-time.Hour), LastBackup: now.Add(-2 * time.Hour), Alerts: []string{"3 % of the disk are free"}},
	}})
	var text, doc bytes.Buffer
	a := &app{term: &terminal{out: &output{w: &text}, outStyle: style.New(false)}}
	a.showHost(v)
	for _, want := range []string{"last backup  2026-11-22 08:00 UTC (2 hours ago)", "alert        3 % of the disk are free"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("status does not say %q:\n%s", want, &text)
		}
	}
	if err := writeStatusJSON(&doc, statusDocument{1, "acme", []hostView{v}, nil, nil}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"last_backup": "2026-11-22T08:00:00Z"`, `"3 % of the disk are free"`} {
		if !strings.Contains(doc.String(), want) {
			t.Errorf("the document has no %s:\n%s", want, &doc)
		}
	}
	quiet := viewHost(session.HostStatus{Inspection: host.Inspection{Address: "203.0.113.7", Facts: &manifest.Facts{Now: now}, Server: &manifest.Status{}}})
	if quiet.LastBackup != nil || quiet.Alerts == nil || len(quiet.Alerts) != 0 {
		t.Errorf("a host without backups and trouble: %+v", quiet)
	}
}

// How far encryption is shows while it is not complete; the document has it always.
func TestStatusTellsOfEncryption(t *testing.T) {
	for _, c := range []struct {
		told *manifest.Encryption
		want string // "" is no line
		doc  string
	}{
		{nil, "", `"on": false`},
		{&manifest.Encryption{}, "on; how much", `"complete": null`},
		{&manifest.Encryption{Looked: true, ClearOctets: 3 << 30, ClearFiles: 48, SecondsLeft: 768}, "encryption   3.0 GiB in 48 files still in the clear, done in about 13 minutes\n", `"complete": false`},
		{&manifest.Encryption{Looked: true, ClearOctets: 9 << 10, ClearFiles: 1, StuckFiles: 1}, "encryption   9.0 KiB in 1 file still in the clear; damage keeps 1 file from it: mailform ssh mx1 -- mailformd store check\n", `"stuck_files": 1`},
		{&manifest.Encryption{Looked: true}, "", `"complete": true`},
	} {
		v := viewHost(session.HostStatus{Name: "mx1", Inspection: host.Inspection{Address: "203.0.113.7",
			Facts: &manifest.Facts{Agent: manifest.Agent{Version: "1.0"}, Service: manifest.Service{Active: "active"}}, Server: &manifest.Status{Encryption: c.told}}})
		var text, doc bytes.Buffer
		a := &app{term: &terminal{out: &output{w: &text}, outStyle: style.New(false)}}
		a.showHost(v)
		if c.want == "" && strings.Contains(text.String(), "encryption") || !strings.Contains(text.String(), c.want) {
			t.Errorf("%+v: status does not say %q:\n%s", c.told, c.want, &text)
		}
		if err := writeStatusJSON(&doc, statusDocument{1, "acme", []hostView{v}, nil, nil}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(doc.String(), c.doc) {
			t.Errorf("%+v: the document has no %s:\n%s", c.told, c.doc, &doc)
		}
	}
}

package monitor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/mail"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
	"mailform/server/route"
	"mailform/server/store"
)

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// world is a host whose facts the test decides.
type world struct {
	*testing.T
	now    time.Time
	file   string
	facts  Facts
	refuse error // what the store answers
	mails  []store.Delivery
	texts  []string
	kicked int
	st     *Settings
	m      *Monitor
}

func newWorld(t *testing.T, alerts ...string) *world {
	routes, err := route.New(&manifest.Manifest{Hostname: "mail.example.com", Domains: []manifest.Domain{{Name: "example.com",
		Mailboxes: []manifest.Mailbox{{Local: "alice"}}, Aliases: []manifest.Alias{{Local: "ops", To: []string{"alice@example.com", "out@elsewhere.example"}}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, now: start, file: filepath.Join(t.TempDir(), "monitor.json"),
		facts: Facts{DiskBytes: 100 << 30, DiskFree: 50 << 30},
		st:    &Settings{Monitor: &manifest.Monitor{Alerts: alerts}, Hostname: "mail.example.com", Routes: routes, Signer: signer{}}}
	w.restart()
	return w
}

func (w *world) restart() {
	var err error
	w.m, err = New(Config{Store: w, StateFile: w.file, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
		Look: func(context.Context) (Facts, error) { return w.facts, nil }, Queued: func() { w.kicked++ }}, w.st)
	if err != nil {
		w.Fatal(err)
	}
}

type signer struct{}

func (signer) Sign(domain string, r io.Reader) ([]byte, error) {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return []byte("DKIM-Signature: d=" + domain + "\r\n"), nil
}

func (w *world) Deliver(_ context.Context, d store.Delivery) ([]store.Message, error) {
	if w.refuse != nil {
		return nil, w.refuse
	}
	text, err := io.ReadAll(d.Body)
	if err != nil || int64(len(text)) != d.Size {
		w.Errorf("body of %d octets, said to be %d: %v", len(text), d.Size, err)
	}
	w.mails, w.texts = append(w.mails, d), append(w.texts, string(text))
	return nil, nil
}

// step lets time pass, checks once and returns the subjects of what was sent.
func (w *world) step(d time.Duration) (subjects []string) {
	w.Helper()
	w.now = w.now.Add(d)
	n := len(w.texts)
	if err := w.m.check(w.Context()); err != nil {
		w.Fatal(err)
	}
	for _, text := range w.texts[n:] {
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			w.Fatal(err)
		}
		subjects = append(subjects, m.Header.Get("Subject"))
	}
	return subjects
}

func (w *world) expect(what string, got []string, want ...string) {
	w.Helper()
	if !slices.Equal(got, want) {
		w.Errorf("%s: sent %q, want %q", what, got, want)
	}
}

// A condition is told when it begins and when it is over, reminded of once a
// day, and not told again by a restart.
func TestLifeOfACondition(t *testing.T) {
	w := newWorld(t, "alice@example.com")
	const title = "the disk is getting full"
	w.expect("all is well", w.step(0))
	w.facts.DiskFree = 5 << 30
	w.expect("it begins", w.step(interval), "[mail.example.com] "+title)
	w.expect("it goes on", w.step(interval))
	w.restart()
	w.expect("after a restart", w.step(interval))
	if got := w.m.Conditions(); len(got) != 1 || !strings.Contains(got[0], "5.0 GiB of 100.0 GiB are free") {
		t.Errorf("conditions: %q", got)
	}
	w.facts.DiskFree = 50 << 30
	w.expect("it comes", w.step(interval))
	w.facts.DiskFree = 5 << 30
	w.expect("and goes", w.step(20*time.Minute))
	w.expect("before a day has passed", w.step(23*time.Hour))
	w.expect("a day later", w.step(time.Hour), "[mail.example.com] still: "+title)
	w.restart()
	w.expect("the reminder", w.step(interval))
	w.facts.DiskFree = 50 << 30
	w.expect("not seen", w.step(interval))
	w.restart()
	w.expect("not seen for long", w.step(settleTime), "[mail.example.com] over: "+title)
	w.expect("it is over", w.step(48*time.Hour))
	if got := w.m.Conditions(); len(got) != 0 {
		t.Errorf("conditions: %q", got)
	}
}

// What could not be told is told later, and what nobody was told about ends silently.
func TestNobodyCouldBeTold(t *testing.T) {
	w := newWorld(t, "alice@example.com")
	w.facts.DiskFree = 0
	w.refuse = store.ErrFull
	w.expect("the store refuses", w.step(0))
	w.restart()
	w.expect("still", w.step(interval))
	w.refuse = nil
	w.expect("it takes mail", w.step(interval), "[mail.example.com] the disk is getting full")

	w = newWorld(t, "alice@example.com")
	w.facts.DiskFree, w.refuse = 0, store.ErrFull
	w.step(0)
	w.facts.DiskFree, w.refuse = 50<<30, nil
	w.expect("gone", w.step(interval))
	w.expect("and over", w.step(settleTime))
	if len(w.m.state.Open) != 0 {
		t.Errorf("open: %v", w.m.state.Open)
	}
}

// Mail goes where the address leads: to a mailbox here, or signed into the queue.
func TestWhereAlertsGo(t *testing.T) {
	w := newWorld(t, "alice@example.com", "oncall@elsewhere.example", "ops@example.com", "nobody@example.com")
	w.facts.QueueLength, w.facts.QueueOldest = 7, start.Add(-5*time.Hour)
	const title = "[mail.example.com] mail waits too long to leave"
	w.expect("three of four", w.step(0), title, title, title)
	here, away, both := w.mails[0], w.mails[1], w.mails[2]
	if len(here.Queue) != 0 || len(here.Targets) != 1 || here.Targets[0].Account != "alice@example.com" ||
		string(here.Targets[0].Prefix) != "Return-Path: <postmaster@example.com>\r\nDelivered-To: alice@example.com\r\n" {
		t.Errorf("here: %+v", here)
	}
	if len(away.Targets) != 0 || len(away.Queue) != 1 {
		t.Fatalf("away: %+v", away)
	}
	if e := away.Queue[0]; e.From != "postmaster@example.com" || e.Domain != "elsewhere.example" || e.Recipients[0] != "oncall@elsewhere.example" ||
		string(e.Prefix) != "DKIM-Signature: d=example.com\r\n" {
		t.Errorf("away: %+v", e)
	}
	if len(both.Targets) != 1 || len(both.Queue) != 1 || both.Queue[0].Recipients[0] != "out@elsewhere.example" {
		t.Errorf("an alias of both: %+v", both)
	}
	if w.kicked != 2 {
		t.Errorf("the queue was told %d times", w.kicked)
	}
	want := `From: mailform on mail.example.com <postmaster@example.com>
To: <oncall@elsewhere.example>
Subject: [mail.example.com] mail waits too long to leave
Date: Sun, 22 Nov 2026 10:00:00 +0000
Message-ID: <monitor.queue.1795341600.begins@mail.example.com>
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

This is the mail server mail.example.com.

What was found: 7 messages wait for other servers, the oldest for 5 hours.

What it means: Its sender is told after some hours, and it is returned after
five days. If it is one destination, that server is at fault; if it is all,
mail does not get out of here.

What to do: mailformd queue list shows what each message waits for. If
nothing gets out, look whether port 25 is open to the outside, and at the
relay.

There will be one more mail when it is over, and a reminder each day until
then.

`
	if got := strings.ReplaceAll(w.texts[1], "\r\n", "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What a program says cannot add header fields or long lines to a mail.
func TestForeignTextStaysText(t *testing.T) {
	w := newWorld(t, "alice@example.com")
	w.facts.Damage = []string{"log/1: a\r\nBcc: x@y\r\n\r\n\x00" + strings.Repeat("ü", 2000), "second\xff"}
	w.step(0)
	text := w.texts[0]
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %.100q of %d octets", line, len(line))
		}
	}
	if m, err := mail.ReadMessage(strings.NewReader(text)); err != nil || m.Header.Get("Bcc") != "" || len(m.Header) != 9 {
		t.Errorf("header: %v, %v", m, err)
	}
	if _, body, _ := strings.Cut(text, "\r\n\r\n"); !strings.Contains(body, "\r\n  second?\r\n") {
		t.Errorf("body:\n%s", body)
	}
}

func TestCheck(t *testing.T) {
	set := &manifest.Monitor{DiskFreePercent: 20, QueueAgeSeconds: 3600, CertificateSeconds: 86400}
	well := Facts{DiskBytes: 100, DiskFree: 20, QueueOldest: start.Add(-time.Hour), Certificates: []Certificate{{"mx1", start.Add(24 * time.Hour)}},
		Backup: &Backup{Every: time.Hour, Since: start.Add(-100 * time.Hour), Last: start.Add(-2 * time.Hour)}}
	for want, change := range map[string]func(*Facts){
		"":                      func(*Facts) {},
		"disk":                  func(f *Facts) { f.DiskFree = 19 },
		"queue":                 func(f *Facts) { f.QueueOldest = start.Add(-time.Hour - 1) },
		"certificate/mx1":       func(f *Facts) { f.Certificates[0].NotAfter = start.Add(24*time.Hour - 1) },
		"certificate/mx1 ended": func(f *Facts) { f.Certificates[0].NotAfter = start.Add(-1) },
		"backup":                func(f *Facts) { f.Backup.Last = start.Add(-2*time.Hour - 1); f.Backup.Err = errors.New("denied") },
		"backup never":          func(f *Facts) { f.Backup.Last = time.Time{} },
		"damage":                func(f *Facts) { f.Damage = make([]string, 30) },
		"write":                 func(f *Facts) { f.Unwritable = errors.New("read-only file system") },
	} {
		f := well
		f.Certificates = slices.Clone(well.Certificates)
		b := *well.Backup
		f.Backup = &b
		change(&f)
		got := Check(set, f, start)
		key, _, _ := strings.Cut(want, " ")
		if key == "" && len(got) == 0 {
			continue
		}
		if len(got) != 1 || got[0].Key != key || got[0].Title == "" || got[0].Found == "" || got[0].Means == "" || got[0].Do == "" {
			t.Errorf("%q: %+v", want, got)
		}
	}
	if got := Check(nil, Facts{DiskBytes: 100, DiskFree: 9, Backup: &Backup{Every: time.Hour, Since: start}}, start); len(got) != 1 {
		t.Errorf("without settings: %+v", got)
	}
}

// A bucket that cannot be reached after a restart does not hide how old the last backup is.
func TestBackupIsRemembered(t *testing.T) {
	w := newWorld(t, "alice@example.com")
	w.facts.Backup = &Backup{Every: time.Hour, Last: start}
	w.expect("a backup", w.step(0))
	w.restart()
	w.facts.Backup = &Backup{Every: time.Hour, Err: errors.New("no route to host")}
	w.expect("an hour later", w.step(time.Hour))
	w.facts.Backup = &Backup{Every: time.Hour, Err: errors.New("no route to host")}
	w.expect("three hours later", w.step(2*time.Hour), "[mail.example.com] there is no recent backup")
	if !strings.Contains(w.texts[0], "The last backup was made at Sun, 22 Nov 2026 10:00:00") || !strings.Contains(strings.ReplaceAll(w.texts[0], "\r\n", " "), "no route to host") {
		t.Errorf("text:\n%s", w.texts[0])
	}
}

// A directory that cannot be written is a condition of its own.
func TestUnwritable(t *testing.T) {
	w := newWorld(t, "alice@example.com")
	w.file = filepath.Join(t.TempDir(), "gone", "monitor.json")
	w.restart()
	w.expect("no directory", w.step(0), "[mail.example.com] the mail store cannot be written")
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"format":1,"open":{"disk":{"title":"t","since":"2026-11-22T10:00:00Z","told":"2026-11-22T10:00:00Z"},"x":null}}`))
	f.Add([]byte(`{"format":9}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := readState(text)
		if err != nil {
			return
		}
		if s.Open == nil {
			s.Open = map[string]*open{}
		}
		for _, n := range s.due([]Condition{{Key: "disk"}}, start) {
			s.told(n, start)
			if !bytes.Contains(n.message("h", "f@x", "t@x", start), []byte("Auto-Submitted")) {
				t.Error("no mail")
			}
		}
	})
}

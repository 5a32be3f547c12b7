package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailform/server/agent"
	"mailform/server/daemon"
	"mailform/server/store"
)

// A store that is damaged is looked at and salvaged, and none of that changes it.
func TestStoreCommands(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "store")
	l, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(i int) string { return fmt.Sprintf("Subject: %d\r\n\r\nthis is message %d\r\n", i, i) }
	for i := range 4 {
		a := fmt.Sprintf("a%d@example.org", i%2)
		if err := l.EnsureAccount(ctx, a, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Deliver(ctx, store.Delivery{Body: strings.NewReader(text(i)), Size: -1,
			Targets: []store.Target{{Account: a, Mailbox: []string{"INBOX", "Work/Old"}[i/2], Prefix: []byte("Delivered-To: " + a + "\r\n"), Flags: []string{`\Seen`}}}}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		cmd := storeCommand()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&bytes.Buffer{})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(append(args, "--dir", dir))
		err := cmd.ExecuteContext(ctx)
		return out.String(), err
	}
	for _, args := range [][]string{{"check"}, {"stats"}, {"rebuild"}, {"salvage", filepath.Join(t.TempDir(), "x")}} {
		if _, err := run(args...); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "systemctl stop") {
			t.Errorf("%s while the store is in use: %v", args[0], err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := run("check"); err != nil || out != "the store is whole\n" {
		t.Errorf("check: %q, %v", out, err)
	}
	out, err := run("stats")
	if err != nil || !strings.HasPrefix(out, "accounts:        2 with 16 mailboxes\nmessages:        4 of 1 KiB\nqueue:           0\nlog:             ") {
		t.Errorf("stats: %v\n%s", err, out)
	}

	// One message is damaged, another's place is lost with its mailbox.
	segment := filepath.Join(dir, "log", "0000000000000001.log")
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte("this is message 1"))] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(t, dir)
	var agentErr *agent.Error
	out, err = run("check", "--json")
	var c daemon.StoreCheck
	if jerr := json.Unmarshal([]byte(out), &c); jerr != nil || len(c.Findings) == 0 || !errors.As(err, &agentErr) || agentErr.Code != exitDamaged {
		t.Errorf("check of a damaged store: %v\n%s", err, out)
	}
	to := filepath.Join(t.TempDir(), "salvaged")
	out, err = run("salvage", to, "--unreferenced")
	if !errors.As(err, &agentErr) || agentErr.Code != exitDamaged || !strings.Contains(out, "lost: a1@example.org, INBOX, UID 1: ") || !strings.Contains(out, "3 messages (1 KiB) of 2 accounts") {
		t.Errorf("salvage: %v\n%s", err, out)
	}
	for i, folder := range []string{"a0@example.org/cur", "", "a0@example.org/.Work.Old/cur", "a1@example.org/.Work.Old/cur"} {
		if folder == "" {
			continue
		}
		names, err := filepath.Glob(filepath.Join(to, folder, "*:2,S"))
		if err != nil || len(names) != 1 {
			t.Fatalf("message %d: %v, %v", i, names, err)
		}
		got, err := os.ReadFile(names[0])
		if want := "Delivered-To: " + fmt.Sprintf("a%d@example.org", i%2) + "\n" + strings.ReplaceAll(text(i), "\r", ""); err != nil || string(got) != want {
			t.Errorf("message %d: %q, want %q, %v", i, got, want, err)
		}
	}
	if after := fingerprint(t, dir); after != before {
		t.Errorf("the store was changed:\n%s\n%s", before, after)
	}
	if _, err := run("salvage", to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("salvage to a directory with something in it: %v", err)
	}

	// Without checkpoints and with a torn end the messages are there all the same.
	for _, name := range []string{"checkpoint", "search"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	before = fingerprint(t, dir)
	if out, err := run("stats", "--json"); err != nil || !strings.Contains(out, `"messages": 4`) {
		t.Errorf("stats without checkpoints: %v\n%s", err, out)
	}
	if after := fingerprint(t, dir); after != before {
		t.Errorf("the store was changed:\n%s\n%s", before, after)
	}
	if _, err := run("rebuild"); err != nil {
		t.Errorf("rebuild: %v", err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "checkpoint", "*")); err != nil || len(names) != 2 {
		t.Errorf("checkpoints: %v, %v", names, err)
	}
	if _, err := run("compact"); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("compact without a server: %v", err)
	}
}

// A body whose transaction is damaged is found by its record.
func TestSalvageUnreferenced(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "store")
	l, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.EnsureAccount(ctx, "a@b.example", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Deliver(ctx, store.Delivery{Body: strings.NewReader("Subject: x\r\n\r\ntext\r\n"), Size: -1,
		Targets: []store.Target{{Account: "a@b.example", Mailbox: "INBOX", Prefix: []byte("Delivered-To: a@b.example\r\n")}}}); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteMailbox(ctx, "a@b.example", "Junk"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "checkpoint")); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(dir, "log", "0000000000000001.log")
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	// Behind the body come the header line and then the transaction.
	at := bytes.Index(b, []byte("Delivered-To: a@b.example")) + len("Delivered-To: a@b.example")
	b[at+bytes.Index(b[at:], []byte("a@b.example"))] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := storeCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	to := filepath.Join(t.TempDir(), "salvaged")
	cmd.SetArgs([]string{"salvage", to, "--unreferenced", "--dir", dir, "--json"})
	err = cmd.ExecuteContext(ctx)
	var s salvaged
	if jerr := json.Unmarshal(out.Bytes(), &s); jerr != nil || s.Unplaced != 1 || s.Messages != 0 || len(s.Damage) != 1 {
		t.Errorf("%v, %v\n%s", err, jerr, out.String())
	}
	if names, err := filepath.Glob(filepath.Join(to, "unreferenced", "cur", "*")); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
}

// fingerprint is the names and octets of all files below a directory.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path)
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		h.Write(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

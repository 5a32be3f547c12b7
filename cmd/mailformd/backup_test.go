package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"mailform/server/backup"
	"mailform/server/bucket/bucketsim"
	"mailform/server/manifest"
	"mailform/server/store"
	"mailform/server/store/keyfile"
	"mailform/server/store/seal"
)

// command runs a command of mailformd and returns what it printed.
func command(t *testing.T, c *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c.SetArgs(args)
	c.SetOut(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A host's backups are listed and restored with its own settings, and on a
// machine that knows nothing of it with the key from the environment.
func TestBackupCommands(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALL_PROXY", "all_proxy", "MAILFORM_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	srv := httptest.NewServer(&bucketsim.Sim{Bucket: "acme-mail", Keys: map[string]string{"id": "secret"}, Now: time.Now})
	defer srv.Close()
	t.Setenv("MAILFORM_ROOT", t.TempDir())
	if _, err := command(t, backupCommand(), "list"); err == nil || !strings.Contains(err.Error(), "--endpoint") {
		t.Errorf("no host: %v", err)
	}
	m := &manifest.Manifest{Format: 1, Stack: "acme", Host: "mx1", Hostname: "mail.example.com", Domains: []manifest.Domain{{Name: "example.com"}}}
	write := func() {
		text, err := manifest.Encode(m)
		must(t, err)
		must(t, os.MkdirAll(filepath.Dir(layout().ManifestFile()), 0o700))
		must(t, os.WriteFile(layout().ManifestFile(), text, 0o600))
	}
	write()
	if _, err := command(t, backupCommand(), "list"); err == nil || !strings.Contains(err.Error(), "no backup block") {
		t.Errorf("no backups: %v", err)
	}
	m.Backup = &manifest.Backup{Endpoint: srv.URL, Bucket: "acme-mail", Prefix: "mail", AccessKeyID: "id", SecretAccessKey: "secret", EverySeconds: 3600, KeepSeconds: 86400}
	write()
	if out, err := command(t, backupCommand(), "list"); err != nil || out != "there are no backups\n" {
		t.Errorf("none yet: %q, %v", out, err)
	}
	if _, err := command(t, restoreCommand()); err == nil || !strings.Contains(err.Error(), "there is no backup below mail/mx1/") {
		t.Errorf("restore: %v", err)
	}

	l, err := store.Open(layout().StoreDir(), store.Options{ReserveBytes: -1})
	must(t, err)
	must(t, l.EnsureAccount(t.Context(), "alice@example.com", 0))
	_, err = l.Deliver(t.Context(), store.Delivery{Body: strings.NewReader("waiting"), Size: 7, Queue: []store.QueueEntry{{Recipients: []string{"x@y.example"}, Domain: "y.example"}}})
	must(t, err)
	place, err := backup.NewPlace(backup.Config{Logger: slog.New(slog.DiscardHandler)}, *m.Backup, "mx1")
	must(t, err)
	made, err := place.Backup(t.Context(), backup.Source{Store: l, Layout: layout(), Stack: "acme", Host: "mx1", Version: "1.0"})
	must(t, err)
	must(t, l.Close())
	at := made.Time.Format(time.RFC3339)

	out, err := command(t, backupCommand(), "list")
	if lines := strings.Split(out, "\n"); err != nil || len(lines) != 3 || !strings.HasPrefix(lines[1], at) || !strings.HasSuffix(lines[1], "  1.0") {
		t.Errorf("list: %q, %v", out, err)
	}
	if _, err := command(t, restoreCommand()); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("over the store: %v", err)
	}
	if _, err := command(t, restoreCommand(), "--at", "yesterday"); err == nil || !strings.Contains(err.Error(), "--at") {
		t.Errorf("at: %v", err)
	}
	must(t, os.Rename(layout().StoreDir(), layout().StoreDir()+".old"))
	out, err = command(t, restoreCommand(), "--at", at)
	if err != nil || !strings.HasPrefix(out, layout().StoreDir()+": the backup of "+at) || !strings.Contains(out, "1 messages waited for other hosts") {
		t.Errorf("restore: %q, %v", out, err)
	}

	// Elsewhere.
	t.Setenv("MAILFORM_ROOT", t.TempDir())
	from := []string{"--endpoint", srv.URL, "--bucket", "acme-mail", "--prefix", "mail", "--host", "mx1"}
	if _, err := command(t, backupCommand(), append([]string{"list"}, from...)...); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("no key: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	to := filepath.Join(t.TempDir(), "here")
	if out, err := command(t, restoreCommand(), append(from, "--to", to)...); err != nil || !strings.HasPrefix(out, filepath.Join(to, "store")) {
		t.Errorf("restore elsewhere: %q, %v", out, err)
	}
	l, err = store.Open(filepath.Join(to, "store"), store.Options{})
	must(t, err)
	defer l.Close()
	if boxes, err := l.Mailboxes(t.Context(), "alice@example.com"); err != nil || len(boxes) == 0 {
		t.Errorf("restored: %v, %v", boxes, err)
	}
}

// A restore of encrypted mail finds out whether the storage key opens it before it
// changes anything, and brings it along.
func TestRestoreAsksForTheKey(t *testing.T) {
	for _, name := range []string{"AWS_SESSION_TOKEN", "ALL_PROXY", "all_proxy", "MAILFORM_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	srv := httptest.NewServer(&bucketsim.Sim{Bucket: "acme-mail", Keys: map[string]string{"id": "secret"}, Now: time.Now})
	defer srv.Close()
	t.Setenv("MAILFORM_ROOT", t.TempDir())
	key, err := seal.NewKey(rand.Reader)
	must(t, err)
	another, err := seal.NewKey(rand.Reader)
	must(t, err)
	l, err := store.Open(layout().StoreDir(), store.Options{ReserveBytes: -1, Root: &key, Encrypt: true})
	must(t, err)
	must(t, l.EnsureAccount(t.Context(), "alice@example.com", 0))
	_, err = l.Deliver(t.Context(), store.Delivery{Body: strings.NewReader("sealed"), Size: 6, Targets: []store.Target{{Account: "alice@example.com", Mailbox: "INBOX"}}})
	must(t, err)
	place, err := backup.NewPlace(backup.Config{Logger: slog.New(slog.DiscardHandler)}, manifest.Backup{Endpoint: srv.URL, Bucket: "acme-mail", AccessKeyID: "id", SecretAccessKey: "secret"}, "mx1")
	must(t, err)
	_, err = place.Backup(t.Context(), backup.Source{Store: l, Layout: layout(), Stack: "acme", Host: "mx1", Version: "1.0"})
	must(t, errors.Join(err, l.Close()))

	t.Setenv("MAILFORM_ROOT", t.TempDir()) // another machine
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	run := func(args ...string) (string, error) {
		return command(t, restoreCommand(), append([]string{"--endpoint", srv.URL, "--bucket", "acme-mail", "--host", "mx1"}, args...)...)
	}
	for want, args := range map[string][]string{
		"storage key " + key.Fingerprint() + ", and there is none on this host. Nothing was changed": nil,
		"and this one is " + another.Fingerprint() + ". Nothing was changed":                         {"--storage-key", file("another", another.Text())},
		"does not match its checksum": {"--storage-key", file("slip", key.Text()[:40]+"AAAA"+key.Text()[44:])},
		"no such file":                {"--storage-key", filepath.Join(dir, "missing")},
	} {
		if _, err := run(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
		if _, err := os.Stat(layout().StateDir()); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%q: something was changed: %v", args, err)
		}
	}
	out, err := run("--storage-key", file("key", key.Text()+"\n"))
	if err != nil || !strings.Contains(out, key.Fingerprint()+", which is on this host") || strings.Contains(out, key.Text()) {
		t.Fatalf("%q, %v", out, err)
	}
	have, err := keyfile.Of(layout()).Key()
	if err != nil || have == nil || *have != key {
		t.Fatalf("%v, %v", have, err)
	}
	l, err = store.Open(layout().StoreDir(), store.Options{ReserveBytes: -1, Root: have})
	must(t, err)
	must(t, errors.Join(l.Check(t.Context()), l.Close()))
	// Elsewhere, and to be opened later.
	out, err = run("--without-storage-key", "--to", filepath.Join(dir, "later"))
	if err != nil || !strings.Contains(out, key.Fingerprint()) {
		t.Errorf("%q, %v", out, err)
	}
}

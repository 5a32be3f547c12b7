package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/backup"
	"mailform/server/bucket/bucketsim"
	"mailform/server/manifest"
	"mailform/server/store"
)

// freePort finds a loopback address to listen on.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ask sends a request and returns its status and body.
func (h *host) ask(client *http.Client, method, url string) (int, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, url, nil)
	h.must(err)
	res, err := client.Do(req)
	h.must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	h.must(err)
	return res.StatusCode, string(text)
}

// deliverToAlice sends a message from elsewhere.
func (h *host) deliverToAlice(text string) {
	h.t.Helper()
	k := h.dialService("smtp")
	k.do("", "220")
	k.do("EHLO c.example", "250")
	k.message("x@c.example", "Subject: s\r\n\r\n"+text, "alice@example.com")
}

// until waits for something that the daemon does by itself.
func (h *host) until(what string, done func() bool) {
	h.t.Helper()
	for range 2000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.t.Fatalf("%s; log:\n%s", what, h.logs)
}

// The daemon copies its mail to a bucket, also when asked to, tells when, and
// another machine has the mail again.
func TestBackup(t *testing.T) {
	h := newHost(t)
	sim := &bucketsim.Sim{Bucket: "acme-mail", Keys: map[string]string{"id": "secret"}, Now: time.Now}
	srv := httptest.NewServer(sim)
	defer srv.Close()
	b := manifest.Backup{Endpoint: srv.URL, Bucket: "acme-mail", AccessKeyID: "id", SecretAccessKey: "secret", EverySeconds: 3600, KeepSeconds: 86400}
	socket := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.layout.ControlSocket())
	}}}
	h.start()
	if code, text := h.ask(socket, "POST", "http://mailformd/v1/backup"); code != http.StatusUnprocessableEntity || !strings.Contains(text, "no backup block") {
		t.Errorf("without settings: %d %s", code, text)
	}
	h.manifest.Backup = &b
	h.writeManifest()
	_, err := h.control.Reload(t.Context())
	h.must(err)
	place, err := backup.NewPlace(backup.Config{Logger: slog.New(slog.DiscardHandler)}, b, "mx1")
	h.must(err)
	h.until("no backup is made by itself", func() bool {
		times, err := place.Times(t.Context())
		return err == nil && len(times) > 0
	})
	h.deliverToAlice("one more")
	code, text := h.ask(socket, "POST", "http://mailformd/v1/backup")
	if code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	newest, err := place.Newest(t.Context(), time.Time{})
	h.must(err)
	st, err := h.control.Status(t.Context())
	h.must(err)
	if !st.LastBackup.Equal(newest) {
		t.Errorf("status tells of %v, the newest is of %v", st.LastBackup, newest)
	}

	dir := filepath.Join(t.TempDir(), "elsewhere")
	_, err = place.Restore(t.Context(), newest, dir, backup.Owner{})
	h.must(err)
	l, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	h.must(err)
	defer l.Close()
	original := h.store
	want := h.inbox("alice@example.com")
	h.store = l
	if got := h.inbox("alice@example.com"); len(want) != 1 || !slices.Equal(got, want) {
		t.Errorf("restored %q, want %q", got, want)
	}
	h.store = original
	if _, err := os.Stat(filepath.Join(dir, "credentials.json")); err != nil {
		t.Error(err)
	}
}

// The monitor writes about a certificate that ends soon, to a mailbox here;
// metrics follow the settings.
func TestMonitor(t *testing.T) {
	h := newHost(t)
	h.writeCertificate(5) // hours
	addr := freePort(t)
	h.manifest.Monitor = &manifest.Monitor{Alerts: []string{"alice@example.com"}, DiskFreePercent: 1, CertificateSeconds: 86400, Metrics: addr}
	h.writeManifest()
	h.start()
	h.until("no alert", func() bool { return len(h.inbox("alice@example.com")) > 0 })
	if text := h.inbox("alice@example.com")[0]; !strings.Contains(text, "certificate mail.example.com is about to end") || !strings.Contains(text, "Auto-Submitted: auto-generated") {
		t.Errorf("alert:\n%s", text)
	}
	st, err := h.control.Status(t.Context())
	h.must(err)
	if len(st.Alerts) != 1 || !strings.Contains(st.Alerts[0], "mail.example.com") {
		t.Errorf("alerts: %q", st.Alerts)
	}
	h.deliverToAlice("hello")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	code, text := h.ask(client, "GET", "http://"+addr+"/metrics")
	for _, want := range []string{
		"mailform_build_info{version=\"test\"} 1\n", "mailform_connections_total{service=\"smtp\"} 1\n", "mailform_connections_total{service=\"imaps\"} 0\n",
		"mailform_messages_received_total 1\n", "mailform_messages_submitted_total 0\n", "mailform_queue_messages 0\n",
		"mailform_condition{condition=\"certificate/mail.example.com\"} 1\n", "mailform_disk_free_bytes ", "mailform_store_bytes ",
		"mailform_certificate_remaining_seconds{certificate=\"mail.example.com\"} 1", // 17,9xx seconds
	} {
		if code != 200 || !strings.Contains(text, want) {
			t.Errorf("%d, no %q in\n%s", code, want, text)
		}
	}
	if strings.Contains(text, "mailform_backup_age_seconds") {
		t.Error("the age of a backup that there is none of")
	}
	h.manifest.Monitor.Metrics = ""
	h.writeManifest()
	_, err = h.control.Reload(t.Context())
	h.must(err)
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("metrics are still served")
	}
}

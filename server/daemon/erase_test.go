package daemon

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailform/server/account"
	"mailform/server/imap/summary"
	"mailform/server/manifest"
	"mailform/server/search"
	"mailform/server/store"
)

// TestErase: a mailbox that is not served any more goes with its indexes, one that
// is served is refused, and the report says until when backups may have it.
func TestErase(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "store"), store.Options{ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	d := &daemon{cfg: Config{Now: func() time.Time { return now }}, log: slog.New(slog.DiscardHandler), store: st}
	m := &manifest.Manifest{Backup: &manifest.Backup{KeepSeconds: 3600}, Domains: []manifest.Domain{{Name: "acme.example", Mailboxes: []manifest.Mailbox{{Local: "alice"}}}}}
	directory, err := account.NewDirectory(m, &manifest.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	d.state.Store(&state{manifest: m, directory: directory})
	d.search.Store(search.NewIndexer(search.Config{Store: st, Dir: filepath.Join(dir, "search"), Logger: d.log}))
	d.sums.Store(summary.NewKeeper(summary.Config{Store: st, Dir: filepath.Join(dir, "summary"), Logger: d.log}))
	const alice, bob = "alice@acme.example", "bob@acme.example"
	for _, a := range []string{alice, bob} {
		if err := st.EnsureAccount(ctx, a, 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := st.Append(ctx, a, "INBOX", strings.NewReader("Subject: x\r\n\r\ny\r\n"), 17, nil, now); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"search", "summary"} {
			if err := os.MkdirAll(filepath.Join(dir, kind, a), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, kind, a, "file"), []byte("words"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/store/erase", d.eraseNow)
	ask := func(account string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/store/erase?account="+account, nil))
		return w
	}
	if w := ask(alice); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "in use") {
		t.Errorf("a mailbox that is served: %d %s", w.Code, w.Body)
	}
	w := ask(bob)
	var e manifest.Erased
	if err := manifest.Decode(w.Body, &e); err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	if !e.Clean || e.Messages != 1 || e.Indexes != 5 || !e.BackupsUntil.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v", e)
	}
	for _, kind := range []string{"search", "summary"} {
		for a, want := range map[string]bool{alice: true, bob: false} {
			if _, err := os.Stat(filepath.Join(dir, kind, a)); (err == nil) != want {
				t.Errorf("%s of %s is there: %t", kind, a, err == nil)
			}
		}
	}
	if _, n, err := st.Usage(ctx, alice); err != nil || n != 1 {
		t.Errorf("alice has %d messages, %v", n, err)
	}
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"mailform/server/manifest"
	"mailform/server/store"
)

// QueueItem is an entry of the outbound queue as GET /v1/queue tells it.
type QueueItem struct {
	ID         string    `json:"id"`
	From       string    `json:"from"`
	Recipients []string  `json:"recipients"`
	Domain     string    `json:"domain"`
	Account    string    `json:"account,omitempty"`
	Size       int64     `json:"size"`
	Queued     time.Time `json:"queued"`
	Attempts   int       `json:"attempts"`
	NextTry    time.Time `json:"next_try"`
	LastError  string    `json:"last_error,omitempty"`
	Hold       bool      `json:"hold,omitempty"`
}

// maxSocketPath is what fits into sockaddr_un, unix(7).
const maxSocketPath = 107

// listenControl opens the control socket. One that another daemon answers on is
// left alone.
func listenControl(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("%s has %d octets, a socket's path may have %d: choose a shorter MAILFORM_ROOT", path, len(path), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("another mailformd answers on %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func (d *daemon) control() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		d.answerStatus(r.Context(), w)
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		if err := d.reload(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		d.answerStatus(r.Context(), w)
	})
	mux.HandleFunc("POST /v1/look", func(w http.ResponseWriter, r *http.Request) {
		if _, err := d.reach.again(r.Context()); err != nil {
			return // nobody waits for the answer any more
		}
		d.answerStatus(r.Context(), w)
	})
	mux.HandleFunc("POST /v1/lift", func(w http.ResponseWriter, r *http.Request) {
		addr, err := netip.ParseAddr(r.FormValue("address"))
		if err != nil {
			http.Error(w, "the address cannot be read", http.StatusBadRequest)
			return
		}
		d.auth.lift(addr)
		d.answerStatus(r.Context(), w)
	})
	mux.HandleFunc("POST /v1/backup", d.backupNow)
	mux.HandleFunc("POST /v1/store/erase", d.eraseNow)
	mux.HandleFunc("GET /v1/queue", func(w http.ResponseWriter, r *http.Request) {
		entries, err := d.store.Queue(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		d.answer(w, queueItems(entries))
	})
	d.transfers(mux)
	d.keeping(mux)
	return &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second}
}

func queueItems(entries []store.QueueEntry) []QueueItem {
	items := make([]QueueItem, 0, len(entries))
	for _, e := range entries {
		items = append(items, QueueItem{ID: e.ID, From: e.From, Recipients: e.Recipients, Domain: e.Domain, Account: e.Account,
			Size: e.Size, Queued: e.Queued, Attempts: e.Attempts, NextTry: e.NextTry, LastError: e.LastError, Hold: e.Hold})
	}
	return items
}

func (d *daemon) answerStatus(ctx context.Context, w http.ResponseWriter) {
	st, err := d.status(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	d.answer(w, st)
}

func (d *daemon) answer(w http.ResponseWriter, v any) {
	text, err := manifest.Encode(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}

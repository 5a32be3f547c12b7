package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"mailform/server/store"
	"mailform/server/transfer"
)

// transferTime bounds one batch of an import; the socket is on this machine.
const transferTime = 10 * time.Minute

// transfers adds what moves mail into accounts and out of them.
func (d *daemon) transfers(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/accounts/{account}/imported", func(w http.ResponseWriter, r *http.Request) {
		answered := false
		err := transfer.Imported(r.Context(), d.store, r.PathValue("account"), func(id string) error {
			answered = true
			_, err := io.WriteString(w, id+"\n")
			return err
		})
		d.transferred(w, r, answered, err)
	})
	mux.HandleFunc("POST /v1/accounts/{account}/imports", func(w http.ResponseWriter, r *http.Request) {
		account := r.PathValue("account")
		if _, _, err := d.store.Usage(r.Context(), account); err != nil {
			d.transferred(w, r, false, err)
			return
		}
		w.Header().Set(importHeader, d.imports.begin(account))
	})
	mux.HandleFunc("POST /v1/accounts/{account}/import", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(transferTime)) // else the server's shorter one holds
		account := r.PathValue("account")
		d.transferred(w, r, false, transfer.Receive(r.Context(), d.store, account, r.Body, func(store func() error) error {
			return d.imports.commit(account, r.Header.Get(importHeader), store)
		}))
	})
	mux.HandleFunc("GET /v1/accounts/{account}/export", func(w http.ResponseWriter, r *http.Request) {
		account := r.PathValue("account")
		if _, _, err := d.store.Usage(r.Context(), account); err != nil {
			d.transferred(w, r, false, err)
			return
		}
		d.transferred(w, r, true, transfer.Send(r.Context(), d.store, account, w))
	})
}

// transferred ends an answer. When octets have gone out already it is broken
// off, so that nobody takes it for whole.
func (d *daemon) transferred(w http.ResponseWriter, r *http.Request, begun bool, err error) {
	if err == nil {
		return
	}
	d.log.Warn("transfer", "request", r.URL.Path, "err", err)
	if begun {
		panic(http.ErrAbortHandler)
	}
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, store.ErrFull):
		status = http.StatusInsufficientStorage
	case errors.Is(err, store.ErrNoMailbox):
		status = http.StatusNotFound
	case errors.Is(err, errOtherImport):
		status = http.StatusConflict
	case errors.Is(err, errUnknownImport):
		status = http.StatusPreconditionFailed
	case errors.Is(err, store.ErrQuota):
		status = http.StatusRequestEntityTooLarge
	}
	http.Error(w, err.Error(), status)
}

// ControlClient reaches a running mailformd's control socket.
func ControlClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
}

// importHeader names an import in its requests.
const importHeader = "Mailform-Import"

var (
	errOtherImport   = errors.New("another import into this mailbox has begun since")
	errUnknownImport = errors.New("the server was started anew since the import began")
)

// imports are those under way: of each account the one that began last. A batch of one
// before it, which its dead process may have left behind, must not be stored any more.
type imports struct {
	mu   sync.Mutex
	runs map[string]*importRun
}

type importRun struct {
	mu   sync.Mutex // held while a batch is stored
	name string
}

func (i *imports) run(account string, begins bool) *importRun {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.runs[account] == nil && begins {
		if i.runs == nil {
			i.runs = map[string]*importRun{}
		}
		i.runs[account] = &importRun{}
	}
	return i.runs[account]
}

// begin waits for a batch that is being stored, and names a new import.
func (i *imports) begin(account string) string {
	r := i.run(account, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.name = rand.Text()
	return r.name
}

// commit stores a batch of the import called name.
func (i *imports) commit(account, name string, store func() error) error {
	r := i.run(account, false)
	if r == nil {
		return errUnknownImport
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.name != name {
		return errOtherImport
	}
	return store()
}

// Transfers is the transfer.Server behind a control socket, for one import at a time.
type Transfers struct {
	Client *http.Client
	run    string // the import's name
}

// AwayError says that mailformd cannot be asked now: it may be back soon.
type AwayError struct{ Err error }

func (e *AwayError) Error() string { return e.Err.Error() }

func (e *AwayError) Unwrap() error { return e.Err }

// Begin implements transfer.Server.
func (t *Transfers) Begin(ctx context.Context, account string) error {
	res, err := t.do(ctx, http.MethodPost, account, "imports", nil, 0)
	if err != nil {
		return err
	}
	t.run = res.Header.Get(importHeader)
	return res.Body.Close()
}

// Imported implements transfer.Server.
func (t *Transfers) Imported(ctx context.Context, account string) ([]string, error) {
	res, err := t.do(ctx, http.MethodGet, account, "imported", nil, 0)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(res.Body)
	return strings.Fields(string(text)), errors.Join(err, res.Body.Close())
}

// Import implements transfer.Server.
func (t *Transfers) Import(ctx context.Context, account string, frames io.Reader, length int64) error {
	res, err := t.do(ctx, http.MethodPost, account, "import", frames, length)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// Export returns an account's frames, see transfer.Export.
func (t *Transfers) Export(ctx context.Context, account string) (io.ReadCloser, error) {
	res, err := t.do(ctx, http.MethodGet, account, "export", nil, 0)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (t *Transfers) do(ctx context.Context, method, account, what string, body io.Reader, length int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://mailformd/v1/accounts/"+url.PathEscape(account)+"/"+what, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	if t.run != "" {
		req.Header.Set(importHeader, t.run)
	}
	res, err := t.Client.Do(req)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the server may be asked by root only: %w", err)
	case err != nil && ctx.Err() == nil:
		return nil, &AwayError{fmt.Errorf("mailformd does not answer; is it running (systemctl status mailformd)? %w", err)}
	case err != nil:
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		why := strings.TrimSpace(string(text))
		switch res.StatusCode {
		case http.StatusNotFound:
			return nil, fmt.Errorf("there is no mailbox %s on this host: put it into the spec and apply first", account)
		case http.StatusPreconditionFailed:
			return nil, &AwayError{errors.New(why)}
		case http.StatusConflict:
			return nil, fmt.Errorf("%s: this one has stopped, the other goes on", why)
		case http.StatusRequestEntityTooLarge:
			return nil, fmt.Errorf("the mailbox is full: %s. Raise its quota in the spec and apply, or leave folders out with --map", why)
		case http.StatusInsufficientStorage:
			return nil, fmt.Errorf("the server's disk is full: %s. Make room (what is imported stays)", why)
		}
		return nil, fmt.Errorf("mailformd answered %s: %s", res.Status, why)
	}
	return res, nil
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
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
	mux.HandleFunc("POST /v1/accounts/{account}/import", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(transferTime)) // else the server's shorter one holds
		d.transferred(w, r, false, transfer.Receive(r.Context(), d.store, r.PathValue("account"), r.Body))
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
	}
	http.Error(w, err.Error(), status)
}

// ControlClient reaches a running mailformd's control socket.
func ControlClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
}

// Transfers is the transfer.Server behind a control socket.
type Transfers struct{ Client *http.Client }

// Imported implements transfer.Server.
func (t Transfers) Imported(ctx context.Context, account string) ([]string, error) {
	body, err := t.do(ctx, http.MethodGet, account, "imported", nil, 0)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(body)
	return strings.Fields(string(text)), errors.Join(err, body.Close())
}

// Import implements transfer.Server.
func (t Transfers) Import(ctx context.Context, account string, frames io.Reader, length int64) error {
	body, err := t.do(ctx, http.MethodPost, account, "import", frames, length)
	if err != nil {
		return err
	}
	return body.Close()
}

// Export returns an account's frames, see transfer.Export.
func (t Transfers) Export(ctx context.Context, account string) (io.ReadCloser, error) {
	return t.do(ctx, http.MethodGet, account, "export", nil, 0)
}

func (t Transfers) do(ctx context.Context, method, account, what string, body io.Reader, length int64) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://mailformd/v1/accounts/"+url.PathEscape(account)+"/"+what, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	res, err := t.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("mailformd does not answer; is it running? %w", err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		if res.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("there is no mailbox %s on this host: put it into the spec and apply first", account)
		}
		return nil, fmt.Errorf("mailformd answered %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	return res.Body, nil
}

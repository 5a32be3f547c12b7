package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"mailform/server/manifest"
)

// Daemon is the running mailformd.
type Daemon interface {
	Status(context.Context) (manifest.Status, error)
	// Reload makes the daemon read manifest, credentials, certificates and keys again.
	Reload(context.Context) (manifest.Status, error)
	// Look makes the daemon look now at its way to other servers, and waits for it.
	Look(context.Context) (manifest.Status, error)
	// Lift makes the daemon forget that a client guessed passwords.
	Lift(context.Context, netip.Addr) error
	// Erase makes the daemon erase the mail of a mailbox that is not served any more.
	Erase(ctx context.Context, address string) (manifest.Erased, error)
}

// Control is the Daemon behind a control socket.
type Control struct{ Socket string }

// Status implements Daemon.
func (c Control) Status(ctx context.Context) (manifest.Status, error) {
	return c.do(ctx, http.MethodGet, "/v1/status")
}

// Reload implements Daemon.
func (c Control) Reload(ctx context.Context) (manifest.Status, error) {
	return c.do(ctx, http.MethodPost, "/v1/reload")
}

// Look implements Daemon.
func (c Control) Look(ctx context.Context) (manifest.Status, error) {
	return c.do(ctx, http.MethodPost, "/v1/look")
}

// Lift implements Daemon.
func (c Control) Lift(ctx context.Context, a netip.Addr) error {
	_, err := c.do(ctx, http.MethodPost, "/v1/lift?address="+url.QueryEscape(a.String()))
	return err
}

// Erase implements Daemon. It takes as long as the store is large.
func (c Control) Erase(ctx context.Context, address string) (e manifest.Erased, err error) {
	err = c.ask(ctx, http.MethodPost, "/v1/store/erase?account="+url.QueryEscape(address), 0, &e)
	return e, err
}

func (c Control) do(ctx context.Context, method, path string) (s manifest.Status, err error) {
	err = c.ask(ctx, method, path, 30*time.Second, &s)
	return s, err
}

// ask puts a question to the daemon; without a timeout it waits as long as ctx lasts.
func (c Control) ask(ctx context.Context, method, path string, timeout time.Duration, into any) error {
	client := &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://mailformd"+path, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		return fmt.Errorf("mailformd answered %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	if err := manifest.Decode(res.Body, into); err != nil {
		return fmt.Errorf("mailformd's answer: %w", err)
	}
	return nil
}

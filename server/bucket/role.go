package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Metadata is where an instance of Alibaba Cloud asks about itself.
// https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
const Metadata = "http://100.100.100.200/latest/"

const (
	// renewBefore is how long before their end credentials are renewed: the service
	// has the next ones well before that.
	renewBefore = 5 * time.Minute
	// metadataTime bounds one question, which is answered on the same machine.
	metadataTime = 5 * time.Second
	tokenSeconds = "60"
)

// RoleConfig is what Role needs; its zero value is that of an instance.
type RoleConfig struct {
	URL  string       // "" for Metadata
	HTTP *http.Client // nil: a plain one without a proxy, which the service is never behind
	Now  func() time.Time
}

// ErrNoRole says that this machine has no role whose credentials it could use.
var ErrNoRole = errors.New("this machine has no RAM role that it could sign with")

// Role gives the credentials of the RAM role of the instance this runs on, for
// Config.Sign: it asks the metadata service, in its hardened mode with a token,
// and keeps them until shortly before their end. When asking again fails while
// they are still good, they are used. It is safe for concurrent use.
func Role(c RoleConfig) func(context.Context) (Credentials, error) {
	r := &role{RoleConfig: c}
	if r.URL == "" {
		r.URL = Metadata
	}
	if r.HTTP == nil {
		r.HTTP = &http.Client{
			Timeout:       metadataTime,
			Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: metadataTime / 2}).DialContext, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if r.Now == nil {
		r.Now = time.Now
	}
	return r.credentials
}

type role struct {
	RoleConfig
	mu    sync.Mutex
	have  Credentials
	until time.Time
}

func (r *role) credentials(ctx context.Context) (Credentials, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.Now()
	if now.Before(r.until.Add(-renewBefore)) {
		return r.have, nil
	}
	fresh, until, err := r.ask(ctx)
	if err != nil {
		if now.Before(r.until) {
			return r.have, nil
		}
		return Credentials{}, fmt.Errorf("ask %s for the credentials of the instance's RAM role: %w", r.URL, err)
	}
	r.have, r.until = fresh, until
	return fresh, nil
}

func (r *role) ask(ctx context.Context) (Credentials, time.Time, error) {
	const where = "meta-data/ram/security-credentials/"
	token, err := r.get(ctx, http.MethodPut, "api/token", "X-aliyun-ecs-metadata-token-ttl-seconds", tokenSeconds)
	if err != nil {
		return Credentials{}, time.Time{}, err
	}
	names, err := r.get(ctx, http.MethodGet, where, "X-aliyun-ecs-metadata-token", string(token))
	if err != nil {
		return Credentials{}, time.Time{}, err
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(names)), "\n")
	if name == "" {
		return Credentials{}, time.Time{}, ErrNoRole
	}
	text, err := r.get(ctx, http.MethodGet, where+url.PathEscape(name), "X-aliyun-ecs-metadata-token", string(token))
	if err != nil {
		return Credentials{}, time.Time{}, err
	}
	return readRole(text)
}

func (r *role) get(ctx context.Context, method, path, header, value string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(header, value)
	resp, err := r.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	case http.StatusNotFound:
		return nil, ErrNoRole
	}
	return nil, fmt.Errorf("%s: status %d", path, resp.StatusCode)
}

// readRole reads the service's answer. Its errors quote nothing.
func readRole(text []byte) (Credentials, time.Time, error) {
	var a struct {
		AccessKeyId, AccessKeySecret, SecurityToken string
		Expiration                                  time.Time
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return Credentials{}, time.Time{}, errors.New("the answer holds no credentials")
	}
	if a.AccessKeyId == "" || a.AccessKeySecret == "" || a.SecurityToken == "" || a.Expiration.IsZero() {
		return Credentials{}, time.Time{}, errors.New("the answer holds no complete credentials")
	}
	return Credentials{a.AccessKeyId, a.AccessKeySecret, a.SecurityToken}, a.Expiration, nil
}

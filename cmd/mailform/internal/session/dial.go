package session

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/proxy"
)

// DialFunc opens a connection; addr is host:port.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// connectTimeout bounds one TCP connection attempt.
const connectTimeout = 15 * time.Second

// Dialer gives the dialer for everything that is not HTTP: SSH and the checks of
// the mail ports. It honours ALL_PROXY and NO_PROXY, as people behind a bastion expect.
func Dialer(getenv func(string) string) (DialFunc, error) {
	direct := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}
	value := first(getenv("ALL_PROXY"), getenv("all_proxy"))
	if value == "" {
		return direct.DialContext, nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("ALL_PROXY is not a proxy URL such as socks5h://127.0.0.1:1080")
	}
	through, err := proxy.FromURL(u, direct)
	if err != nil {
		return nil, fmt.Errorf("ALL_PROXY %s://%s: %w", u.Scheme, u.Host, err)
	}
	perHost := proxy.NewPerHost(through, direct)
	perHost.AddFromString(first(getenv("NO_PROXY"), getenv("no_proxy")))
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		return perHost.DialContext(ctx, network, addr)
	}, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v = strings.TrimSpace(v); v != "" {
			return v
		}
	}
	return ""
}

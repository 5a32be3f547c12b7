package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"golang.org/x/net/proxy"
)

// Dial connects to another host.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Dialer returns how to connect to other hosts: directly, or through the SOCKS5
// proxy that ALL_PROXY names, but for what NO_PROXY lists.
func Dialer(getenv func(string) string) (Dial, error) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	direct := &net.Dialer{KeepAlive: 30 * time.Second}
	text := first("ALL_PROXY", "all_proxy")
	if text == "" {
		return direct.DialContext, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("ALL_PROXY is not a URL") // its text may hold a password
	}
	through, err := proxy.FromURL(u, direct)
	if err != nil {
		return nil, fmt.Errorf("ALL_PROXY: %w", err)
	}
	per := proxy.NewPerHost(through, direct)
	per.AddFromString(first("NO_PROXY", "no_proxy"))
	return per.DialContext, nil
}

// Roots returns the authorities that verify a relay's certificate: the
// system's, and those of the PEM file bundle unless that is "".
func Roots(bundle string) (*x509.CertPool, error) {
	if bundle == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	text, err := os.ReadFile(bundle)
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", bundle)
	}
	return pool, nil
}

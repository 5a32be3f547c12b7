// Package acmesim is a certificate authority on loopback: the packages of Let's
// Encrypt's Pebble, run in this process. Challenges are validated for real,
// against the DNS server it is given.
//
// It is product code: rehearsals, demos and tests use it. It imports no other
// package of mailform. Pebble reads two settings from the environment only, so New
// sets PEBBLE_VA_NOSLEEP (unless it is set already) and, when
// Config.RejectNonces asks for it, PEBBLE_WFE_NONCEREJECT for the whole process.
package acmesim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// Config describes the authority.
type Config struct {
	// ResolverAddr is the host:port of the DNS server (over TCP) against which
	// challenges are validated. "" is the system's resolver.
	ResolverAddr string
	// Addr is where the API listens; "" means 127.0.0.1 with any port.
	Addr string
	// Log gets Pebble's log; nil discards it.
	Log io.Writer
	// Validity of issued certificates; 0 means 90 days.
	Validity time.Duration
	// Refuse lists names for which no certificate is issued.
	Refuse []string
	// RejectNonces is the percentage of good nonces that are refused, to keep
	// clients honest: 0 means Pebble's own 5, a negative number none.
	RejectNonces int
	// AccountKeys makes the authority insist on accounts bound to one made on its web
	// site (RFC 8555 7.3.4): MAC keys, base64url, by key identifier. nil wants none.
	AccountKeys map[string]string
	// Issuers are its names in CAA records, as its directory tells them. Pebble does not
	// look at CAA records. nil means "ca.example".
	Issuers []string
	// AskAgain is how soon it wants to be asked again about a renewal (RFC 9773 4.3):
	// 0 means Pebble's own six hours.
	AskAgain time.Duration
	// Intercept may answer a request itself, to make the authority misbehave. It
	// returns true when it has, and is asked about one request at a time.
	Intercept func(http.ResponseWriter, *http.Request) bool
}

// Server is a running authority.
type Server struct {
	listener net.Listener
	http     *http.Server
	handler  http.Handler
	roots    []byte
	store    *db.MemoryStore
	counter  counter
	accounts sync.Mutex // held while one is made
}

// New starts an authority with keys of its own. Pebble has goroutines that end
// only with the process; they are idle once the server is closed.
func New(cfg Config) (*Server, error) {
	if os.Getenv("PEBBLE_VA_NOSLEEP") == "" {
		os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	}
	if cfg.RejectNonces != 0 {
		os.Setenv("PEBBLE_WFE_NONCEREJECT", strconv.Itoa(max(cfg.RejectNonces, 0)))
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	if cfg.Issuers == nil {
		cfg.Issuers = []string{"ca.example"}
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	logger := log.New(cfg.Log, "acme ca: ", 0)
	store := db.NewMemoryStore()
	for _, name := range cfg.Refuse {
		if err := store.AddBlockedDomain(name); err != nil {
			return nil, fmt.Errorf("simulated CA: %w", err)
		}
	}
	for id, key := range cfg.AccountKeys {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			return nil, fmt.Errorf("simulated CA: %w", err)
		}
	}
	authority := ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "The default profile", ValidityPeriod: uint64(cfg.Validity / time.Second)},
	})
	// The ports are those of HTTP-01 and TLS-ALPN-01, which nobody here uses.
	validator := va.New(logger, 80, 443, false, cfg.ResolverAddr, store)
	front := wfe.New(logger, store, validator, authority, cfg.Issuers, false, cfg.AccountKeys != nil, 0, 0)

	root := authority.GetRootCert(0)
	if root == nil {
		return nil, errors.New("simulated CA: it has no root")
	}
	api, apiRoot, err := apiCertificate()
	if err != nil {
		return nil, fmt.Errorf("simulated CA: %w", err)
	}
	s := &Server{store: store}
	s.handler = s.front(front.Handler(), front.ManagementHandler(), cfg.AskAgain)
	if cfg.Intercept != nil {
		pebble := s.handler
		var asking sync.Mutex
		answered := func(w http.ResponseWriter, r *http.Request) bool {
			asking.Lock()
			defer asking.Unlock()
			return cfg.Intercept(w, r)
		}
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !answered(w, r) {
				pebble.ServeHTTP(w, r)
			}
		})
	}
	s.roots = bytes.Join([][]byte{encode(apiRoot), encode(root.DER)}, nil)
	if s.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
		return nil, fmt.Errorf("simulated CA: %w", err)
	}
	s.http = &http.Server{
		Handler:           s.handler,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{api}, MinVersion: tls.VersionTLS12},
		ErrorLog:          logger,
		ReadHeaderTimeout: 10 * time.Second,
	}
	go s.http.ServeTLS(s.listener, "", "")
	return s, nil
}

// DirectoryURL is where an ACME client begins (RFC 8555 7.1.1).
func (s *Server) DirectoryURL() string {
	return "https://" + s.listener.Addr().String() + wfe.DirectoryPath
}

// RootsPEM has two certificates: the root of the API's own certificate and the
// root of those it issues.
func (s *Server) RootsPEM() []byte { return bytes.Clone(s.roots) }

// Handler is the API without TLS.
func (s *Server) Handler() http.Handler { return s.handler }

// Close stops the API and cuts its connections.
func (s *Server) Close() error { return s.http.Close() }

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// apiCertificate makes a root and a server certificate for the API.
func apiCertificate() (server tls.Certificate, root []byte, err error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return server, nil, err
	}
	from, to := time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Simulated CA API Root"},
		NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if root, err = x509.CreateCertificate(rand.Reader, ca, ca, rootKey.Public(), rootKey); err != nil {
		return server, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return server, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: from, NotAfter: to,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), rootKey)
	if err != nil {
		return server, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, root, nil
}

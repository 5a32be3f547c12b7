package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"mailform/server/manifest"
)

// certificates are those on the host. The one of the host's name answers for
// every name that no other has, and clients that name none.
type certificates struct {
	host   *tls.Certificate // nil while there is none
	byName map[string][]*tls.Certificate
}

// readCertificates reads the certificate called name and all beside it. With an
// error it returns those that could be read.
func readCertificates(l manifest.Layout, name string) (certificates, error) {
	c := certificates{byName: map[string][]*tls.Certificate{}}
	var errs []error
	add := func(name string) *tls.Certificate {
		cert, err := readCertificate(l, name)
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		if cert != nil {
			for _, n := range cert.Leaf.DNSNames {
				n = strings.ToLower(n)
				c.byName[n] = append(c.byName[n], cert)
			}
		}
		return cert
	}
	c.host = add(name)
	entries, err := os.ReadDir(l.TLSDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries { // the agent installs a folder by linking to it
		if e.Type()&(fs.ModeDir|fs.ModeSymlink) != 0 && e.Name() != name && manifest.ValidName(e.Name()) {
			add(e.Name())
		}
	}
	return c, errors.Join(errs...)
}

// choose returns the certificate for a handshake: one with the name that the
// client wants and that it can verify; nil when there is none at all.
func (c certificates) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	_, parent, _ := strings.Cut(name, ".")
	for _, n := range []string{name, "*." + parent} {
		for _, cert := range c.byName[n] {
			if hello.SupportsCertificate(cert) == nil {
				return cert
			}
		}
	}
	return c.host
}

// readCertificate reads the certificate called name; nil when it was not made yet.
func readCertificate(l manifest.Layout, name string) (*tls.Certificate, error) {
	chain, err := os.ReadFile(l.CertChain(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(l.CertKey(name))
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	if cert.Leaf == nil {
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", name, err)
		}
	}
	return &cert, nil
}

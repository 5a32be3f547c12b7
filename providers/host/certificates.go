package host

import (
	"context"
	"encoding/json"
	"strings"

	"mailform/server/manifest"
)

// CertificateRequest makes a TLS key on the host and returns a PEM certificate
// signing request for it. name is the certificate's name, keyType "ecdsa256" or
// "rsa2048". Asking again before InstallCertificate gives the same key. With
// keepKey it is the key in use, if that is of this type.
func (p *Provider) CertificateRequest(ctx context.Context, host, name string, names []string, keyType string, keepKey bool) ([]byte, error) {
	return p.commandAt(ctx, host, "make a key for "+strings.Join(names, ", "), "csr", func(c manifest.Claim) any {
		return manifest.CSRRequest{Claim: c, Name: name, Names: names, Key: keyType, KeepKey: keepKey}
	})
}

// InstallCertificate installs a PEM chain, leaf first, for the key of the last
// CertificateRequest (or the one in use), and makes a running server serve it.
// meta["directory"] is the ACME directory it came from.
func (p *Provider) InstallCertificate(ctx context.Context, host, name string, chainPEM []byte, meta map[string]string) error {
	_, err := p.commandAt(ctx, host, "install the certificate "+name, "install-cert", func(c manifest.Claim) any {
		return manifest.CertRequest{Claim: c, Name: name, Chain: string(chainPEM), Meta: meta}
	})
	return err
}

// RemoveCertificate takes a certificate and its key off a host.
func (p *Provider) RemoveCertificate(ctx context.Context, host, name string) error {
	_, err := p.commandAt(ctx, host, "remove the certificate "+name, "remove-cert", func(c manifest.Claim) any {
		return manifest.CertRemoval{Claim: c, Name: name}
	})
	return err
}

// Certificates returns what the last observation found on a host; false when
// the host was not observed or has no mailformd.
func (p *Provider) Certificates(host string) ([]manifest.Certificate, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.facts[host]
	if !ok || f.Owner == nil || f.Owner.Stack != p.Stack {
		return nil, false
	}
	return f.Certificates, true
}

// AccountKey returns the PEM private key of the ACME account for a directory,
// which lives on the host.
func (p *Provider) AccountKey(ctx context.Context, host, directory string) ([]byte, error) {
	return p.commandAt(ctx, host, "fetch the ACME account key", "acme-account", func(c manifest.Claim) any {
		return manifest.AccountRequest{Claim: c, Directory: directory}
	})
}

// Order returns where the CA of a directory keeps the order for a certificate that
// is being asked for, "" without one.
func (p *Provider) Order(ctx context.Context, host, name, directory string) (string, error) {
	return p.order(ctx, host, "look for an order for the certificate "+name, manifest.OrderRequest{Name: name, Directory: directory})
}

// KeepOrder writes down on the host where the CA keeps the order for a certificate.
func (p *Provider) KeepOrder(ctx context.Context, host, name, directory, location string) error {
	_, err := p.order(ctx, host, "write down the order for the certificate "+name,
		manifest.OrderRequest{Name: name, Directory: directory, Location: location})
	return err
}

func (p *Provider) order(ctx context.Context, host, step string, req manifest.OrderRequest) (string, error) {
	t, err := p.target(host)
	if err != nil {
		return "", err
	}
	out, err := p.command(ctx, t, step, "acme-order", func(c manifest.Claim) any {
		req.Claim = c
		return req
	})
	if err != nil {
		return "", err
	}
	var kept manifest.Order
	if err := json.Unmarshal(out, &kept); err != nil {
		return "", badAnswer(t, "acme-order", err)
	}
	return kept.Location, nil
}

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
	t, err := p.target(host)
	if err != nil {
		return nil, err
	}
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return nil, err
	}
	return p.agent(ctx, t, "make a key for "+strings.Join(names, ", "), paths.Binary(), "csr",
		manifest.CSRRequest{Claim: claim, Name: name, Names: names, Key: keyType, KeepKey: keepKey}, nil)
}

// InstallCertificate installs a PEM chain, leaf first, for the key of the last
// CertificateRequest (or the one in use), and makes a running server serve it.
// meta["directory"] is the ACME directory it came from.
func (p *Provider) InstallCertificate(ctx context.Context, host, name string, chainPEM []byte, meta map[string]string) error {
	t, err := p.target(host)
	if err != nil {
		return err
	}
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return err
	}
	_, err = p.agent(ctx, t, "install the certificate "+name, paths.Binary(), "install-cert",
		manifest.CertRequest{Claim: claim, Name: name, Chain: string(chainPEM), Meta: meta}, nil)
	return err
}

// RemoveCertificate takes a certificate and its key off a host.
func (p *Provider) RemoveCertificate(ctx context.Context, host, name string) error {
	t, err := p.target(host)
	if err != nil {
		return err
	}
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return err
	}
	_, err = p.agent(ctx, t, "remove the certificate "+name, paths.Binary(), "remove-cert", manifest.CertRemoval{Claim: claim, Name: name}, nil)
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
	t, err := p.target(host)
	if err != nil {
		return nil, err
	}
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return nil, err
	}
	return p.agent(ctx, t, "fetch the ACME account key", paths.Binary(), "acme-account",
		manifest.AccountRequest{Claim: claim, Directory: directory}, nil)
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
	if req.Claim, err = p.claimNow(ctx, t); err != nil {
		return "", err
	}
	out, err := p.agent(ctx, t, step, paths.Binary(), "acme-order", req, nil)
	if err != nil {
		return "", err
	}
	var kept manifest.Order
	if err := json.Unmarshal(out, &kept); err != nil {
		return "", badAnswer(t, "acme-order", err)
	}
	return kept.Location, nil
}

// NewPassword gives a mailbox a new password, made on its host, and returns it.
// The host must have been observed.
func (p *Provider) NewPassword(ctx context.Context, host, mailbox string) (string, error) {
	t, err := p.target(host)
	if err != nil {
		return "", err
	}
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return "", err
	}
	b, err := p.agent(ctx, t, "make a password for "+mailbox, paths.Binary(), "new-password", manifest.PasswordRequest{Claim: claim, Address: mailbox}, nil)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", badAnswer(t, "new-password", nil)
	}
	return text, nil
}

// EraseMailbox erases the mail of a removed mailbox on the host that keeps it. Like
// NewPassword it needs an observation first.
func (p *Provider) EraseMailbox(ctx context.Context, host, mailbox string) (manifest.Erased, error) {
	var out manifest.Erased
	t, err := p.target(host)
	if err != nil {
		return out, err
	}
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return out, err
	}
	b, err := p.agent(ctx, t, "erase "+mailbox, paths.Binary(), "erase-mailbox", manifest.EraseRequest{Claim: claim, Address: mailbox}, nil)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil || out.Account != mailbox {
		return out, badAnswer(t, "erase-mailbox", err)
	}
	return out, nil
}

// RestoreMailbox puts a removed mailbox back on the host that keeps its mail. Like
// NewPassword it needs an observation first.
func (p *Provider) RestoreMailbox(ctx context.Context, host, mailbox string) (manifest.Restored, error) {
	var out manifest.Restored
	t, err := p.target(host)
	if err != nil {
		return out, err
	}
	claim, err := p.claimNow(ctx, t)
	if err != nil {
		return out, err
	}
	b, err := p.agent(ctx, t, "restore "+mailbox, paths.Binary(), "restore-mailbox", manifest.RestoreRequest{Claim: claim, Address: mailbox}, nil)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil || out.Mailbox.Local == "" {
		return out, badAnswer(t, "restore-mailbox", err)
	}
	return out, nil
}

// Retained are the removed mailboxes whose mail the hosts keep, by host, as last
// observed.
func (p *Provider) Retained() map[string][]manifest.Retained {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]manifest.Retained{}
	for host, f := range p.facts {
		if f.Owner != nil && f.Owner.Stack == p.Stack {
			out[host] = f.Retained
		}
	}
	return out
}

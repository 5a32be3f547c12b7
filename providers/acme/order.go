package acme

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"mailform/plan"
)

const userAgent = "mailform"

// How long the CA may take over one thing (a validation, an issue), and how long
// taking down the challenge records may.
const (
	patience       = 3 * time.Minute
	cleanUpTimeout = 30 * time.Second
	challengeLabel = "_acme-challenge."
)

// obtain gets a certificate for a signing request: account, order, proofs, issue
// (RFC 8555 7.1). It leaves no challenge record behind, whatever happens.
func (p *Provider) obtain(ctx context.Context, op plan.Op, host string, names []string, progress plan.Progress) (chain []byte, renewalInfo string, err error) {
	csr, err := parseRequest([]byte(op.Inputs["csr"].Str()), names)
	if err != nil {
		return nil, "", p.failure(op.Title, err)
	}
	directory := op.Inputs["directory"].Str()
	keyPEM, err := p.cfg.Hosts.AccountKey(ctx, host, directory)
	if err != nil {
		return nil, "", err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, "", p.failure("read the ACME account key of "+host, err)
	}
	o := &order{p: p, names: names, replaces: op.Inputs["replaces"].Str(), progress: progress}
	progress("asking "+hostOf(directory), 0, 0)
	if o.core, err = p.connect(ctx, directory, key); err != nil {
		return nil, "", p.failure("register at the CA", err)
	}
	if err := o.prove(ctx); err != nil {
		return nil, "", p.failure(op.Title, err)
	}
	if chain, err = o.issue(ctx, csr); err != nil {
		return nil, "", p.failure(op.Title, err)
	}
	leaf, err := parseChain(chain)
	if err != nil {
		return nil, "", p.failure(op.Title, err)
	}
	return chain, o.renewalInfo(leaf, directory), nil
}

// connect reads the directory and makes sure of the account. Registering a key
// that has an account already gives that account (RFC 8555 7.3.1).
func (p *Provider) connect(ctx context.Context, directory string, key crypto.Signer) (*api.Core, error) {
	u, err := url.Parse(directory)
	if err != nil {
		return nil, err
	}
	// lego insists on https, and rightly so; a simulated CA may speak plain HTTP.
	transport := &boundTransport{ctx: ctx, next: p.cfg.Transport}
	if u.Scheme == "http" {
		transport.plain = u.Host
		u.Scheme = "https"
	}
	core, err := api.New(&http.Client{Transport: transport, Timeout: time.Minute}, userAgent, u.String(), "", key)
	if err != nil {
		return nil, err
	}
	account := acme.Account{TermsOfServiceAgreed: true}
	if p.cfg.Contact != "" {
		account.Contact = []string{"mailto:" + p.cfg.Contact}
	}
	if _, err := core.Accounts.New(account); err != nil {
		return nil, err
	}
	return core, nil
}

// boundTransport ties lego's requests, which know no context, to one.
type boundTransport struct {
	ctx   context.Context
	next  http.RoundTripper
	plain string // host:port that is spoken to without TLS; "" for none
}

func (t *boundTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(t.ctx, cancel)
	r = r.Clone(ctx)
	if t.plain != "" && r.URL.Host == t.plain {
		r.URL.Scheme = "http"
		r.Header.Set("X-Forwarded-Proto", "https") // so that it names its resources as it was asked
	}
	res, err := t.next.RoundTrip(r)
	if err != nil {
		stop()
		cancel()
		if t.ctx.Err() != nil {
			return nil, t.ctx.Err()
		}
		return nil, err
	}
	res.Body = &boundBody{ReadCloser: res.Body, done: func() { stop(); cancel() }}
	return res, nil
}

type boundBody struct {
	io.ReadCloser
	done func()
}

func (b *boundBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

// order is one certificate on its way.
type order struct {
	p        *Provider
	core     *api.Core
	names    []string
	replaces string // the certificate it replaces (RFC 9773 5); "" for none
	progress plan.Progress

	location string
	now      acme.Order
}

// proof is one name's challenge.
type proof struct {
	authorization string // URL
	name          string
	challenge     acme.Challenge
	fqdn, value   string
}

// prove makes an order and gets all its names authorized. The CA reuses what was
// proved lately, so an order after a crash usually has nothing to prove.
func (o *order) prove(ctx context.Context) (err error) {
	made, err := o.create()
	if err != nil {
		return err
	}
	o.location, o.now = made.Location, made.Order
	var proofs []proof
	for _, u := range o.now.Authorizations {
		authz, err := o.core.Authorizations.Get(u)
		if err != nil {
			return err
		}
		switch authz.Status {
		case acme.StatusValid:
			continue
		case acme.StatusPending:
		default:
			return fmt.Errorf("the CA's authorization for %s is %s", authz.Identifier.Value, authz.Status)
		}
		pr, err := o.proofFor(u, authz)
		if err != nil {
			return err
		}
		proofs = append(proofs, pr)
	}
	if len(proofs) == 0 {
		return nil
	}
	// What may have been put up is taken down even when we are being stopped.
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		for _, pr := range proofs {
			if e := o.p.cfg.Challenger.CleanUp(clean, pr.fqdn, pr.value); e != nil && err == nil {
				o.progress(fmt.Sprintf("the challenge record %s could not be taken down; the next plan deletes it (%v)", pr.fqdn, e), 0, 0)
			}
		}
	}()
	for i, pr := range proofs {
		o.progress("putting up the challenge record for "+pr.name, int64(i), int64(len(proofs)))
		if err := o.p.cfg.Challenger.Present(ctx, pr.fqdn, pr.value); err != nil {
			return err
		}
	}
	for _, pr := range proofs {
		if err := o.p.visible.wait(ctx, pr.fqdn, pr.value, o.progress); err != nil {
			return err
		}
	}
	for _, pr := range proofs {
		if _, err := o.core.Challenges.New(pr.challenge.URL); err != nil {
			return err
		}
	}
	for _, pr := range proofs {
		o.progress("the CA is checking "+pr.name, 0, 0)
		if err := o.validated(ctx, pr); err != nil {
			return err
		}
	}
	return nil
}

// create makes the order. A CA that does not know the certificate it replaces, or
// has replaced it already, gets an order without that word: it only makes the
// order exempt from rate limits.
func (o *order) create() (acme.ExtendedOrder, error) {
	made, err := o.core.Orders.NewWithOptions(o.names, &api.OrderOptions{ReplacesCertID: o.replaces})
	var problem *acme.ProblemDetails
	if o.replaces == "" || !errors.As(err, &problem) || problem.HTTPStatus == http.StatusTooManyRequests || problem.Type == acme.BadNonceErr {
		return made, err
	}
	return o.core.Orders.New(o.names)
}

// renewalInfo is where the CA is asked when to renew the certificate, "" when it
// has no such service.
func (o *order) renewalInfo(leaf *x509.Certificate, directory string) string {
	ask := renewalURL(o.core.GetDirectory().RenewalInfo, leaf)
	if u, err := url.Parse(ask); err == nil && strings.HasPrefix(directory, "http://") {
		u.Scheme = "http" // a simulation's, whose URLs lego was given as https
		ask = u.String()
	}
	if !sameService(ask, directory) {
		return ""
	}
	return ask
}

// proofFor computes what the TXT record has to say (RFC 8555 8.4).
func (o *order) proofFor(authzURL string, authz acme.Authorization) (proof, error) {
	i := slices.IndexFunc(authz.Challenges, func(c acme.Challenge) bool { return c.Type == "dns-01" })
	if i < 0 {
		return proof{}, fmt.Errorf("the CA offers no dns-01 challenge for %s", authz.Identifier.Value)
	}
	keyAuth, err := o.core.GetKeyAuthorization(authz.Challenges[i].Token)
	if err != nil {
		return proof{}, err
	}
	sum := sha256.Sum256([]byte(keyAuth))
	return proof{
		authorization: authzURL, name: authz.Identifier.Value, challenge: authz.Challenges[i],
		fqdn:  challengeLabel + strings.TrimPrefix(authz.Identifier.Value, "*."),
		value: base64.RawURLEncoding.EncodeToString(sum[:]),
	}, nil
}

func (o *order) validated(ctx context.Context, pr proof) error {
	return o.poll(ctx, "validated "+pr.name, func() (bool, error) {
		authz, err := o.core.Authorizations.Get(pr.authorization)
		if err != nil {
			return false, err
		}
		switch authz.Status {
		case acme.StatusValid:
			return true, nil
		case acme.StatusPending, acme.StatusProcessing:
			return false, nil
		}
		for _, c := range authz.Challenges {
			if c.Error != nil {
				return false, c.Error
			}
		}
		return false, fmt.Errorf("the CA's authorization for %s is %s", pr.name, authz.Status)
	})
}

// issue sends the signing request and fetches the chain.
func (o *order) issue(ctx context.Context, csr *x509.CertificateRequest) ([]byte, error) {
	o.progress("the CA is issuing", 0, 0)
	refresh := func() error {
		got, err := o.core.Orders.Get(o.location)
		if err != nil {
			return err
		}
		o.now = got.Order
		if o.now.Status == acme.StatusInvalid {
			if o.now.Error != nil {
				return o.now.Error
			}
			return errors.New("the CA has declared the order invalid without saying why")
		}
		return nil
	}
	err := o.poll(ctx, "made the order ready", func() (bool, error) {
		if o.now.Status == acme.StatusPending {
			if err := refresh(); err != nil {
				return false, err
			}
		}
		return o.now.Status != acme.StatusPending, nil
	})
	if err != nil {
		return nil, err
	}
	if o.now.Status == acme.StatusReady {
		got, err := o.core.Orders.UpdateForCSR(o.now.Finalize, csr.Raw)
		if err != nil {
			return nil, err
		}
		o.now = got.Order
	}
	err = o.poll(ctx, "issued the certificate", func() (bool, error) {
		if o.now.Status != acme.StatusValid {
			if err := refresh(); err != nil {
				return false, err
			}
		}
		return o.now.Status == acme.StatusValid, nil
	})
	if err != nil {
		return nil, err
	}
	chain, _, err := o.core.Certificates.Get(o.now.Certificate, true)
	if err != nil {
		return nil, err
	}
	leaf, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	if err := fits(leaf, csr, o.names); err != nil {
		return nil, err
	}
	return chain, nil
}

// poll asks again, at growing intervals, until the CA is done.
func (o *order) poll(ctx context.Context, what string, f func() (bool, error)) error {
	wait := 100 * time.Millisecond
	for waited := time.Duration(0); ; waited += wait {
		if waited > 0 {
			wait = min(2*wait, 5*time.Second)
		}
		done, err := f()
		if done || err != nil {
			return err
		}
		if waited+wait > patience {
			return fmt.Errorf("the CA has not %s within %v", what, patience)
		}
		if err := o.p.cfg.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// fits checks that the CA certified what was asked for.
func fits(leaf *x509.Certificate, csr *x509.CertificateRequest, names []string) error {
	type comparable interface{ Equal(crypto.PublicKey) bool }
	if k, ok := leaf.PublicKey.(comparable); !ok || !k.Equal(csr.PublicKey) {
		return errors.New("the certificate is for another key than the one asked for")
	}
	for _, n := range names {
		if !slices.Contains(leaf.DNSNames, n) {
			return fmt.Errorf("the certificate does not name %s, only %s", n, strings.Join(leaf.DNSNames, ", "))
		}
	}
	return nil
}

// maxPEM bounds what is read as a chain, request or key.
const maxPEM = 1 << 20

// parseChain reads a PEM chain and returns its leaf.
func parseChain(text []byte) (*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, errors.New("the chain is too long")
	}
	var leaf *x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the chain holds a %s", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the chain: %w", err)
		}
		if leaf == nil {
			leaf = c
		}
	}
	if leaf == nil {
		return nil, errors.New("the chain is empty")
	}
	return leaf, nil
}

// parseRequest reads a PKCS #10 request and checks that it asks for the names.
func parseRequest(text []byte, names []string) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if len(text) > maxPEM || block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("the host did not answer with a signing request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the host's signing request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the host's signing request: %w", err)
	}
	have, want := slices.Sorted(slices.Values(csr.DNSNames)), slices.Sorted(slices.Values(names))
	if !slices.Equal(have, want) {
		return nil, fmt.Errorf("the host's signing request is for %v, not for %v", have, want)
	}
	return csr, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if len(text) > maxPEM || block == nil {
		return nil, errors.New("it is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is not a PKCS #8 key") // the cause may quote key bytes
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("it cannot sign")
	}
	return signer, nil
}

func hostOf(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil && u.Host != "" {
		return u.Host
	}
	return rawURL
}

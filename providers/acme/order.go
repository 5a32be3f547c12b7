package acme

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"golang.org/x/sync/errgroup"

	"mailform/plan"
)

// How long the CA may take over one thing (a validation, an issue), and how long
// taking down the challenge records may.
const (
	patience       = 3 * time.Minute
	cleanUpTimeout = 30 * time.Second
	challengeLabel = "_acme-challenge."
)

// obtain gets a certificate for a signing request: account, order, proofs, issue
// (RFC 8555 7.1). An order that an earlier run began is continued. It leaves no
// challenge record behind, whatever happens.
func (p *Provider) obtain(ctx context.Context, op plan.Op, progress plan.Progress) (chain []byte, renewalInfo string, err error) {
	cert := string(op.Addresses[0])
	p.gather.begin(cert)
	defer p.gather.end(cert)
	host, names := op.Inputs["host"].Str(), op.Inputs["names"].Texts()
	csr, err := parseRequest([]byte(op.Inputs["csr"].Str()), names)
	if err != nil {
		return nil, "", p.failure(op.Title, err)
	}
	o := &order{
		p: p, host: host, name: certName(op.Addresses[0]), address: cert, beside: op.Inputs["beside"].Texts(),
		directory: op.Inputs["directory"].Str(), names: names, replaces: op.Inputs["replaces"].Str(), progress: progress,
	}
	keyPEM, err := p.cfg.Hosts.AccountKey(ctx, host, o.directory)
	if err != nil {
		return nil, "", err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, "", p.failure("read the ACME account key of "+host, err)
	}
	progress("asking "+hostOf(o.directory), 0, 0)
	if o.ca, err = p.connect(ctx, o.directory, key); err != nil {
		return nil, "", p.explain(o.ca, "register at the CA", err)
	}
	if chain, err = o.finish(ctx, csr); err != nil {
		return nil, "", p.explain(o.ca, op.Title, err)
	}
	leaf, err := parseChain(chain)
	if err != nil {
		return nil, "", p.failure(op.Title, err)
	}
	return chain, o.renewalInfo(leaf), nil
}

// order is one certificate on its way.
type order struct {
	p         *Provider
	ca        *client
	host      string
	name      string   // of the certificate on the host
	address   string   // of the certificate
	beside    []string // the certificates that the same plan gets
	directory string
	names     []string
	replaces  string // the certificate it replaces (RFC 9773 5); "" for none
	progress  plan.Progress

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

// deadError says that an order cannot be continued.
type deadError struct{ why string }

func (e *deadError) Error() string { return e.why }

// finish brings an order to its certificate: the one that an earlier run began, or
// else a new one. Where it is found is written down on the host before anything is
// done with it, so that whoever comes next continues it.
func (o *order) finish(ctx context.Context, csr *x509.CertificateRequest) ([]byte, error) {
	if err := o.permitted(ctx); err != nil {
		return nil, err
	}
	known, err := o.p.cfg.Hosts.Order(ctx, o.host, o.name, o.directory)
	if err != nil {
		return nil, err
	}
	if sameService(known, o.directory) {
		chain, err := o.resume(ctx, known, csr)
		var dead *deadError
		if !errors.As(err, &dead) {
			return chain, err
		}
		o.progress("the order of an earlier run is of no use any more ("+dead.why+"); making a new one", 0, 0)
	}
	made, err := o.create()
	if err != nil {
		return nil, err
	}
	o.location, o.now = o.visible(made.Location), made.Order
	if err := o.p.cfg.Hosts.KeepOrder(ctx, o.host, o.name, o.directory, o.location); err != nil {
		return nil, err
	}
	return o.complete(ctx, csr)
}

// resume continues the order of an earlier run. The error is a *deadError when that
// cannot lead to the certificate that is wanted.
func (o *order) resume(ctx context.Context, location string, csr *x509.CertificateRequest) ([]byte, error) {
	got, err := o.ca.Orders.Get(o.spoken(location))
	var problem *acme.ProblemDetails
	if errors.As(err, &problem) && problem.HTTPStatus >= 400 && problem.HTTPStatus < 500 && !o.ca.last.limited() && problem.Type != acme.BadNonceErr {
		return nil, &deadError{"the CA does not know it"}
	}
	if err != nil {
		return nil, err
	}
	o.location, o.now = location, got.Order
	var have []string
	for _, id := range o.now.Identifiers {
		have = append(have, id.Value)
	}
	slices.Sort(have)
	if want := slices.Sorted(slices.Values(o.names)); !slices.Equal(have, want) {
		return nil, &deadError{"it is for other names"}
	}
	if until, err := time.Parse(time.RFC3339, o.now.Expires); err == nil && !until.After(o.p.cfg.Now()) && o.now.Status != acme.StatusValid {
		return nil, &deadError{"it has expired"}
	}
	switch o.now.Status {
	case acme.StatusPending, acme.StatusReady, acme.StatusProcessing, acme.StatusValid:
	default:
		return nil, &deadError{"it is " + o.now.Status}
	}
	issued := o.now.Status == acme.StatusValid || o.now.Status == acme.StatusProcessing
	o.progress("continuing the order of an earlier run, which is "+o.now.Status, 0, 0)
	chain, err := o.complete(ctx, csr)
	if err != nil {
		var refused *refusedError
		if issued && errors.As(err, &refused) { // for a key that is gone
			return nil, &deadError{refused.why}
		}
		if issued && errors.As(err, &problem) && problem.HTTPStatus < 500 && !o.ca.last.limited() {
			return nil, &deadError{"the CA has no certificate of it"}
		}
		return nil, err
	}
	leaf, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	if half := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2); o.p.cfg.Now().After(half) {
		return nil, &deadError{"its certificate is old"}
	}
	return chain, nil
}

// complete does what is left of an order: proofs, issue, download.
func (o *order) complete(ctx context.Context, csr *x509.CertificateRequest) ([]byte, error) {
	if o.now.Status == acme.StatusPending {
		if err := o.prove(ctx); err != nil {
			return nil, err
		}
	}
	o.p.gather.end(o.address) // nobody has to wait for its records any more
	return o.issue(ctx, csr)
}

// create makes the order. A CA that does not know the certificate it replaces, or
// has replaced it already, gets an order without that word: it only makes the
// order exempt from rate limits.
func (o *order) create() (acme.ExtendedOrder, error) {
	made, err := o.ca.Orders.NewWithOptions(o.names, &api.OrderOptions{ReplacesCertID: o.replaces})
	var problem *acme.ProblemDetails
	if o.replaces == "" || !errors.As(err, &problem) || o.ca.last.limited() || problem.Type == acme.BadNonceErr {
		return made, err
	}
	return o.ca.Orders.New(o.names)
}

// prove gets all names of an order authorized. The CA reuses what was proved
// lately, so that there may be nothing to prove.
func (o *order) prove(ctx context.Context) (err error) {
	var proofs []proof
	records := map[string][]string{}
	for _, u := range o.now.Authorizations {
		authz, err := o.ca.Authorizations.Get(u)
		if err != nil {
			return err
		}
		switch authz.Status {
		case acme.StatusValid:
			continue
		case acme.StatusPending:
		default:
			return &deadError{fmt.Sprintf("its authorization for %s is %s", authz.Identifier.Value, authz.Status)}
		}
		pr, err := o.proofFor(u, authz)
		if err != nil {
			return err
		}
		proofs = append(proofs, pr)
		records[pr.fqdn] = append(records[pr.fqdn], pr.value)
	}
	if len(proofs) == 0 {
		return nil
	}
	o.progress("putting up "+many(len(proofs), "challenge record"), 0, 0)
	down, err := o.p.gather.publish(ctx, o.address, o.beside, records)
	// What may have been put up is taken down even when we are being stopped.
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		var left *leftError
		if e := down(clean); errors.As(e, &left) {
			o.p.left.add(left.records, left.err)
		}
	}()
	if err != nil {
		return err
	}
	if err := o.seen(ctx, records); err != nil {
		return err
	}
	for i, pr := range proofs {
		o.progress("the CA is checking "+pr.name, int64(i), int64(len(proofs)))
		if pr.challenge.Status != acme.StatusPending {
			continue // an earlier run has asked for it
		}
		if _, err := o.ca.Challenges.New(pr.challenge.URL); err != nil {
			return err
		}
	}
	for i, pr := range proofs {
		o.progress("the CA is checking "+pr.name, int64(i), int64(len(proofs)))
		if err := o.validated(ctx, pr); err != nil {
			return err
		}
	}
	return nil
}

// lookingAtOnce is how many names are looked up in the DNS at the same time.
const lookingAtOnce = 8

// seen waits until all records can be seen, before the CA is told to look.
func (o *order) seen(ctx context.Context, records map[string][]string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookingAtOnce)
	for fqdn, values := range records {
		g.Go(func() error { return o.p.visible.wait(ctx, fqdn, values, o.progress) })
	}
	return g.Wait()
}

// proofFor computes what the TXT record has to say (RFC 8555 8.4).
func (o *order) proofFor(authzURL string, authz acme.Authorization) (proof, error) {
	i := slices.IndexFunc(authz.Challenges, func(c acme.Challenge) bool { return c.Type == "dns-01" })
	if i < 0 {
		return proof{}, &refusedError{fmt.Sprintf("the CA offers no dns-01 challenge for %s", authz.Identifier.Value)}
	}
	keyAuth, err := o.ca.GetKeyAuthorization(authz.Challenges[i].Token)
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

// refusedError is a refusal of the CA's that no repetition changes.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

func (o *order) validated(ctx context.Context, pr proof) error {
	return o.poll(ctx, "validated "+pr.name, func() (bool, error) {
		authz, err := o.ca.Authorizations.Get(pr.authorization)
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
				return false, &validationError{pr.name, c.Error}
			}
		}
		return false, &refusedError{fmt.Sprintf("the CA's authorization for %s is %s", pr.name, authz.Status)}
	})
}

// validationError is a name that the CA could not validate: trying again at once
// would cost one of the few attempts that it allows in an hour.
type validationError struct {
	name    string
	problem *acme.ProblemDetails
}

func (e *validationError) Error() string {
	return fmt.Sprintf("%s was not validated: %s: %s", e.name, e.problem.Type, e.problem.Detail)
}
func (e *validationError) Unwrap() error { return e.problem }

// issue sends the signing request, unless that was done, and fetches the chain.
func (o *order) issue(ctx context.Context, csr *x509.CertificateRequest) ([]byte, error) {
	o.progress("the CA is issuing", 0, 0)
	refresh := func() error {
		got, err := o.ca.Orders.Get(o.spoken(o.location))
		if err != nil {
			return err
		}
		o.now = got.Order
		if o.now.Status == acme.StatusInvalid {
			if o.now.Error != nil {
				return o.now.Error
			}
			return &refusedError{"the CA has declared the order invalid without saying why"}
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
		got, err := o.ca.Orders.UpdateForCSR(o.now.Finalize, csr.Raw)
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
	chain, _, err := o.ca.Certificates.Get(o.now.Certificate, true)
	if err != nil {
		return nil, err
	}
	leaf, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	return chain, fits(leaf, csr, o.names)
}

// poll asks again, at growing intervals and not before the CA wants it, until the
// CA is done.
func (o *order) poll(ctx context.Context, what string, f func() (bool, error)) error {
	pause := 100 * time.Millisecond
	for waited := time.Duration(0); ; {
		done, err := f()
		if done || err != nil {
			return err
		}
		wait := pause
		if _, asked := o.ca.last.answer(); asked > wait {
			wait = min(asked, patience/4)
		}
		if waited+wait > patience {
			return fmt.Errorf("the CA has not %s within %v", what, patience)
		}
		if err := o.p.cfg.Sleep(ctx, wait); err != nil {
			return err
		}
		waited += wait
		pause = min(2*pause, 5*time.Second)
	}
}

// visible and spoken are an order's URL as it is written down and as lego, which
// knows https only, is told: they differ for a simulation that speaks plain HTTP.
func (o *order) visible(location string) string {
	if u, err := url.Parse(location); err == nil && strings.HasPrefix(o.directory, "http://") {
		u.Scheme = "http"
		return u.String()
	}
	return location
}

func (o *order) spoken(location string) string {
	if u, err := url.Parse(location); err == nil && u.Scheme == "http" {
		u.Scheme = "https"
		return u.String()
	}
	return location
}

// renewalInfo is where the CA is asked when to renew the certificate, "" when it
// has no such service.
func (o *order) renewalInfo(leaf *x509.Certificate) string {
	ask := o.visible(renewalURL(o.ca.GetDirectory().RenewalInfo, leaf))
	if !sameService(ask, o.directory) {
		return ""
	}
	return ask
}

func many(n int, what string) string {
	if n == 1 {
		return "a " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

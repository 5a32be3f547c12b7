package acme

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"mailform/plan"
	"mailform/providers/internal/webpage"
)

const userAgent = "mailform"

// EAB binds an account to one that was made on the CA's web site (RFC 8555 7.3.4).
// It is needed once: when the account is made.
type EAB struct {
	KeyID string
	HMAC  string // base64url; secret
}

// String keeps the key out of what is printed.
func (EAB) String() string { return "•••" }

// GoString keeps the key out of %#v.
func (EAB) GoString() string { return "•••" }

// MarshalJSON keeps the key out of documents.
func (EAB) MarshalJSON() ([]byte, error) { return []byte(`"•••"`), nil }

// check looks at what a person copied from a web site.
func (e EAB) check() error {
	fail := func(got string) error {
		return &plan.Error{
			Class: plan.ErrCredentials, Code: "MF5312", Step: "read the external account binding", Got: got,
			Fix: "give kid and hmac_key in the eab block of provider \"acme\" (or MAILFORM_ACME_EAB_KID and MAILFORM_ACME_EAB_HMAC) exactly as the CA's web site shows them",
		}
	}
	switch {
	case e.KeyID == "" && e.HMAC == "":
		return nil
	case e.KeyID == "":
		return fail("there is a key, but no key identifier")
	case e.HMAC == "":
		return fail("there is a key identifier, but no key")
	}
	if key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(e.HMAC, "=")); err != nil || len(key) < 16 {
		return fail("the key is not base64url (letters, digits, - and _), or too short")
	}
	return nil
}

// client speaks with a CA for one account.
type client struct {
	*api.Core
	last *boundTransport // what came back last
}

// connect reads the directory and makes sure of the account. Registering a key
// that has an account already gives that account (RFC 8555 7.3.1).
func (p *Provider) connect(ctx context.Context, directory string, key crypto.Signer) (*client, error) {
	u, err := url.Parse(directory)
	if err != nil {
		return nil, err
	}
	// lego insists on https, and rightly so; a simulated CA may speak plain HTTP.
	transport := &boundTransport{ctx: ctx, next: p.cfg.Transport, now: p.cfg.Now}
	if u.Scheme == "http" {
		transport.plain = u.Host
		u.Scheme = "https"
	}
	c := &client{last: transport}
	if c.Core, err = api.New(&http.Client{Transport: transport, Timeout: time.Minute}, userAgent, u.String(), "", key); err != nil {
		return c, err
	}
	return c, p.register(c, directory)
}

// register makes sure of the account. A CA that binds accounts to its own, as its
// directory says or it answers, is first asked whether there is one, so that the
// binding's key is used once and renewals do without it. Others never see it.
func (p *Provider) register(c *client, directory string) error {
	account := acme.Account{TermsOfServiceAgreed: true}
	if p.cfg.Contact != "" {
		account.Contact = []string{"mailto:" + p.cfg.Contact}
	}
	var problem *acme.ProblemDetails
	if !c.GetDirectory().Meta.ExternalAccountRequired {
		_, err := c.Accounts.New(account)
		if !errors.As(err, &problem) || problem.Type != errorNamespace+"externalAccountRequired" {
			return err
		}
	}
	_, err := c.Accounts.New(acme.Account{OnlyReturnExisting: true})
	if !errors.As(err, &problem) || problem.Type != errorNamespace+"accountDoesNotExist" {
		return err
	}
	if p.cfg.EAB.KeyID == "" {
		return &plan.Error{
			Class: plan.ErrCredentials, Code: "MF5313", Step: "register at the CA " + hostOf(directory),
			Got: "it only takes accounts that are bound to one on its web site (external account binding)",
			Fix: "log in there, make EAB credentials, and set MAILFORM_ACME_EAB_KID and MAILFORM_ACME_EAB_HMAC, or kid and hmac_key in the eab block of provider \"acme\"; they are needed once",
		}
	}
	_, err = c.Accounts.NewEAB(account, p.cfg.EAB.KeyID, p.cfg.EAB.HMAC)
	if errors.As(err, &problem) && problem.HTTPStatus < 500 && !c.last.limited() && problem.Type != acme.BadNonceErr && !strings.Contains(problem.Type, "ontact") {
		e := &plan.Error{
			Class: plan.ErrCredentials, Code: "MF5314", Step: "register at the CA " + hostOf(directory), Err: err,
			Fix: "the CA does not take the EAB credentials (key identifier " + p.cfg.EAB.KeyID + "): make new ones on its web site, some can be used only once, and set them as MAILFORM_ACME_EAB_KID and MAILFORM_ACME_EAB_HMAC or in the eab block of provider \"acme\"",
		}
		describe(e, problem)
		return e
	}
	return err
}

// boundTransport ties lego's requests, which know no context, to one, and
// remembers what lego does not pass on of the answers.
type boundTransport struct {
	ctx   context.Context
	next  http.RoundTripper
	now   func() time.Time
	plain string // host:port that is spoken to without TLS; "" for none

	mu     sync.Mutex
	status int           // of the last answer
	wait   time.Duration // its Retry-After; 0 without one
}

// answer returns the status of the last answer and how long it asked to wait.
func (t *boundTransport) answer() (status int, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status, t.wait
}

// limited reports whether the last answer was that there were too many requests.
func (t *boundTransport) limited() bool {
	status, _ := t.answer()
	return status == http.StatusTooManyRequests
}

func (t *boundTransport) saw(status int, retry string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status, t.wait = status, retryAfter(retry, t.now())
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
		t.saw(0, "")
		if t.ctx.Err() != nil {
			return nil, t.ctx.Err()
		}
		return nil, err
	}
	t.saw(res.StatusCode, res.Header.Get("Retry-After"))
	// lego would put all of it into its error.
	if kind := res.Header.Get("Content-Type"); strings.Contains(kind, "html") || res.StatusCode >= 400 && !strings.Contains(kind, "json") {
		start, _ := io.ReadAll(io.LimitReader(res.Body, webpage.Enough)) // what cannot be read says nothing
		res.Body.Close()
		stop()
		cancel()
		page := webpage.Describe(kind, start)
		if line := webpage.Line(string(start), 100); page == "" && line != "" {
			page = strconv.Quote(line) + " in place of the API's answer"
		}
		return nil, &pageError{res.StatusCode, r.Method + " " + r.URL.String(), page}
	}
	res.Body = &boundBody{ReadCloser: res.Body, done: func() { stop(); cancel() }}
	return res, nil
}

// pageError is a web page, or other text, that came in place of the CA's answer.
type pageError struct {
	status     int
	sent, page string
}

func (e *pageError) Error() string {
	return strings.TrimSuffix(strings.TrimSpace(strconv.Itoa(e.status)+" "+http.StatusText(e.status))+": "+e.page, ": ")
}

type boundBody struct {
	io.ReadCloser
	done func()
}

func (b *boundBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

func hostOf(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil && u.Host != "" {
		return u.Host
	}
	return rawURL
}

package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"

	"mailform/plan"
	"mailform/providers/internal/webpage"
)

const errorNamespace = "urn:ietf:params:acme:error:"

// remedies say what to do about the CA's refusals (RFC 8555 6.7).
var remedies = map[string]string{
	"unauthorized":            "the CA did not find the challenge record: check that the domain's name servers are Cloudflare's and that no CNAME stands at _acme-challenge; then run the same command again",
	"incorrectResponse":       "the CA found another challenge record: check that nobody else manages _acme-challenge for this name; then run the same command again",
	"dns":                     "the CA could not look the name up: check the domain's name servers and its DNSSEC (https://dnsviz.net); then run the same command again",
	"caa":                     "a CAA record of the domain forbids this CA: add its name to caa in the zone block, or, where the record is not mailform's, put one beside it (Let's Encrypt: 0 issue \"letsencrypt.org\"); then run the same command again",
	"rejectedIdentifier":      "the CA does not issue for this name: use a host name under a public domain",
	"unsupportedIdentifier":   "the CA does not issue for this name: use a host name under a public domain",
	"externalAccountRequired": "this CA wants an account that is bound to one on its web site: set MAILFORM_ACME_EAB_KID and MAILFORM_ACME_EAB_HMAC, or give the eab block of provider \"acme\"",
	"userActionRequired":      "the CA wants its new terms agreed to; the URL is in its answer",
	"unsupportedContact":      "give a working address as contact in the stack block",
	"invalidContact":          "give a working address as contact in the stack block",
	"badCSR":                  "the CA does not like the key or the names: set key in the tls block to \"ecdsa256\" or \"rsa2048\"",
	"badPublicKey":            "the CA does not like the key: set key in the tls block to \"ecdsa256\" or \"rsa2048\"",
	"accountDoesNotExist":     "the CA does not know the account: delete the key in /etc/mailform/acme on the host, then run the same command again",
}

// failure turns whatever went wrong with the CA into an error a person can act on.
// Nothing here is ambiguous: an order that was begun is continued.
func (p *Provider) failure(step string, err error) error { return p.explain(nil, step, err) }

// explain is failure with what the CA's last answer said beside its words.
func (p *Provider) explain(c *client, step string, err error) error {
	var ready *plan.Error
	if errors.As(err, &ready) {
		return ready
	}
	e := &plan.Error{Class: plan.ErrTransient, Code: "MF5302", Step: step, Err: err, Fix: "run the same command again: it continues where this one stopped"}
	status, wait := 0, time.Duration(0)
	if c != nil && c.last != nil {
		status, wait = c.last.answer()
	}
	var (
		problem    *acme.ProblemDetails
		refused    *refusedError
		dead       *deadError
		validation *validationError
		untrust    x509.UnknownAuthorityError
		hostname   x509.HostnameError
		unreached  *url.Error
		page       *pageError
	)
	has := errors.As(err, &problem)
	kind := ""
	if has {
		describe(e, problem)
		kind = strings.TrimPrefix(problem.Type, errorNamespace)
	}
	if errors.As(err, &page) {
		e.Sent, e.Got = page.sent, page.Error()
	}
	switch {
	case errors.As(err, &validation):
		e.Class, e.Code, e.Fix = plan.ErrFatal, "MF5304", remedies[kind]
		if e.Fix == "" {
			e.Fix = remedies["unauthorized"]
		}
		e.Got = validation.name + ": " + e.Got
		e.Fix += ". The CA allows few failed attempts in an hour, so that this run does not try again"
	case kind == "rateLimited" || status == http.StatusTooManyRequests:
		p.limited(e, wait)
	case status == http.StatusServiceUnavailable && wait > 0:
		p.busy(e, wait)
	case page != nil && page.status >= 500:
		e.Fix = "the CA has a problem or is being maintained (Let's Encrypt: https://letsencrypt.status.io); run the same command again later: it continues where this one stopped"
	case page != nil:
		e.Class, e.Code = plan.ErrFatal, "MF5305"
		e.Fix = "somebody between this machine and the CA answers in its place: log in to the network if it wants that (open any page in a browser), and look at HTTPS_PROXY and the directory's URL; then run the same command again"
	case has && (problem.HTTPStatus >= 500 || kind == "serverInternal" || kind == "badNonce"):
		e.Fix = "the CA has a problem (Let's Encrypt: https://letsencrypt.status.io); run the same command again later"
	case has:
		e.Class, e.Code = plan.ErrFatal, "MF5304"
		e.Fix = "the CA refused; its words above say why"
		if fix, ok := remedies[kind]; ok {
			e.Fix = fix
		}
	case errors.As(err, &refused), errors.As(err, &dead):
		e.Class, e.Code = plan.ErrFatal, "MF5304"
	case errors.As(err, &untrust), errors.As(err, &hostname):
		e.Class, e.Code = plan.ErrFatal, "MF5305"
		e.Fix = "the directory's own TLS certificate is not trusted: check its URL, or name a PEM file with its CA in MAILFORM_CA_BUNDLE"
	case errors.As(err, &unreached) && !errors.Is(err, context.Canceled):
		e.Fix = "check the network and the CA's directory; whether the CA itself has a problem, Let's Encrypt says at https://letsencrypt.status.io; then run the same command again: it continues where this one stopped"
	case errors.Is(err, context.Canceled):
		e.Code = "MF5306"
	}
	if text := err.Error(); e.Got == "" && len(text) > maxWords { // lego quotes what it cannot read
		e.Got = webpage.Line(text, maxWords)
	}
	return e
}

// maxWords bounds what is shown of an error that is not the CA's own, in characters.
const maxWords = 300

// describe puts the CA's problem document into an error.
func describe(e *plan.Error, p *acme.ProblemDetails) {
	if p.Method != "" {
		e.Sent = p.Method + " " + p.URL
	}
	e.Got = fmt.Sprintf("%s: %s", p.Type, p.Detail)
	if p.HTTPStatus != 0 {
		e.Got = strconv.Itoa(p.HTTPStatus) + " " + e.Got
	}
	for _, s := range p.SubProblems {
		e.Got += fmt.Sprintf("; %s: %s: %s", s.Identifier.Value, s.Type, s.Detail)
	}
}

// retryAfter reads the header, seconds or a date. 0 when it says nothing.
func retryAfter(value string, now time.Time) time.Duration {
	if s, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && s > 0 && s < 1<<25 {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

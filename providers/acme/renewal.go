package acme

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mailform/server/manifest"
)

// The CA says when a certificate should be renewed (ACME Renewal Information, RFC
// 9773). Where to ask is written beside the certificate when it is installed, so
// that a plan asks one question for each certificate and nothing else, and works
// the same on any machine.

// window is the CA's word on one certificate (RFC 9773 4.2).
type window struct {
	start, end  time.Time
	explanation string // URL of a page that explains it; "" without one
}

// Answers keeps what a CA said for as long as it does not want to be asked again
// (RFC 9773 4.3). It is a cache: losing it costs a request.
type Answers interface {
	// Load returns what was stored under a key, unless its time is over.
	Load(key string) ([]byte, bool)
	Store(answers []Answer)
}

// Answer is what a CA said, and until when it need not be asked again.
type Answer struct {
	Key   string
	Text  []byte // JSON
	Until time.Time
}

// How long an answer is kept when the CA does not say (RFC 9773 4.3), and the
// bounds of what it may say.
const (
	answerDefault  = 6 * time.Hour
	answerShortest = time.Minute
	answerLongest  = 24 * time.Hour
)

const (
	renewalPatience = 10 * time.Second // for one answer; a plan does not hang on the CA
	renewalAtOnce   = 8                // questions
	maxRenewalInfo  = 64 << 10         // bytes of an answer
)

// windows asks the CA about certificates, all at the same time, and returns its
// answers beside the reasons why there are none. calls is how many requests it took.
func (p *Provider) windows(ctx context.Context, certs []manifest.Certificate) (found []*window, missing []error, calls int) {
	found, missing = make([]*window, len(certs)), make([]error, len(certs))
	fresh := make([]*Answer, len(certs))
	asked := make([]int, len(certs))
	var g errgroup.Group
	g.SetLimit(renewalAtOnce)
	for i, c := range certs {
		g.Go(func() error {
			found[i], fresh[i], asked[i], missing[i] = p.window(ctx, c)
			return nil
		})
	}
	g.Wait()
	var keep []Answer
	for i, n := range asked {
		calls += n
		if fresh[i] != nil {
			keep = append(keep, *fresh[i])
		}
	}
	if p.cfg.Answers != nil && len(keep) > 0 {
		p.cfg.Answers.Store(keep)
	}
	return found, missing, calls
}

var errNoRenewalInfo = errors.New("the CA gives no renewal windows")

// window is the CA's answer for one certificate, from the cache or, fresh, from the CA.
func (p *Provider) window(ctx context.Context, c manifest.Certificate) (_ *window, fresh *Answer, calls int, _ error) {
	if !sameService(c.RenewalInfo, c.Directory) {
		return nil, nil, 0, errNoRenewalInfo
	}
	if p.cfg.Answers != nil {
		if body, ok := p.cfg.Answers.Load(c.RenewalInfo); ok {
			if w, err := parseWindow(body); err == nil {
				return &w, nil, 0, nil
			}
		}
	}
	body, wait, err := p.askRenewal(ctx, c.RenewalInfo)
	if err != nil {
		return nil, nil, 1, err
	}
	w, err := parseWindow(body)
	if err != nil {
		return nil, nil, 1, err
	}
	return &w, &Answer{c.RenewalInfo, body, p.cfg.Now().Add(wait)}, 1, nil
}

// askRenewal makes the request, which needs no account (RFC 9773 4.1).
func (p *Provider) askRenewal(ctx context.Context, where string) (body []byte, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, renewalPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("User-Agent", userAgent)
	res, err := p.cfg.Transport.RoundTrip(req)
	if err != nil {
		return nil, 0, fmt.Errorf("the CA does not answer: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the CA answers with %s", res.Status)
	}
	if body, err = io.ReadAll(io.LimitReader(res.Body, maxRenewalInfo+1)); err != nil {
		return nil, 0, fmt.Errorf("the CA's answer breaks off: %w", err)
	}
	wait = retryAfter(res.Header.Get("Retry-After"), p.cfg.Now())
	if wait == 0 {
		wait = answerDefault
	}
	return body, min(max(wait, answerShortest), answerLongest), nil
}

// parseWindow reads a renewalInfo object. A window that ends before it begins is
// none (RFC 9773 4.2).
func parseWindow(body []byte) (window, error) {
	if len(body) > maxRenewalInfo {
		return window{}, errors.New("the CA's answer is too long")
	}
	var doc struct {
		SuggestedWindow struct{ Start, End time.Time }
		ExplanationURL  string
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return window{}, errors.New("the CA's answer is not a renewal window")
	}
	w := window{start: doc.SuggestedWindow.Start.UTC(), end: doc.SuggestedWindow.End.UTC()}
	if w.start.Year() < 2000 || w.end.Year() > 9999 || !w.start.Before(w.end) {
		return window{}, errors.New("the CA's renewal window ends before it begins")
	}
	// The page is for people to open: nothing but a plain web address is passed on.
	u, err := url.Parse(doc.ExplanationURL)
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && len(doc.ExplanationURL) <= 300 {
		w.explanation = u.String()
	}
	return w, nil
}

// point is the moment inside the window at which this certificate is renewed: by
// chance as RFC 9773 4.2 wants, so that not all come at once, but the same in
// every run and on every machine.
func (w window) point(id string) time.Time {
	sum := sha256.Sum256([]byte(id))
	part := float64(binary.BigEndian.Uint64(sum[:8])) / (1 << 64)
	return w.start.Add(time.Duration(part * float64(w.end.Sub(w.start)))).Truncate(time.Second)
}

// Renewal is when a certificate is renewed and why then.
type Renewal struct {
	At  time.Time
	Due string // why now; "" while its time has not come
	Why string // who chose the time, for people
}

// Renewals says when certificates are renewed: the CA is asked about all of them at
// the same time. before is the spec's renew_before. calls is how many requests it
// took. A CA that does not answer is no error: then the spec decides.
func (p *Provider) Renewals(ctx context.Context, certs []manifest.Certificate, before time.Duration) (out []Renewal, calls int) {
	windows, missing, calls := p.windows(ctx, certs)
	for i, c := range certs {
		r := schedule(c, windows[i], before, p.cfg.Now())
		if missing[i] != nil && c.RenewalInfo != "" {
			r.Why += "; " + missing[i].Error()
		}
		out = append(out, r)
	}
	return out, calls
}

// schedule decides when to renew: when the CA asks for it, or, without its word,
// when less than the spec's renew_before is left. Of short-lived certificates a
// third of their life is left for trying, however long the spec's time is:
// otherwise each run would renew them again.
func schedule(c manifest.Certificate, w *window, before time.Duration, now time.Time) Renewal {
	life := c.NotAfter.Sub(c.NotBefore)
	r := Renewal{At: c.NotAfter.Add(-min(before, life/3)), Why: "renew_before of the tls block"}
	if before > life/3 {
		r.Why = "a third of its life is left then"
	}
	usual := c.NotAfter.Add(-life / 3)
	early := false
	if w != nil {
		// One that leaves hardly any time before the end is not meant seriously.
		if at := w.point(c.RenewalInfo); at.Before(c.NotAfter.Add(-life / 20)) {
			r.At = at
			r.Why = fmt.Sprintf("the CA asks for it between %s and %s", w.start.Format(time.DateOnly), w.end.Format(time.DateOnly))
			early = w.end.Before(usual.Add(-life / 20))
		}
	}
	if now.Before(r.At) {
		return r
	}
	left := c.NotAfter.Sub(now)
	switch {
	case left <= 0:
		r.Due = "expired on " + c.NotAfter.UTC().Format(time.DateOnly)
	case early:
		r.Due = "the CA asks for an early renewal: it may revoke the certificate"
	case left < 48*time.Hour:
		r.Due = fmt.Sprintf("expires in %d hours", int(left.Hours()))
	default:
		r.Due = fmt.Sprintf("expires in %d days", int(left.Hours()/24))
	}
	if early && w.explanation != "" {
		r.Due += ", see " + w.explanation
	}
	return r
}

// renewalURL is where to ask about a certificate (RFC 9773 4.1); "" when the CA
// has no such service.
func renewalURL(service string, leaf *x509.Certificate) string {
	id := certID(leaf)
	if service == "" || id == "" {
		return ""
	}
	return strings.TrimSuffix(service, "/") + "/" + id
}

// certID names a certificate to its CA: the key identifier of the issuer and the
// serial number, as they stand in it; "" for one that names no issuer's key.
func certID(leaf *x509.Certificate) string {
	if len(leaf.AuthorityKeyId) == 0 || leaf.SerialNumber == nil || leaf.SerialNumber.Sign() <= 0 {
		return ""
	}
	serial := leaf.SerialNumber.Bytes()
	if serial[0]&0x80 != 0 {
		serial = append([]byte{0}, serial...) // DER: a positive number
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial)
}

// replacedID is the certificate that a new order replaces (RFC 9773 5), from where
// its CA is asked about it.
func replacedID(renewalInfo string) string {
	return renewalInfo[strings.LastIndexByte(renewalInfo, '/')+1:]
}

// sameService reports whether a URL that was read on a host belongs to the CA of
// the directory, so that no host makes us ask somebody else.
func sameService(rawURL, directory string) bool {
	u, err := url.Parse(rawURL)
	d, derr := url.Parse(directory)
	return err == nil && derr == nil && rawURL != "" && u.Scheme == d.Scheme && u.Host == d.Host && u.User == nil
}

package acme

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"mailform/plan"
)

// limitUnknown is how long to wait when a CA does not say: long enough never to
// hammer it.
const limitUnknown = time.Hour

// limits are Let's Encrypt's (https://letsencrypt.org/docs/rate-limits/), by words
// of its answers, and what to do about each.
var limits = []struct{ words, what string }{
	{"exact set of identifiers", "the CA issues 5 certificates a week for exactly the same names. What was issued is on the host unless that was lost; another set of names, with one more, is not counted with these"},
	{"exact set of domains", "the CA issues 5 certificates a week for exactly the same names. What was issued is on the host unless that was lost; another set of names, with one more, is not counted with these"},
	{"failed authorizations", "the CA accepts 5 failed validations of a name in an hour. Put the DNS right first: mailform looks at it before it asks the CA, so what failed is what only the CA sees (another name server, CAA, DNSSEC)"},
	{"failed validations", "the CA accepts 5 failed validations of a name in an hour. Put the DNS right first: mailform looks at it before it asks the CA, so what failed is what only the CA sees (another name server, CAA, DNSSEC)"},
	{"new orders", "the CA takes 300 orders of one account in 3 hours"},
	{"new registrations", "the CA makes 10 accounts for one address in 3 hours"},
	{"already issued for", "the CA issues 50 certificates a week for all names under one registered domain, renewals not counted. Others may be getting certificates for it, too"},
}

// retryPattern is how Let's Encrypt writes when it works again.
var retryPattern = regexp.MustCompile(`retry after (\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?: ?UTC|Z))`)

// limited explains a rate limit: which, until when, and what to do.
func (p *Provider) limited(e *plan.Error, wait time.Duration) {
	e.Class, e.Code = plan.ErrThrottled, "MF5303"
	now := p.cfg.Now()
	if m := retryPattern.FindStringSubmatch(e.Got); m != nil {
		text := strings.TrimSpace(strings.NewReplacer("T", " ", "UTC", "", "Z", "").Replace(m[1]))
		if at, err := time.Parse(time.DateTime, text); err == nil && at.After(now) {
			wait = max(wait, at.Sub(now))
		}
	}
	what := "the CA limits how much it does for one account and domain (Let's Encrypt: https://letsencrypt.org/docs/rate-limits/)"
	for _, l := range limits {
		if strings.Contains(e.Got, l.words) {
			what = l.what
			break
		}
	}
	known := wait > 0
	if !known {
		wait = limitUnknown
	}
	e.RetryAfter = wait
	e.Fix = what + ". " + again(wait, known, now) + "; for trials use its staging service: ca = \"letsencrypt-staging\" in provider \"acme\""
}

// busy explains a CA that has too much to do.
func (p *Provider) busy(e *plan.Error, wait time.Duration) {
	e.Class, e.Code, e.RetryAfter = plan.ErrThrottled, "MF5303", wait
	e.Fix = "the CA has too much to do or is being maintained (Let's Encrypt: https://letsencrypt.status.io). " + again(wait, true, p.cfg.Now())
}

func again(wait time.Duration, known bool, now time.Time) string {
	if !known {
		return "It does not say when that ends: run the same command again in an hour, not earlier"
	}
	return fmt.Sprintf("Run the same command again in %s (at %s UTC), not earlier", plan.Until(wait), now.Add(wait).UTC().Format("2006-01-02 15:04"))
}

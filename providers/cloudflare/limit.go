package cloudflare

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailform/plan"
)

// budget follows the vendor's rate-limit headers, which count everything that uses
// the account: one call too many, and all of them are refused for five minutes.
// https://developers.cloudflare.com/fundamentals/api/reference/limits/
type budget struct {
	mu    sync.Mutex
	until time.Time // no call before
}

// spent gives an error, before anything is sent, when there is no call left in
// the current window.
func (b *budget) spent(now time.Time) *plan.Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := b.until.Sub(now)
	if wait <= 0 {
		return nil
	}
	return &plan.Error{
		Class: plan.ErrThrottled, Code: "MF5211", RetryAfter: wait,
		Got: fmt.Sprintf("not sent: Cloudflare's limit is used up for another %s", wait.Round(time.Second)),
		Fix: rateLimitFix,
	}
}

// note reads the headers of an answer. When no call is left it gives the time until
// there is one again, and otherwise 0.
func (b *budget) note(h http.Header, now time.Time) time.Duration {
	left, reset, ok := rateLimit(h.Get("Ratelimit"))
	if !ok || left > 0 {
		return 0
	}
	b.mu.Lock()
	b.until = now.Add(reset)
	b.mu.Unlock()
	return reset
}

// rateLimit reads `"default";r=50;t=30`: calls left and the time until there are more.
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
func rateLimit(value string) (left int, reset time.Duration, ok bool) {
	var seen int
	for _, p := range strings.Split(value, ";") {
		name, text, _ := strings.Cut(strings.TrimSpace(p), "=")
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			continue
		}
		switch name {
		case "r":
			left = n
			seen |= 1
		case "t":
			reset = min(time.Duration(n)*time.Second, time.Hour)
			seen |= 2
		}
	}
	return left, reset, seen == 3
}

package acme

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mailform/plan"
)

// An order takes its challenge records down as soon as the CA has seen them, and does
// not wait long for that: the certificate comes first. What could not be taken down
// (the DNS vendor wants a rest) is tried again once the certificate is installed, for
// as long as apply would wait for any call. What is there even then does no harm and
// is told as advice; the next plan deletes it, because it carries our mark.

// How often that is tried, and the longest rest that the vendor gets each time.
const (
	tidyAttempts = 3
	tidyPatience = 6 * time.Minute
)

const adviceLeft = "challenge-records-left"

// leftovers are challenge records that this run could not take down.
type leftovers struct {
	mu      sync.Mutex
	records map[string][]string // values by name
	why     error
}

// leftError says that challenge records are left behind.
type leftError struct {
	records map[string][]string
	err     error
}

func (e *leftError) Error() string { return e.err.Error() }
func (e *leftError) Unwrap() error { return e.err }

// add notes records that are left.
func (l *leftovers) add(records map[string][]string, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.records == nil {
		l.records = map[string][]string{}
	}
	for name, values := range records {
		l.records[name] = append(l.records[name], values...)
	}
	l.why = why
}

// take hands over what is left, to one caller.
func (l *leftovers) take() (map[string][]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	records, why := l.records, l.why
	l.records, l.why = nil, nil
	return records, why
}

// tidy tries again to take down what orders of this run have left.
func (p *Provider) tidy(ctx context.Context, progress plan.Progress) {
	records, why := p.left.take()
	for attempt := 1; len(records) > 0; attempt++ {
		wait := time.Duration(attempt) * 5 * time.Second
		var e *plan.Error
		if errors.As(why, &e) {
			wait = max(wait, e.RetryAfter)
		}
		switch class := plan.ClassOf(why); {
		case attempt > tidyAttempts, wait > tidyPatience,
			class != plan.ErrThrottled && class != plan.ErrTransient && class != plan.ErrAmbiguous:
			p.left.add(records, why)
			return
		}
		progress(fmt.Sprintf("the certificate is installed; challenge records are taken down in %s (%v)", plan.Until(wait), why), 0, 0)
		if err := p.cfg.Sleep(ctx, wait); err != nil {
			p.left.add(records, why)
			return
		}
		if why = p.cfg.Challenger.CleanUp(ctx, records); why == nil {
			return
		}
	}
}

var _ plan.Advisor = (*Provider)(nil)

// Advise implements plan.Advisor: it tells of challenge records that are left.
func (p *Provider) Advise() []plan.Advice {
	p.left.mu.Lock()
	defer p.left.mu.Unlock()
	if len(p.left.records) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(p.left.records))
	return []plan.Advice{{
		Code: adviceLeft, About: "certificates", Title: "challenge records could not be taken down",
		Text: fmt.Sprintf("At %s; %v. They do no harm, each order has values of its own. The next plan shows them as to be deleted: run mailform apply again when the DNS vendor answers.", strings.Join(names, ", "), p.left.why),
	}}
}

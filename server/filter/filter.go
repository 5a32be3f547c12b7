// Package filter decides about mail from outside, on port 25: blocklists, the
// sender domain's DMARC policy, greylisting of suspicious first contacts, and
// attachments that nobody should open. Whatever it decides it can name: a
// verdict is a list of facts, each with a score, that goes into the log and,
// when there is a filter, into the message.
//
// No mail is lost to trouble of our own: a look-up that fails or takes too long
// counts as nothing found. All look-ups run at the same time and have 5 s.
//
// It imports server/imap/mimetree, server/limits, server/mailauth and server/manifest.
package filter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"mailform/server/mailauth"
	"mailform/server/manifest"
)

// Resolver answers questions to the DNS.
type Resolver interface {
	mailauth.Resolver
	// LookupA returns the IPv4 addresses alone.
	LookupA(ctx context.Context, host string) ([]netip.Addr, error)
}

// Config is what a Filter needs. Resolver and Logger must be set.
type Config struct {
	Resolver Resolver
	Logger   *slog.Logger
	// Local are clients that are not from outside: no blocklist is asked about
	// them and they are not greylisted.
	Local []netip.Prefix
	// GreylistFile remembers who has come back, see Greylist; "" keeps it in memory.
	GreylistFile string
	Budget       time.Duration    // for the look-ups about a client, and again about a message; default 5 s
	Now          func() time.Time // default time.Now
}

// Filter holds what outlives a connection. What is wanted of it comes with each
// message: a nil policy refuses nothing.
type Filter struct {
	cfg    Config
	grey   *greylist
	counts counts
}

type counts struct{ refused, junk, deferred atomic.Int64 }

// Counts are how many messages or recipients met each fate since the start.
type Counts struct{ Refused, Junk, Deferred int64 }

// Counts returns them.
func (f *Filter) Counts() Counts {
	return Counts{f.counts.refused.Load(), f.counts.junk.Load(), f.counts.deferred.Load()}
}

// New returns a filter that remembers what its greylist file holds. A damaged
// file is an empty one.
func New(cfg Config) (*Filter, error) {
	if cfg.Resolver == nil || cfg.Logger == nil {
		return nil, errors.New("filter.Config needs Resolver and Logger")
	}
	if cfg.Budget <= 0 {
		cfg.Budget = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Filter{cfg: cfg, grey: newGreylist(maxGrey)}
	if cfg.GreylistFile != "" {
		if err := f.grey.load(cfg.GreylistFile); err != nil {
			cfg.Logger.Warn("the greylist begins anew", "err", err)
		}
	}
	return f, nil
}

// Run saves the greylist every 10 minutes and when ctx ends.
func (f *Filter) Run(ctx context.Context) error {
	t := time.NewTicker(10 * time.Minute)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f.save()
		case <-ctx.Done():
			f.save()
			return nil
		}
	}
}

func (f *Filter) save() {
	if f.cfg.GreylistFile == "" {
		return
	}
	if err := f.grey.save(f.cfg.GreylistFile, f.cfg.Now()); err != nil {
		f.cfg.Logger.Warn("save the greylist", "err", err)
	}
}

// Fact is one thing that was found out. Scores above 0 speak against a message.
type Fact struct {
	Name  string // "no-rdns", "listed:zen.example"
	Score float64
}

func (f Fact) String() string {
	if f.Score == 0 {
		return f.Name
	}
	return f.Name + "(" + strconv.FormatFloat(f.Score, 'f', -1, 64) + ")"
}

// Facts are what a verdict rests on.
type Facts []Fact

// Score is the sum of all scores.
func (l Facts) Score() float64 {
	sum := 0.0
	for _, f := range l {
		sum += f.Score
	}
	return sum
}

// Strings is how the facts are logged.
func (l Facts) Strings() []string {
	words := make([]string, len(l))
	for i, f := range l {
		words[i] = f.String()
	}
	return words
}

// Refusal is an SMTP reply that refuses, for good (5xx) or for now (4xx).
type Refusal struct {
	Code     int
	Enhanced string
	Text     string
}

func (r *Refusal) String() string { return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text) }

// policyOf returns a policy that asks for nothing in place of nil.
func policyOf(p *manifest.Filter) *manifest.Filter {
	if p == nil {
		return &manifest.Filter{}
	}
	return p
}

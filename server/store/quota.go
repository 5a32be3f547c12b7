package store

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
)

// Quota bounds what is held. 0 is no limit.
type Quota struct {
	Bytes    int64 // octets
	Messages int64
}

// Quotas are the limits beside those that EnsureAccount sets.
type Quotas struct {
	// Domains are those on what all accounts of a domain hold together, by the part
	// of their names behind the last @.
	Domains map[string]Quota
	// Messages are those on how many messages an account holds, by its name.
	Messages map[string]int64
}

// QuotaRoot is what a quota goes for, with what is held of it (RFC 9208 3).
type QuotaRoot struct {
	Domain string // "": the account itself
	Used   Quota
	Limit  Quota
}

// QuotaError is the ErrQuota that says whose quota it was.
type QuotaError struct {
	Account  string // that there is no room for
	Domain   string // whose quota it was; "" when it was the account's own
	Messages bool   // the figures are messages; else octets
	Limit    int64
	Used     int64 // before what was refused
	Wanted   int64 // what that would have added
}

func (e *QuotaError) Error() string {
	whose, unit := e.Account, "octets"
	if e.Domain != "" {
		whose += ", domain " + e.Domain
	}
	if e.Messages {
		unit = "messages"
	}
	return fmt.Sprintf("%s: quota exceeded: %d of %d %s are used, %d more were to come", whose, e.Used, e.Limit, unit, e.Wanted)
}

// Is makes errors.Is(err, ErrQuota) true.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// room says whether wanted fits beside what is used.
func (q Quota) room(used, wanted Quota, account, domain string) error {
	if q.Bytes > 0 && wanted.Bytes > 0 && used.Bytes+wanted.Bytes > q.Bytes {
		return &QuotaError{Account: account, Domain: domain, Limit: q.Bytes, Used: used.Bytes, Wanted: wanted.Bytes}
	}
	if q.Messages > 0 && wanted.Messages > 0 && used.Messages+wanted.Messages > q.Messages {
		return &QuotaError{Account: account, Domain: domain, Messages: true, Limit: q.Messages, Used: used.Messages, Wanted: wanted.Messages}
	}
	return nil
}

func (q Quota) plus(o Quota) Quota { return Quota{q.Bytes + o.Bytes, q.Messages + o.Messages} }

// domainOf is the domain that an account counts for.
func domainOf(account string) string { return account[strings.LastIndexByte(account, '@')+1:] }

// quotas are a Log's limits and what is held of the domains'. Only the commit loop
// changes them.
type quotas struct {
	mu     sync.RWMutex
	limits Quotas
	used   map[string]Quota // by domain
}

// count begins to count; the commit loop does not run yet.
func (q *quotas) count(accounts func(yield func(name string, used Quota) bool)) {
	q.used = map[string]Quota{}
	for name, used := range accounts {
		d := domainOf(name)
		q.used[d] = q.used[d].plus(used)
	}
}

// settle takes over what a batch has changed.
func (q *quotas) settle(s *stage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, used := range s.domains {
		q.used[name] = *used
	}
}

func (q *quotas) of(domain string) (limit, used Quota) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.limits.Domains[domain], q.used[domain]
}

func (q *quotas) messages(account string) int64 {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.limits.Messages[account]
}

// SetQuotas implements Store.
func (l *Log) SetQuotas(ctx context.Context, q Quotas) error {
	q = Quotas{Domains: maps.Clone(q.Domains), Messages: maps.Clone(q.Messages)}
	return l.do(ctx, func(*txn) error {
		l.quotas.mu.Lock()
		defer l.quotas.mu.Unlock()
		l.quotas.limits = q
		return nil
	})
}

// QuotaRoots implements Store.
func (l *Log) QuotaRoots(ctx context.Context, account string) ([]QuotaRoot, error) {
	a, err := l.reading(account)
	if err != nil {
		return nil, err
	}
	own := QuotaRoot{}
	own.Limit.Messages = l.quotas.messages(account)
	a.mu.RLock()
	own.Used, own.Limit.Bytes = Quota{a.bytes, a.count}, a.quota
	a.mu.RUnlock()
	roots := []QuotaRoot{own}
	domain := domainOf(account)
	if limit, used := l.quotas.of(domain); limit != (Quota{}) {
		roots = append(roots, QuotaRoot{Domain: domain, Used: used, Limit: limit})
	}
	return roots, nil
}

// demand is what a transaction wants to add, by account and by domain.
type demand struct {
	t        *txn
	accounts map[string]Quota
	domains  map[string]Quota
}

// room says whether wanted fits into the account's and its domain's quota, beside
// what was asked for before.
func (d *demand) room(a *stagedAccount, wanted Quota) error {
	if d.accounts == nil {
		d.accounts, d.domains = map[string]Quota{}, map[string]Quota{}
	}
	domain := domainOf(a.name)
	d.accounts[a.name] = d.accounts[a.name].plus(wanted)
	d.domains[domain] = d.domains[domain].plus(wanted)
	q := &d.t.log.quotas
	if err := (Quota{a.quota, q.messages(a.name)}).room(Quota{a.bytes, a.count}, d.accounts[a.name], a.name, ""); err != nil {
		return err
	}
	limit, _ := q.of(domain)
	return limit.room(*a.domain, d.domains[domain], a.name, domain)
}

// room says whether there is room for n messages of that many octets.
func (t *txn) room(a *stagedAccount, octets, n int64) error {
	return (&demand{t: t}).room(a, Quota{octets, n})
}

// add counts what comes to the account, or goes.
func (a *stagedAccount) add(octets, n int64) {
	a.bytes += octets
	a.count += n
	a.domain.Bytes += octets
	a.domain.Messages += n
}

// domain is what is held of a domain as the batch leaves it.
func (s *stage) domain(name string) *Quota {
	if d := s.domains[name]; d != nil {
		return d
	}
	_, used := s.quotas.of(name)
	s.domains[name] = &used
	return &used
}

// Package route answers one question, from the manifest alone: where does mail
// for this address go? Mailboxes, their aliases, alias blocks, sub-addresses and
// catch-alls are resolved here and nowhere else.
//
// It is pure, and imports server/manifest only.
package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailform/server/manifest"
)

// Why an address has no destination here.
var (
	ErrSyntax   = errors.New("not a mail address")
	ErrNotLocal = errors.New("domain is not served here")
	ErrUnknown  = errors.New("no such address")
	ErrDisabled = errors.New("mailbox is disabled") // removed from the spec, its mail is kept
)

// Inbox is the mailbox that deliveries go to.
const Inbox = "INBOX"

// maxAddress is the length of the longest address, RFC 5321 4.5.3.1.3 without the brackets.
const maxAddress = 254

// Delivery is one local destination.
type Delivery struct {
	Account string // the mailbox's full address
	Mailbox string // mailbox of the account
	Address string // the local address that led here, its tag included
	Tag     string // "news" of alice+news@example.com
}

// Result is where mail for one address goes.
type Result struct {
	Deliveries []Delivery // at most one for each account
	Forwards   []string   // addresses elsewhere, normalised, no repetitions
}

// Table resolves addresses. It does not change once made.
type Table struct {
	hostname string
	domains  map[string]*domain
	first    *domain
	problems []string
}

type domain struct {
	name      string
	mailboxes map[string]string   // local part -> account
	aliases   map[string]string   // local part of a mailbox's alias -> account
	lists     map[string][]string // local part of an alias block -> addresses
	disabled  map[string]bool     // local part
	catchAll  string              // account or ""
	first     string              // account or ""
}

// New makes the table of m. Mail for retained mailboxes is refused even where a
// catch-all would take it. What is odd but can be served is listed in Problems.
func New(m *manifest.Manifest, retained []manifest.Retained) (*Table, error) {
	t := &Table{hostname: strings.ToLower(m.Hostname), domains: map[string]*domain{}}
	for _, md := range m.Domains {
		d := &domain{
			name:      strings.ToLower(md.Name),
			mailboxes: map[string]string{}, aliases: map[string]string{},
			lists: map[string][]string{}, disabled: map[string]bool{},
		}
		if t.domains[d.name] != nil {
			return nil, fmt.Errorf("domain %s is listed twice", d.name)
		}
		t.domains[d.name] = d
		if t.first == nil {
			t.first = d
		}
		for _, mb := range md.Mailboxes {
			local := strings.ToLower(mb.Local)
			if d.mailboxes[local] != "" {
				return nil, fmt.Errorf("mailbox %s@%s is listed twice", local, d.name)
			}
			d.mailboxes[local] = local + "@" + d.name
			if d.first == "" {
				d.first = d.mailboxes[local]
			}
		}
		for _, mb := range md.Mailboxes {
			for _, a := range mb.Aliases {
				a = strings.ToLower(a)
				if d.mailboxes[a] != "" || d.aliases[a] != "" {
					t.problem("alias %s@%s of mailbox %s is taken already", a, d.name, mb.Local)
					continue
				}
				d.aliases[a] = d.mailboxes[strings.ToLower(mb.Local)]
			}
		}
		for _, a := range md.Aliases {
			local := strings.ToLower(a.Local)
			if d.mailboxes[local] != "" || d.aliases[local] != "" || d.lists[local] != nil {
				t.problem("alias %s@%s is taken already", local, d.name)
				continue
			}
			to := []string{}
			for _, address := range a.To {
				l, dom, err := Split(address)
				if err != nil {
					return nil, fmt.Errorf("alias %s@%s: %q is %w", local, d.name, address, err)
				}
				to = append(to, l+"@"+dom)
			}
			d.lists[local] = to
		}
		if md.CatchAll != "" {
			d.catchAll = d.mailboxes[strings.ToLower(md.CatchAll)]
			if d.catchAll == "" {
				return nil, fmt.Errorf("catch-all of %s: no mailbox %q", d.name, md.CatchAll)
			}
		}
	}
	for _, r := range retained {
		local, dom, err := Split(r.Address)
		if d := t.domains[dom]; err == nil && d != nil {
			d.disabled[strings.ToLower(local)] = true
		}
	}
	t.check()
	return t, nil
}

func (t *Table) problem(format string, args ...any) {
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// check finds alias blocks that lead nowhere, wholly or in part.
func (t *Table) check() {
	for _, d := range t.domains {
		for local, to := range d.lists {
			for _, address := range to {
				if _, err := t.Resolve(address); err != nil && !errors.Is(err, ErrNotLocal) {
					t.problem("alias %s@%s: %s: %v", local, d.name, address, err)
				}
			}
		}
	}
	slices.Sort(t.problems)
}

// Problems lists what is odd in the manifest, for a log. Mail flows regardless.
func (t *Table) Problems() []string { return t.problems }

// Postmaster is the address that notices to people elsewhere come from.
func (t *Table) Postmaster() string {
	if t.first == nil {
		return "postmaster@" + t.hostname
	}
	return "postmaster@" + t.first.name
}

// Local says whether mail for domain ends here.
func (t *Table) Local(domain string) bool {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	return t.domains[domain] != nil || (domain == t.hostname && domain != "")
}

// Split divides an address into its local part, as it stands, and its domain in
// lower case without a trailing dot. Only ASCII addresses are addresses here:
// SMTPUTF8 is not offered, and domains are written in punycode.
func Split(address string) (local, domain string, err error) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || at == len(address)-1 || len(address) > maxAddress || at > 64 {
		return "", "", ErrSyntax
	}
	for i := 0; i < len(address); i++ {
		if c := address[i]; c <= ' ' || c >= 0x7f || c == '<' || c == '>' {
			return "", "", ErrSyntax
		}
	}
	local, domain = address[:at], strings.ToLower(strings.TrimSuffix(address[at+1:], "."))
	if domain == "" || strings.Contains(domain, "..") || domain[0] == '.' || strings.ContainsAny(domain, ",;:\"()\\/") && domain[0] != '[' {
		return "", "", ErrSyntax
	}
	return local, domain, nil
}

// Resolve returns where mail for address goes. ErrNotLocal means that it is
// for another server; ErrUnknown and ErrDisabled refuse it.
func (t *Table) Resolve(address string) (Result, error) {
	r := resolver{t: t, seen: map[string]bool{}, taken: map[string]bool{}}
	if err := r.resolve(address); err != nil {
		return Result{}, err
	}
	if len(r.Deliveries)+len(r.Forwards) == 0 { // a list of nothing, or a cycle
		return Result{}, ErrUnknown
	}
	return r.Result, nil
}

// Owns says whether account may write as address: whether mail for that
// address comes to this account and to nobody else.
func (t *Table) Owns(account, address string) bool {
	r, err := t.Resolve(address)
	return err == nil && len(r.Forwards) == 0 && len(r.Deliveries) == 1 && r.Deliveries[0].Account == account
}

// resolver walks the aliases of one address. Each address is visited once, so
// that cycles end and the work is linear in the manifest.
type resolver struct {
	Result
	t     *Table
	seen  map[string]bool // addresses here
	taken map[string]bool // destinations
}

func (r *resolver) resolve(address string) error {
	local, dom, err := Split(address)
	if err != nil {
		return err
	}
	address = local + "@" + dom
	lower := strings.ToLower(local)
	d := r.t.domains[dom]
	if d == nil && dom == r.t.hostname && required(lower) && r.t.first != nil {
		d = r.t.first // postmaster@mail.example.com, RFC 5321 4.5.1
	}
	if d == nil {
		if r.t.Local(dom) {
			return ErrUnknown
		}
		return ErrNotLocal
	}
	if key := lower + "@" + d.name; r.seen[key] {
		return nil
	} else {
		r.seen[key] = true
	}

	base, tag, tagged := strings.Cut(local, "+")
	for _, try := range []struct{ local, tag string }{{lower, ""}, {strings.ToLower(base), tag}} {
		if try.local == lower || tagged && base != "" {
			if account := d.mailboxes[try.local]; account != "" {
				r.deliver(account, address, try.tag)
				return nil
			}
			if account := d.aliases[try.local]; account != "" {
				r.deliver(account, address, try.tag)
				return nil
			}
			if to := d.lists[try.local]; to != nil {
				return r.expand(to)
			}
			if d.disabled[try.local] {
				return ErrDisabled
			}
		}
	}
	account := d.catchAll
	if account == "" && required(lower) {
		account = cmp.Or(d.first, r.t.first.first)
	}
	if account == "" {
		return ErrUnknown
	}
	r.deliver(account, address, "")
	return nil
}

// expand resolves the members of an alias block. A member that has no
// destination does not keep mail from the others.
func (r *resolver) expand(to []string) error {
	var failed error
	for _, address := range to {
		err := r.resolve(address)
		if errors.Is(err, ErrNotLocal) {
			if !r.taken[address] {
				r.taken[address] = true
				r.Forwards = append(r.Forwards, address)
			}
		} else if err != nil {
			failed = err
		}
	}
	if len(r.Deliveries)+len(r.Forwards) == 0 {
		return failed
	}
	return nil
}

func (r *resolver) deliver(account, address, tag string) {
	if r.taken[account] {
		return
	}
	r.taken[account] = true
	r.Deliveries = append(r.Deliveries, Delivery{Account: account, Mailbox: Inbox, Address: address, Tag: tag})
}

// required says whether every domain must take mail for local: RFC 5321 4.5.1 and RFC 2142.
func required(local string) bool { return local == "postmaster" || local == "abuse" }

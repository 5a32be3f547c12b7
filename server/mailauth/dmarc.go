package mailauth

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/emersion/go-msgauth/dmarc"
	"golang.org/x/net/publicsuffix"
)

// DMARC is the result of RFC 7489 for a message.
type DMARC struct {
	Result Result
	Domain string // of the From field, lower case
	// Policy is what the domain wants done with mail that fails: "none",
	// "quarantine" or "reject"; "" when it says nothing.
	Policy  string
	Percent int // of failing mail that Policy is for, 0 to 100
	Reason  string
}

// Disposition is what the domain wants done with this message: "none",
// "quarantine" or "reject". sample, 0 to 99, decides about policies that are for
// a part of the mail only; the rest gets the next milder one, RFC 7489 6.6.4.
func (d DMARC) Disposition(sample int) string {
	if d.Result != Fail {
		return "none"
	}
	if sample < d.Percent {
		return d.Policy
	}
	if d.Policy == "reject" {
		return "quarantine"
	}
	return "none"
}

// OrganizationalDomain is the domain under which a name was registered, by the
// public suffix list; "" for a public suffix itself. RFC 7489 3.2.
func OrganizationalDomain(name string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(strings.TrimSuffix(name, ".")))
	if err != nil {
		return ""
	}
	return org
}

// policy is the DMARC record that holds for a domain.
type policy struct {
	record *dmarc.Record // nil when there is none
	parent bool          // it is the organizational domain's
	err    error
}

// lookUpPolicy asks for the records of a domain and its organizational domain
// at the same time: RFC 7489 6.6.3.
func lookUpPolicy(ctx context.Context, r Resolver, domain string) policy {
	org := OrganizationalDomain(domain)
	var own, parents policy
	var wg sync.WaitGroup
	if org != "" && org != domain {
		wg.Go(func() { parents = lookUpRecord(ctx, r, org) })
	}
	own = lookUpRecord(ctx, r, domain)
	wg.Wait()
	if own.record != nil || own.err != nil {
		return own
	}
	parents.parent = true
	return parents
}

func lookUpRecord(ctx context.Context, r Resolver, domain string) policy {
	texts, err := lookups{r}.LookupTXT(ctx, "_dmarc."+domain)
	if err != nil {
		if isTemporary(err) {
			return policy{err: err}
		}
		return policy{}
	}
	var records []string
	for _, text := range texts {
		if version, _, _ := strings.Cut(text, ";"); strings.ReplaceAll(strings.TrimSpace(version), " ", "") == "v=DMARC1" {
			records = append(records, text)
		}
	}
	if len(records) != 1 { // of several none holds
		return policy{}
	}
	return policy{record: parsePolicy(records[0])}
}

// parsePolicy reads a record; nil when it says nothing. What is wrong with tags
// other than the policy makes them take their defaults, RFC 7489 6.3.
func parsePolicy(text string) *dmarc.Record {
	tags := map[string]string{}
	for pair := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(pair, "=")
		tags[strings.ToLower(strings.TrimSpace(name))] = strings.ToLower(strings.TrimSpace(value))
	}
	one := func(s string, words ...string) bool { return slices.Contains(words, s) }
	words := []string{"none", "quarantine", "reject"}
	if !one(tags["p"], words...) || tags["sp"] != "" && !one(tags["sp"], words...) {
		if tags["rua"] == "" {
			return nil
		}
		tags["p"], tags["sp"] = "none", "" // RFC 7489 6.6.3, step 6
	}
	clean := "v=DMARC1; p=" + tags["p"]
	for _, name := range []string{"sp", "adkim", "aspf", "pct"} {
		v := tags[name]
		n, err := strconv.Atoi(v)
		if name == "sp" && v != "" || name != "pct" && one(v, "r", "s") || name == "pct" && err == nil && n >= 0 && n <= 100 {
			clean += "; " + name + "=" + v
		}
	}
	record, err := dmarc.Parse(clean)
	if err != nil {
		return nil
	}
	return record
}

// evaluate holds a From domain's policy against what SPF and DKIM have found,
// RFC 7489 6.6.2. A check that could have passed, had the DNS answered, keeps
// the message from failing.
func evaluate(domain string, p policy, s SPF, signatures []DKIM) DMARC {
	out := DMARC{Result: None, Domain: domain, Percent: 100}
	switch {
	case p.err != nil:
		out.Result, out.Reason = TempError, "no answer in time"
		return out
	case p.record == nil:
		return out
	}
	out.Policy = string(p.record.Policy)
	if p.parent && p.record.SubdomainPolicy != "" {
		out.Policy = string(p.record.SubdomainPolicy)
	}
	if p.record.Percent != nil {
		out.Percent = *p.record.Percent
	}
	out.Result = Fail
	consider := func(r Result, d string, mode dmarc.AlignmentMode) {
		if !aligned(domain, d, mode) {
			return
		}
		if r == Pass || r == TempError && out.Result == Fail {
			out.Result = r
		}
	}
	consider(s.Result, s.Domain, p.record.SPFAlignment)
	for _, d := range signatures {
		consider(d.Result, d.Domain, p.record.DKIMAlignment)
	}
	return out
}

// aligned says whether d may vouch for the From domain, RFC 7489 3.1.
func aligned(from, d string, mode dmarc.AlignmentMode) bool {
	if mode == dmarc.AlignmentStrict {
		return from == d
	}
	org := OrganizationalDomain(from)
	return from == d || org != "" && org == OrganizationalDomain(d)
}

package mailauth

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/net/idna"
)

// maxAuthors is how many domains a From field may name; RFC 5322 allows many,
// and nobody uses them.
const maxAuthors = 3

// Results are what was found out about a message from outside.
type Results struct {
	SPF   SPF
	DKIM  []DKIM
	DMARC DMARC
}

// Verify checks a message's signatures and evaluates DMARC for the domains of
// its From field. sender is asked for the result of CheckSPF, which can have
// begun long before. All look-ups run at the same time and end with ctx. An
// error is message's.
func Verify(ctx context.Context, r Resolver, authors []string, message io.Reader, sender func() SPF) (Results, error) {
	domains := authorDomains(authors)
	policies := make([]policy, len(domains))
	var wg sync.WaitGroup
	for i, d := range domains {
		wg.Go(func() { policies[i] = lookUpPolicy(ctx, r, d) })
	}
	signatures, err := CheckDKIM(ctx, r, message)
	wg.Wait()
	out := Results{SPF: sender(), DKIM: signatures}
	switch {
	case err != nil:
		out.DMARC = DMARC{Result: TempError, Reason: "not verified"}
		return out, err
	case len(domains) == 0:
		out.DMARC = DMARC{Result: PermError, Reason: "no single author's domain"}
		return out, nil
	}
	for i, d := range domains {
		if one := evaluate(d, policies[i], out.SPF, signatures); i == 0 || severity(one) > severity(out.DMARC) {
			out.DMARC = one
		}
	}
	return out, nil
}

// severity orders results: the worst of several authors counts.
func severity(d DMARC) int {
	switch {
	case d.Result == Fail && d.Policy == "reject":
		return 5
	case d.Result == Fail && d.Policy == "quarantine":
		return 4
	case d.Result == TempError:
		return 3
	case d.Result == Fail:
		return 2
	case d.Result == None:
		return 1
	}
	return 0
}

// authorDomains are the domains of addresses, each once, in the DNS's spelling;
// none when they are too many or one is not a domain.
func authorDomains(addresses []string) []string {
	var list []string
	seen := map[string]bool{}
	for _, a := range addresses {
		domain, err := idna.Lookup.ToASCII(domainOf(a))
		if err != nil || !validName(domain) {
			return nil
		}
		if !seen[domain] {
			seen[domain] = true
			list = append(list, domain)
		}
	}
	if len(list) > maxAuthors {
		return nil
	}
	return list
}

func isTemporary(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsTemporary
}

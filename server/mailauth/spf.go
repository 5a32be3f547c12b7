package mailauth

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"
)

// Result is what a check found out, in the words of RFC 8601 2.7.
type Result string

// The results.
const (
	None      Result = "none" // there is nothing to check
	Pass      Result = "pass"
	Fail      Result = "fail"
	SoftFail  Result = "softfail"
	Neutral   Result = "neutral"
	TempError Result = "temperror" // the DNS did not answer
	PermError Result = "permerror" // what was to be checked is malformed
)

// Sender is who hands a message over.
type Sender struct {
	Addr netip.Addr
	Helo string
	From string // of MAIL; "" for notifications
}

// SPF is the result of RFC 7208 for one sender.
type SPF struct {
	Result Result
	Domain string // that was checked, lower case
	Helo   bool   // Domain is from HELO, because the sender is null
	Reason string // of an error, for people
}

// CheckSPF evaluates the SPF record of the sender's domain, or of the HELO name
// when the sender is null: RFC 7208 2.4. It makes at most the 10 look-ups that
// count and answers TempError when ctx ends.
func CheckSPF(ctx context.Context, r Resolver, s Sender) SPF {
	out := SPF{Result: None, Domain: domainOf(s.From)}
	if s.From == "" {
		out.Domain, out.Helo = strings.ToLower(strings.TrimSuffix(s.Helo, ".")), true
	}
	if !strings.Contains(out.Domain, ".") || !validName(out.Domain) || !s.Addr.IsValid() { // RFC 7208 4.3
		return out
	}
	// The library cuts at the first @, which a quoted local part may have.
	local, _, _ := strings.Cut(s.From, "@")
	if s.From == "" || local == "" {
		local = "postmaster"
	}
	result, err := spf.CheckHostWithSender(net.IP(s.Addr.Unmap().AsSlice()), s.Helo, local+"@"+out.Domain,
		spf.WithContext(ctx), spf.WithResolver(lookups{r}))
	out.Result = Result(result)
	if err != nil && (out.Result == TempError || out.Result == PermError) {
		out.Reason = err.Error()
	}
	return out
}

// domainOf is the domain of an address in lower case without a final dot.
func domainOf(address string) string {
	return strings.ToLower(strings.TrimSuffix(address[strings.LastIndexByte(address, '@')+1:], "."))
}

package filter

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"

	"mailform/server/mailauth"
)

// Listing is what a blocklist says about an address.
type Listing uint8

// The answers of a blocklist.
const (
	NotListed      Listing = iota
	Listed                 // the address is on the list
	ListingUnknown         // no answer: taken as not listed
	ListingRefused         // the list does not answer us, for instance because we ask through a public resolver
)

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	// Spamhaus and others that follow it answer from here when they mean an
	// error: https://www.spamhaus.com/product/dnsbl-usage-faq
	errorCodes = netip.MustParsePrefix("127.255.255.0/24")
	// RFC 5782 5: what is never listed. A zone that answers it lists the world.
	neverListed = netip.MustParseAddr("127.0.0.1")
)

// lookUpListing asks one blocklist about a client that is no neighbour.
func lookUpListing(ctx context.Context, r Resolver, zone string, addr netip.Addr) Listing {
	if !addr.IsValid() || addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() {
		return NotListed
	}
	return LookUpListing(ctx, r, zone, addr)
}

// LookUpListing asks one blocklist about an address, RFC 5782. Answers from
// elsewhere than 127.0.0.0/8 are those of a parked domain.
func LookUpListing(ctx context.Context, r Resolver, zone string, addr netip.Addr) Listing {
	answers, err := r.LookupA(ctx, listingName(addr)+"."+zone)
	if errors.Is(err, mailauth.ErrNoName) {
		return NotListed
	}
	if err != nil {
		return ListingUnknown
	}
	result := NotListed
	for _, a := range answers {
		switch {
		case !loopback.Contains(a) || a == neverListed:
		case errorCodes.Contains(a):
			if result == NotListed {
				result = ListingRefused
			}
		default:
			result = Listed
		}
	}
	return result
}

// listingName is an address as blocklists want it: its octets, or the nibbles of
// an IPv6 address, in reverse.
func listingName(addr netip.Addr) string {
	if addr.Is4() {
		b := addr.As4()
		return fmt.Sprintf("%d.%d.%d.%d", b[3], b[2], b[1], b[0])
	}
	b := addr.As16()
	digits := hex.EncodeToString(b[:])
	name := make([]byte, 0, 64)
	for i := len(digits) - 1; i >= 0; i-- {
		name = append(name, digits[i], '.')
	}
	return string(name[:len(name)-1])
}

package cloudflare

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"mailform/plan"
)

// dnssec is how a zone is signed. Its parts of the DS record are there once the
// zone is, whether or not the zone above knows it.
type dnssec struct {
	Status string `json:"status"` // "active", "pending", "disabled", "pending-disabled" or "error"

	DS         string  `json:"ds"` // the whole record for the zone above
	KeyTag     float64 `json:"key_tag"`
	Algorithm  string  `json:"algorithm"` // a number
	KeyType    string  `json:"key_type"`  // the algorithm's name
	DigestType string  `json:"digest_type"`
	DigestName string  `json:"digest_algorithm"`
	Digest     string  `json:"digest"`
}

func (c *client) readDNSSEC(ctx context.Context, z zone) (dnssec, error) {
	var d dnssec
	err := c.rest(ctx, "read the DNSSEC status of zone "+z.name, http.MethodGet, "zones/"+z.id+"/dnssec", nil, &d)
	return d, err
}

// advice says what is left to do until a zone is signed, false when nothing is. dane
// says that TLSA records are to be of use, which senders ignore unless they are
// signed (RFC 7672 2.2.1).
func (d dnssec) advice(z zone, dane bool) (plan.Advice, bool) {
	a := plan.Advice{About: "zone " + z.name, Links: []string{"https://developers.cloudflare.com/dns/dnssec/"}}
	registrar := "at the registrar of " + z.name + " (or, where another zone delegates it, there)"
	switch d.Status {
	case "active":
		return a, false
	case "disabled", "":
		a.Code, a.Title = "dnssec-off", "it is not signed (DNSSEC)"
		a.Text = "Without signatures, who can forge answers of the DNS can lead mail for it elsewhere. " +
			"Turn DNSSEC on at Cloudflare (the zone, DNS, Settings); it then shows a DS record, and so does the next plan here. Enter that one " + registrar + ", not before: a DS record without signatures makes the zone vanish."
	case "pending":
		a.Code, a.Title = "dnssec-pending", "its DNSSEC waits for the DS record"
		a.Text = "Cloudflare signs the zone, but the zone above does not yet name the key, so that nobody checks the signatures; all else works as before. " +
			d.entry(registrar) + "\nWhere that was done there is nothing to do but wait: Cloudflare looks for it, and may take a day to find it."
	case "pending-disabled":
		a.Code, a.Title = "dnssec-ending", "its DNSSEC is being turned off"
		a.Text = "Cloudflare signs the zone until the DS record is gone from the zone above: take it away " + registrar + ". Signing must not end earlier, or resolvers that check signatures refuse the zone and mail stops."
	default:
		a.Code, a.Title = "dnssec-error", "its DNSSEC has the status "+d.Status
		a.Text = "Resolvers that check signatures may refuse the zone, and mail for it then stops. Compare the DS record " + registrar + " with what Cloudflare shows. " + d.entry(registrar)
	}
	if dane {
		a.Text += "\nUntil the zone is signed no sender uses DANE with it, although the spec asks for that."
	}
	return a, true
}

// entry says what a registrar's form asks for.
func (d dnssec) entry(where string) string {
	if d.Digest == "" && d.DS == "" {
		return "Enter the DS record that Cloudflare shows (the zone, DNS, Settings) " + where + "."
	}
	text := "Enter this DS record " + where + ":"
	if d.Digest != "" {
		text += fmt.Sprintf("\nkey tag %.0f, algorithm %s, digest type %s, digest %s", d.KeyTag, named(d.Algorithm, d.KeyType), named(d.DigestType, d.DigestName), d.Digest)
	}
	if d.DS != "" {
		text += "\nas one line: " + d.DS
	}
	return text
}

func named(number, name string) string { return strings.TrimSpace(number + " " + name) }

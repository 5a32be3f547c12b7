package cloudflare

import (
	"context"
	"net/http"
)

// dnssec is how a zone is signed.
type dnssec struct {
	Status string `json:"status"` // "active", "pending", "disabled", "pending-disabled" or "error"
	DS     string `json:"ds"`     // for the parent zone
}

func (c *client) readDNSSEC(ctx context.Context, z zone) (dnssec, error) {
	var d dnssec
	err := c.rest(ctx, "read the DNSSEC status of zone "+z.name, http.MethodGet, "zones/"+z.id+"/dnssec", nil, &d)
	return d, err
}

// advice says why senders cannot use DANE with what is in a zone, "" when they can:
// they ignore what is not signed (RFC 7672 2.2.1).
func (d dnssec) advice(z zone) string {
	head := "zone " + z.name + ", with which no sender uses DANE: "
	switch d.Status {
	case "active":
		return ""
	case "pending":
		if d.DS == "" {
			return head + "its DNSSEC waits for the DS record that Cloudflare shows; give it to the registrar"
		}
		return head + "its DNSSEC waits for this record at the registrar: " + d.DS
	case "disabled", "pending-disabled":
		return head + "it is not signed; turn DNSSEC on at Cloudflare (DNS, Settings) and give the DS record to the registrar"
	}
	return head + "its DNSSEC has the status " + d.Status
}

package manifest

import (
	"fmt"
	"net/netip"
)

// Opening is what the host's own firewall lets in: ports from networks.
type Opening struct {
	Name     string   `json:"name"`
	Protocol string   `json:"protocol"` // "tcp" or "udp"
	FromPort int      `json:"from_port"`
	ToPort   int      `json:"to_port"`
	From     []string `json:"from"` // prefixes
}

// Wall is a firewall on the machine that is not mailform's.
type Wall struct {
	Name   string `json:"name"`             // "ufw" or "firewalld"
	Closed []int  `json:"closed,omitempty"` // ports of ours that it does not let in, as far as its files tell
}

// Sources are the opening's networks of one family.
func (o Opening) Sources(ipv6 bool) []string {
	var out []string
	for _, from := range o.From {
		if p, err := netip.ParsePrefix(from); err == nil && p.Addr().Is6() == ipv6 {
			out = append(out, p.Masked().String())
		}
	}
	return out
}

// validate makes sure that the opening can be written into a rule as it is.
func (o Opening) validate() error {
	if !ValidName(o.Name) || o.Protocol != "tcp" && o.Protocol != "udp" || o.FromPort < 1 || o.ToPort < o.FromPort || o.ToPort > 65535 || len(o.From) == 0 {
		return fmt.Errorf("manifest: bad opening of the firewall %q", o.Name)
	}
	for _, from := range o.From {
		if _, err := netip.ParsePrefix(from); err != nil {
			return fmt.Errorf("manifest: bad network %q of the opening %s", from, o.Name)
		}
	}
	return nil
}

package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"mailform/plan"
	"mailform/server/manifest"
)

// Codes of advice about hosts.
const (
	advicePort25   = "port-25-closed"
	adviceReverse  = "reverse-dns"
	adviceListed   = "address-listed"
	adviceClockOff = "clock-off"
	adviceUnsynced = "clock-not-synchronized"
	adviceReverted = "change-taken-back"
	adviceWall     = "other-firewall"
	adviceStoreKey = "storage-key-here-only"
)

// Advise implements plan.Advisor, from what the hosts have said last.
func (p *Provider) Advise() []plan.Advice {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []plan.Advice
	for host, f := range p.facts {
		if f.Owner != nil && f.Owner.Stack == p.Stack && f.Manifest != nil {
			out = append(out, AdviseOn(host, f.Manifest.Hostname, p.targets[host].address, p.targets[host].created, f)...)
		}
	}
	return out
}

// AdviseOn is advice about a host from what it says of itself. cloud says
// that it is an instance of Alibaba Cloud, which then has the public address.
func AdviseOn(host, hostname, address string, cloud bool, f *manifest.Facts) []plan.Advice {
	out := adviseState(host, f)
	r := f.Reach
	if r == nil {
		return out
	}
	if r.Port25 == manifest.Port25Closed {
		a := plan.Advice{
			Code: advicePort25, About: "host " + host, Title: "outbound port 25 is closed",
			Text: "Mail from here to other servers waits in the queue and is returned after five days. The machine's provider has closed the port, as most do, or a firewall has: ask for it to be opened.",
			Spec: relayLines,
		}
		if cloud {
			a.Text = "Mail from here to other servers waits in the queue and is returned after five days. Alibaba Cloud closes this port until it is asked for: " +
				"in the ECS console, under the account's picture, Security Control, \"Unblock TCP port 25\"; give the instance, its public address and what it sends (mail of a team's own people). " +
				"The answer takes a day or two and may be no; where that page is missing, a ticket to ECS asks for the same."
			a.Links = []string{"https://www.alibabacloud.com/help/en/ecs/user-guide/security-faq (\"Why am I unable to access TCP port 25?\")"}
		}
		a.Text += "\nOr send through a relay, with these lines in the spec:"
		out = append(out, a)
	}
	for _, addr := range r.Addresses {
		if cloud && addr.Address != address && !strings.Contains(addr.Address, ":") {
			continue // it had that one before, and DNS told so when its daemon looked
		}
		if len(addr.Listed) > 0 && r.Port25 != manifest.Port25Relay {
			out = append(out, adviseListed(host, cloud, addr))
		}
		name := strings.ToLower(hostname)
		if !addr.Known || slices.Contains(addr.Names, name) || r.Port25 == manifest.Port25Relay {
			continue // who sends through a relay is known by the relay's name
		}
		title := addr.Address + " leads back to no name"
		if len(addr.Names) > 0 {
			title = fmt.Sprintf("%s leads back to %s, not to %s", addr.Address, strings.Join(addr.Names[:min(3, len(addr.Names))], ", "), hostname)
		}
		a := plan.Advice{
			Code: adviceReverse, About: "host " + host, Title: title,
			Text: fmt.Sprintf("Many servers refuse mail, or take it for spam, when the sender's address has no name that leads back to it. Ask whoever gave you the address for its reverse DNS (PTR) name: %s.", hostname),
		}
		if cloud {
			a.Text = fmt.Sprintf("Many servers refuse mail, or take it for spam, when the sender's address has no name that leads back to it. "+
				"There is no API for it. In the Alibaba Cloud DNS console, Reverse DNS Lookup, \"Add PTR Record\": the region, %s and %s; it asks for a TXT record at alidnsptrcheck to prove that the domain is yours, which may be deleted afterwards. "+
				"Where the console does not offer it, a ticket to Elastic IP Address with both asks for the same.", addr.Address, hostname)
			a.Links = []string{"https://www.alibabacloud.com/help/en/dns/manage-ptr-records"}
		}
		out = append(out, a)
	}
	return out
}

// adviseListed is advice about an address that blocklists know.
func adviseListed(host string, cloud bool, addr manifest.ReachAddress) plan.Advice {
	a := plan.Advice{
		Code: adviceListed, About: "host " + host, Title: addr.Address + " is on " + strings.Join(addr.Listed, " and "),
		Text: "Servers that ask these blocklists refuse mail from this address, or take it for spam, whoever sends it. On a new machine it is what somebody did who had the address before.",
	}
	if cloud {
		a.Text += fmt.Sprintf(" A new address costs nothing:\n"+
			"mailform apply --replace host/%[1]s/address --allow host/%[1]s/address\n"+
			"The address records follow by themselves, within their TTL. Ask for the new address's reverse DNS name then, and for port 25 where the vendor has opened it for the old one alone. "+
			"Should the new one be listed, too, the same command gives another.\n"+
			"An address that has sent your mail for a while is worth keeping: find out what was sent, then ask the list to take it off.", host)
	} else {
		a.Text += "\nFind out whether it was you who sent what brought it there (a stolen password, most often), and ask the list to take it off; or ask whoever gave you the address for another one."
	}
	a.Text += "\nmonitor { blocklists = [...] } says which lists are asked."
	for _, list := range addr.Listed {
		switch {
		case list == "spamhaus.org" || strings.HasSuffix(list, ".spamhaus.org"):
			a.Links = append(a.Links, "https://check.spamhaus.org/results/?query="+addr.Address)
		case list == "bl.spamcop.net":
			a.Links = append(a.Links, "https://www.spamcop.net/w3m?action=checkblock&ip="+addr.Address)
		}
	}
	return a
}

// relayLines are ready to be pasted into a spec.
const relayLines = `variable "relay_password" {
  sensitive = true
}

server {
  relay {
    host     = "smtp.relay.example"
    port     = 587
    username = "you"
    password = var.relay_password
  }
}
`

// LookAgain lets some hosts look once more at how they stand with others, for advice
// about what a run has made. They are given with the addresses that they have got,
// "" for those that have kept theirs. Who does not answer keeps what he has said before.
func (p *Provider) LookAgain(ctx context.Context, hosts map[string]string) {
	var wg sync.WaitGroup
	for host, address := range hosts {
		t, err := p.target(host)
		if err != nil {
			continue
		}
		if address != "" {
			t.address = address
			p.remember(t)
		}
		wg.Go(func() {
			if f, _, err := p.askFacts(ctx, t, "look"); err == nil && f != nil {
				p.mu.Lock()
				p.facts[host] = f
				p.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

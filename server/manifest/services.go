package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// ServicePort is one of the daemon's listening services. Name is the
// FileDescriptorName of its socket unit and what LISTEN_FDNAMES carries.
type ServicePort struct {
	Name string
	Port int
	TLS  bool // TLS from the first byte
}

// Services lists the mail services, which every host has, in port order.
func Services() []ServicePort {
	return []ServicePort{
		{"smtp", 25, false},
		{"imap", 143, false},
		{"submissions", 465, true},
		{"submission", 587, false},
		{"imaps", 993, true},
	}
}

// POP3Services are the services of a host whose manifest has POP3 set, in port order.
func POP3Services() []ServicePort {
	return []ServicePort{{"pop3", 110, false}, {"pop3s", 995, true}}
}

// EveryService lists all services that a manifest can ask for, in port order.
func EveryService() []ServicePort { return ServicesOf(&Manifest{POP3: &POP3{}, Web: true}) }

// WebService is the HTTPS service of a host whose manifest has Web set.
func WebService() ServicePort { return ServicePort{"https", 443, true} }

// ServicesOf lists the services that m asks for, in port order: what needs a
// socket unit and an open port.
func ServicesOf(m *Manifest) []ServicePort {
	list := Services()
	if m.POP3 != nil {
		list = append(list, POP3Services()...)
	}
	if m.Web {
		list = append(list, WebService())
	}
	slices.SortFunc(list, func(a, b ServicePort) int { return a.Port - b.Port })
	return list
}

// PolicyText is the MTA-STS policy of a domain whose only MX is hostname, as it
// is served: RFC 8461 3.2. The id in the domain's _mta-sts record is to change
// exactly when this text does.
func PolicyText(hostname string, p MTASTS) string {
	return fmt.Sprintf("version: STSv1\r\nmode: %s\r\nmx: %s\r\nmax_age: %d\r\n", p.Mode, strings.ToLower(hostname), p.MaxAgeSeconds)
}

// WebNames are the names under which the host of m answers HTTPS for d, the
// ones that its certificate must have besides the host name.
func WebNames(m *Manifest, d Domain) []string {
	var names []string
	if !m.Web {
		return nil
	}
	if d.Discovery {
		names = append(names, AutoconfigName(d.Name), AutodiscoverName(d.Name))
	}
	if d.MTASTS != nil {
		names = append(names, MTASTSName(d.Name))
	}
	return names
}

// MTASTSName, AutoconfigName and AutodiscoverName are where RFC 8461 3.3,
// Thunderbird and Outlook look for a domain's documents.
func MTASTSName(domain string) string       { return "mta-sts." + domain }
func AutoconfigName(domain string) string   { return "autoconfig." + domain }
func AutodiscoverName(domain string) string { return "autodiscover." + domain }

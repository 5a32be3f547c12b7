// Package adopt makes a spec of what is there: of a mail system whose spec was
// lost, or of a domain whose mail was set up in another way. It is pure; the
// command reads the world and hands it in.
//
// It goes in two steps, because a host is only asked once it is known where it
// stands: Begin makes of a domain's DNS records a spec that names the hosts and
// domains, and Complete fills in what the providers observe with that spec.
package adopt

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"mailform/providers/cloudflare"
	"mailform/specs"
)

// Options are what DNS cannot tell.
type Options struct {
	Stack  string // "" takes the one whose mark the records carry, or makes one of the domain
	Region string // of the cloud; "" when the hosts are not the cloud's
	// SSHUser and SSHPort are how the hosts are logged in to; "" and 0 are root and 22.
	SSHUser string
	SSHPort int
}

// defaultSelector is the prefix of the DKIM keys that a spec names none for.
const defaultSelector = "mf1"

// Begin makes a spec of the records of zones. Notes say, in words, what a person
// should know about it: what could not be read, and what will be new. The error
// says why no spec can be made.
func Begin(domains []string, zones []cloudflare.Survey, o Options) (_ *specs.Spec, notes []string, err error) {
	b := &beginning{zones: zones, spec: &specs.Spec{}}
	if err := b.stack(domains, o.Stack); err != nil {
		return nil, nil, err
	}
	b.spec.AliCloud.Region = o.Region
	for _, d := range b.domains(domains) {
		if err := b.domain(d, o); err != nil {
			return nil, nil, err
		}
	}
	for _, z := range zones {
		b.spec.Zones = append(b.spec.Zones, &specs.Zone{Name: z.Zone}) // so that its rules are read
	}
	slices.SortFunc(b.spec.Hosts, func(x, y *specs.Host) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(b.spec.Domains, func(x, y *specs.Domain) int { return cmp.Compare(x.Name, y.Name) })
	b.spec.Stack.Contact = "postmaster@" + b.spec.Domains[0].Name
	return b.spec, b.notes, nil
}

type beginning struct {
	zones []cloudflare.Survey
	spec  *specs.Spec
	notes []string
}

func (b *beginning) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

// stack decides whose the records are.
func (b *beginning) stack(domains []string, asked string) error {
	marks := map[string]int{}
	for _, z := range b.zones {
		for _, r := range z.Records {
			if r.Stack != "" {
				marks[r.Stack]++
			}
		}
	}
	names := slices.Sorted(maps.Keys(marks))
	switch {
	case asked != "":
		b.spec.Stack.Name = asked
		if len(marks) > 0 && marks[asked] == 0 {
			b.note("no record carries the mark of stack %s; there are those of %s", asked, strings.Join(names, ", "))
		}
	case len(names) == 1:
		b.spec.Stack.Name = names[0]
	case len(names) > 1:
		return fmt.Errorf("the records are marked by several stacks: %s; name one with --stack", strings.Join(names, ", "))
	default:
		b.spec.Stack.Name = specs.StackName(domains[0])
	}
	return nil
}

// domains are those asked for and those that carry the stack's marks.
func (b *beginning) domains(asked []string) []string {
	out := slices.Clone(asked)
	for _, z := range b.zones {
		for _, r := range z.Records {
			domain, slot, _ := strings.Cut(r.Slot, "/")
			if r.Stack == b.spec.Stack.Name && slot == "mx" && !slices.Contains(out, domain) {
				out = append(out, domain)
				b.note("%s carries the mark of stack %s and is in the spec, too", domain, r.Stack)
			}
		}
	}
	return out
}

// lookup returns the records of a name and type, those of the stack first.
func (b *beginning) lookup(name, kind string) []cloudflare.SurveyRecord {
	var out []cloudflare.SurveyRecord
	for _, z := range b.zones {
		for _, r := range z.Records {
			if r.Name == name && r.Type == kind {
				out = append(out, r)
			}
		}
	}
	slices.SortStableFunc(out, func(x, y cloudflare.SurveyRecord) int {
		mine := func(r cloudflare.SurveyRecord) int {
			if r.Stack == b.spec.Stack.Name {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(mine(x), mine(y)), cmp.Compare(x.Priority, y.Priority))
	})
	return out
}

func (b *beginning) domain(name string, o Options) error {
	mx := b.lookup(name, "MX")
	if len(mx) == 0 {
		return fmt.Errorf("%s has no MX record, so nothing says which host its mail goes to; start with: mailform init %s", name, name)
	}
	host, err := b.host(mx[0].Content, o)
	if err != nil {
		return err
	}
	for _, other := range mx[1:] {
		b.note("mail for %s also goes to %s, which stays as it is", name, other.Content)
	}
	d := &specs.Domain{
		Name: name, Host: host.Name, MX: specs.MX{Priority: mx[0].Priority},
		DKIM: &specs.DKIM{Selector: defaultSelector, Algorithms: []string{"rsa2048", "ed25519"}},
	}
	d.SPF = &specs.SPF{All: "fail"}
	if text, ok := b.text(name, "v=spf1"); ok {
		if d.SPF, ok = cloudflare.ReadSPF(text); !ok {
			d.SPF = nil
			b.note("the SPF record of %s cannot be written as an spf block and is left alone: %s", name, text)
		}
	}
	d.DMARC = &specs.DMARC{Policy: "none"}
	if text, ok := b.text("_dmarc."+name, "v=DMARC1"); ok {
		if d.DMARC, ok = cloudflare.ReadDMARC(text); !ok {
			d.DMARC = nil
			b.note("the DMARC record of %s cannot be written as a dmarc block and is left alone: %s", name, text)
		}
	} else {
		b.note("%s has no DMARC record; the spec adds one that asks for nothing (policy = \"none\")", name)
	}
	if text, ok := b.text("_smtp._tls."+name, "v=TLSRPTv1"); ok {
		if d.TLSRPT, ok = cloudflare.ReadTLSRPT(text); !ok {
			d.TLSRPT = nil
			b.note("the TLSRPT record of %s cannot be written as a tls_rpt block and is left alone: %s", name, text)
		}
	}
	for _, r := range b.records(func(r cloudflare.SurveyRecord) bool {
		return r.Type == "TXT" && r.Stack == "" && strings.HasSuffix(r.Name, "._domainkey."+name)
	}) {
		b.note("%s is somebody else's DKIM key and stays as it is", r.Name)
	}
	b.spec.Domains = append(b.spec.Domains, d)
	return nil
}

func (b *beginning) records(wanted func(cloudflare.SurveyRecord) bool) (out []cloudflare.SurveyRecord) {
	for _, z := range b.zones {
		for _, r := range z.Records {
			if wanted(r) {
				out = append(out, r)
			}
		}
	}
	return out
}

func (b *beginning) text(name, version string) (string, bool) {
	for _, r := range b.lookup(name, "TXT") {
		if strings.HasPrefix(r.Content, version) {
			return r.Content, true
		}
	}
	return "", false
}

// host finds or makes the host behind an MX record.
func (b *beginning) host(hostname string, o Options) (*specs.Host, error) {
	for _, h := range b.spec.Hosts {
		if h.Hostname == hostname {
			return h, nil
		}
	}
	h := &specs.Host{
		Name: fmt.Sprintf("mx%d", len(b.spec.Hosts)+1), Hostname: hostname,
		SSH: specs.SSH{User: cmp.Or(o.SSHUser, "root"), Port: cmp.Or(o.SSHPort, 22), From: anywhere()},
	}
	for _, kind := range []string{"A", "AAAA"} {
		for _, r := range b.lookup(hostname, kind) {
			ip, err := netip.ParseAddr(r.Content)
			if err != nil || h.Address.IsValid() {
				continue
			}
			h.Address = ip
			if r.Stack != b.spec.Stack.Name {
				continue
			}
			if seg := strings.Split(r.Slot, "/"); len(seg) == 3 && seg[1] == "a" {
				h.Name = seg[2]
			}
		}
	}
	if !h.Address.IsValid() {
		return nil, fmt.Errorf("the MX record leads to %s, which has no address record in the zones that were read; mail goes to another system", hostname)
	}
	b.spec.Hosts = append(b.spec.Hosts, h)
	return h, nil
}

func anywhere() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

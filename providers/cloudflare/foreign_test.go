package cloudflare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailform/plan"
	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

// Whatever else is in the zones: nothing that is not ours is ever changed, after an
// apply there is nothing left to do, a conflict holds up its own slot and what
// needs it and nothing else, and only what was named is taken over.
//
// Each case is a random zone, brought to two random specs one after the other and
// then destroyed: as many as go into some seconds, which is about a thousand on two
// idle cores.
func TestNothingForeignIsEverChanged(t *testing.T) {
	checks := 52
	if testing.Short() {
		checks = 4
	}
	start := time.Now()
	var cases, foreign atomic.Int64
	t.Run("checks", func(t *testing.T) {
		for i := range checks {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				if time.Since(start) > 10*time.Second {
					return
				}
				rapid.Check(t, func(rt *rapid.T) {
					foreign.Add(int64(oneCase(t, rt)))
					cases.Add(1)
				})
			})
		}
	})
	t.Logf("%d cases with %d foreign records", cases.Load(), foreign.Load())
}

// oneCase gives the number of foreign records in it.
func oneCase(t *testing.T, rt *rapid.T) int {
	w := newMemoryWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "bücher.example"}}})
	w.dkim = rapid.SampledFrom([]string{"v=DKIM1; k=ed25519; p=short", rsaTXT + longKey, rsaTXT + strings.Repeat(`a";`, 100)}).Draw(rt, "dkim")
	block := rapid.Bool().Draw(rt, "block")
	first, second := anySpec(block).Draw(rt, "spec"), anySpec(block).Draw(rt, "second spec")
	if !block && rapid.Bool().Draw(rt, "ids") {
		w.withIDs(first, "acme.example", "xn--bcher-kva.example")
		second.Zones = first.Zones
	}
	c := &foreignCase{world: w, rt: rt, taken: map[string]bool{}}
	n := c.seed(first)
	c.converge(first, how{allow: []string{"**"}})
	w.ip = rapid.SampledFrom([]string{testIP, "203.0.113.8"}).Draw(rt, "ip")
	blocked := c.converge(second, how{allow: []string{"**"}})
	if len(blocked) > 0 {
		take := rapid.SliceOfDistinct(rapid.SampledFrom(blocked), rapid.ID).Draw(rt, "take")
		c.converge(c.last, how{allow: []string{"**"}, take: take})
	}
	c.converge(c.last, how{allow: []string{"**"}, destroy: true})
	for _, zone := range []string{"acme.example", "bücher.example"} {
		for _, r := range w.sim.Records(zone) {
			if m, marked := parseMark(r.Comment); marked && m.stack == testStack {
				rt.Fatalf("left after destroy: %s", line(r))
			}
		}
		for _, r := range w.sim.Rules(zone) {
			if strings.HasPrefix(r.Description, markPrefix+testStack+":") {
				rt.Fatalf("left after destroy: rule %s", r.Description)
			}
		}
	}
	return n
}

type foreignCase struct {
	*world
	rt    *rapid.T
	last  *specs.Spec
	taken map[string]bool // ids of records that were taken over
}

// seed puts foreign records into the zones, and records that already are as wanted.
func (c *foreignCase) seed(s *specs.Spec) (n int) {
	exclusive, seen := map[string]string{}, map[string]bool{}
	add := func(r cloudflaresim.Record) {
		name := canonicalName(r.Name)
		// What cannot be there: two equal records, or a CNAME beside an address.
		if address := r.Type == "A" || r.Type == "AAAA"; address || r.Type == "CNAME" {
			if first := exclusive[name]; first != "" && (first == "CNAME" || r.Type == "CNAME") {
				return
			}
			exclusive[name] = r.Type
		}
		var data apiData
		if len(r.Data) > 0 {
			json.Unmarshal(r.Data, &data)
		}
		content := cmp.Or(data.content(r.Type), canonicalContent(r.Type, r.Content))
		key := r.Type + " " + name + " " + content
		if seen[key] {
			return
		}
		seen[key] = true
		zone := "acme.example"
		if under(name, "xn--bcher-kva.example") {
			zone = "bücher.example"
		}
		c.sim.Seed(zone, r)
		n++
	}
	for _, r := range rapid.SliceOfN(foreignRecord(), 0, 12).Draw(c.rt, "records") {
		add(r)
	}
	for _, r := range c.wanted(s) {
		if rapid.IntRange(0, 3).Draw(c.rt, "adopt") == 0 {
			add(c.mangled(r))
		}
	}
	c.sim.SeedRules("acme.example", rapid.SliceOfN(foreignRule(), 0, 2).Draw(c.rt, "rules")...)
	return n
}

// wanted are the records that a spec wants, with everything known.
func (c *foreignCase) wanted(s *specs.Spec) []plan.Attrs {
	desired, _ := c.p.Declare(s)
	_, objects := c.elsewhere(desired)
	outputs := map[plan.Ref]plan.Value{}
	for _, o := range objects {
		for name, v := range o.Outputs {
			outputs[plan.Ref{Address: o.Address, Attr: name}] = v
		}
	}
	var out []plan.Attrs
	for _, r := range desired {
		if r.Kind == kindRecord {
			out = append(out, r.Attrs.Resolve(func(ref plan.Ref) (plan.Value, bool) { v, ok := outputs[ref]; return v, ok }))
		}
	}
	return out
}

// mangled is a record as somebody else would have written it: other case, trailing
// dots, other strings of the same text.
func (c *foreignCase) mangled(a plan.Attrs) cloudflaresim.Record {
	loud := rapid.Bool().Draw(c.rt, "loud")
	name := func(s string) string {
		if loud {
			return strings.ToUpper(s) + "."
		}
		return s
	}
	kind, content := a["type"].Str(), a["content"].Str()
	r := cloudflaresim.Record{
		Type: kind, Name: strings.TrimSuffix(name(a["name"].Str()), "."), Content: content, Proxied: a["proxied"].True(),
		TTL: rapid.SampledFrom([]int{1, 300, 3600}).Draw(c.rt, "ttl"),
	}
	switch kind {
	case "TXT":
		raw := unshowTXT(content)
		switch rapid.IntRange(0, 2).Draw(c.rt, "form") {
		case 0:
			r.Content = quoteTXT(raw)
		case 1: // two strings, cut anywhere
			i := rapid.IntRange(0, len(raw)).Draw(c.rt, "cut")
			r.Content = quoteTXT(raw[:i]) + "  " + quoteTXT(raw[i:])
		default:
			r.Content = string(raw)
			if strings.HasPrefix(r.Content, `"`) {
				r.Content = quoteTXT(raw)
			}
		}
	case "MX":
		p := int(a["priority"].Num())
		r.Priority, r.Content = &p, name(content)
	case "SRV":
		f := strings.Fields(content)
		r.Data = fmt.Appendf(nil, `{"priority":%s,"weight":%s,"port":%s,"target":%q}`, f[0], f[1], f[2], strings.Replace(name(f[3]), "..", ".", 1))
	case "CAA":
		flags, tag, value, _ := readCAA(content)
		r.Data = fmt.Appendf(nil, `{"flags":"%d","tag":%q,"value":%q}`, flags, tag, value)
	case "TLSA":
		f := strings.Fields(content)
		r.Data = fmt.Appendf(nil, `{"usage":%s,"selector":%s,"matching_type":%s,"certificate":%q}`, f[0], f[1], f[2], strings.ToUpper(f[3]))
	}
	return r
}

// converge applies a spec and checks everything; it gives what is blocked.
func (c *foreignCase) converge(s *specs.Spec, h how) (blocked []string) {
	c.last = s
	zones := []string{"acme.example", "bücher.example"}
	var before []cloudflaresim.Record
	for _, z := range zones {
		before = append(before, c.sim.Records(z)...)
	}
	rules := foreignRules(c.sim.Rules("acme.example"))
	p, err := c.tryPlan(s, h)
	if err != nil {
		c.rt.Fatalf("plan: %v", err)
	}
	// The one thing that only the vendor can say: what is to be written beside a
	// record of somebody else is exactly what that record says.
	refused := map[string]bool{}
	if err := c.runWith(p, func(op plan.Op, err error) error {
		if len(op.Addresses) > 1 || !hasCode(err, codeExists, codeIdentical) {
			return fmt.Errorf("%w\n%v", err, op)
		}
		refused[op.ID] = true
		return nil
	}); err != nil {
		c.rt.Fatalf("apply: %v\n%s", err, strings.Join(append(c.lines(zones[0]), c.lines(zones[1])...), "\n"))
	}
	held := map[plan.Address]bool{}
	for _, ch := range p.Changes {
		if ch.Blocked == nil {
			continue
		}
		held[ch.Address] = true
		blocked = append(blocked, string(ch.Address))
		if slices.Contains(h.take, string(ch.Address)) && !strings.Contains(ch.Blocked.Why, "stack") && !strings.Contains(ch.Blocked.Why, "is blocked") {
			c.rt.Fatalf("%s is blocked although it was named: %s", ch.Address, ch.Blocked.Why)
		}
	}
	for _, ch := range p.Changes {
		if ch.Blocked != nil && ch.Before == nil && !slices.ContainsFunc(ch.DependsOn, func(a plan.Address) bool { return held[a] }) {
			c.rt.Fatalf("%s is blocked by nothing: %s", ch.Address, ch.Blocked.Why)
		}
		if slices.Contains(h.take, string(ch.Address)) && ch.Blocked == nil {
			c.taken[ch.ID] = true
		}
	}
	for _, op := range p.Ops {
		if refused[op.ID] || slices.ContainsFunc(op.After, func(id string) bool { return refused[id] }) {
			refused[op.ID] = true
			for _, a := range op.Addresses {
				held[a] = true
			}
		}
	}
	after := map[string]cloudflaresim.Record{}
	for _, z := range zones {
		for _, r := range c.sim.Records(z) {
			after[r.ID] = r
		}
	}
	for _, was := range before {
		if c.taken[was.ID] {
			continue
		}
		if err := untouched(was, after[was.ID]); err != "" {
			c.rt.Fatalf("%s became %s: %s", line(was), line(after[was.ID]), err)
		}
	}
	if is := foreignRules(c.sim.Rules("acme.example")); !slices.Equal(is, rules) {
		c.rt.Fatalf("foreign rules were %v and are %v", rules, is)
	}
	again, err := c.tryPlan(s, h)
	if err != nil {
		c.rt.Fatalf("second plan: %v", err)
	}
	for _, ch := range again.Changes {
		if ch.Provider != Name || ch.Action == plan.NoOp {
			continue
		}
		if (ch.Blocked == nil && len(refused) == 0) || !held[ch.Address] {
			c.rt.Fatalf("after apply there is still %s %s (%s): %v", ch.Action, ch.Address, ch.Reason, ch.Fields)
		}
	}
	return blocked
}

func foreignRules(rules []cloudflaresim.Rule) []cloudflaresim.Rule {
	return slices.DeleteFunc(rules, func(r cloudflaresim.Rule) bool {
		return strings.HasPrefix(r.Description, markPrefix+testStack+":")
	})
}

// untouched says how a record was changed that should not have been.
func untouched(was, is cloudflaresim.Record) string {
	m, marked := parseMark(was.Comment)
	ours := marked && m.stack == testStack
	if ours && !m.joined {
		return ""
	}
	if is.ID == "" {
		return "it is gone"
	}
	if !ours && is.Comment == was.Comment {
		was.Priority, is.Priority = nil, nil
		if fmt.Sprint(is) != fmt.Sprint(was) {
			return "it changed"
		}
		return ""
	}
	if is.Type != was.Type || canonicalName(is.Name) != canonicalName(was.Name) {
		return "it is something else"
	}
	// Adopted or joined: it says at least what it said.
	old, err := parseSPF(string(parseTXT(was.Content)))
	if err != nil {
		if canonicalTags(canonicalContent(is.Type, is.Content)) != canonicalTags(canonicalContent(was.Type, was.Content)) && is.Data == nil {
			return "it was adopted with another content"
		}
		return ""
	}
	now, err := parseSPF(string(parseTXT(is.Content)))
	if err != nil {
		return err.Error()
	}
	theirs := old.others(func(t string) bool { return ours && m.own[termHash(t)] })
	if lost := without(theirs, now.terms); len(lost) > 0 {
		return "it lost " + strings.Join(lost, " ")
	}
	return ""
}

func foreignRule() *rapid.Generator[cloudflaresim.Rule] {
	return rapid.Custom(func(t *rapid.T) cloudflaresim.Rule {
		return cloudflaresim.Rule{
			Action:      rapid.SampledFrom([]string{"block", "log"}).Draw(t, "action"),
			Expression:  rapid.SampledFrom([]string{"(ip.src eq 192.0.2.1)", "true"}).Draw(t, "expression"),
			Description: rapid.SampledFrom([]string{"", "by hand", "mf1:other:a", "mf1:acme-mail"}).Draw(t, "description"),
			Enabled:     rapid.Bool().Draw(t, "enabled"),
		}
	})
}

func foreignRecord() *rapid.Generator[cloudflaresim.Record] {
	names := rapid.SampledFrom([]string{"acme.example", "acme.example", "www.acme.example", "mail.acme.example", "_dmarc.acme.example", "MAIL.acme.example",
		"mf1-rsa._domainkey.acme.example", "s1._domainkey.acme.example", "*.acme.example", "deep.er.acme.example", "_mta-sts.acme.example",
		"mta-sts.acme.example", "_smtp._tls.acme.example", "_imaps._tcp.acme.example", "_25._tcp.mail.acme.example", "autoconfig.acme.example",
		"team.acme.example", "_dmarc.team.acme.example", "xn--bcher-kva.example", "_dmarc.xn--bcher-kva.example", "autodiscover.xn--bcher-kva.example"})
	texts := rapid.OneOf(
		rapid.SampledFrom([]string{"v=spf1 include:_spf.shop.example ~all", "v=spf1 mx -all", "v=spf1 redirect=_spf.big.example",
			"V=SPF1 A:Mail.Acme.Example. -all", "v=spf1 frob:x -all", "v=DMARC1; p=none", "v=DMARC1;p=reject;rua=mailto:postmaster@acme.example", "v=DKIM1; p=abc",
			"google-site-verification=xyz", "MS=ms123", "v=spf10", "v=STSv1; id=1;", "v=TLSRPTv1;rua=mailto:x@y.example", `quo"ted \ and; split`}),
		rapid.StringN(1, 40, 300),
	)
	return rapid.Custom(func(t *rapid.T) cloudflaresim.Record {
		r := cloudflaresim.Record{
			Name:    names.Draw(t, "name"),
			Type:    rapid.SampledFrom([]string{"TXT", "TXT", "TXT", "A", "AAAA", "MX", "CNAME", "CAA", "SRV", "TLSA", "HTTPS"}).Draw(t, "type"),
			TTL:     rapid.SampledFrom([]int{1, 60, 300, 3600}).Draw(t, "ttl"),
			Comment: rapid.SampledFrom([]string{"", "", "by hand", "mf1:other:acme.example/mx", "mf1:acme-mail"}).Draw(t, "comment"),
		}
		switch r.Type {
		case "TXT":
			text := texts.Draw(t, "text")
			r.Content = text
			if rapid.Bool().Draw(t, "quoted") || strings.HasPrefix(text, `"`) {
				r.Content = quoteTXT([]byte(text))
			}
		case "A":
			r.Content = rapid.SampledFrom([]string{testIP, "192.0.2.1"}).Draw(t, "ip")
			r.Proxied = rapid.Bool().Draw(t, "proxied")
		case "AAAA":
			r.Content = rapid.SampledFrom([]string{"2001:db8::1", "2001:DB8:0:0::25"}).Draw(t, "ip")
		case "MX":
			r.Content = rapid.SampledFrom([]string{"mail.acme.example", "Mail.ACME.example.", "mx.elsewhere.example"}).Draw(t, "target")
			p := rapid.SampledFrom([]int{0, 10}).Draw(t, "priority")
			r.Priority = &p
		case "CNAME":
			r.Content = "Elsewhere.example."
		case "CAA":
			v := rapid.SampledFrom([]string{"letsencrypt.org", "LetsEncrypt.org; validationmethods=dns-01", ";", "ca.example"}).Draw(t, "issuer")
			tag := rapid.SampledFrom([]string{"issue", "issuewild", "iodef"}).Draw(t, "tag")
			r.Content, r.Data = "0 "+tag+` "`+v+`"`, fmt.Appendf(nil, `{"flags":0,"tag":%q,"value":%q}`, tag, v)
		case "SRV":
			target := rapid.SampledFrom([]string{"mail.acme.example", "imap.elsewhere.example.", "."}).Draw(t, "target")
			r.Data = fmt.Appendf(nil, `{"priority":0,"weight":1,"port":993,"target":%q}`, target)
		case "TLSA":
			r.Data = fmt.Appendf(nil, `{"usage":3,"selector":1,"matching_type":1,"certificate":"%s"}`, strings.Repeat("ab", 32))
		case "HTTPS":
			r.Content, r.Data = `1 . alpn="h2"`, []byte(`{"priority":1,"target":".","value":"alpn=\"h2\""}`)
		}
		return r
	})
}

func anySpec(block bool) *rapid.Generator[*specs.Spec] {
	return rapid.Custom(func(t *rapid.T) *specs.Spec {
		s := testSpec()
		d := s.Domains[0]
		d.SPF.Include = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a.example", "b.example", "_spf.shop.example"}), 0, 3, rapid.ID[string]).Draw(t, "include")
		d.SPF.All = rapid.SampledFrom([]string{"fail", "softfail", "neutral"}).Draw(t, "all")
		d.DKIM.Algorithms = rapid.SampledFrom([][]string{{"rsa2048"}, {"ed25519"}, {"rsa4096", "ed25519"}}).Draw(t, "algorithms")
		d.DMARC.Policy = rapid.SampledFrom([]string{"none", "reject"}).Draw(t, "policy")
		d.MX.Priority = rapid.SampledFrom([]int{0, 10}).Draw(t, "priority")
		if rapid.Bool().Draw(t, "policy") {
			d.MTASTS = &specs.MTASTS{Mode: rapid.SampledFrom([]string{"testing", "enforce"}).Draw(t, "mode"), MaxAge: 7 * 24 * time.Hour}
			d.TLSRPT = &specs.TLSRPT{Reports: []string{"tls,reports@acme.example"}}
		}
		d.Discovery, d.DANE = rapid.Bool().Draw(t, "discovery"), rapid.Bool().Draw(t, "dane")
		if block {
			z := &specs.Zone{Name: "acme.example"}
			z.CAA = rapid.SampledFrom([][]string{nil, {"letsencrypt.org"}, {"pki.goog", "LetsEncrypt.org"}}).Draw(t, "caa")
			z.SecurityLevel = rapid.SampledFrom([]string{"", "high", "under_attack"}).Draw(t, "level")
			for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"www", "@"}), rapid.ID).Draw(t, "web") {
				z.Web = append(z.Web, specs.Web{Name: name, Host: "mx1", Proxied: rapid.Bool().Draw(t, "proxied")})
			}
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID).Draw(t, "rules") {
				z.Rules = append(z.Rules, specs.ZoneRule{Name: name, Action: "block", Expression: "(" + rapid.SampledFrom([]string{"x", "y"}).Draw(t, "expression") + ")"})
			}
			s.Zones = []*specs.Zone{z}
		}
		switch rapid.IntRange(0, 6).Draw(t, "shape") {
		case 0:
			d.SPF = nil
		case 1:
			d.DMARC, d.DKIM = nil, nil
		case 2:
			s.Hosts[0].Instance, s.Hosts[0].Address = nil, netip.MustParseAddr("2001:db8::25")
		case 3:
			s.Hosts[0].Name, d.Host = "other", "other"
			for _, z := range s.Zones {
				for i := range z.Web {
					z.Web[i].Host = "other"
				}
			}
		case 4: // a second domain with an international name
			second := *d
			second.Name = "xn--bcher-kva.example"
			s.Domains = append(s.Domains, &second)
		case 5: // in its parent's zone
			second := *d
			second.Name = "team.acme.example"
			s.Domains = append(s.Domains, &second)
		}
		return s
	})
}

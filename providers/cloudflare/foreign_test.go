package cloudflare

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"mailform/providers/cloudflare/cloudflaresim"
	"mailform/specs"
)

// Whatever else is in a zone: nothing that is not ours is changed, and after an
// apply there is nothing left to do. What is in the way is blocked; an SPF record
// of others is joined and still has everything they put in.
func TestForeignRecordsAreNeverChanged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, cloudflaresim.Config{Zones: []cloudflaresim.Zone{{Name: "acme.example"}, {Name: "bücher.example"}}})
		// What cannot be there: two equal records, or a CNAME beside an address.
		exclusive, seen := map[string]string{}, map[string]bool{}
		for _, r := range rapid.SliceOfN(foreignRecord(), 0, 12).Draw(rt, "records") {
			if address := r.Type == "A" || r.Type == "AAAA"; address || r.Type == "CNAME" {
				if first := exclusive[r.Name]; first != "" && (first == "CNAME" || r.Type == "CNAME") {
					continue
				}
				exclusive[r.Name] = r.Type
			}
			key := r.Type + " " + r.Name + " " + canonicalContent(r.Type, r.Content)
			if seen[key] {
				continue
			}
			seen[key] = true
			w.sim.Seed("acme.example", r)
		}
		for range 2 {
			before := w.sim.Records("acme.example")
			w.ip = rapid.SampledFrom([]string{testIP, "203.0.113.8"}).Draw(rt, "ip")
			w.apply(anySpec().Draw(rt, "spec"), how{allow: []string{"**"}})
			after := map[string]cloudflaresim.Record{}
			for _, r := range w.sim.Records("acme.example") {
				after[r.ID] = r
			}
			for _, was := range before {
				if err := untouched(was, after[was.ID]); err != "" {
					rt.Fatalf("%s became %s: %s", line(was), line(after[was.ID]), err)
				}
			}
		}
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
		if sprint(is) != sprint(was) {
			return "it changed"
		}
		return ""
	}
	if is.Type != was.Type || is.Name != was.Name {
		return "it is something else"
	}
	// Adopted or joined: it says at least what it said.
	old, err := parseSPF(string(parseTXT(was.Content)))
	if err != nil {
		if canonicalTags(canonicalContent(is.Type, is.Content)) != canonicalTags(canonicalContent(was.Type, was.Content)) {
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

func foreignRecord() *rapid.Generator[cloudflaresim.Record] {
	names := rapid.SampledFrom([]string{"acme.example", "www.acme.example", "mail.acme.example", "_dmarc.acme.example",
		"mf1-rsa._domainkey.acme.example", "s1._domainkey.acme.example", "*.acme.example", "deep.er.acme.example"})
	texts := rapid.OneOf(
		rapid.SampledFrom([]string{"v=spf1 include:_spf.shop.example ~all", "v=spf1 mx -all", "v=spf1 redirect=_spf.big.example",
			"v=spf1 frob:x -all", "v=DMARC1; p=none", "v=DMARC1;p=reject;rua=mailto:postmaster@acme.example", "v=DKIM1; p=abc",
			"google-site-verification=xyz", "MS=ms123", "v=spf10"}),
		rapid.StringN(1, 40, 300),
	)
	return rapid.Custom(func(t *rapid.T) cloudflaresim.Record {
		r := cloudflaresim.Record{
			Name:    names.Draw(t, "name"),
			Type:    rapid.SampledFrom([]string{"TXT", "TXT", "TXT", "A", "AAAA", "MX", "CNAME", "CAA"}).Draw(t, "type"),
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
			r.Content = "2001:db8::1"
		case "MX":
			r.Content = rapid.SampledFrom([]string{"mail.acme.example", "mx.elsewhere.example"}).Draw(t, "target")
			p := rapid.SampledFrom([]int{0, 10}).Draw(t, "priority")
			r.Priority = &p
		case "CNAME":
			r.Content = "elsewhere.example"
		case "CAA":
			r.Content, r.Data = `0 issue "letsencrypt.org"`, []byte(`{"flags":0,"tag":"issue","value":"letsencrypt.org"}`)
		}
		return r
	})
}

func anySpec() *rapid.Generator[*specs.Spec] {
	return rapid.Custom(func(t *rapid.T) *specs.Spec {
		s := testSpec()
		d := s.Domains[0]
		d.SPF.Include = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a.example", "b.example", "_spf.shop.example"}), 0, 3, rapid.ID[string]).Draw(t, "include")
		d.SPF.All = rapid.SampledFrom([]string{"fail", "softfail", "neutral"}).Draw(t, "all")
		d.DKIM.Algorithms = rapid.SampledFrom([][]string{{"rsa2048"}, {"ed25519"}, {"rsa4096", "ed25519"}}).Draw(t, "algorithms")
		d.DMARC.Policy = rapid.SampledFrom([]string{"none", "reject"}).Draw(t, "policy")
		d.MX.Priority = rapid.SampledFrom([]int{0, 10}).Draw(t, "priority")
		switch rapid.IntRange(0, 5).Draw(t, "shape") {
		case 0:
			d.SPF = nil
		case 1:
			d.DMARC, d.DKIM = nil, nil
		case 2:
			s.Hosts[0].Instance, s.Hosts[0].Address = nil, netip.MustParseAddr("2001:db8::25")
		case 3:
			s.Hosts[0].Name, d.Host = "other", "other"
		case 4: // a second domain with an international name
			second := *d
			second.Name = "xn--bcher-kva.example"
			s.Domains = append(s.Domains, &second)
		}
		return s
	})
}

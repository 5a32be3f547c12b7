package queue

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestLookups(t *testing.T) {
	address := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		switch name, kind := q.Question[0].Name, q.Question[0].Qtype; {
		case name == "txt.example." && kind == dns.TypeTXT:
			for _, text := range [][]string{{"v=spf1 ", "-all"}, {`say \"hi\" \\ \009\195\169`}} {
				m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 60}, Txt: text})
			}
		case name == "2.0.0.127.bl.example." && kind == dns.TypeA:
			rr, _ := dns.NewRR(name + " 60 IN A 127.0.0.2")
			m.Answer = append(m.Answer, rr)
		case kind == dns.TypePTR && (name == "1.2.0.192.in-addr.arpa." || name == "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."):
			rr, _ := dns.NewRR(name + " 60 IN PTR mail.example.")
			m.Answer = append(m.Answer, rr)
		default:
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	d, err := NewDNS(address, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.LookupTXT(t.Context(), "txt.example"); err != nil || !slices.Equal(got, []string{"v=spf1 -all", "say \"hi\" \\ \té"}) {
		t.Errorf("TXT: %q, %v", got, err)
	}
	if got, err := d.LookupA(t.Context(), "2.0.0.127.bl.example"); err != nil || len(got) != 1 || got[0] != netip.MustParseAddr("127.0.0.2") {
		t.Errorf("A: %v, %v", got, err)
	}
	for _, a := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"} {
		if got, err := d.LookupPTR(t.Context(), netip.MustParseAddr(a)); err != nil || !slices.Equal(got, []string{"mail.example."}) {
			t.Errorf("PTR of %s: %v, %v", a, got, err)
		}
	}
	if _, err := d.LookupPTR(t.Context(), netip.MustParseAddr("192.0.2.2")); !errors.Is(err, ErrNoDomain) {
		t.Errorf("no PTR: %v", err)
	}
	if _, err := d.LookupTXT(t.Context(), "missing.example"); !errors.Is(err, ErrNoDomain) {
		t.Errorf("no TXT: %v", err)
	}
}

func FuzzUnescape(f *testing.F) {
	f.Add(`a\"b\\c\065`)
	f.Add(`\`)
	f.Add(`\99`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := unescape(s); len(got) > len(s) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

package cloudflaresim

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func newNames(t *testing.T) (*Server, *DNS) {
	t.Helper()
	ten := 10
	s := New(Config{
		Zones: []Zone{{Name: "a.example"}, {Name: "pending.example", Status: "pending"}},
		Static: []StaticZone{
			{Origin: "outside.example", Records: []string{"@ 300 IN MX 10 mx", "mx 300 IN A 127.100.9.1"}},
			{Origin: "100.127.in-addr.arpa", Records: []string{"1.9 300 IN PTR mx.outside.example."}},
		},
	})
	s.Seed("a.example",
		Record{Type: "A", Name: "mail.a.example", Content: "127.100.0.1"},
		Record{Type: "MX", Content: "mail.a.example", Priority: &ten},
		Record{Type: "TXT", Content: `"v=spf1 mx -all"`},
		Record{Type: "TXT", Name: "key._domainkey.a.example", Content: quoteString(strings.Repeat("k", 200)) + quoteString(strings.Repeat("l", 200)) + quoteString(strings.Repeat("m", 200)) + quoteString(strings.Repeat("n", 200))},
		Record{Type: "TXT", Name: "key._domainkey.a.example", Content: strings.Repeat("unquoted", 80)},
		Record{Type: "CNAME", Name: "imap.a.example", Content: "mail.a.example"},
		Record{Type: "CNAME", Name: "far.a.example", Content: "mx.outside.example"},
		Record{Type: "CNAME", Name: "loop.a.example", Content: "loop2.a.example"},
		Record{Type: "CNAME", Name: "loop2.a.example", Content: "loop.a.example"},
		Record{Type: "CNAME", Name: "gone.a.example", Content: "nowhere.a.example"},
		Record{Type: "A", Name: "proxied.a.example", Content: "127.100.0.1", Proxied: true},
		Record{Type: "A", Name: "*.wild.a.example", Content: "127.100.0.3"},
		Record{Type: "SRV", Name: "_imaps._tcp.a.example", Content: "0 1 993 mail.a.example"},
		Record{Type: "A", Name: "broken.a.example", Content: "nonsense"},
	)
	s.Seed("pending.example", Record{Type: "A", Content: "127.100.0.1"})
	d, err := s.ListenDNS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, d
}

func ask(t *testing.T, d *DNS, network, name string, kind uint16) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network}
	res, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, kind), d.Addr())
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[kind], err)
	}
	return res
}

func data(rrs []dns.RR) string {
	var out []string
	for _, rr := range rrs {
		out = append(out, dns.TypeToString[rr.Header().Rrtype]+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestAnswers(t *testing.T) {
	_, d := newNames(t)
	for _, c := range []struct {
		name   string
		kind   uint16
		rcode  int
		answer string
		soa    bool
	}{
		{"mail.a.example.", dns.TypeA, dns.RcodeSuccess, "A 127.100.0.1", false},
		{"mail.a.example.", dns.TypeAAAA, dns.RcodeSuccess, "", true},
		{"a.example.", dns.TypeMX, dns.RcodeSuccess, "MX 10 mail.a.example.", false},
		{"a.example.", dns.TypeTXT, dns.RcodeSuccess, `TXT "v=spf1 mx -all"`, false},
		{"a.example.", dns.TypeNS, dns.RcodeSuccess, "NS ada.ns.cloudflare.example., NS bob.ns.cloudflare.example.", false},
		{"imap.a.example.", dns.TypeA, dns.RcodeSuccess, "A 127.100.0.1, CNAME mail.a.example.", false},
		{"imap.a.example.", dns.TypeCNAME, dns.RcodeSuccess, "CNAME mail.a.example.", false},
		{"far.a.example.", dns.TypeA, dns.RcodeSuccess, "A 127.100.9.1, CNAME mx.outside.example.", false},
		{"gone.a.example.", dns.TypeA, dns.RcodeNameError, "CNAME nowhere.a.example.", true},
		{"nowhere.a.example.", dns.TypeA, dns.RcodeNameError, "", true},
		{"_domainkey.a.example.", dns.TypeTXT, dns.RcodeSuccess, "", true},
		{"example.", dns.TypeA, dns.RcodeSuccess, "", false},
		{"unknown.test.", dns.TypeA, dns.RcodeNameError, "", false},
		{"pending.example.", dns.TypeA, dns.RcodeNameError, "", false},
		{"proxied.a.example.", dns.TypeA, dns.RcodeSuccess, "A 104.16.132.229", false},
		{"x.wild.a.example.", dns.TypeA, dns.RcodeSuccess, "A 127.100.0.3", false},
		{"x.y.wild.a.example.", dns.TypeA, dns.RcodeSuccess, "A 127.100.0.3", false},
		{"wild.a.example.", dns.TypeA, dns.RcodeSuccess, "", true},
		{"_imaps._tcp.a.example.", dns.TypeSRV, dns.RcodeSuccess, "SRV 0 1 993 mail.a.example.", false},
		{"broken.a.example.", dns.TypeA, dns.RcodeNameError, "", true},
		{"outside.example.", dns.TypeMX, dns.RcodeSuccess, "MX 10 mx.outside.example.", false},
		{"1.9.100.127.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, "PTR mx.outside.example.", false},
		{"a.example.", dns.TypeANY, dns.RcodeSuccess, `HINFO "RFC8482" ""`, false},
		{"a.example.", dns.TypeAXFR, dns.RcodeRefused, "", false},
	} {
		for _, network := range []string{"udp", "tcp"} {
			res := ask(t, d, network, c.name, c.kind)
			if res.Rcode != c.rcode || data(res.Answer) != c.answer || (len(res.Ns) == 1) != c.soa || !res.Authoritative {
				t.Errorf("%s %s over %s: %s %q, authority %v", c.name, dns.TypeToString[c.kind], network, dns.RcodeToString[res.Rcode], data(res.Answer), res.Ns)
			}
		}
	}
	if res := ask(t, d, "udp", "loop.a.example.", dns.TypeA); res.Rcode != dns.RcodeServerFailure {
		t.Errorf("a loop: %v", res)
	}
}

func TestSpellingIsKept(t *testing.T) {
	_, d := newNames(t)
	res := ask(t, d, "udp", "MaIl.A.eXample.", dns.TypeA)
	if len(res.Answer) != 1 || res.Question[0].Name != "MaIl.A.eXample." || res.Answer[0].Header().Name != "MaIl.A.eXample." {
		t.Errorf("got %v", res)
	}
}

func TestLargeAnswersComeOverTCP(t *testing.T) {
	_, d := newNames(t)
	res := ask(t, d, "udp", "key._domainkey.a.example.", dns.TypeTXT)
	if !res.Truncated || res.Len() > dns.MinMsgSize {
		t.Errorf("over UDP: %d bytes, truncated %v", res.Len(), res.Truncated)
	}
	res = ask(t, d, "tcp", "key._domainkey.a.example.", dns.TypeTXT)
	var sizes []int
	for _, rr := range res.Answer {
		sizes = append(sizes, len(strings.Join(rr.(*dns.TXT).Txt, "")))
	}
	slices.Sort(sizes)
	if res.Truncated || fmt.Sprint(sizes) != "[640 800]" {
		t.Errorf("over TCP: texts of %v bytes, truncated %v", sizes, res.Truncated)
	}
	m := new(dns.Msg).SetQuestion("key._domainkey.a.example.", dns.TypeTXT)
	m.SetEdns0(4096, false)
	big, _, err := new(dns.Client).Exchange(m, d.Addr())
	if err != nil || big.Truncated || len(big.Answer) != 2 || big.IsEdns0() == nil {
		t.Errorf("with EDNS: %v %v", big, err)
	}
}

// What is changed through the API is answered at once.
func TestChangesAreServed(t *testing.T) {
	s, d := newNames(t)
	serial := ask(t, d, "udp", "a.example.", dns.TypeSOA).Answer[0].(*dns.SOA).Serial
	s.Seed("a.example", Record{Type: "A", Name: "new.a.example", Content: "127.100.0.9"})
	if got := data(ask(t, d, "udp", "new.a.example.", dns.TypeA).Answer); got != "A 127.100.0.9" {
		t.Errorf("a new record: %q", got)
	}
	if now := ask(t, d, "udp", "a.example.", dns.TypeSOA).Answer[0].(*dns.SOA).Serial; now <= serial {
		t.Errorf("the serial went from %d to %d", serial, now)
	}
	s.SetZoneStatus("pending.example", "active")
	if got := data(ask(t, d, "udp", "pending.example.", dns.TypeA).Answer); got != "A 127.100.0.1" {
		t.Errorf("a zone that became active: %q", got)
	}
	if err := s.SetStatic(StaticZone{Origin: "100.127.in-addr.arpa", Records: []string{"1.0 300 IN PTR mail.a.example."}}); err != nil {
		t.Fatal(err)
	}
	if got := data(ask(t, d, "udp", "1.0.100.127.in-addr.arpa.", dns.TypePTR).Answer); got != "PTR mail.a.example." {
		t.Errorf("a static zone that was replaced: %q", got)
	}
	if err := s.SetStatic(StaticZone{Origin: "x.example", Records: []string{"@ IN A nonsense"}}); err == nil {
		t.Error("a static zone that makes no sense is taken")
	}
}

func TestOddQueries(t *testing.T) {
	s, _ := newNames(t)
	notify := new(dns.Msg).SetNotify("a.example.")
	if got := s.answer(notify, false).Rcode; got != dns.RcodeNotImplemented {
		t.Errorf("NOTIFY: %s", dns.RcodeToString[got])
	}
	if got := s.answer(new(dns.Msg), false).Rcode; got != dns.RcodeFormatError {
		t.Errorf("no question: %s", dns.RcodeToString[got])
	}
	chaos := new(dns.Msg).SetQuestion("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	if got := s.answer(chaos, false).Rcode; got != dns.RcodeRefused {
		t.Errorf("CHAOS: %s", dns.RcodeToString[got])
	}
}

func FuzzAnswer(f *testing.F) {
	m, _ := new(dns.Msg).SetQuestion("imap.a.example.", dns.TypeA).Pack()
	f.Add(m)
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1})
	s := New(Config{Zones: []Zone{{Name: "a.example"}}})
	s.Seed("a.example", Record{Type: "CNAME", Content: "x.a.example"}, Record{Type: "CNAME", Name: "x.a.example", Content: "a.example"},
		Record{Type: "CNAME", Name: "imap.a.example", Content: "*.a.example"}, Record{Type: "A", Name: "*.a.example", Content: "127.0.0.1"})
	f.Fuzz(func(t *testing.T, packet []byte) {
		req := new(dns.Msg)
		if req.Unpack(packet) != nil {
			return
		}
		res := s.answer(req, false)
		if _, err := res.Pack(); err != nil {
			t.Fatalf("%v is answered with %v: %v", req, res, err)
		}
	})
}

package filter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailform/server/mailauth"
	"mailform/server/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zone is a DNS. Names that are not in it do not exist; those in broken do not answer.
type zone struct {
	txt    map[string]string
	addr   map[string][]string
	ptr    map[string][]string
	broken map[string]bool
	hang   bool // until the context ends

	mu    sync.Mutex
	asked []string
}

func lookup[T any](ctx context.Context, z *zone, name string, from map[string]T) (v T, err error) {
	z.mu.Lock()
	z.asked = append(z.asked, name)
	z.mu.Unlock()
	if z.hang {
		<-ctx.Done()
		return v, ctx.Err()
	}
	if z.broken[name] {
		return v, errors.New("SERVFAIL")
	}
	v, ok := from[name]
	if !ok {
		err = mailauth.ErrNoName
	}
	return v, err
}

func (z *zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	text, err := lookup(ctx, z, name, z.txt)
	return []string{text}, err
}

func (z *zone) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	_, err := lookup(ctx, z, name, map[string]bool{})
	return nil, err
}

func (z *zone) LookupAddr(ctx context.Context, name string) ([]netip.Addr, error) {
	list, err := lookup(ctx, z, name, z.addr)
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, err
}

func (z *zone) LookupA(ctx context.Context, name string) ([]netip.Addr, error) {
	return z.LookupAddr(ctx, name)
}

func (z *zone) LookupPTR(ctx context.Context, a netip.Addr) ([]string, error) {
	return lookup(ctx, z, a.String(), z.ptr)
}

// world has one well-kept mail server (192.0.2.7, mx.good.example), one without
// a name (198.51.100.9) and two blocklists.
func world() *zone {
	return &zone{
		txt: map[string]string{
			"good.example":           "v=spf1 ip4:192.0.2.7 -all",
			"_dmarc.good.example":    "v=DMARC1; p=reject",
			"careful.example":        "v=spf1 -all",
			"_dmarc.careful.example": "v=DMARC1; p=quarantine",
			"_dmarc.lax.example":     "v=DMARC1; p=none",
		},
		addr: map[string][]string{
			"mx.good.example":          {"192.0.2.7"},
			"mx.other.example":         {"203.0.113.1"},
			"9.100.51.198.bl.example":  {"127.0.0.2"},
			"10.100.51.198.bl.example": {"127.255.255.254"}, // an error, not a listing
			"11.100.51.198.bl.example": {"203.0.113.80"},    // a parked domain answers
			"12.100.51.198.bl.example": {"127.0.0.1"},
			"9.100.51.198.bl2.example": {"127.0.0.10"},
			"unconfirmed.example":      {"203.0.113.1"},
		},
		ptr:    map[string][]string{"192.0.2.7": {"mx.good.example."}, "198.51.100.20": {"unconfirmed.example."}},
		broken: map[string]bool{},
	}
}

type rig struct {
	*Filter
	dns *zone
	now time.Time
}

func start(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{dns: world(), now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	cfg := Config{Resolver: r.dns, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return r.now },
		Local: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if r.Filter, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) client(addr, helo string) *Client { return r.Client(netip.MustParseAddr(addr), helo) }

// rcpt is the reply to a first recipient.
func (r *rig) rcpt(p *manifest.Filter, addr, helo, from, to string) string {
	m := r.client(addr, helo).Begin(context.Background(), p, from)
	refusal, _ := m.Recipient(to)
	m.clientFacts() // not before every look-up has ended may a test change the DNS
	if refusal == nil {
		return ""
	}
	return refusal.String()
}

func TestFacts(t *testing.T) {
	r := start(t)
	r.dns.broken["198.51.100.30"], r.dns.broken["down.example"] = true, true
	bl := &manifest.Filter{DNSBL: []string{"bl.example", "bl2.example"}}
	for _, tc := range []struct{ addr, helo, from, want string }{
		{"192.0.2.7", "mx.good.example", "x@good.example", "spf-pass(-1)"},
		{"192.0.2.7", "MX.good.example.", "x@good.example", "spf-pass(-1)"},
		{"192.0.2.7", "[192.0.2.7]", "x@lax.example", "helo-literal"},
		{"192.0.2.7", "[IPv6:::ffff:192.0.2.7]", "x@lax.example", "helo-literal"},
		{"192.0.2.7", "[192.0.2.8]", "x@lax.example", "helo-mismatch(2)"},
		{"192.0.2.7", "mx.other.example", "x@lax.example", "helo-mismatch(2)"},
		{"192.0.2.7", "localhost", "x@lax.example", "helo-syntax(3)"},
		{"192.0.2.7", "a_b(c).example", "x@lax.example", "helo-syntax(3)"},
		{"192.0.2.7", "down.example", "x@lax.example", "helo-unknown"},
		{"198.51.100.20", "mx.other.example", "x@good.example", "rdns-unconfirmed(2) helo-mismatch(2) spf-fail(3)"},
		{"198.51.100.30", "mx.other.example", "x@lax.example", "rdns-unknown helo-mismatch(2)"},
		{"198.51.100.9", "mx.other.example", "x@lax.example", "no-rdns(3) helo-mismatch(2) listed:bl.example(10) listed:bl2.example(10)"},
		{"198.51.100.10", "mx.other.example", "x@lax.example", "no-rdns(3) helo-mismatch(2) refuses-us:bl.example"},
		{"198.51.100.11", "mx.other.example", "x@lax.example", "no-rdns(3) helo-mismatch(2)"},
		{"198.51.100.12", "mx.other.example", "x@lax.example", "no-rdns(3) helo-mismatch(2)"},
		{"::ffff:198.51.100.12", "mx.other.example", "x@lax.example", "no-rdns(3) helo-mismatch(2)"},
		{"127.0.0.1", "x.example", "x@lax.example", "no-rdns(3) helo-mismatch(2)"},
	} {
		got := strings.Join(r.client(tc.addr, tc.helo).Begin(t.Context(), bl, tc.from).clientFacts().Strings(), " ")
		if got != tc.want {
			t.Errorf("%s %s <%s>: %s, want %s", tc.addr, tc.helo, tc.from, got, tc.want)
		}
	}
	r.dns.broken["9.100.51.198.bl.example"] = true
	if got := r.client("198.51.100.9", "x").Begin(t.Context(), bl, "").clientFacts().Strings(); !slices.Contains(got, "no-answer:bl.example") {
		t.Errorf("a silent blocklist: %v", got)
	}
}

// RFC 5782 2.1 and 2.4 give these names.
func TestListingName(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.99":                "99.2.0.192",
		"2001:db8:1:2:3:4:567:89ab": "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2",
	} {
		if got := listingName(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestBlocklist(t *testing.T) {
	r := start(t)
	bl := &manifest.Filter{DNSBL: []string{"bl.example"}}
	if got := r.rcpt(bl, "198.51.100.9", "mx.other.example", "x@lax.example", "alice@example.com"); got != "550 5.7.1 198.51.100.9 is listed by bl.example; write to postmaster if you think it should not be" {
		t.Errorf("a listed client: %q", got)
	}
	for _, to := range []string{"postmaster@example.com", "Abuse@example.com"} {
		if got := r.rcpt(bl, "198.51.100.9", "mx.other.example", "x@lax.example", to); got != "" {
			t.Errorf("to %s: %q", to, got)
		}
	}
	for _, addr := range []string{"192.0.2.7", "198.51.100.10", "198.51.100.11", "198.51.100.12"} {
		if got := r.rcpt(bl, addr, "mx.other.example", "x@lax.example", "alice@example.com"); got != "" {
			t.Errorf("%s: %q", addr, got)
		}
	}
	if got := r.rcpt(nil, "198.51.100.9", "mx.other.example", "x@lax.example", "alice@example.com"); got != "" {
		t.Errorf("without a policy: %q", got)
	}
	r.dns.broken["9.100.51.198.bl.example"] = true
	if got := r.rcpt(bl, "198.51.100.9", "mx.other.example", "x@lax.example", "alice@example.com"); got != "" {
		t.Errorf("when the list does not answer: %q", got)
	}
	if c := r.Counts(); c != (Counts{Refused: 1}) {
		t.Errorf("counts: %+v", c)
	}
	// Our own machine is not asked about.
	r.dns.asked = nil
	r.rcpt(&manifest.Filter{DNSBL: []string{"bl.example"}, Greylist: true}, "127.0.0.1", "x", "x@lax.example", "alice@example.com")
	if slices.ContainsFunc(r.dns.asked, func(n string) bool { return strings.HasSuffix(n, "bl.example") }) {
		t.Errorf("asked %v", r.dns.asked)
	}
}

// Whatever hangs: mail comes in when the time is up.
func TestBudget(t *testing.T) {
	r := start(t, func(c *Config) { c.Budget = 20 * time.Millisecond })
	r.dns.hang = true
	all := &manifest.Filter{DNSBL: []string{"bl.example", "bl2.example"}, Greylist: true, DMARC: true, Attachments: []string{"exe"}}
	m := r.client("198.51.100.9", "mx.other.example").Begin(t.Context(), all, "x@good.example")
	if refusal, _ := m.Recipient("alice@example.com"); refusal != nil {
		t.Errorf("recipient: %v", refusal)
	}
	v, err := m.Message(t.Context(), message("x@good.example", "DKIM-Signature: v=1; a=rsa-sha256; d=good.example; s=s; h=from; bh=AA==; b=AA==\r\n", "text"))
	if err != nil || v.Refuse != nil || v.Junk {
		t.Errorf("%+v, %v", v, err)
	}
	if got := string(v.Header); !strings.Contains(got, "spf=temperror") || !strings.Contains(got, "dkim=temperror") || !strings.Contains(got, "dmarc=temperror") || !strings.Contains(got, "iprev=temperror") {
		t.Errorf("header %s", got)
	}
}

// One connection's messages share what was found out about it.
func TestClientIsLookedUpOnce(t *testing.T) {
	r := start(t)
	c := r.client("198.51.100.9", "mx.other.example")
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			m := c.Begin(t.Context(), &manifest.Filter{DNSBL: []string{"bl.example"}}, fmt.Sprintf("x%d@lax.example", i))
			if refusal, _ := m.Recipient("alice@example.com"); refusal == nil {
				t.Error("not refused")
			}
		})
	}
	wg.Wait()
	n := 0
	for _, name := range r.dns.asked {
		if name == "9.100.51.198.bl.example" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the blocklist was asked %d times", n)
	}
}

func message(from, extra, text string) Message {
	body := extra + "From: " + from + "\r\nSubject: x\r\n\r\n" + text + "\r\n"
	return Message{Hostname: "mail.example.com", Authors: []string{from}, FromSeen: 1, Body: bytes.NewReader([]byte(body))}
}

// The author's domain says what happens to mail that is not its own, if it is to
// be obeyed.
func TestDMARCPolicy(t *testing.T) {
	r := start(t)
	obey := &manifest.Filter{DMARC: true}
	for name, tc := range map[string]struct {
		policy *manifest.Filter
		addr   string
		from   string // of MAIL
		change func(*Message)
		want   string
	}{
		"its own":        {obey, "192.0.2.7", "x@good.example", nil, "take"},
		"reject":         {obey, "198.51.100.9", "x@good.example", nil, "550 5.7.1 Refused by the DMARC policy of good.example: neither SPF nor DKIM shows that it sent this message"},
		"not obeyed":     {&manifest.Filter{}, "198.51.100.9", "x@good.example", nil, "take"},
		"no filter":      {nil, "198.51.100.9", "x@good.example", nil, "take"},
		"quarantine":     {obey, "198.51.100.9", "x@careful.example", nil, "junk"},
		"none":           {obey, "198.51.100.9", "x@lax.example", nil, "take"},
		"no record":      {obey, "198.51.100.9", "x@unheard.example", nil, "take"},
		"two From":       {obey, "192.0.2.7", "x@good.example", func(m *Message) { m.FromSeen = 2 }, "550 5.7.1 The message has more than one From field"},
		"two From, lax":  {nil, "192.0.2.7", "x@good.example", func(m *Message) { m.FromSeen = 2 }, "take"},
		"garbled From":   {obey, "192.0.2.7", "x@good.example", func(m *Message) { m.Authors = nil }, "junk"},
		"no From at all": {obey, "192.0.2.7", "x@good.example", func(m *Message) { m.Authors, m.FromSeen = nil, 0 }, "junk"},
		"DNS is down":    {obey, "198.51.100.9", "x@broken.example", nil, "take"},
	} {
		r.dns.broken["_dmarc.broken.example"] = true
		msg := message(tc.from, "", "text")
		if tc.change != nil {
			tc.change(&msg)
		}
		v, err := r.client(tc.addr, "mx.other.example").Begin(t.Context(), tc.policy, tc.from).Message(t.Context(), msg)
		if err != nil {
			t.Fatal(err)
		}
		got := "take"
		if v.Refuse != nil {
			got = v.Refuse.String()
		} else if v.Junk {
			got = "junk"
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
		if h := string(v.Header); !strings.HasPrefix(h, "Authentication-Results: mail.example.com;\r\n") || strings.Contains(h, FactsField) != (tc.policy != nil) {
			t.Errorf("%s: header\n%s", name, h)
		}
	}
	if c := r.Counts(); c != (Counts{Refused: 2, Junk: 3}) {
		t.Errorf("counts: %+v", c)
	}
}

func TestFactsLine(t *testing.T) {
	got := string(factsLine(Facts{{"no-rdns", 3}, {"dkim-pass:x\r\nEvil: y", 0}, {"spf-pass", -1}}))
	if want := "X-Mailform-Facts: score=2;\r\n\tno-rdns(3);\r\n\tdkim-pass:x??Evil: y;\r\n\tspf-pass(-1)\r\n"; got != want {
		t.Errorf("got %q", got)
	}
}

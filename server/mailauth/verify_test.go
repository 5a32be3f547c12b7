package mailauth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// zone is a DNS. Names that are not in it do not exist; those in broken do not answer.
type zone struct {
	txt    map[string][]string
	mx     map[string][]string
	addr   map[string][]string
	ptr    map[string][]string
	broken map[string]bool
	hang   bool // until the context ends

	mu    sync.Mutex
	asked []string
}

func (z *zone) ask(ctx context.Context, name string, from map[string][]string) ([]string, error) {
	z.mu.Lock()
	z.asked = append(z.asked, name)
	z.mu.Unlock()
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if z.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if z.broken[name] {
		return nil, errors.New("192.0.2.53:53: SERVFAIL")
	}
	list, ok := from[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, ErrNoName)
	}
	return list, nil
}

func (z *zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return z.ask(ctx, name, z.txt)
}

func (z *zone) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	list, err := z.ask(ctx, name, z.mx)
	var out []*net.MX
	for _, h := range list {
		out = append(out, &net.MX{Host: h})
	}
	return out, err
}

func (z *zone) LookupAddr(ctx context.Context, name string) ([]netip.Addr, error) {
	list, err := z.ask(ctx, name, z.addr)
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, err
}

func (z *zone) LookupPTR(ctx context.Context, a netip.Addr) ([]string, error) {
	return z.ask(ctx, a.String(), z.ptr)
}

// RFC 7208, through our resolver and its limits.
func TestCheckSPF(t *testing.T) {
	z := &zone{
		txt: map[string][]string{
			"pass.example":     {"google-site-verification=x", "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"},
			"fail.example":     {"v=spf1 -all"},
			"soft.example":     {"v=spf1 ~all"},
			"neutral.example":  {"v=spf1 ?all"},
			"norecord.example": {"hello"},
			"two.example":      {"v=spf1 -all", "v=spf1 +all"},
			"syntax.example":   {"v=spf1 ip4:999.1.1.1 -all"},
			"mx.example":       {"v=spf1 mx -all"},
			"a.example":        {"v=spf1 a:mail.a.example -all"},
			"ptr.example":      {"v=spf1 ptr -all"},
			"broken.example":   {"v=spf1 include:servfail.example -all"},
			"loop.example":     {"v=spf1 include:loop.example -all"},
			"void.example":     {"v=spf1 a:no1.example a:no2.example a:no3.example -all"},
			"deep.example":     {"v=spf1 include:d1.example -all"},
			"huge.example":     {"v=spf1 " + strings.Repeat("ip4:10.0.0.1 ", 1000) + "-all"},
			"macro.example":    {"v=spf1 exists:%{l}.%{i}.users.macro.example -all"},
			"helo.example":     {"v=spf1 ip4:192.0.2.7 -all"},
		},
		mx:     map[string][]string{"mx.example": {"mail.a.example."}},
		addr:   map[string][]string{"mail.a.example": {"192.0.2.7", "2001:db8::7"}, "x.ptr.example": {"192.0.2.7"}, "alice.192.0.2.7.users.macro.example": {"127.0.0.2"}},
		ptr:    map[string][]string{"192.0.2.7": {"x.ptr.example."}},
		broken: map[string]bool{"servfail.example": true, "down.example": true},
	}
	for i := range 12 {
		z.txt[fmt.Sprintf("d%d.example", i+1)] = []string{fmt.Sprintf("v=spf1 include:d%d.example -all", i+2)}
	}
	for _, tc := range []struct {
		addr, from string
		want       Result
	}{
		{"192.0.2.7", "x@pass.example", Pass},
		{"::ffff:192.0.2.7", "x@Pass.Example.", Pass},
		{"2001:db8::1", "x@pass.example", Pass},
		{"198.51.100.1", "x@pass.example", Fail},
		{"192.0.2.7", "x@fail.example", Fail},
		{"192.0.2.7", "x@soft.example", SoftFail},
		{"192.0.2.7", "x@neutral.example", Neutral},
		{"192.0.2.7", "x@norecord.example", None},
		{"192.0.2.7", "x@missing.example", None},
		{"192.0.2.7", "x@two.example", PermError},
		{"192.0.2.7", "x@syntax.example", PermError},
		{"192.0.2.7", "x@mx.example", Pass},
		{"192.0.2.8", "x@mx.example", Fail},
		{"192.0.2.7", "x@a.example", Pass},
		{"192.0.2.7", "x@ptr.example", Pass},
		{"192.0.2.7", "x@broken.example", TempError},
		{"192.0.2.7", "x@down.example", TempError},
		{"192.0.2.7", "x@loop.example", PermError},
		{"192.0.2.7", "x@void.example", PermError},
		{"192.0.2.7", "x@deep.example", PermError},
		{"192.0.2.7", "x@huge.example", PermError},
		{"192.0.2.7", "alice@macro.example", Pass},
		{"192.0.2.7", "bob@macro.example", Fail},
		{"192.0.2.7", `"a@b"@pass.example`, Pass},
		{"192.0.2.7", "x@localhost", None},
		{"192.0.2.7", "x@" + strings.Repeat("a", 64) + ".example", None},
		{"192.0.2.7", "x@[192.0.2.7]", None},
		{"192.0.2.7", "", Pass}, // the HELO name's record
	} {
		got := CheckSPF(t.Context(), z, Sender{Addr: netip.MustParseAddr(tc.addr), Helo: "helo.example", From: tc.from})
		if got.Result != tc.want {
			t.Errorf("%s from <%s>: %+v, want %s", tc.addr, tc.from, got, tc.want)
		}
		if strings.Contains(got.Reason, "192.0.2.53") {
			t.Errorf("the reason names our name server: %s", got.Reason)
		}
	}
	if got := CheckSPF(t.Context(), z, Sender{Addr: netip.MustParseAddr("192.0.2.7"), Helo: "helo.example"}); !got.Helo || got.Domain != "helo.example" {
		t.Errorf("null sender: %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := CheckSPF(ctx, &zone{hang: true}, Sender{Addr: netip.MustParseAddr("192.0.2.7"), From: "x@pass.example"}); got.Result != TempError {
		t.Errorf("when time is up: %+v", got)
	}
}

// signed returns the test message with the signatures of example.com and a DNS
// that has the keys.
func signed(t testing.TB) (text string, z *zone) {
	t.Helper()
	keys, lookup := testKeys(t)
	lines, err := keys.Sign("example.com", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	z = &zone{txt: map[string][]string{}, broken: map[string]bool{}}
	for _, name := range []string{"s-rsa._domainkey.example.com", "s-ed._domainkey.example.com"} {
		z.txt[name], _ = lookup(name)
	}
	return string(lines) + message, z
}

func TestCheckDKIM(t *testing.T) {
	text, z := signed(t)
	check := func(z *zone, text string) []DKIM {
		t.Helper()
		list, err := CheckDKIM(t.Context(), z, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	results := func(list []DKIM) string {
		var words []string
		for _, d := range list {
			words = append(words, string(d.Result))
		}
		return strings.Join(words, " ")
	}
	list := check(z, text)
	if results(list) != "pass pass" || list[0].Domain != "example.com" || list[0].Selector != "s-rsa" || list[1].Selector != "s-ed" {
		t.Errorf("an untouched message: %+v", list)
	}
	for name, tc := range map[string]struct {
		text string
		want string
	}{
		"body changed":    {strings.Replace(text, "Hello", "Hallo", 1), "fail fail"},
		"subject changed": {strings.Replace(text, "Subject: ", "Subject: Re: ", 1), "fail fail"},
		"no signature":    {message, ""},
		"no header":       {"\r\nhello\r\n", ""},
		"no empty line":   {"From: x", ""},
		"malformed":       {"DKIM-Signature: v=1; a=rsa-sha256\r\n" + message, "permerror"},
		"unsigned From":   {"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s-rsa; h=to; bh=; b=\r\n" + message, "permerror"},
		"length tag":      {strings.ReplaceAll(text, "v=1;", "v=1; l=10;"), "fail fail"},
		"another's name":  {strings.ReplaceAll(text, "d=example.com", "d=other.example"), "permerror permerror"},
		"no such key":     {strings.ReplaceAll(text, "s=s-ed", "s=gone"), "pass permerror"},
		"not a name":      {strings.ReplaceAll(text, "s=s-ed", "s="+strings.Repeat("x", 64)), "pass permerror"},
		"many signatures": {strings.Repeat("DKIM-Signature: v=1\r\n", 100) + message, strings.TrimSpace(strings.Repeat("permerror ", 8))},
		"blank lines":     {text + strings.Repeat("\r\n", 100_000) + "x", "permerror permerror"},
		"many fields":     {strings.Repeat("X: y\r\n", 2000) + text, "permerror permerror"},
		"endless folding": {"X: y\r\n" + strings.Repeat(" z\r\n", 3000) + text, "permerror permerror"},
		"many names":      {"DKIM-Signature: v=1; h=" + strings.Repeat("a:", 300) + "from\r\n" + message, "permerror"},
		"long signature":  {"DKIM-Signature: v=1; b=" + strings.Repeat("a", 9000) + "\r\n" + message, "permerror"},
	} {
		if got := results(check(z, tc.text)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	z.broken["s-ed._domainkey.example.com"] = true
	if got := results(check(z, text)); got != "pass temperror" {
		t.Errorf("one key cannot be looked up: %s", got)
	}
	z.txt["s-rsa._domainkey.example.com"] = []string{"v=DKIM1; p=" + strings.Repeat("A", 5000)}
	if got := results(check(z, text)); got != "permerror temperror" {
		t.Errorf("a key that is too long: %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if list, err := CheckDKIM(ctx, &zone{hang: true}, strings.NewReader(text)); err != nil || results(list) != "temperror temperror" {
		t.Errorf("when time is up: %s, %v", results(list), err)
	}
	broken := errors.New("disk")
	if _, err := CheckDKIM(t.Context(), z, iotest.TimeoutReader(iotest.DataErrReader(iotest.ErrReader(broken)))); !errors.Is(err, broken) {
		t.Errorf("read error: %v", err)
	}
}

// RFC 7489 6.6: whose word counts for whom.
func TestEvaluateDMARC(t *testing.T) {
	pass := func(d string) []DKIM { return []DKIM{{Result: Pass, Domain: d}} }
	none := SPF{Result: None}
	for name, tc := range map[string]struct {
		record string // of brand.example
		from   string
		spf    SPF
		dkim   []DKIM
		want   string // result, and what is wanted for sample 50
	}{
		"DKIM passes":                 {"v=DMARC1; p=reject", "x@brand.example", none, pass("brand.example"), "pass none"},
		"DKIM of a subdomain":         {"v=DMARC1; p=reject", "x@brand.example", none, pass("mail.brand.example"), "pass none"},
		"strict DKIM of a subdomain":  {"v=DMARC1; p=reject; adkim=s", "x@brand.example", none, pass("mail.brand.example"), "fail reject"},
		"DKIM of another":             {"v=DMARC1; p=reject", "x@brand.example", none, pass("evil.example"), "fail reject"},
		"SPF passes":                  {"v=DMARC1; p=reject", "x@brand.example", SPF{Result: Pass, Domain: "bounce.brand.example"}, nil, "pass none"},
		"strict SPF of a subdomain":   {"v=DMARC1; p=reject; aspf=s", "x@brand.example", SPF{Result: Pass, Domain: "bounce.brand.example"}, nil, "fail reject"},
		"SPF of another":              {"v=DMARC1; p=quarantine", "x@brand.example", SPF{Result: Pass, Domain: "evil.example"}, nil, "fail quarantine"},
		"SPF fails":                   {"v=DMARC1; p=reject", "x@brand.example", SPF{Result: SoftFail, Domain: "brand.example"}, nil, "fail reject"},
		"one signature of two":        {"v=DMARC1; p=reject", "x@brand.example", none, append(pass("brand.example"), DKIM{Result: Fail, Domain: "brand.example"}), "pass none"},
		"key not to be had":           {"v=DMARC1; p=reject", "x@brand.example", none, []DKIM{{Result: TempError, Domain: "brand.example"}}, "temperror none"},
		"another's key not to be had": {"v=DMARC1; p=reject", "x@brand.example", none, []DKIM{{Result: TempError, Domain: "evil.example"}}, "fail reject"},
		"subdomain":                   {"v=DMARC1; p=reject", "x@sub.brand.example", none, nil, "fail reject"},
		"subdomain policy":            {"v=DMARC1; p=reject; sp=none", "x@sub.brand.example", none, nil, "fail none"},
		"sp is for subdomains only":   {"v=DMARC1; p=reject; sp=none", "x@brand.example", none, nil, "fail reject"},
		"capitals":                    {"v=DMARC1 ; P=Reject ; SP = None", "x@BRAND.example", none, nil, "fail reject"},
		"a part of the mail":          {"v=DMARC1; p=reject; pct=20", "x@brand.example", none, nil, "fail quarantine"},
		"most of the mail":            {"v=DMARC1; p=reject; pct=51", "x@brand.example", none, nil, "fail reject"},
		"a part is quarantined":       {"v=DMARC1; p=quarantine; pct=0", "x@brand.example", none, nil, "fail none"},
		"nonsense in other tags":      {"v=DMARC1; p=reject; pct=all; fo=9; adkim=x; ri=-1; what", "x@brand.example", none, nil, "fail reject"},
		"no policy but reports":       {"v=DMARC1; rua=mailto:x@brand.example", "x@brand.example", none, nil, "fail none"},
		"no policy":                   {"v=DMARC1; adkim=s", "x@brand.example", none, nil, "none none"},
		"another version":             {"v=DMARC2; p=reject", "x@brand.example", none, nil, "none none"},
		"no record":                   {"", "x@brand.example", none, nil, "none none"},
		"no address":                  {"v=DMARC1; p=reject", "", none, nil, "permerror none"},
		"international name":          {"v=DMARC1; p=reject", "x@bücher.example", none, nil, "none none"},
	} {
		z := &zone{txt: map[string][]string{"_dmarc.brand.example": {"other text", tc.record}}}
		var authors []string
		if tc.from != "" {
			authors = []string{tc.from}
		}
		got := DMARC{Result: PermError}
		if domains := authorDomains(authors); len(domains) == 1 {
			got = evaluate(domains[0], lookUpPolicy(t.Context(), z, domains[0]), tc.spf, tc.dkim)
		}
		if s := fmt.Sprint(got.Result, " ", got.Disposition(50)); s != tc.want {
			t.Errorf("%s: %s, want %s (%+v)", name, s, tc.want, got)
		}
	}
}

func TestVerify(t *testing.T) {
	text, z := signed(t)
	z.txt["_dmarc.example.com"] = []string{"v=DMARC1; p=reject"}
	z.txt["_dmarc.bank.example"] = []string{"v=DMARC1; p=quarantine"}
	sender := func() SPF { return SPF{Result: Fail, Domain: "example.com"} }
	verify := func(text string, authors ...string) Results {
		t.Helper()
		r, err := Verify(t.Context(), z, authors, strings.NewReader(text), sender)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := verify(text, "alice@example.com")
	if r.DMARC.Result != Pass || len(r.DKIM) != 2 || r.SPF.Result != Fail {
		t.Errorf("a signed message: %+v", r)
	}
	want := "Authentication-Results: mail.example.net;\r\n\tiprev=pass (mx.example.com) policy.iprev=192.0.2.7;\r\n" +
		"\tspf=fail smtp.mailfrom=example.com;\r\n\tdkim=pass header.d=example.com header.s=s-rsa;\r\n\tdkim=pass header.d=example.com header.s=s-ed;\r\n" +
		"\tdmarc=pass (p=reject) header.from=example.com\r\n"
	if got := string(r.Header("mail.example.net", IPRev{Result: Pass, Addr: netip.MustParseAddr("192.0.2.7"), Name: "mx.example.com"})); got != want {
		t.Errorf("header\n%s, want\n%s", got, want)
	}
	if r := verify(message, "alice@example.com"); r.DMARC.Disposition(0) != "reject" {
		t.Errorf("a message without a signature: %+v", r)
	}
	// Of several authors' domains the worst result counts.
	for _, authors := range [][]string{{"alice@example.com", "x@bank.example"}, {"x@bank.example", "alice@example.com"}} {
		if r := verify(text, authors...); r.DMARC.Domain != "bank.example" || r.DMARC.Disposition(0) != "quarantine" {
			t.Errorf("from %v: %+v", authors, r.DMARC)
		}
	}
	for _, authors := range [][]string{nil, {"a@b@"}, {"a@1.example", "a@2.example", "a@3.example", "a@4.example"}} {
		if r := verify(text, authors...); r.DMARC.Result != PermError {
			t.Errorf("from %v: %+v", authors, r.DMARC)
		}
	}
	z.broken["_dmarc.example.com"] = true
	if r := verify(message, "alice@example.com"); r.DMARC.Result != TempError {
		t.Errorf("policy not to be had: %+v", r.DMARC)
	}
}

func TestOrganizationalDomain(t *testing.T) {
	for name, want := range map[string]string{
		"example.com": "example.com", "a.b.example.com.": "example.com", "WWW.Example.co.uk": "example.co.uk",
		"co.uk": "", "com": "", "": "", "shop.example": "shop.example", "a.shop.example": "shop.example",
	} {
		if got := OrganizationalDomain(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// fuzzZone answers every TXT question with one text.
type fuzzZone struct {
	zone
	text string
}

func (z *fuzzZone) LookupTXT(context.Context, string) ([]string, error) { return []string{z.text}, nil }

func FuzzSPFRecord(f *testing.F) {
	for _, s := range []string{"v=spf1 -all", "v=spf1 a mx ptr ip4:1.2.3.4/8 ip6:::/0 include:x exists:%{ir}.%{v}._spf.%{d2r-+,/_=} redirect=%{d}", "v=spf1 exp=%%%_%-", "v=spf1 a:%{S1234567890}/33//129"} {
		f.Add(s, "x@example.com")
	}
	f.Fuzz(func(t *testing.T, text, from string) {
		z := &fuzzZone{text: text}
		got := CheckSPF(t.Context(), z, Sender{Addr: netip.MustParseAddr("192.0.2.1"), Helo: from, From: from})
		switch got.Result {
		case None, Pass, Fail, SoftFail, Neutral, TempError, PermError:
		default:
			t.Fatalf("%+v", got)
		}
		if len(z.asked) > 200 {
			t.Fatalf("%d questions", len(z.asked))
		}
	})
}

func FuzzVerify(f *testing.F) {
	text, z := signed(f)
	rsaKey, ed := z.txt["s-rsa._domainkey.example.com"][0], z.txt["s-ed._domainkey.example.com"][0]
	f.Add(text, rsaKey, "alice@example.com")
	f.Add(text, ed, "alice@example.com")
	f.Add("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=x; s=y; t=1; x=2; q=dns/txt; z=; i=@x; h=from; bh=AA==; b=AA==\r\nFrom: x\r\n\r\n", "v=DKIM1; h=sha256; t=y:s; n=; k=rsa; p=MAA=", "")
	f.Add("DKIM-Signature:\r\n\tv=1;;\r\n\r\n", "v=DMARC1; p=none; sp=reject; pct=101; rua=", "a@b.c")
	f.Fuzz(func(t *testing.T, text, record, from string) {
		z := &fuzzZone{text: record}
		r, err := Verify(t.Context(), z, []string{from}, strings.NewReader(text), func() SPF { return SPF{Domain: from} })
		if err != nil {
			t.Fatal(err)
		}
		h := string(r.Header("mail.example.com", IPRev{Result: Fail, Name: from}))
		if strings.Count(h, "\n") != strings.Count(h, "\r\n\t")+1 || !strings.HasSuffix(h, "\r\n") {
			t.Fatalf("header %q", h)
		}
		if got := authservID(strings.TrimPrefix(h, "Authentication-Results:")); got != "mail.example.com" {
			t.Fatalf("our own field is from %q", got)
		}
	})
}

// Keys as others publish them: without a version, with blanks, in the older
// form of RFC 6376 (PKCS #1).
func TestForeignKeys(t *testing.T) {
	text, z := signed(t)
	old := z.txt["s-rsa._domainkey.example.com"][0]
	_, p, _ := strings.Cut(old, "p=")
	z.txt["s-rsa._domainkey.example.com"] = []string{" k = rsa ; t=s ; p = " + p[:100] + " " + p[100:]}
	list, err := CheckDKIM(t.Context(), z, strings.NewReader(text))
	if err != nil || list[0].Result != Pass {
		t.Errorf("%+v, %v", list, err)
	}
	der, err := base64.StdEncoding.DecodeString(p)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	z.txt["s-rsa._domainkey.example.com"] = []string{"p=" + base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(key.(*rsa.PublicKey)))}
	if list, err := CheckDKIM(t.Context(), z, strings.NewReader(text)); err != nil || list[0].Result != Pass {
		t.Errorf("%+v, %v", list, err)
	}
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	z.txt["s-ed._domainkey.example.com"] = []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(other)}
	if list, err := CheckDKIM(t.Context(), z, strings.NewReader(text)); err != nil || list[1].Result != Fail {
		t.Errorf("%+v, %v", list, err)
	}
}

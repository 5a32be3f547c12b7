package web

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestAutoconfig(t *testing.T) {
	r := start(t, Timeouts{})
	res, text := r.do(t, "GET", "https://autoconfig.example.com/mail/config-v1.1.xml?emailaddress=alice%40example.com", "")
	if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/xml") {
		t.Fatalf("%s, %s", res.Status, res.Header.Get("Content-Type"))
	}
	want := `<?xml version="1.0" encoding="UTF-8"?>
<clientConfig version="1.1">
  <emailProvider id="example.com">
    <domain>example.com</domain>
    <displayName>example.com</displayName>
    <displayShortName>example.com</displayShortName>
    <incomingServer type="imap">
      <hostname>mail.example.com</hostname>
      <port>993</port>
      <socketType>SSL</socketType>
      <authentication>password-cleartext</authentication>
      <username>%EMAILADDRESS%</username>
    </incomingServer>
    <incomingServer type="imap">
      <hostname>mail.example.com</hostname>
      <port>143</port>
      <socketType>STARTTLS</socketType>
      <authentication>password-cleartext</authentication>
      <username>%EMAILADDRESS%</username>
    </incomingServer>
    <outgoingServer type="smtp">
      <hostname>mail.example.com</hostname>
      <port>465</port>
      <socketType>SSL</socketType>
      <authentication>password-cleartext</authentication>
      <username>%EMAILADDRESS%</username>
    </outgoingServer>
    <outgoingServer type="smtp">
      <hostname>mail.example.com</hostname>
      <port>587</port>
      <socketType>STARTTLS</socketType>
      <authentication>password-cleartext</authentication>
      <username>%EMAILADDRESS%</username>
    </outgoingServer>
  </emailProvider>
</clientConfig>
`
	if text != want {
		t.Errorf("got\n%s", text)
	}
	if _, again := r.do(t, "GET", "https://autoconfig.example.com/.well-known/autoconfig/mail/config-v1.1.xml", ""); again != text {
		t.Error("the two paths differ")
	}
}

func discoverRequest(address, schema string) string {
	return `<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
  <Request>
    <EMailAddress>` + address + `</EMailAddress>
    <AcceptableResponseSchema>` + schema + `</AcceptableResponseSchema>
  </Request>
</Autodiscover>`
}

func TestAutodiscover(t *testing.T) {
	r := start(t, Timeouts{})
	for _, path := range []string{"/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml"} {
		res, text := r.do(t, "POST", "https://autodiscover.example.com"+path, discoverRequest("Alice@example.com", nsOutlook))
		if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/xml") {
			t.Fatalf("%s: %s", path, res.Status)
		}
		var got struct {
			Response struct {
				XMLName xml.Name
				Account struct {
					AccountType, Action string
					Protocol            []outlookProtocol
				}
			}
		}
		if err := xml.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		p := got.Response.Account.Protocol
		if got.Response.XMLName.Space != nsOutlook || got.Response.Account.Action != "settings" || len(p) != 2 ||
			p[0].Type != "IMAP" || p[0].Server != "mail.example.com" || p[0].Port != 993 || p[0].LoginName != "Alice@example.com" || p[0].SSL != "on" ||
			p[1].Type != "SMTP" || p[1].Port != 465 || p[1].Encryption != "SSL" {
			t.Errorf("got\n%s", text)
		}
	}
	for name, tc := range map[string]struct{ body, want string }{
		"phone":          {discoverRequest("alice@example.com", "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006"), "<ErrorCode>601</ErrorCode>"},
		"another domain": {discoverRequest("alice@other.example", nsOutlook), "<ErrorCode>500</ErrorCode>"},
		"markup":         {discoverRequest("&lt;/LoginName&gt;@example.com", nsOutlook), "<ErrorCode>500</ErrorCode>"},
		"empty":          {"", "<ErrorCode>600</ErrorCode>"},
		"not XML":        {"{}", "<ErrorCode>600</ErrorCode>"},
		"entities":       {`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>` + discoverRequest("&b;@example.com", nsOutlook), "<ErrorCode>600</ErrorCode>"},
		"deep":           {strings.Repeat("<a>", 1000), "<ErrorCode>600</ErrorCode>"},
		"many":           {"<Autodiscover>" + strings.Repeat("<a/>", 1000), "<ErrorCode>600</ErrorCode>"},
	} {
		if res, text := r.do(t, "POST", "https://autodiscover.example.com/autodiscover/autodiscover.xml", tc.body); res.StatusCode != 200 || !strings.Contains(text, tc.want) {
			t.Errorf("%s: %s\n%s", name, res.Status, text)
		}
	}
	if res, _ := r.do(t, "POST", "https://autodiscover.example.com/autodiscover/autodiscover.xml", "<Autodiscover>"+strings.Repeat(" ", maxBody)); res.StatusCode != 413 {
		t.Errorf("a large body: %s", res.Status)
	}
}

func TestMobileconfig(t *testing.T) {
	r := start(t, Timeouts{})
	get := func(address string) (*http.Response, string) {
		return r.do(t, "GET", "https://autoconfig.example.com/apple.mobileconfig?emailaddress="+url.QueryEscape(address), "")
	}
	res, text := get("Alice.o'hara@example.com")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/x-apple-aspen-config" ||
		res.Header.Get("Content-Disposition") != `attachment; filename="example.com.mobileconfig"` {
		t.Errorf("%s, %v", res.Status, res.Header)
	}
	for _, want := range []string{
		"<key>EmailAddress</key>\n<string>alice.o&#39;hara@example.com</string>",
		"<key>IncomingMailServerHostName</key>\n<string>mail.example.com</string>",
		"<key>IncomingMailServerPortNumber</key>\n<integer>993</integer>",
		"<key>OutgoingMailServerPortNumber</key>\n<integer>465</integer>",
		"<key>OutgoingMailServerUseSSL</key>\n<true/>",
		"<key>PayloadType</key>\n<string>com.apple.mail.managed</string>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	if _, again := get("alice.o'hara@EXAMPLE.com"); again != text {
		t.Error("the same address got another profile")
	}
	if _, other := get("bob@example.com"); strings.Contains(other, text[strings.LastIndex(text, "<key>PayloadUUID"):]) {
		t.Error("two addresses have the same identifier")
	}
	for _, bad := range []string{"", "alice", "@example.com", "alice@other.example", "a b@example.com", "<b>@example.com", "a@b@example.com", strings.Repeat("x", 65) + "@example.com"} {
		if res, _ := get(bad); res.StatusCode != 400 {
			t.Errorf("%q: %s", bad, res.Status)
		}
	}
}

func FuzzAutodiscover(f *testing.F) {
	f.Add([]byte(discoverRequest("alice@example.com", nsOutlook)))
	f.Add([]byte(discoverRequest("alice@example.com", "x")))
	f.Add([]byte("<a><b></a>"))
	f.Add([]byte(`<?xml version="1.0" encoding="utf-16"?><Autodiscover/>`))
	s := servers{hostname: "mail.example.com", domain: "example.com"}
	f.Fuzz(func(t *testing.T, b []byte) {
		answer, status := s.autodiscover(bytes.NewReader(b))
		if status != 200 {
			t.Fatalf("status %d", status)
		}
		if err := xml.Unmarshal(answer, new(struct{})); err != nil {
			t.Fatalf("%v in %s", err, answer)
		}
	})
}

func FuzzMobileconfig(f *testing.F) {
	f.Add("alice@example.com")
	f.Add("<&>@example.com")
	s := servers{hostname: "mail.example.com", domain: "example.com"}
	f.Fuzz(func(t *testing.T, address string) {
		answer, status := s.mobileconfig(address)
		if status == 200 {
			if err := xml.Unmarshal(answer, new(struct{})); err != nil {
				t.Fatalf("%v in %s", err, answer)
			}
		}
	})
}

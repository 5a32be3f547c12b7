package web

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"strings"

	"mailform/server/manifest"
)

// addressParameter is the query parameter with the user's address, as
// Thunderbird sends it.
const addressParameter = "emailaddress"

// site is what one name serves, by path.
type site map[string]page

// page answers a request: get those without a body, or post.
type page struct {
	contentType string
	filename    string // to save it under; "" to show it
	get         func(address string) (body []byte, status int)
	post        func(body io.Reader) (answer []byte, status int)
}

// servers is what a mail program must know.
type servers struct {
	hostname, domain string
	pop3             bool
}

// Ports with TLS from the first octet, which RFC 8314 prefers.
const (
	imapsPort       = 993
	submissionsPort = 465
	pop3sPort       = 995
	imapPort        = 143
	pop3Port        = 110
	submissionPort  = 587
)

// sitesOf makes the sites of a manifest by host name.
func sitesOf(m *manifest.Manifest) map[string]site {
	sites := map[string]site{}
	if !m.Web {
		return sites
	}
	for _, d := range m.Domains {
		if d.MTASTS != nil {
			// A bare "text/plain": RFC 8461 3.2.
			sites[manifest.MTASTSName(d.Name)] = site{
				"/.well-known/mta-sts.txt": fixed("text/plain", []byte(manifest.PolicyText(m.Hostname, *d.MTASTS))),
			}
		}
		if !d.Discovery {
			continue
		}
		s := servers{hostname: strings.ToLower(m.Hostname), domain: d.Name, pop3: m.POP3 != nil}
		config := fixed("application/xml; charset=utf-8", s.autoconfig())
		sites[manifest.AutoconfigName(d.Name)] = site{
			"/mail/config-v1.1.xml":                        config,
			"/.well-known/autoconfig/mail/config-v1.1.xml": config,
			"/apple.mobileconfig":                          {contentType: "application/x-apple-aspen-config", filename: d.Name + ".mobileconfig", get: s.mobileconfig},
		}
		sites[manifest.AutodiscoverName(d.Name)] = site{
			"/autodiscover/autodiscover.xml": {contentType: "text/xml; charset=utf-8", post: s.autodiscover},
		}
	}
	return sites
}

func fixed(contentType string, body []byte) page {
	return page{contentType: contentType, get: func(string) ([]byte, int) { return body, http.StatusOK }}
}

// owns says whether address may be one of the domain's: a plain local part. It
// does not say whether there is such a mailbox.
func (s servers) owns(address string) bool {
	local, domain, ok := strings.Cut(address, "@")
	if !ok || local == "" || len(local) > 64 || !strings.EqualFold(domain, s.domain) {
		return false
	}
	return !strings.ContainsFunc(local, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~.", r))
	})
}

// marshal writes a document. The values are ours, so it does not fail.
func marshal(v any) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/server/manifest"
)

// get fetches a document as the rest of the world does: by name, with a
// verified certificate.
func (h *host) get(roots *x509.CertPool, url string) (status int, text string, cert *x509.Certificate) {
	h.t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, h.addr["https"])
		},
	}
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	res, err := client.Get(url)
	h.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	h.must(err)
	return res.StatusCode, string(body), res.TLS.PeerCertificates[0]
}

// The web service takes its certificate by name from those of the mail ports,
// and follows reloads in both documents and certificates.
func TestWeb(t *testing.T) {
	h := newHost(t)
	h.manifest.Web = true
	h.manifest.Domains[0].Discovery = true
	h.manifest.Domains[0].MTASTS = &manifest.MTASTS{Mode: "testing", MaxAgeSeconds: 86400}
	h.writeManifest()
	roots := h.writeCertificateFor("mx1", 1, "mail.example.com", "mta-sts.example.com")
	others := h.writeCertificateFor("mx1-2", 2, "*.example.com")
	// The agent installs certificates as links.
	link := filepath.Join(h.layout.TLSDir(), "mx1-2")
	h.must(os.MkdirAll(filepath.Join(h.layout.TLSDir(), ".versions"), 0o700))
	h.must(os.Rename(link, filepath.Join(h.layout.TLSDir(), ".versions", "mx1-2-a")))
	h.must(os.Symlink(".versions/mx1-2-a", link))
	h.start()

	status, text, cert := h.get(roots, "https://mta-sts.example.com/.well-known/mta-sts.txt")
	if status != 200 || text != manifest.PolicyText("mail.example.com", *h.manifest.Domains[0].MTASTS) || cert.SerialNumber.Int64() != 1 {
		t.Errorf("%d %q, certificate %v", status, text, cert.SerialNumber)
	}
	if status, text, cert = h.get(others, "https://autoconfig.example.com/mail/config-v1.1.xml"); status != 200 || !strings.Contains(text, "<clientConfig") || cert.SerialNumber.Int64() != 2 {
		t.Errorf("%d %q, certificate %v", status, text, cert.SerialNumber)
	}
	st, err := h.control.Status(t.Context())
	h.must(err)
	if !slices.Equal(st.Listening, []string{"smtp", "imap", "https", "submissions", "submission", "imaps"}) {
		t.Errorf("listening: %v", st.Listening)
	}

	h.manifest.Domains[0].MTASTS.Mode = "enforce"
	h.manifest.Domains[0].Discovery = false
	h.writeManifest()
	roots = h.writeCertificateFor("mx1", 3, "mail.example.com", "mta-sts.example.com", "autoconfig.example.com")
	_, err = h.control.Reload(t.Context())
	h.must(err)
	if status, text, cert = h.get(roots, "https://mta-sts.example.com/.well-known/mta-sts.txt"); status != 200 || !strings.Contains(text, "mode: enforce\r\n") || cert.SerialNumber.Int64() != 3 {
		t.Errorf("after the reload: %d %q, certificate %v", status, text, cert.SerialNumber)
	}
	if status, _, _ = h.get(roots, "https://autoconfig.example.com/mail/config-v1.1.xml"); status != 421 {
		t.Errorf("after the reload: %d for a name that is not served any more", status)
	}
}

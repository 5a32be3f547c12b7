package daemon

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"mailform/server/agent"
	"mailform/server/manifest"
)

// runningService says that mailformd runs; the agent asks nothing else of it here.
type runningService struct {
	agent.Systemd
	active string
}

func (s *runningService) Units(_ context.Context, units ...string) ([]agent.UnitState, error) {
	return []agent.UnitState{{LoadState: "loaded", ActiveState: s.active}}, nil
}

// renewer gets certificates onto a host as an apply does: a key and a signing
// request made by the agent, a chain that the agent installs.
type renewer struct {
	h       *host
	service *runningService
	ca      *x509.Certificate
	key     crypto.Signer
	serial  int64
}

func newRenewer(h *host) *renewer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	h.must(err)
	ca, err := x509.ParseCertificate(der)
	h.must(err)
	owner, err := json.Marshal(manifest.Owner{Stack: "test", Host: "mx1"})
	h.must(err)
	h.write(h.layout.OwnerFile(), owner)
	return &renewer{h: h, service: &runningService{active: "inactive"}, ca: ca, key: key, serial: 1}
}

func (r *renewer) renew(name, kind string, names ...string) *big.Int {
	r.h.t.Helper()
	a := agent.New(agent.Config{Layout: r.h.layout, Systemd: r.service, Daemon: r.h.control, Rand: rand.Reader, Now: time.Now,
		Sleep: func(context.Context, time.Duration) error { return nil }})
	claim := manifest.Claim{Stack: "test", Host: "mx1"}
	text, err := a.CSR(r.h.t.Context(), manifest.CSRRequest{Claim: claim, Name: name, Names: names, Key: kind})
	r.h.must(err)
	block, _ := pem.Decode(text)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	r.h.must(err)
	r.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(r.serial), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, r.ca, csr.PublicKey, r.key)
	r.h.must(err)
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	_, err = a.InstallCert(r.h.t.Context(), manifest.CertRequest{Claim: claim, Name: name, Chain: string(chain)})
	r.h.must(err)
	return template.SerialNumber
}

// shown is the certificate that a new connection gets under a name.
func (r *renewer) shown(service, name string) *x509.Certificate {
	r.h.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.ca)
	c, err := tls.Dial("tcp", r.h.addr[service], &tls.Config{ServerName: name, RootCAs: roots})
	r.h.must(err)
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// A renewal drops nobody: an IMAP client that waits in IDLE and a sender in the
// middle of its message, both over TLS, go on as if nothing had happened, and
// whoever comes next gets the new certificate.
func TestRenewalDropsNobody(t *testing.T) {
	h := newHost(t)
	r := newRenewer(h)
	first := r.renew("mx1", "rsa2048", "mail.example.com")
	h.start()
	r.service.active = "active"
	leaf := r.shown("imaps", "mail.example.com")
	if k, ok := leaf.PublicKey.(*rsa.PublicKey); !ok || k.N.BitLen() != 2048 || leaf.SerialNumber.Cmp(first) != 0 {
		t.Errorf("served: %T, serial %v", leaf.PublicKey, leaf.SerialNumber)
	}

	idle := h.dialService("imaps")
	idle.startTLS(nil)
	line := func(want string) {
		t.Helper()
		for {
			got, err := idle.r.ReadString('\n')
			if err != nil {
				t.Fatalf("the IMAP session waits for %q: %v", want, err)
			}
			if strings.Contains(got, want) {
				return
			}
		}
	}
	say := func(w io.Writer, text string) {
		t.Helper()
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	say(idle.conn, "1 LOGIN bob@example.com \"bob's secret\"\r\n")
	line("1 OK")
	say(idle.conn, "2 SELECT INBOX\r\n")
	line("2 OK")
	say(idle.conn, "3 IDLE\r\n")
	line("+ ")

	sender := h.dialService("smtp")
	sender.do("", "220")
	sender.do("EHLO x", "250")
	sender.do("STARTTLS", "220")
	sender.startTLS(nil)
	sender.do("EHLO x", "250")
	sender.do("MAIL FROM:<x@sender.example>", "250")
	sender.do("RCPT TO:<bob@example.com>", "250")
	sender.do("DATA", "354")
	say(sender.conn, "Subject: across a renewal\r\n\r\nfirst half\r\n")

	second := r.renew("mx1", "ecdsa256", "mail.example.com")
	leaf = r.shown("imaps", "mail.example.com")
	if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || leaf.SerialNumber.Cmp(second) != 0 {
		t.Errorf("after the renewal a new connection gets %T, serial %v, want %v", leaf.PublicKey, leaf.SerialNumber, second)
	}

	say(sender.conn, "second half\r\n")
	sender.do(".", "250")
	line("EXISTS") // the client in IDLE sees the message arrive
	say(idle.conn, "DONE\r\n")
	line("3 OK")
	if got := h.inbox("bob@example.com"); len(got) != 1 {
		t.Errorf("bob has %d messages", len(got))
	}
}

// Further certificates of a host answer under their names, the main one under all
// others, and a renewal of one leaves the other alone.
func TestSeveralCertificates(t *testing.T) {
	h := newHost(t)
	r := newRenewer(h)
	main := r.renew("mx1", "ecdsa256", "mail.example.com")
	r.renew("mx1-2", "ecdsa256", "mta-sts.example.org", "mta-sts.example.net")
	h.start()
	r.service.active = "active"
	further := r.renew("mx1-2", "ecdsa256", "mta-sts.example.org", "mta-sts.example.net", "mta-sts.example.com")
	for name, want := range map[string]*big.Int{"mail.example.com": main, "mta-sts.example.org": further, "mta-sts.example.com": further} {
		if got := r.shown("imaps", name).SerialNumber; got.Cmp(want) != 0 {
			t.Errorf("%s: serial %v, want %v", name, got, want)
		}
	}
	c, err := tls.Dial("tcp", h.addr["imaps"], &tls.Config{ServerName: "unknown.example", InsecureSkipVerify: true})
	h.must(err)
	defer c.Close()
	if got := c.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(main) != 0 {
		t.Errorf("a name that no certificate has: serial %v, want %v", got, main)
	}
}

package rehearsal

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-msgauth/dkim"
	"github.com/miekg/dns"
)

// mailer talks to the mail server the way other people's programs do: real
// SMTP and IMAP over the simulated network, certificates verified.
type mailer struct {
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	roots    *x509.CertPool
	resolver string // host:port
	now      func() time.Time
}

const dialogTimeout = 30 * time.Second

func (m *mailer) tls(name string) *tls.Config {
	return &tls.Config{ServerName: name, RootCAs: m.roots, MinVersion: tls.VersionTLS12, Time: m.now}
}

func (m *mailer) connect(ctx context.Context, host string, port int) (net.Conn, error) {
	c, err := m.dial(ctx, "tcp", fmt.Sprintf("%s:%d", host, port))
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(dialogTimeout))
	return c, nil
}

// deliver brings a message to port 25 as an outside server would: STARTTLS, no login.
func (m *mailer) deliver(ctx context.Context, mx, helo, from, to string, msg []byte) error {
	conn, err := m.connect(ctx, mx, 25)
	if err != nil {
		return err
	}
	c, err := smtp.NewClient(conn, mx)
	if err != nil {
		conn.Close()
		return err
	}
	defer c.Close()
	if err := c.Hello(helo); err != nil {
		return err
	}
	if ok, _ := c.Extension("STARTTLS"); !ok {
		return errors.New("port 25 does not offer STARTTLS")
	}
	if err := c.StartTLS(m.tls(mx)); err != nil {
		return fmt.Errorf("STARTTLS on port 25: %w", err)
	}
	return transaction(c, from, []string{to}, msg)
}

// refused tries a recipient on port 25 and returns the server's refusal.
func (m *mailer) refused(ctx context.Context, mx, helo, from, to string) (string, error) {
	conn, err := m.connect(ctx, mx, 25)
	if err != nil {
		return "", err
	}
	c, err := smtp.NewClient(conn, mx)
	if err != nil {
		conn.Close()
		return "", err
	}
	defer c.Close()
	if err := c.Hello(helo); err != nil {
		return "", err
	}
	if err := c.Mail(from); err != nil {
		return "", err
	}
	err = c.Rcpt(to)
	if err == nil {
		return "", fmt.Errorf("port 25 accepted the unknown recipient %s", to)
	}
	if !strings.HasPrefix(err.Error(), "550") {
		return "", fmt.Errorf("unknown recipient %s: expected a 550, got %v", to, err)
	}
	return err.Error(), nil
}

// submit sends as a mailbox user over port 465 with a password.
func (m *mailer) submit(ctx context.Context, host, user, password string, to []string, msg []byte) error {
	conn, err := m.connect(ctx, host, 465)
	if err != nil {
		return err
	}
	tc := tls.Client(conn, m.tls(host))
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return fmt.Errorf("TLS on port 465: %w", err)
	}
	c, err := smtp.NewClient(tc, host)
	if err != nil {
		tc.Close()
		return err
	}
	defer c.Close()
	if err := c.Auth(smtp.PlainAuth("", user, password, host)); err != nil {
		return fmt.Errorf("log in as %s on port 465: %w", user, err)
	}
	return transaction(c, user, to, msg)
}

func transaction(c *smtp.Client, from string, to []string, msg []byte) error {
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, r := range to {
		if err := c.Rcpt(r); err != nil {
			return fmt.Errorf("recipient %s: %w", r, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(msg); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// read logs in over IMAPS and returns the INBOX message with that Message-ID.
func (m *mailer) read(ctx context.Context, host, user, password, messageID string) ([]byte, error) {
	conn, err := m.connect(ctx, host, 993)
	if err != nil {
		return nil, err
	}
	tc := tls.Client(conn, m.tls(host))
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS on port 993: %w", err)
	}
	c := imapclient.New(tc, nil)
	defer c.Close()
	if err := c.Login(user, password).Wait(); err != nil {
		return nil, fmt.Errorf("log in as %s on port 993: %w", user, err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		return nil, err
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{
		Header: []imap.SearchCriteriaHeaderField{{Key: "Message-Id", Value: messageID}},
	}, nil).Wait()
	if err != nil {
		return nil, err
	}
	uids := found.AllUIDs()
	if len(uids) != 1 {
		return nil, fmt.Errorf("INBOX of %s holds %d messages with Message-ID %s, expected one", user, len(uids), messageID)
	}
	section := &imap.FetchItemBodySection{}
	msgs, err := c.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return nil, err
	}
	if len(msgs) != 1 {
		return nil, fmt.Errorf("FETCH answered %d messages, expected one", len(msgs))
	}
	body := msgs[0].FindBodySection(section)
	return body, c.Logout().Wait()
}

// verifyDKIM checks every signature of a message against the records the
// world's DNS publishes and returns the signing domains' descriptions.
func (m *mailer) verifyDKIM(ctx context.Context, msg []byte, domain string) (int, error) {
	verifications, err := dkim.VerifyWithOptions(bytes.NewReader(msg), &dkim.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return m.txt(ctx, name) },
	})
	if err != nil {
		return 0, err
	}
	if len(verifications) == 0 {
		return 0, errors.New("the message carries no DKIM signature")
	}
	for _, v := range verifications {
		if v.Err != nil {
			return 0, fmt.Errorf("DKIM signature of %s: %w", v.Domain, v.Err)
		}
		if v.Domain != domain {
			return 0, fmt.Errorf("DKIM signature is of %s, expected %s", v.Domain, domain)
		}
	}
	return len(verifications), nil
}

func (m *mailer) txt(ctx context.Context, name string) ([]string, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), dns.TypeTXT)
	q.SetEdns0(4096, false)
	c := &dns.Client{Timeout: 5 * time.Second}
	r, _, err := c.ExchangeContext(ctx, q, m.resolver)
	if err == nil && r.Truncated {
		c.Net = "tcp"
		r, _, err = c.ExchangeContext(ctx, q, m.resolver)
	}
	if err != nil {
		return nil, fmt.Errorf("TXT %s: %w", name, err)
	}
	var out []string
	for _, rr := range r.Answer {
		if t, ok := rr.(*dns.TXT); ok {
			out = append(out, strings.Join(t.Txt, ""))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("TXT %s: %s", name, dns.RcodeToString[r.Rcode])
	}
	return out, nil
}

// certificate returns the leaf the server shows on 993, verified against the roots.
func (m *mailer) certificate(ctx context.Context, host string) (*x509.Certificate, error) {
	conn, err := m.connect(ctx, host, 993)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	tc := tls.Client(conn, m.tls(host))
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return tc.ConnectionState().PeerCertificates[0], nil
}

// compose writes a small message with CRLF line ends.
func compose(from, to, subject, messageID string, date time.Time, body string) []byte {
	var b bytes.Buffer
	for _, h := range [][2]string{
		{"From", from}, {"To", to}, {"Subject", subject},
		{"Date", date.Format(time.RFC1123Z)}, {"Message-ID", messageID},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	io.WriteString(&b, "\r\n"+strings.ReplaceAll(body, "\n", "\r\n"))
	return b.Bytes()
}

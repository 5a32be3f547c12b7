package agent

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"mailform/server/manifest"
)

// healthTimeout bounds the dialogue with one port.
const healthTimeout = 10 * time.Second

// Prober talks to a port as a client does and says what is wrong with it. leaf
// is the SHA-256 of the certificate that has to be shown, hex, "" while there is none.
type Prober interface {
	Probe(ctx context.Context, s manifest.ServicePort, addr, leaf string) error
}

// health asks every service on the ports where systemd says that they listen.
func (a *Agent) health(ctx context.Context, m *manifest.Manifest) error {
	leaf, err := leafOf(a.Layout.CertChain(m.Host))
	if err != nil {
		return err
	}
	for _, s := range manifest.ServicesOf(m) {
		if s.TLS && leaf == "" {
			continue // it closes its connections until there is a certificate
		}
		addrs, err := a.Systemd.Listening(ctx, SocketUnit(s))
		if err != nil {
			return err
		}
		if len(addrs) == 0 {
			return fmt.Errorf("port %d (%s): nothing listens", s.Port, s.Name)
		}
		if err := a.Prober.Probe(ctx, s, addrs[0], leaf); err != nil {
			return fmt.Errorf("port %d (%s): %w", s.Port, s.Name, err)
		}
	}
	return nil
}

// leafOf is the SHA-256 of the first certificate in a PEM file, "" when there is none.
func leafOf(chain string) (string, error) {
	b, err := os.ReadFile(chain)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return "", fmt.Errorf("%s holds no certificate", chain)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// Ports is the Prober that connects.
type Ports struct {
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Probe implements Prober: the greeting, TLS at once or by STARTTLS, and a
// command that needs no login.
func (p Ports) Probe(ctx context.Context, s manifest.ServicePort, addr, leaf string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	conn, err := p.Dial(ctx, "tcp", fromHere(addr))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := &clientTalk{conn: conn, r: bufio.NewReaderSize(conn, 4096)}
	if err := c.probe(ctx, s, leaf); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("no answer within %s", healthTimeout)
		}
		return err
	}
	return nil
}

// fromHere is where a socket that listens on every address is reached from this machine.
func fromHere(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

type clientTalk struct {
	conn net.Conn
	r    *bufio.Reader
}

func (c *clientTalk) probe(ctx context.Context, s manifest.ServicePort, leaf string) error {
	if s.TLS {
		if err := c.secure(ctx, leaf); err != nil {
			return err
		}
	}
	if s.Name == manifest.WebService().Name {
		return c.ask("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1", "GET /")
	}
	p := protocolOf(s)
	if err := c.expect(p.greeting, "its greeting"); err != nil {
		return err
	}
	if err := c.hello(p, ""); err != nil {
		return err
	}
	if !s.TLS && leaf != "" {
		if err := c.ask(p.start, p.started, strings.TrimSpace(p.start)); err != nil {
			return err
		}
		if err := c.secure(ctx, leaf); err != nil {
			return err
		}
		if err := c.hello(p, " over TLS"); err != nil {
			return err
		}
	}
	return c.ask(p.bye, p.ended, strings.TrimSpace(p.bye))
}

// protocol is what of a protocol needs no login: RFC 5321, 3207, 9051, 1939 and 2595.
type protocol struct{ greeting, hello, answer, start, started, bye, ended string }

func protocolOf(s manifest.ServicePort) protocol {
	switch {
	case strings.HasPrefix(s.Name, "imap"):
		return protocol{"* OK", "a CAPABILITY\r\n", "a OK", "b STARTTLS\r\n", "b OK", "c LOGOUT\r\n", "c OK"}
	case strings.HasPrefix(s.Name, "pop3"):
		return protocol{"+OK", "", "", "STLS\r\n", "+OK", "QUIT\r\n", "+OK"}
	}
	return protocol{"220", "EHLO localhost\r\n", "250", "STARTTLS\r\n", "220", "QUIT\r\n", "221"}
}

func (c *clientTalk) hello(p protocol, how string) error {
	if p.hello == "" {
		return nil
	}
	return c.ask(p.hello, p.answer, strings.TrimSpace(p.hello)+how)
}

// secure begins TLS and compares the certificate with the one on disk. Whom the
// world trusts is not decided here.
func (c *clientTalk) secure(ctx context.Context, leaf string) error {
	t := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	sum := sha256.Sum256(t.ConnectionState().PeerCertificates[0].Raw)
	if got := hex.EncodeToString(sum[:]); got != leaf {
		return fmt.Errorf("TLS: it shows the certificate with SHA-256 %.16s…, not the installed one, %.16s…", got, leaf)
	}
	c.conn, c.r = t, bufio.NewReaderSize(t, 4096)
	return nil
}

func (c *clientTalk) ask(line, want, what string) error {
	if _, err := io.WriteString(c.conn, line); err != nil {
		return err
	}
	return c.expect(want, what)
}

// expect reads lines up to the one that begins as wanted; continued SMTP lines
// and untagged IMAP lines go before it.
func (c *clientTalk) expect(want, what string) error {
	for range 100 {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("no answer to %s: %w", what, err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case text == want || strings.HasPrefix(text, want+" "):
			return nil
		case strings.HasPrefix(text, want+"-"), strings.HasPrefix(text, "* ") && want != "* OK":
			continue
		}
		return fmt.Errorf("unexpected answer to %s: %.200q", what, text)
	}
	return fmt.Errorf("endless answer to %s", what)
}

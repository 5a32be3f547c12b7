package host

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
)

// Bounds of the check of a host's mail ports.
const (
	verifyTimeout = 15 * time.Second // of one port
	verifyFor     = 30 * time.Second // of trying, while the server settles
)

// verify connects to every mail port as the rest of the world does and checks
// the greeting and the certificate. Other servers are told of this host only
// after it.
func (p *Provider) verify(ctx context.Context, t target, hostname string, progress plan.Progress) error {
	start := p.Now()
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := p.verifyOnce(ctx, t, hostname, progress)
		if err == nil || ctx.Err() != nil || p.Now().Sub(start)+pause > verifyFor {
			return err
		}
		if err := p.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (p *Provider) verifyOnce(ctx context.Context, t target, hostname string, progress plan.Progress) error {
	var blocked error // port 25 could not be reached, though the server may be well
	others := false   // another port could
	for _, s := range manifest.Services() {
		addr := net.JoinHostPort(t.address, strconv.Itoa(s.Port))
		err := p.verifyPort(ctx, p.Dial, addr, s, hostname)
		if err == nil {
			others = true
			continue
		}
		if s.Port == 25 && isTimeout(err) {
			blocked = err
			continue
		}
		return verifyError(t, s, addr, err)
	}
	if blocked == nil {
		return nil
	}
	// Many networks let nobody connect to port 25 elsewhere. When everything
	// else answers, the host itself can tell whether its port 25 does.
	smtp := manifest.Services()[0]
	if others {
		if err := p.verifyThroughHost(ctx, t, smtp, hostname); err == nil {
			if progress != nil {
				progress("port 25 answers on the machine; it cannot be reached from here, as many networks block it", 0, 0)
			}
			return nil
		}
	}
	return verifyError(t, smtp, net.JoinHostPort(t.address, "25"), blocked)
}

func (p *Provider) verifyThroughHost(ctx context.Context, t target, s manifest.ServicePort, hostname string) error {
	c, err := p.sessions.get(ctx, t, atOnce, nil)
	if err != nil {
		return err
	}
	return p.verifyPort(ctx, func(ctx context.Context, network, addr string) (net.Conn, error) {
		return c.DialContext(ctx, network, addr)
	}, net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), s, hostname)
}

func verifyError(t target, s manifest.ServicePort, addr string, err error) error {
	e := &plan.Error{
		Code: "MF5423", Step: fmt.Sprintf("check port %d (%s) of %s", s.Port, s.Name, t.host),
		Sent: "connect to tcp " + addr, Got: rootCause(err), Err: err,
	}
	var invalid *tls.CertificateVerificationError
	switch {
	case errors.As(err, &invalid):
		e.Got = "its certificate is refused: " + invalid.Err.Error()
		e.Fix = "Was it made by the CA that the spec names? A test CA's root belongs into MAILFORM_CA_BUNDLE."
	case isTimeout(err):
		e.Fix = "A firewall in between drops it. Mail is not sent to this host before it answers; when the port is open, run the same command again."
	default:
		e.Fix = "Look at the service: journalctl -u mailformd. Mail is not sent to this host before it answers; run the same command again."
	}
	return e
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// verifyPort checks one port: TLS at once or by STARTTLS, the certificate, and
// that the server speaks its protocol.
func (p *Provider) verifyPort(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), addr string, s manifest.ServicePort, hostname string) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err = p.talk(ctx, conn, s, hostname); err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer within %s: %w", verifyTimeout, ctx.Err())
	}
	return err
}

// talk is the shortest dialogue that shows the server at work, RFC 5321, 3207,
// 8314 and 9051.
func (p *Provider) talk(ctx context.Context, conn net.Conn, s manifest.ServicePort, hostname string) error {
	d := dialogue{r: bufio.NewReader(conn), w: conn}
	imap := strings.HasPrefix(s.Name, "imap")
	greeting := "220"
	if imap {
		greeting = "* OK"
	}
	if !s.TLS {
		if err := d.expect(greeting, "its greeting"); err != nil {
			return err
		}
		if imap {
			if err := d.ask("a STARTTLS\r\n", "a OK", "STARTTLS"); err != nil {
				return err
			}
		} else {
			if err := d.ask("EHLO mailform.invalid\r\n", "250", "EHLO"); err != nil {
				return err
			}
			if err := d.ask("STARTTLS\r\n", "220", "STARTTLS"); err != nil {
				return err
			}
		}
	}
	secure := tls.Client(conn, &tls.Config{ServerName: hostname, RootCAs: p.Roots, MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	d = dialogue{r: bufio.NewReader(secure), w: secure}
	if s.TLS {
		if err := d.expect(greeting, "its greeting"); err != nil {
			return err
		}
	}
	if imap {
		return d.ask("b LOGOUT\r\n", "b OK", "LOGOUT")
	}
	if err := d.ask("EHLO mailform.invalid\r\n", "250", "EHLO"); err != nil {
		return err
	}
	return d.ask("QUIT\r\n", "221", "QUIT")
}

// dialogue is a line protocol, read with bounds.
type dialogue struct {
	r *bufio.Reader
	w net.Conn
}

func (d dialogue) ask(line, want, what string) error {
	if _, err := d.w.Write([]byte(line)); err != nil {
		return err
	}
	return d.expect(want, what)
}

// expect reads lines up to the one that begins as wanted. Continued SMTP lines
// ("250-") and untagged IMAP lines go before it.
func (d dialogue) expect(want, what string) error {
	for range 100 {
		line, err := d.r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("no answer to %s: %w", what, err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case strings.HasPrefix(text, want+" ") || text == want:
			return nil
		case strings.HasPrefix(text, want+"-"), strings.HasPrefix(text, "* ") && want != "* OK":
			continue
		}
		return fmt.Errorf("unexpected answer to %s: %.200q", what, text)
	}
	return fmt.Errorf("endless answer to %s", what)
}

package host

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailform/plan"
	"mailform/server/manifest"
)

// Bounds of the check of a host's mail ports.
const (
	verifyTimeout = 15 * time.Second // of one port
	verifyFor     = 30 * time.Second // of trying, while the server settles
)

// expected is what a host is to show to the world.
type expected struct {
	hostname string
	services []manifest.ServicePort
	policies map[string]string // MTA-STS policies by domain
	anyCert  bool              // a certificate that is not trusted is as good as another
}

// expectedInputs are the inputs of opVerify; readExpected is the inverse.
func expectedInputs(server plan.Attrs) plan.Attrs {
	in := plan.Attrs{"hostname": server["hostname"], "web": server["web"], "pop3": server["pop3"]}
	policies := map[string]plan.Value{}
	for _, name := range server["domains"].FieldNames() {
		if p := server["domains"].Field(name).Field("mta_sts"); !p.IsNull() {
			policies[name] = p
		}
	}
	in["policies"] = plan.Map(policies)
	return in
}

func readExpected(in plan.Attrs) expected {
	want := expected{hostname: in["hostname"].Str(), policies: map[string]string{}}
	want.services = manifest.ServicesOf(&manifest.Manifest{POP3: readPOP3(in["pop3"]), Web: in["web"].True()})
	for _, name := range in["policies"].FieldNames() {
		p := in["policies"].Field(name)
		want.policies[name] = manifest.PolicyText(want.hostname, manifest.MTASTS{Mode: p.Field("mode").Str(), MaxAgeSeconds: p.Field("max_age_seconds").Num()})
	}
	return want
}

// verify connects to every port as the rest of the world does and checks the
// greeting and the certificate. Other servers are told of this host only after it.
func (p *Provider) verify(ctx context.Context, t target, want expected, progress plan.Progress) error {
	start := p.Now()
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := p.verifyOnce(ctx, t, want, progress)
		if err == nil || ctx.Err() != nil || p.Now().Sub(start)+pause > verifyFor {
			return err
		}
		if err := p.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (p *Provider) verifyOnce(ctx context.Context, t target, want expected, progress plan.Progress) error {
	// Services that could not be reached from here, though the server may be well.
	blocked := map[manifest.ServicePort]error{}
	others := false // another could
	results := make([]error, len(want.services))
	var asking sync.WaitGroup
	for i, s := range want.services {
		asking.Go(func() {
			results[i] = p.verifyPort(ctx, p.Dial, net.JoinHostPort(t.address, strconv.Itoa(s.Port)), s, want)
		})
	}
	asking.Wait()
	for i, s := range want.services {
		addr, err := net.JoinHostPort(t.address, strconv.Itoa(s.Port)), results[i]
		var invalid *tls.CertificateVerificationError
		switch {
		case err == nil, want.anyCert && errors.As(err, &invalid):
			others = true
		case hiddenFromHere(s) && isTimeout(err):
			blocked[s] = err
		default:
			return verifyError(t, s, addr, err)
		}
	}
	for _, s := range want.services {
		err := blocked[s]
		if err == nil {
			continue
		}
		// When everything else answers, the host itself can tell whether this port does.
		if !others || p.verifyThroughHost(ctx, t, s, want) != nil {
			return verifyError(t, s, net.JoinHostPort(t.address, strconv.Itoa(s.Port)), err)
		}
		if progress != nil {
			progress(fmt.Sprintf("port %d answers on the machine; it cannot be reached from here%s", s.Port, hiddenBecause[s.Name]), 0, 0)
		}
	}
	return nil
}

// hiddenBecause says of services why they may answer the world and not us.
var hiddenBecause = map[string]string{
	"smtp":  ", as many networks block it",
	"https": ": it may be open to Cloudflare only",
}

func hiddenFromHere(s manifest.ServicePort) bool { return hiddenBecause[s.Name] != "" }

func (p *Provider) verifyThroughHost(ctx context.Context, t target, s manifest.ServicePort, want expected) error {
	c, err := p.sessions.get(ctx, t, atOnce, nil)
	if err != nil {
		return err
	}
	return p.verifyPort(ctx, func(ctx context.Context, network, addr string) (net.Conn, error) {
		return c.DialContext(ctx, network, addr)
	}, net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), s, want)
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
func (p *Provider) verifyPort(ctx context.Context, dial dialFunc, addr string, s manifest.ServicePort, want expected) error {
	talk := func(talk func(context.Context, net.Conn) error) error {
		ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
		defer cancel()
		conn, err := dial(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		if err = talk(ctx, conn); err != nil && ctx.Err() != nil {
			return fmt.Errorf("no answer within %s: %w", verifyTimeout, ctx.Err())
		}
		return err
	}
	if s.Name != manifest.WebService().Name {
		return talk(func(ctx context.Context, conn net.Conn) error { return p.talk(ctx, conn, s, want.hostname) })
	}
	err := talk(func(ctx context.Context, conn net.Conn) error {
		_, err := p.get(ctx, conn, want.hostname, "/")
		return err
	})
	if err != nil {
		return err
	}
	for _, domain := range slices.Sorted(maps.Keys(want.policies)) {
		name := manifest.MTASTSName(domain)
		err := talk(func(ctx context.Context, conn net.Conn) error {
			text, err := p.get(ctx, conn, name, "/.well-known/mta-sts.txt")
			if err == nil && text != want.policies[domain] {
				err = fmt.Errorf("the MTA-STS policy at %s is not the one that was asked for: %.200q", name, text)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type dialFunc = func(context.Context, string, string) (net.Conn, error)

// maxWebAnswer bounds an answer of the web service, in bytes: a policy is
// shorter than 64 KiB, RFC 8461 3.2.
const maxWebAnswer = 64 << 10

// get asks the web service for a document under a name, whose certificate must
// be right. Whatever the status is, an answer shows that the service works; the
// text is that of a 200 only.
func (p *Provider) get(ctx context.Context, conn net.Conn, name, path string) (string, error) {
	secure := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: p.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+name+path, nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	if err := req.Write(secure); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(secure, 2*maxWebAnswer)), req)
	if err != nil {
		return "", fmt.Errorf("no answer to GET %s: %w", path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxWebAnswer))
	return string(text), err
}

// talk is the shortest dialogue that shows the server at work, RFC 5321, 3207,
// 8314 and 9051.
func (p *Provider) talk(ctx context.Context, conn net.Conn, s manifest.ServicePort, hostname string) error {
	d := dialogue{r: bufio.NewReader(conn), w: conn}
	says := protocolOf(s)
	if !s.TLS {
		if err := d.expect(says.greeting, "its greeting"); err != nil {
			return err
		}
		if err := d.ask(says.hello, "EHLO"); err != nil {
			return err
		}
		if err := d.ask(says.startTLS, "STARTTLS"); err != nil {
			return err
		}
	}
	secure := tls.Client(conn, &tls.Config{ServerName: hostname, RootCAs: p.Roots, MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	d = dialogue{r: bufio.NewReader(secure), w: secure}
	if s.TLS {
		if err := d.expect(says.greeting, "its greeting"); err != nil {
			return err
		}
	}
	if err := d.ask(says.hello, "EHLO"); err != nil {
		return err
	}
	return d.ask(says.quit, "the end")
}

// exchange is a command and how its answer begins. One without a command is left out.
type exchange struct{ command, answer string }

// protocol is what a check says in one of the mail protocols.
type protocol struct {
	greeting              string
	hello, startTLS, quit exchange
}

func protocolOf(s manifest.ServicePort) protocol {
	switch s.Name {
	case "imap", "imaps":
		return protocol{greeting: "* OK", startTLS: exchange{"a STARTTLS", "a OK"}, quit: exchange{"b LOGOUT", "b OK"}}
	case "pop3", "pop3s":
		return protocol{greeting: "+OK", startTLS: exchange{"STLS", "+OK"}, quit: exchange{"QUIT", "+OK"}}
	}
	return protocol{greeting: "220", hello: exchange{"EHLO mailform.invalid", "250"}, startTLS: exchange{"STARTTLS", "220"}, quit: exchange{"QUIT", "221"}}
}

// dialogue is a line protocol, read with bounds.
type dialogue struct {
	r *bufio.Reader
	w net.Conn
}

func (d dialogue) ask(e exchange, what string) error {
	if e.command == "" {
		return nil
	}
	if _, err := d.w.Write([]byte(e.command + "\r\n")); err != nil {
		return err
	}
	return d.expect(e.answer, what)
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

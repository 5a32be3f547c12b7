package world

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Received is a message that reached the outside mail server.
type Received struct {
	From string
	To   []string
	Data []byte
	TLS  bool
}

// Outside is somebody else's mail server in the simulated world: it takes mail
// for its domain on port 25, so that outbound delivery has a real counterpart.
type Outside struct {
	Domain   string
	listener net.Listener
	server   *smtp.Server

	mu       sync.Mutex
	messages []Received
	arrived  chan struct{}
}

const maxOutsideMessage = 64 << 20

func startOutside(domain string, now func() time.Time) (*Outside, error) {
	cert, err := selfSigned(now(), "mx."+domain)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &Outside{Domain: domain, listener: l, arrived: make(chan struct{}, 1)}
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		_, secure := c.TLSConnectionState()
		return &outsideSession{o: o, msg: Received{TLS: secure}}, nil
	}))
	s.Domain = "mx." + domain
	s.MaxMessageBytes = maxOutsideMessage
	s.MaxLineLength = 64 << 10
	s.ReadTimeout = time.Minute
	s.WriteTimeout = time.Minute
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.ErrorLog = discardLog{}
	o.server = s
	go s.Serve(l)
	return o, nil
}

// Addr implements station.
func (o *Outside) Addr(port int) (string, bool) {
	return o.listener.Addr().String(), port == 25
}

// Wait returns the first message for which match is true, once it is there.
func (o *Outside) Wait(ctx context.Context, match func(Received) bool) (Received, error) {
	for {
		o.mu.Lock()
		for _, m := range o.messages {
			if match(m) {
				o.mu.Unlock()
				return m, nil
			}
		}
		o.mu.Unlock()
		select {
		case <-ctx.Done():
			return Received{}, ctx.Err()
		case <-o.arrived:
		}
	}
}

func (o *Outside) close() { o.server.Close() }

type outsideSession struct {
	o   *Outside
	msg Received
}

func (s *outsideSession) Mail(from string, _ *smtp.MailOptions) error {
	s.msg.From = from
	return nil
}

func (s *outsideSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.msg.To = append(s.msg.To, to)
	return nil
}

func (s *outsideSession) Data(r io.Reader) error {
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(r, maxOutsideMessage)); err != nil {
		return err
	}
	s.msg.Data = b.Bytes()
	s.o.mu.Lock()
	s.o.messages = append(s.o.messages, s.msg)
	s.o.mu.Unlock()
	select {
	case s.o.arrived <- struct{}{}:
	default:
	}
	return nil
}

func (s *outsideSession) Reset()        { s.msg.From, s.msg.To, s.msg.Data = "", nil, nil }
func (s *outsideSession) Logout() error { return nil }

type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}

func selfSigned(now time.Time, names ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: names[0]},
		DNSNames:     names,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(365 * 24 * time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

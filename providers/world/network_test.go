package world

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"

	socks "golang.org/x/net/proxy"
)

// echo is a station that answers on one port with what it is sent.
type echo struct {
	port     int
	listener net.Listener
}

func startEcho(t *testing.T, port int) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return &echo{port, l}
}

func (e *echo) Addr(port int) (string, bool) { return e.listener.Addr().String(), port == e.port }

func testNetwork(t *testing.T) (*network, netip.Addr) {
	t.Helper()
	n := newNetwork()
	ip := n.allocate()
	n.attach(ip, startEcho(t, 25))
	n.lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
		if name == "mail.example.com" {
			return []netip.Addr{ip}, nil
		}
		return nil, nil
	}
	n.allows = func(_ netip.Addr, _ string, port int, source netip.Addr) bool {
		return port != 22 || source == defaultOperator
	}
	return n, ip
}

func roundTrip(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestDialByNameAndAddress(t *testing.T) {
	n, ip := testNetwork(t)
	for _, addr := range []string{"mail.example.com:25", net.JoinHostPort(ip.String(), "25")} {
		c, err := n.dial(t.Context(), defaultOperator, addr)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c)
	}
}

func TestDialRefusals(t *testing.T) {
	n, ip := testNetwork(t)
	stranger := netip.MustParseAddr("203.0.113.1")
	if _, err := n.dial(t.Context(), stranger, net.JoinHostPort(ip.String(), "22")); !errors.Is(err, errUnreachable) {
		t.Errorf("a port the security group closes: %v", err)
	}
	if _, err := n.dial(t.Context(), stranger, "127.100.77.77:25"); !errors.Is(err, errUnreachable) {
		t.Errorf("an address nobody has: %v", err)
	}
	if _, err := n.dial(t.Context(), stranger, net.JoinHostPort(ip.String(), "587")); err == nil || errors.Is(err, errUnreachable) {
		t.Errorf("an open port nobody listens on: %v", err)
	}
	if _, err := n.dial(t.Context(), stranger, "nowhere.example.com:25"); err == nil {
		t.Error("an unknown name was dialled")
	}
	n.detach(ip)
	if _, err := n.dial(t.Context(), stranger, net.JoinHostPort(ip.String(), "25")); !errors.Is(err, errUnreachable) {
		t.Errorf("a detached address: %v", err)
	}
}

func TestProxyLeadsIntoTheNetwork(t *testing.T) {
	n, _ := testNetwork(t)
	p, err := startProxy(func(ctx context.Context, addr string) (net.Conn, error) { return n.dial(ctx, defaultOperator, addr) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	d, err := socks.SOCKS5("tcp", p.addr(), nil, socks.Direct)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial("tcp", "mail.example.com:25")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	if _, err := d.Dial("tcp", "mail.example.com:"+strconv.Itoa(587)); err == nil {
		t.Error("a closed port was reached through the proxy")
	}
}

// conversation is a client whose bytes are given.
type conversation struct {
	io.Reader
	io.Writer
}

func FuzzSocksRequest(f *testing.F) {
	f.Add([]byte{5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 25})
	f.Add(append([]byte{5, 1, 0, 5, 1, 0, 3, 11}, "example.com\x00\x19"...))
	f.Add([]byte{4, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, code, err := readSocksRequest(conversation{bytes.NewReader(b), io.Discard})
		if err != nil {
			return
		}
		if code != socksOK {
			t.Fatalf("code %d without an error", code)
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			t.Fatalf("%q: %v", addr, err)
		}
	})
}

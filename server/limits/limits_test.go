package limits

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestConnsPerClientAndNetwork(t *testing.T) {
	c := NewConns(nil, Config{PerAddress: 2, PerNetwork: 3, Total: 5})
	enter := func(a string) (func(), error) { return c.Enter(netip.MustParseAddr(a)) }
	leave1, err := enter("192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enter("::ffff:192.0.2.1"); err != nil { // the same client
		t.Fatal(err)
	}
	if _, err := enter("192.0.2.1"); !errors.Is(err, ErrTooMany) {
		t.Errorf("third connection of a client: %v", err)
	}
	if _, err := enter("192.0.2.2"); err != nil {
		t.Errorf("another client: %v", err)
	}
	if _, err := enter("192.0.2.3"); !errors.Is(err, ErrTooMany) {
		t.Errorf("fourth connection of a network: %v", err)
	}
	leave1()
	leave1() // leaving twice counts once
	if _, err := enter("192.0.2.3"); err != nil {
		t.Errorf("after one left: %v", err)
	}
	for _, a := range []string{"2001:db8::1", "2001:db8::2"} { // one /64
		if _, err := enter(a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if _, err := enter("203.0.113.9"); !errors.Is(err, ErrTooMany) {
		t.Errorf("sixth connection of all: %v", err)
	}
}

func TestConnsRate(t *testing.T) {
	now := time.Unix(0, 0)
	c := NewConns(nil, Config{PerMinute: 3, Now: func() time.Time { return now }, Exempt: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	try := func(a string) bool {
		leave, err := c.Enter(netip.MustParseAddr(a))
		if err == nil {
			leave()
		}
		return err == nil
	}
	for i, want := range []bool{true, true, true, false} {
		if got := try("192.0.2.1"); got != want {
			t.Errorf("connection %d: %v", i, got)
		}
	}
	now = now.Add(20 * time.Second)
	if !try("192.0.2.1") {
		t.Error("refused after a third of a minute, when one more is allowed")
	}
	for range 20 {
		if !try("127.0.0.1") {
			t.Fatal("an exempt client was refused")
		}
	}
	if len(c.open) != 0 {
		t.Errorf("%d prefixes are still counted when nothing is open", len(c.open))
	}
}

// New limits hold for new connections; those that are open count and stay.
func TestConnsSet(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	c := NewConns(nil, Config{PerAddress: 3})
	var leave []func()
	for range 3 {
		l, err := c.Enter(addr)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
	c.Set(Config{PerAddress: 2})
	leave[0]()
	if _, err := c.Enter(addr); !errors.Is(err, ErrTooMany) {
		t.Errorf("with two open of two: %v", err)
	}
	leave[1]()
	if _, err := c.Enter(addr); err != nil {
		t.Errorf("with one open of two: %v", err)
	}
	if c.Open() != 2 || c.Refused() != 1 {
		t.Errorf("%d open, %d refused; want 2, 1", c.Open(), c.Refused())
	}
}

// Two groups share what is counted around them, and a connection refused there
// counts nowhere.
func TestConnsWithin(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	all := NewConns(nil, Config{Total: 2, PerMinute: -1})
	servers, users := NewConns(all, Config{Total: 1}), NewConns(all, Config{})
	leave, err := servers.Enter(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := servers.Enter(addr); !errors.Is(err, ErrTooMany) {
		t.Errorf("second in a group of one: %v", err)
	}
	if _, err := users.Enter(addr); err != nil {
		t.Errorf("the other group: %v", err)
	}
	if _, err := users.Enter(addr); !errors.Is(err, ErrTooMany) || users.Open() != 1 {
		t.Errorf("third of all: %v, %d open", err, users.Open())
	}
	leave()
	if _, err := users.Enter(addr); err != nil || all.Open() != 2 {
		t.Errorf("when one has left: %v, %d open", err, all.Open())
	}
}

func TestListenerRefuses(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	refused := 0
	l := &Listener{Listener: inner, Conns: NewConns(nil, Config{PerAddress: 1}), Refusal: "421 4.7.0 too many\r\n", Refused: func(netip.Addr) { refused++ }}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	first := dial()
	defer first.Close()
	server := <-accepted
	second := dial()
	defer second.Close()
	if got, err := io.ReadAll(second); err != nil || string(got) != "421 4.7.0 too many\r\n" {
		t.Errorf("the second connection got %q, %v", got, err)
	}
	server.Close()
	third := dial()
	defer third.Close()
	(<-accepted).Close()
	if refused != 1 {
		t.Errorf("%d refusals told, want 1", refused)
	}
	inner.Close()
	<-accepted
}

func TestPenaltiesGrowAndFade(t *testing.T) {
	now := time.Unix(0, 0)
	p := NewPenalties(PenaltyOptions{BlockAt: 4, MaxKept: 2, Now: func() time.Time { return now }})
	guesser, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i, want := range []time.Duration{500 * time.Millisecond, time.Second, 1500 * time.Millisecond, 2 * time.Second} {
		if p.Blocked(guesser) {
			t.Fatalf("blocked after %d failures", i)
		}
		if got := p.Fail(guesser); got != want {
			t.Errorf("delay of failure %d is %v, want %v", i+1, got, want)
		}
	}
	if !p.Blocked(guesser) || p.Blocked(other) {
		t.Error("want the guesser blocked and nobody else")
	}
	now = now.Add(10 * time.Minute)
	if p.Blocked(guesser) {
		t.Error("still blocked after a half-life")
	}
	for i := range 10 {
		p.Fail(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	if len(p.clients) > 2 {
		t.Errorf("%d clients remembered, limit 2", len(p.clients))
	}
}

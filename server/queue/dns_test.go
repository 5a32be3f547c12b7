package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer answers on a loopback port by UDP and TCP until the test ends.
func nameServer(t *testing.T, answer dns.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Skip("the UDP port beside a free TCP port is taken")
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: answer}, {PacketConn: pc, Handler: answer}} {
		ready := make(chan struct{})
		done := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go func() {
			defer close(done)
			_ = s.ActivateAndServe()
		}()
		<-ready
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-done
		})
	}
	return l.Addr().String()
}

func TestDNS(t *testing.T) {
	address := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		name, kind := q.Question[0].Name, q.Question[0].Qtype
		add := func(format string, args ...any) {
			rr, err := dns.NewRR(fmt.Sprintf(format, args...))
			if err != nil {
				t.Error(err)
				return
			}
			m.Answer = append(m.Answer, rr)
		}
		switch {
		case strings.HasPrefix(name, "missing."):
			m.Rcode = dns.RcodeNameError
		case strings.HasPrefix(name, "broken."):
			m.Rcode = dns.RcodeServerFailure
		case strings.HasPrefix(name, "big.") && kind == dns.TypeMX:
			if w.LocalAddr().Network() == "udp" {
				m.Truncated = true
				break
			}
			for i := range 100 {
				add("%s 60 IN MX %d mx%d.%s", name, i, i, name)
			}
		case strings.HasPrefix(name, "alias.") && kind == dns.TypeA:
			add("%s 60 IN CNAME real.example.", name)
			add("real.example. 60 IN A 192.0.2.1")
		case strings.HasPrefix(name, "mixed-up."):
			m.Question[0].Name = "other.example."
			add("other.example. 60 IN MX 1 mx.other.example.")
		case strings.HasPrefix(name, "both."):
			if kind == dns.TypeA {
				add("%s 60 IN A 192.0.2.2", name)
			} else if kind == dns.TypeAAAA {
				add("%s 60 IN AAAA 2001:db8::2", name)
			}
		}
		_ = w.WriteMsg(m)
	})
	d, err := NewDNS(address, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if mx, err := d.LookupMX(ctx, "big.example"); err != nil || len(mx) != 100 || mx[7] != (MX{"mx7.big.example.", 7}) {
		t.Errorf("a truncated answer was not asked for by TCP: %d records, %v", len(mx), err)
	}
	if _, err := d.LookupMX(ctx, "missing.example"); !errors.Is(err, ErrNoDomain) {
		t.Errorf("NXDOMAIN: %v", err)
	}
	if mx, err := d.LookupMX(ctx, "both.example"); err != nil || len(mx) != 0 {
		t.Errorf("no MX: %v, %v", mx, err)
	}
	if _, err := d.LookupMX(ctx, "broken.example"); err == nil || errors.Is(err, ErrNoDomain) {
		t.Errorf("SERVFAIL: %v", err)
	}
	if mx, err := d.LookupMX(ctx, "mixed-up.example"); err == nil {
		t.Errorf("a reply to another question: %v", mx)
	}
	for name, want := range map[string]string{"both.example": "[192.0.2.2 2001:db8::2]", "alias.example": "[192.0.2.1]"} {
		if list, err := d.LookupAddr(ctx, name); err != nil || fmt.Sprint(list) != want {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if _, err := d.LookupAddr(ctx, "missing.example"); !errors.Is(err, ErrNoDomain) {
		t.Errorf("addresses of a missing name: %v", err)
	}

	// A dead server is passed over.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	two := newDNS([]string{l.Addr().String(), address}, time.Second, time.Now)
	if list, err := two.LookupAddr(ctx, "alias.example"); err != nil || len(list) != 1 {
		t.Errorf("with a dead server ahead: %v, %v", list, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := two.LookupMX(ended, "both.example"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestNewDNS(t *testing.T) {
	if _, err := NewDNS("192.0.2.1", time.Now); err == nil {
		t.Error("a server without a port was accepted")
	}
	if d, err := NewDNS("192.0.2.1:5353", time.Now); err != nil || !slices.Equal(d.servers, []string{"192.0.2.1:5353"}) {
		t.Errorf("%v, %v", d, err)
	}
}

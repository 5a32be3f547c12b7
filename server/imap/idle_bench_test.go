package imap

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
)

// idleCost opens n connections that select INBOX and wait in IDLE, and returns
// how many octets of memory each costs the server. What the clients need for
// TLS is let go of, so that it does not count.
func idleCost(t testing.TB, n int, secure bool) int64 {
	w := newWorld(t, func(c *Config, _ *Settings) { c.MaxSessions = n + 1 })
	for range 5 {
		w.deliver("INBOX", "A: b\n\nx")
	}
	conns := make([]net.Conn, 0, n+1)
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	open := func() {
		addr := w.plain.String()
		if secure {
			addr = w.tls.String()
		}
		raw, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, raw)
		nc := raw
		if secure {
			nc = tls.Client(raw, &tls.Config{RootCAs: w.roots, ServerName: "mail.example.org"})
		}
		r := bufio.NewReaderSize(nc, 512)
		fmt.Fprintf(nc, "1 LOGIN %s %s\r\n2 LIST \"\" *\r\n3 SELECT INBOX\r\n4 FETCH 1:* (FLAGS ENVELOPE)\r\n5 IDLE\r\n", alice, secret)
		for {
			text, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(text, "+ idling") {
				return
			}
		}
	}
	memory := func() int64 {
		for range 3 { // stacks shrink with each collection
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	open()
	before := memory()
	for range n {
		open()
	}
	return (memory() - before) / int64(n)
}

// An idle connection costs at most 16 KiB, and 32 KiB with TLS.
func TestIdleConnectionsAreCheap(t *testing.T) {
	for secure, limit := range map[bool]int64{false: 16 << 10, true: 32 << 10} {
		if got := idleCost(t, 200, secure); got > limit {
			t.Errorf("TLS %v: %d octets for each idle connection, at most %d are wanted", secure, got, limit)
		}
	}
}

func BenchmarkIdle(b *testing.B) {
	for _, secure := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%v", secure), func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(float64(idleCost(b, 5000, secure))/1024, "KiB/conn")
			}
		})
	}
}

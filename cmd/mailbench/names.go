package main

import (
	"net"
	"strings"

	"github.com/miekg/dns"
)

// nameServer is where servers that look at senders find the benchmark's: it has
// their domain, and no other. Port 53, because some servers take no other.
const nameServer = "127.83.0.1:53"

// startNames serves until the returned function is called.
func startNames() (stop func(), err error) {
	conn, err := net.ListenPacket("udp", nameServer)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", nameServer)
	if err != nil {
		conn.Close()
		return nil, err
	}
	udp, tcp := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(answer)}, &dns.Server{Listener: l, Handler: dns.HandlerFunc(answer)}
	go func() { _ = udp.ActivateAndServe() }()
	go func() { _ = tcp.ActivateAndServe() }()
	return func() { conn.Close(); l.Close() }, nil
}

// answer answers one question about sender.example.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) == 1 {
		name := strings.ToLower(q.Question[0].Name)
		records := map[uint16]string{}
		switch name {
		case "sender.example.":
			records[dns.TypeMX], records[dns.TypeTXT] = "MX 10 mx.sender.example.", `TXT "v=spf1 ip4:127.0.0.1 -all"`
		case "mx.sender.example.", "client.sender.example.":
			records[dns.TypeA] = "A 127.0.0.1"
		default:
			m.Rcode = dns.RcodeNameError
		}
		if data := records[q.Question[0].Qtype]; data != "" {
			if rr, err := dns.NewRR(name + " 300 IN " + data); err == nil {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	_ = w.WriteMsg(m) // who asked asks again
}

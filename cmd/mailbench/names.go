package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/miekg/dns"
)

// startNames serves, where servers that look at senders find it, the benchmark's
// domain and no other, until the returned function is called. The port is 53,
// because some servers take no other, and the address is loopback's.
func startNames() (address string, stop func(), err error) {
	var conn net.PacketConn
	var l net.Listener
	for n := 1; ; n++ { // another benchmark may run
		address = fmt.Sprintf("127.83.0.%d:53", n)
		if conn, err = net.ListenPacket("udp", address); err == nil {
			break
		}
		if n == 20 {
			return "", nil, err
		}
	}
	if l, err = net.Listen("tcp", address); err != nil {
		conn.Close()
		return "", nil, err
	}
	udp, tcp := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(answer)}, &dns.Server{Listener: l, Handler: dns.HandlerFunc(answer)}
	go func() { _ = udp.ActivateAndServe() }()
	go func() { _ = tcp.ActivateAndServe() }()
	return address, func() { conn.Close(); l.Close() }, nil
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
		} else if rr, err := dns.NewRR("sender.example. 300 IN SOA ns.sender.example. ops.sender.example. 1 7200 900 1209600 300"); err == nil {
			m.Ns = append(m.Ns, rr) // for how long there is none
		}
	}
	_ = w.WriteMsg(m) // who asked asks again
}

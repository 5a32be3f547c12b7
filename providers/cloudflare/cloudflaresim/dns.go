package cloudflaresim

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/miekg/dns"
)

// DNS is the server of the simulated Internet's names, over UDP and TCP on one
// port. It is authoritative for all of them and asks nobody else; unknown names
// do not exist.
type DNS struct {
	addr    string
	servers []*dns.Server
	wait    sync.WaitGroup
}

// ListenDNS starts a DNS server at a loopback address, "127.0.0.1:0" for any port.
func (s *Server) ListenDNS(addr string) (*DNS, error) {
	var last error
	// The same port has to be free for both; with port 0 another one may be had.
	for range 20 {
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("simulated DNS: %w", err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			tcp.Close()
			last = err
			continue
		}
		return s.serveDNS(tcp, udp), nil
	}
	return nil, fmt.Errorf("simulated DNS: %w", last)
}

func (s *Server) serveDNS(tcp net.Listener, udp net.PacketConn) *DNS {
	d := &DNS{addr: tcp.Addr().String()}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		_, overTCP := w.RemoteAddr().(*net.TCPAddr)
		w.WriteMsg(s.answer(req, overTCP))
	})
	var started sync.WaitGroup
	for _, srv := range []*dns.Server{{Listener: tcp, Handler: h}, {PacketConn: udp, Handler: h}} {
		started.Add(1)
		srv.NotifyStartedFunc = started.Done
		d.servers = append(d.servers, srv)
		d.wait.Go(func() { srv.ActivateAndServe() })
	}
	started.Wait()
	return d
}

// Addr is the server's host:port.
func (d *DNS) Addr() string { return d.addr }

// Close stops the server.
func (d *DNS) Close() error {
	var errs []error
	for _, srv := range d.servers {
		errs = append(errs, srv.Shutdown())
	}
	d.wait.Wait()
	return errors.Join(errs...)
}

// answer makes the response to one query.
func (s *Server) answer(req *dns.Msg, overTCP bool) *dns.Msg {
	res := new(dns.Msg)
	if req.Opcode != dns.OpcodeQuery {
		return res.SetRcode(req, dns.RcodeNotImplemented)
	}
	if len(req.Question) != 1 {
		return res.SetRcode(req, dns.RcodeFormatError)
	}
	res.SetReply(req)
	res.Authoritative = true
	res.RecursionAvailable = true // it stands in for everybody's resolver, too
	size := dns.MinMsgSize
	if opt := req.IsEdns0(); opt != nil {
		if opt.Version() != 0 {
			res.SetEdns0(dns.DefaultMsgSize, false)
			res.Rcode = dns.RcodeBadVers
			return res
		}
		size = max(size, int(opt.UDPSize()))
		res.SetEdns0(dns.DefaultMsgSize, opt.Do())
	}
	q := req.Question[0]
	switch {
	case q.Qclass != dns.ClassINET:
		res.Rcode = dns.RcodeRefused
	case q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		res.Rcode = dns.RcodeRefused
	case q.Qtype == dns.TypeANY: // RFC 8482
		res.Answer = []dns.RR{&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO, 3600), Cpu: "RFC8482"}}
	default:
		res.Answer, res.Ns, res.Rcode = s.snapshot().resolve(q.Name, q.Qtype)
	}
	if overTCP {
		size = dns.MaxMsgSize
	}
	res.Truncate(size) // sets TC, and the client comes back over TCP
	return res
}

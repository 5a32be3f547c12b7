package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
)

// Road is the way to a machine: it connects to one of its ports.
type Road func(ctx context.Context, port int) (net.Conn, error)

// station is a simulated machine.
type station interface {
	// Addr gives the loopback listener behind one of the station's ports.
	Addr(port int) (string, bool)
}

var errRefused = errors.New("connection refused")

// loopback is the road to a station.
func loopback(s station) Road {
	return func(ctx context.Context, port int) (net.Conn, error) {
		listener, ok := s.Addr(port)
		if !ok {
			return nil, errRefused
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", listener)
	}
}

// network is the simulated Internet: public addresses, which lead to loopback
// listeners, and the firewall in front of them.
type network struct {
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// allows asks the cloud whether its security group lets a packet in.
	allows func(ip netip.Addr, protocol string, port int, source netip.Addr) bool

	mu    sync.Mutex
	roads map[netip.Addr]Road
	next  uint16
}

// errUnreachable is what a dropped packet looks like after a while; the
// simulation does not make anyone wait for it.
var errUnreachable = errors.New("connection timed out: no host answers there, or its security group drops the packets")

func newNetwork() *network {
	return &network{roads: map[netip.Addr]Road{}}
}

// allocate gives the next public address. All of them are loopback addresses, so a
// connection that misses the simulated network cannot leave the machine.
func (n *network) allocate() netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	return nthAddress(n.next)
}

// coming is the address that allocate gives next.
func (n *network) coming() netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return nthAddress(n.next + 1)
}

func nthAddress(n uint16) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 100, byte(n >> 8), byte(n)})
}

func (n *network) attach(ip netip.Addr, s station) { n.open(ip, loopback(s)) }

func (n *network) open(ip netip.Addr, r Road) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.roads[ip] = r
}

func (n *network) detach(ip netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.roads, ip)
}

// dial connects from source to host:port inside the simulated network.
func (n *network) dial(ctx context.Context, source netip.Addr, addr string) (net.Conn, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return nil, fmt.Errorf("dial %s: port %q is not a number", addr, service)
	}
	ips, err := n.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	fail := error(errUnreachable)
	for _, ip := range ips {
		n.mu.Lock()
		road := n.roads[ip]
		n.mu.Unlock()
		if road == nil || !n.allows(ip, "tcp", port, source) {
			continue
		}
		c, err := road(ctx, port)
		if errors.Is(err, errRefused) {
			fail = err
			continue
		}
		return c, err
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", addr, fail)}
}

func (n *network) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ips, err := n.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return ips, nil
}

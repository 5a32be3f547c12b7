package world

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// proxy is a SOCKS 5 server (RFC 1928, CONNECT without authentication): the way
// into the simulated network for programs of other processes, such as curl.
type proxy struct {
	listener net.Listener
	dial     func(ctx context.Context, addr string) (net.Conn, error)

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

const socksHandshake = 10 * time.Second

// SOCKS 5 replies, RFC 1928 section 6.
const (
	socksOK          = 0
	socksUnreachable = 4
	socksRefused     = 5
	socksCommand     = 7
	socksAddressType = 8
)

func startProxy(dial func(ctx context.Context, addr string) (net.Conn, error)) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, dial: dial, conns: map[net.Conn]struct{}{}}
	p.wg.Add(1)
	go p.serve()
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *proxy) serve() {
	defer p.wg.Done()
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = struct{}{}
		p.mu.Unlock()
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			p.handle(c)
			c.Close()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		}()
	}
}

func (p *proxy) handle(c net.Conn) {
	c.SetDeadline(time.Now().Add(socksHandshake))
	addr, code, err := readSocksRequest(c)
	if err != nil {
		if code != socksOK {
			writeSocksReply(c, code)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), socksHandshake)
	defer cancel()
	up, err := p.dial(ctx, addr)
	if err != nil {
		code := byte(socksRefused)
		if errors.Is(err, errUnreachable) {
			code = socksUnreachable
		}
		writeSocksReply(c, code)
		return
	}
	defer up.Close()
	if writeSocksReply(c, socksOK) != nil {
		return
	}
	c.SetDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		io.Copy(up, c)
		closeWrite(up)
		close(done)
	}()
	io.Copy(c, up)
	closeWrite(c)
	<-done
}

// readSocksRequest reads greeting and request and returns the wanted host:port.
func readSocksRequest(c io.ReadWriter) (addr string, code byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return "", socksOK, err
	}
	if head[0] != 5 {
		return "", socksOK, errors.New("socks: not version 5")
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(c, methods); err != nil {
		return "", socksOK, err
	}
	if _, err := c.Write([]byte{5, 0}); err != nil {
		return "", socksOK, err
	}
	req := make([]byte, 4)
	if _, err := io.ReadFull(c, req); err != nil {
		return "", socksOK, err
	}
	if req[1] != 1 {
		return "", socksCommand, errors.New("socks: only CONNECT is offered")
	}
	var host string
	switch req[3] {
	case 1, 4:
		b := make([]byte, 4)
		if req[3] == 4 {
			b = make([]byte, 16)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return "", socksOK, err
		}
		ip, _ := netip.AddrFromSlice(b)
		host = ip.String()
	case 3:
		var n [1]byte
		if _, err := io.ReadFull(c, n[:]); err != nil {
			return "", socksOK, err
		}
		b := make([]byte, n[0])
		if _, err := io.ReadFull(c, b); err != nil {
			return "", socksOK, err
		}
		host = string(b)
	default:
		return "", socksAddressType, errors.New("socks: unknown address type")
	}
	var port [2]byte
	if _, err := io.ReadFull(c, port[:]); err != nil {
		return "", socksOK, err
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port[:])))), socksOK, nil
}

func writeSocksReply(w io.Writer, code byte) error {
	_, err := w.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0})
	return err
}

func closeWrite(c net.Conn) {
	if t, ok := c.(interface{ CloseWrite() error }); ok {
		t.CloseWrite()
		return
	}
	c.Close()
}

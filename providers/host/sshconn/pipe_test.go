package sshconn

import (
	"io"
	"net"
	"sync"
	"time"
)

// half is one direction of a connection that holds what was not read yet: both
// sides of SSH speak first.
type half struct {
	mu     sync.Mutex
	more   *sync.Cond
	text   []byte
	closed bool
}

func newHalf() *half {
	h := &half{}
	h.more = sync.NewCond(&h.mu)
	return h
}

func (h *half) Read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.text) == 0 && !h.closed {
		h.more.Wait()
	}
	if len(h.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b, h.text)
	h.text = h.text[n:]
	return n, nil
}

func (h *half) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, net.ErrClosed
	}
	h.text = append(h.text, b...)
	h.more.Broadcast()
	return len(b), nil
}

func (h *half) close() {
	h.mu.Lock()
	h.closed = true
	h.more.Broadcast()
	h.mu.Unlock()
}

// pipe is a connection in memory.
type pipe struct{ in, out *half }

func newPipe() (net.Conn, net.Conn) {
	a, b := newHalf(), newHalf()
	return pipe{a, b}, pipe{b, a}
}

func (p pipe) Read(b []byte) (int, error)       { return p.in.Read(b) }
func (p pipe) Write(b []byte) (int, error)      { return p.out.Write(b) }
func (p pipe) Close() error                     { p.in.close(); p.out.close(); return nil }
func (p pipe) LocalAddr() net.Addr              { return proxyAddr{} }
func (p pipe) RemoteAddr() net.Addr             { return proxyAddr{} }
func (p pipe) SetDeadline(time.Time) error      { return nil }
func (p pipe) SetReadDeadline(time.Time) error  { return nil }
func (p pipe) SetWriteDeadline(time.Time) error { return nil }

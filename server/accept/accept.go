// Package accept serves the connections of a protocol's server: it accepts them,
// knows those that are open, and ends them in an orderly way.
//
// It imports nothing of mailform.
package accept

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// ErrClosed is returned by Serve after Shutdown.
var ErrClosed = errors.New("the server is shut down")

// Conn is a connection being served. It is a pointer: connections are told apart by it.
type Conn interface {
	// Serve talks with the client, and closes the connection when it returns.
	Serve()
	// Drain lets the connection end: now, or when what it is doing is done. It does not wait.
	Drain()
	// Close ends it at once.
	Close() error
}

// Group is the connections of one server, from any number of listeners.
type Group struct {
	service string
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[Conn]struct{}
	wg        sync.WaitGroup
}

// New returns a group; the log calls it service.
func New(service string, log *slog.Logger) *Group {
	g := &Group{service: service, log: log, listeners: map[net.Listener]struct{}{}, conns: map[Conn]struct{}{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Context ends when Shutdown has, or runs out of time.
func (g *Group) Context() context.Context { return g.ctx }

// Serve accepts connections until the listener fails or Shutdown is called, and
// serves each in a goroutine of its own.
func (g *Group) Serve(l net.Listener, open func(net.Conn) Conn) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		_ = l.Close()
		return ErrClosed
	}
	g.listeners[l] = struct{}{}
	g.mu.Unlock()
	for {
		nc, err := l.Accept()
		if err != nil {
			if isTransient(err) {
				g.log.Warn("accept", "service", g.service, "err", err)
				if g.pause() {
					continue
				}
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			delete(g.listeners, l)
			if g.closed {
				return ErrClosed
			}
			return err
		}
		c := open(nc)
		g.mu.Lock()
		if g.closed {
			g.mu.Unlock()
			_ = c.Close()
			return ErrClosed
		}
		g.conns[c] = struct{}{}
		g.wg.Go(func() {
			c.Serve()
			g.mu.Lock()
			delete(g.conns, c)
			g.mu.Unlock()
		})
		g.mu.Unlock()
	}
}

// pause waits before the next try; false when the group has ended meanwhile.
func (g *Group) pause() bool {
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.ctx.Done():
		return false
	}
}

// isTransient says that accepting may work again, as when files run out.
func isTransient(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Shutdown stops accepting, drains the connections, and waits for them until ctx
// ends. Then it closes what is left and returns ctx's error.
func (g *Group) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	for l := range g.listeners {
		_ = l.Close()
	}
	for c := range g.conns {
		c.Drain()
	}
	g.mu.Unlock()
	done := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		g.cancel()
		g.mu.Lock()
		for c := range g.conns {
			_ = c.Close()
		}
		g.mu.Unlock()
		<-done
	}
	g.cancel()
	return err
}

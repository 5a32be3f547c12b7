package accept

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a connection that is served until it is drained, or closed when it does
// not listen to that.
type fake struct {
	net.Conn
	deaf    bool
	drained chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func (f *fake) Serve() {
	defer f.Close()
	if f.deaf {
		<-f.closed
		return
	}
	select {
	case <-f.drained:
	case <-f.closed:
	}
}
func (f *fake) Drain() { close(f.drained) }
func (f *fake) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// source is a listener that gives what it is told to.
type source struct {
	next chan error // nil is a connection
	gone chan struct{}
	once sync.Once
}

func (s *source) Accept() (net.Conn, error) {
	select {
	case err := <-s.next:
		return nil, err
	case <-s.gone:
		return nil, net.ErrClosed
	}
}
func (s *source) Close() error   { s.once.Do(func() { close(s.gone) }); return nil }
func (s *source) Addr() net.Addr { return &net.TCPAddr{} }

func start(deaf bool) (*Group, *source, chan error, func() []*fake) {
	g := New("test", slog.New(slog.NewTextHandler(io.Discard, nil)))
	l := &source{next: make(chan error), gone: make(chan struct{})}
	var mu sync.Mutex
	var conns []*fake
	ended := make(chan error, 1)
	go func() {
		ended <- g.Serve(l, func(nc net.Conn) Conn {
			f := &fake{Conn: nc, deaf: deaf, drained: make(chan struct{}), closed: make(chan struct{})}
			mu.Lock()
			conns = append(conns, f)
			mu.Unlock()
			return f
		})
	}()
	return g, l, ended, func() []*fake {
		mu.Lock()
		defer mu.Unlock()
		return conns
	}
}

// A shutdown drains what is open and waits for it; what does not end is closed when time is up.
func TestShutdown(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g, l, ended, conns := start(deaf)
			l.next <- nil
			l.next <- nil
			synctest.Wait()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			began := time.Now()
			err := g.Shutdown(ctx)
			if deaf != (err != nil) || deaf != (time.Since(began) == time.Minute) {
				t.Errorf("deaf %v: %v after %s", deaf, err, time.Since(began))
			}
			if err := <-ended; !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			for _, c := range conns() {
				<-c.closed
			}
			if g.Context().Err() == nil || len(conns()) != 2 {
				t.Errorf("%d connections, context %v", len(conns()), g.Context().Err())
			}
			if err := g.Serve(l, nil); !errors.Is(err, ErrClosed) {
				t.Errorf("serving after the end: %v", err)
			}
		})
	}
}

// A machine that runs out of files for a moment goes on; a listener that fails ends.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, l, ended, conns := start(false)
		l.next <- syscall.EMFILE
		l.next <- nil
		synctest.Wait()
		if len(conns()) != 1 {
			t.Error("nobody is served after a shortage of files")
		}
		broken := errors.New("broken")
		l.next <- broken
		if err := <-ended; !errors.Is(err, broken) {
			t.Error(err)
		}
		if err := g.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

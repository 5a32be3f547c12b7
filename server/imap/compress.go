package imap

import (
	"compress/flate"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailform/server/imap/inflate"
)

// deflated is a connection whose both directions are compressed, RFC 4978.
//
// Reading has a goroutine of its own that decompresses into a pipe: a
// decompressor cannot be interrupted and go on, a pipe can. Writing borrows a
// compressor for each burst and gives it back: after a flush the stream does
// not need what the compressor remembers, and it takes half a megabyte.
type deflated struct {
	in     net.Conn // the pipe's end
	pool   *sync.Pool
	nc     net.Conn
	burst  *flate.Writer
	closed chan struct{}
}

// deflate begins compression. Nothing of the client's is read ahead.
func (s *Server) deflate(nc net.Conn) *deflated {
	in, feed := net.Pipe()
	d := &deflated{in: in, pool: &s.deflaters, nc: nc, closed: make(chan struct{})}
	go func() {
		defer close(d.closed)
		defer feed.Close()
		_ = inflate.Copy(feed, nc) // the end of the pipe says enough
	}()
	return d
}

func (d *deflated) write(p []byte) (int, error) {
	if d.burst == nil {
		if w, ok := d.pool.Get().(*flate.Writer); ok {
			w.Reset(d.nc)
			d.burst = w
		} else {
			w, err := flate.NewWriter(d.nc, flate.DefaultCompression)
			if err != nil {
				return 0, err
			}
			d.burst = w
		}
	}
	return d.burst.Write(p)
}

// flush ends a burst.
func (d *deflated) flush() error {
	if d.burst == nil {
		return nil
	}
	err := d.burst.Flush()
	d.burst.Reset(nil)
	d.pool.Put(d.burst)
	d.burst = nil
	return err
}

// close ends the goroutine; the connection below is closed already.
func (d *deflated) close() {
	_ = d.in.Close()
	<-d.closed
}

var errCompressed = no("COMPRESSIONACTIVE", "Compression is active already")

// compress implements COMPRESS.
func (s *session) compress(cmd *command) error {
	p := cmd.p
	p.SP()
	mechanism := p.Word()
	if err := p.End(); err != nil {
		return bad(err.Error())
	}
	switch {
	case mechanism != "DEFLATE":
		return no(imap.ResponseCodeCannot, "Only DEFLATE is known")
	case s.c.deflated != nil:
		return errCompressed
	case s.in.Buffered() > 0:
		return bad("Nothing may follow COMPRESS before its answer")
	}
	cmd.silent, cmd.text = true, "Compression begins"
	s.finish(cmd, nil)
	if s.c.flush() != nil {
		return errors.New("the connection broke off")
	}
	_ = s.c.raw.SetReadDeadline(time.Time{})
	d := s.srv.deflate(s.c.nc)
	s.c.mu.Lock()
	s.c.deflated = d
	s.c.mu.Unlock()
	return nil
}

package imap

import (
	"context"
	"net"

	"mailform/server/accept"
)

// Serve accepts connections until the listener fails or Shutdown is called.
// Limits on connections are the listener's, see limits.Listener.
func (s *Server) Serve(l net.Listener, implicitTLS bool) error {
	return s.conns.Serve(l, func(nc net.Conn) accept.Conn { return s.newConn(nc, implicitTLS) })
}

// Shutdown stops accepting, ends idle sessions with BYE, lets commands that
// are being carried out end until ctx does, and then closes what is left and
// returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error { return s.conns.Shutdown(ctx) }

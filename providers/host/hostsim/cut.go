package hostsim

import (
	"errors"
	"net"
	"sync"
)

// Cut is a network that ends connections after a number of bytes. Its zero value
// only counts. It stands between a dialer and whoever dials, simulated or real.
type Cut struct {
	mu    sync.Mutex
	moved int64
	at    int64 // 0: never
	Cuts  int   // connections that were cut so far; to be read when nothing moves
}

// errCut is what both sides of a cut connection see.
var errCut = errors.New("connection reset by peer")

// After ends the connection over which the n-th byte from now on goes, in either
// direction, just before that byte; once. 0 is never.
func (c *Cut) After(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = 0
	if n > 0 {
		c.at = c.moved + n
	}
}

// Moved is how many bytes have gone over all connections.
func (c *Cut) Moved() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

// Conn puts the network under a connection.
func (c *Cut) Conn(inner net.Conn) net.Conn { return &cutConn{inner, c} }

// take says how many of n bytes may still go.
func (c *Cut) take(n int) (may int, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at > 0 && c.moved+int64(n) >= c.at {
		n, cut = int(max(0, c.at-1-c.moved)), true
		c.at = 0
		c.Cuts++
	}
	c.moved += int64(n)
	return n, cut
}

type cutConn struct {
	net.Conn
	cut *Cut
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if may, cut := c.cut.take(n); cut {
		c.Conn.Close()
		return may, errCut
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	may, cut := c.cut.take(len(b))
	n, err := c.Conn.Write(b[:may])
	if cut {
		c.Conn.Close()
		return n, errCut
	}
	return n, err
}

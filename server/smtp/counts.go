package smtp

import "sync/atomic"

// Counts are the messages since the server was made.
type Counts struct {
	Received  int64 // accepted from other servers
	Submitted int64 // accepted from our users
	Refused   int64 // that were sent, and not accepted, whoever sent them
}

type counts struct{ received, submitted, refused atomic.Int64 }

func (c *counts) note(kind Kind, accepted bool) {
	switch {
	case !accepted:
		c.refused.Add(1)
	case kind == Submission:
		c.submitted.Add(1)
	default:
		c.received.Add(1)
	}
}

// Counts returns the messages so far.
func (s *Server) Counts() Counts {
	return Counts{Received: s.counts.received.Load(), Submitted: s.counts.submitted.Load(), Refused: s.counts.refused.Load()}
}

package baddays

import (
	"context"
	"sync"
	"time"
)

// clock is the time of a simulated world and of the program in it. It runs as usual,
// but what is slept takes a hundredth of the time at most: waits of minutes must be seen
// through, and nobody has the minutes.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration // of the real time
}

// haste is how much faster sleeping goes by; longest is the longest that a sleep takes.
const (
	haste   = 100
	longest = 500 * time.Millisecond
)

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// sleep waits until d has gone by. Who sleeps at the same time does so together.
func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	until := c.now().Add(d)
	t := time.NewTimer(min(d/haste, longest))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := until.Sub(time.Now().Add(c.ahead)); left > 0 {
		c.ahead += left
	}
	return nil
}

// rest is sleep for the simulators.
func (c *clock) rest(d time.Duration) { c.sleep(context.Background(), d) }

// skipped is how much time was slept and did not have to be waited for.
func (c *clock) skipped() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

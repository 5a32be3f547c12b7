package queue

import (
	"hash/fnv"
	"strconv"
	"time"

	"mailform/server/store"
)

// The wait after the first failure, and the longest one.
const (
	firstDelay = 5 * time.Minute
	maxDelay   = 4 * time.Hour
)

// delay is the wait after an entry's n-th failed attempt, n from 1: twice the
// last one up to maxDelay, and up to a quarter more. The share depends on the
// entry, so that what failed together is not tried again together, and not on
// chance, so that it can be told later when an attempt took place.
func delay(id string, n int) time.Duration {
	d := maxDelay
	if n <= 6 { // 5 min << 6 is beyond maxDelay
		d = min(firstDelay<<max(n-1, 0), maxDelay)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id + " " + strconv.Itoa(n)))
	return d + time.Duration(h.Sum64()%1000)*(d/4)/1000
}

// lastAttempt is when the entry was tried before; its queueing when it was not.
func lastAttempt(e store.QueueEntry) time.Time {
	if e.Attempts == 0 {
		return e.Queued
	}
	return e.NextTry.Add(-delay(e.ID, e.Attempts))
}

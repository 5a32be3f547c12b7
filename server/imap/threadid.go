package imap

import (
	"fmt"
	"strconv"

	"mailform/server/imap/summary"
	"mailform/server/imap/threads"
	"mailform/server/store"
)

// threadKeyOf is the number of the thread in which a message is, RFC 8474 5.2: of
// the first message that it refers to, else of itself. So it follows from the
// message alone, never changes, and is the same for its copies. What refers to
// messages in the middle of a thread only begins another one.
func threadKeyOf(t summary.Thread, m *store.Message) uint64 {
	switch {
	case len(t.Refs) > 0:
		return t.Refs[0]
	case t.ID != 0:
		return t.ID
	}
	return threads.Key("\x00" + m.ObjectID)
}

// threadID is the number as clients see it.
func threadID(key uint64) string { return fmt.Sprintf("T%016x", key) }

func parseThreadID(s string) (key uint64, ok bool) {
	if len(s) != 17 || s[0] != 'T' {
		return 0, false
	}
	key, err := strconv.ParseUint(s[1:], 16, 64)
	return key, err == nil && threadID(key) == s
}

// threadKey finds the messages of a thread, RFC 8474 4.3.
type threadKey struct {
	key  uint64
	refs []uint64
}

func (k *threadKey) match(q *query, i int, m *store.Message) (bool, error) {
	t, ok := q.summary(m).Thread(k.refs[:0])
	if ok {
		k.refs = t.Refs[:0]
	} else {
		c, err := q.content(i, m)
		if err != nil {
			return false, err
		}
		h, err := c.header()
		if err != nil {
			return false, err
		}
		t = summary.ThreadOf(h)
	}
	return threadKeyOf(t, m) == k.key, nil
}

func (*threadKey) cost() int { return costHeader }

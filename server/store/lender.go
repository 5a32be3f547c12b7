package store

import (
	"math/bits"
	"sync"
)

// lender lends memory for messages that pass through, so that what is made for one
// serves the next: making it anew for each is a good part of what a large message
// would cost.
type lender struct {
	classes [lentClasses]sync.Pool // of *[]byte
}

const (
	leastLent   = 32 << 10 // octets; less is made anew
	lentClasses = 4        // each twice as large as the one before: up to 256 KiB
)

// lend returns memory without octets and with room for n.
func (l *lender) lend(n int64) []byte {
	if n < leastLent || n > leastLent<<(lentClasses-1) {
		return make([]byte, 0, n)
	}
	class := bits.Len64(uint64(n-1) / leastLent)
	if p, ok := l.classes[class].Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 0, leastLent<<class)
}

// back takes memory back that nobody has any more. It may also be other memory.
func (l *lender) back(b []byte) {
	if n := cap(b); n >= leastLent && n <= leastLent<<(lentClasses-1) && n&(n-1) == 0 {
		b = b[:0]
		l.classes[bits.Len64(uint64(n)/leastLent)-1].Put(&b)
	}
}

// handBack takes back what a body was read in: it is in the log, or given up.
func (l *Log) handBack(b *body) {
	l.lender.back(b.lent)
	b.lent, b.data = nil, nil
}

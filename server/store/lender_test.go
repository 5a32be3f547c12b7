package store

import "testing"

// What is lent has room, and what comes back serves only who asks for no more.
func TestLender(t *testing.T) {
	t.Parallel()
	var l lender
	for range 3 {
		for _, n := range []int64{0, 1, leastLent - 1, leastLent, leastLent + 1, 2 * leastLent, 100_000, 256 << 10, 256<<10 + 1, 1 << 20} {
			b := l.lend(n)
			if len(b) != 0 || int64(cap(b)) < n || n >= leastLent && int64(cap(b)) > 2*n {
				t.Fatalf("of %d octets: %d with room for %d", n, len(b), cap(b))
			}
			b = append(b, make([]byte, n)...)
			l.back(b)
			l.back(nil)
			l.back(make([]byte, 5, leastLent+8)) // not of its own
		}
	}
}

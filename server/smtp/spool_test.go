package smtp

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

// A message of any size, said or not, in memory or in a file, comes out as it went in.
func TestSpool(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	pool := &sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	for _, size := range []int{0, 1, smallPart - 1, smallPart, smallPart + 1, largeBuffer, smallPart + largeBuffer, 100_000, 128 << 10, 128<<10 + 1, 300_000} {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		for _, said := range []int{0, size / 2, size, 2 * size, 1 << 30} {
			s := &spool{dir: t.TempDir(), memory: 128 << 10, pool: pool}
			s.grow(int64(said))
			for rest := want; len(rest) > 0; {
				n := min(1+rng.IntN(70_000), len(rest))
				if k, err := s.Write(rest[:n]); k != n || err != nil {
					t.Fatal(k, err)
				}
				rest = rest[n:]
			}
			if s.size != int64(size) || (s.file != nil) != (size > 128<<10) {
				t.Errorf("%d octets, %d said: has %d, in a file: %v", size, said, s.size, s.file != nil)
			}
			for _, from := range []int{0, size / 3, size} {
				got, err := io.ReadAll(s.from(int64(from)))
				if err != nil || !bytes.Equal(got, want[from:]) {
					t.Errorf("%d octets, %d said: from %d on %d came, %v", size, said, from, len(got), err)
				}
			}
			s.close()
			s.close() // after a broken transaction it may come twice
		}
	}
}

package imap

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Marks are what a list with one for each message would be.
func TestMarks(t *testing.T) {
	r := rand.New(rand.NewPCG(9, uint64(testSeed)))
	n := 3*markChunk + 17
	var m marks
	model := make([]mark, n)
	for round := range 400 {
		switch i := r.IntN(n); r.IntN(4) {
		case 0:
			v := mark(1 + r.IntN(7))
			m.add(i, v)
			model[i] |= v
		case 1:
			m.drop(i, markNews)
			model[i] &^= markNews
		case 2:
			of := mark(1 + r.IntN(7))
			want := slices.IndexFunc(model[i:], func(v mark) bool { return v&of != 0 })
			if want >= 0 {
				want += i
			}
			if got := m.next(i, of); got != want {
				t.Fatalf("round %d: the next place from %d on is %d, want %d", round, i, got, want)
			}
		case 3:
			places := []int{}
			for k := i; k < n && len(places) < 1+r.IntN(2000); k += 1 + r.IntN(3) {
				places = append(places, k)
			}
			m.remove(places)
			for _, k := range slices.Backward(places) {
				model = slices.Delete(model, k, k+1)
			}
			model = append(model, make([]mark, len(places))...)
		}
		for i, want := range model {
			if got := m.at(i); got != want {
				t.Fatalf("round %d: place %d has marks %b, want %b", round, i, got, want)
			}
		}
	}
}

package imap

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// However texts begin and end, the order is that of comparing them.
func TestSorter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 150).Draw(rt, "messages")
		columns := make([]sortColumn, rapid.IntRange(1, 3).Draw(rt, "columns"))
		piece := rapid.SampledFrom([]string{"", "A", "B", "\x00", "\x00\x00", "ABCDEFGH", "12345678", "\xff"})
		for i := range columns {
			c := &columns[i]
			c.reverse = rapid.Bool().Draw(rt, "reverse")
			if rapid.Bool().Draw(rt, "numeric") {
				c.nums = make([]int64, n)
				for k := range c.nums {
					c.nums[k] = rapid.SampledFrom([]int64{-1 << 63, -1, 0, 1, 1<<63 - 1}).Draw(rt, "number")
				}
				continue
			}
			c.ends = make([]int, n)
			for k := range c.ends {
				for range rapid.IntRange(0, 4).Draw(rt, "pieces") {
					c.text = append(c.text, piece.Draw(rt, "piece")...)
				}
				c.ends[k] = len(c.text)
			}
		}
		list := newSorter(columns, n).list
		want := &sorter{columns: columns, list: slices.Clone(list)}
		slices.SortFunc(want.list, func(a, b ranked) int { return int(a.n) - int(b.n) })
		want.compare(want.list)
		for i := range list {
			if list[i].n != want.list[i].n {
				rt.Fatalf("place %d: %d, want %d", i, list[i].n, want.list[i].n)
			}
		}
	})
}

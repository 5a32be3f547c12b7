package plan

import (
	"cmp"
	"slices"
	"strings"
)

// maxNear is how many addresses are suggested, maxNearText how much of a text
// is compared.
const (
	maxNear     = 3
	maxNearText = 96
)

// near returns the addresses that a pattern may have been meant to name, the
// likeliest first.
func (b *builder) near(pattern string) []Address {
	type candidate struct {
		addr     Address
		distance int
	}
	literal := strings.Trim(pattern, "*")
	candidates := make([]candidate, len(b.nodes))
	for i, n := range b.nodes {
		text := string(n.addr)
		// A glob stands for its beginning: compare as much of the address.
		if literal != pattern && len(text) > len(literal) {
			text = text[:len(literal)]
		}
		candidates[i] = candidate{n.addr, distance(literal, text)}
	}
	slices.SortFunc(candidates, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(x.distance, y.distance), cmp.Compare(x.addr, y.addr))
	})
	var out []Address
	for _, c := range candidates[:min(maxNear, len(candidates))] {
		out = append(out, c.addr)
	}
	return out
}

// distance counts the letters that have to be put in, taken out or exchanged to
// make one text of the other (Levenshtein 1965).
func distance(x, y string) int {
	x, y = x[:min(len(x), maxNearText)], y[:min(len(y), maxNearText)]
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(x) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(y) {
			exchange := diagonal
			if x[i] != y[j] {
				exchange++
			}
			diagonal = row[j+1]
			row[j+1] = min(exchange, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(y)]
}

// either lists addresses as alternatives: "a, b or c".
func either(as []Address) string {
	texts := make([]string, len(as))
	for i, a := range as {
		texts[i] = string(a)
	}
	if last := len(texts) - 1; last > 0 {
		return strings.Join(texts[:last], ", ") + " or " + texts[last]
	}
	return texts[0]
}

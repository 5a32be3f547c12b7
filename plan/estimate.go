package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailform/plan/style"
)

// Estimate is what people want to know of a plan and what is no part of it: it
// is neither in the plan file nor in its hash, and moves while the plan stays.
type Estimate struct {
	Prices []Price // of what the plan makes or makes larger
	// PriceNote says why prices are missing, "" when none are.
	PriceNote string
	Upcoming  []Upcoming
	Duration  time.Duration // of an apply; 0 takes what the operations say of themselves
	Advice    []Advice      // in their order
}

// Duration estimates how long an apply takes with so many operations at a time:
// it walks the graph as apply does, ready operations in the order of their ids,
// each for as long as typical says. 0 when nothing is known of any of them.
func (p *Plan) Duration(parallelism int, typical func(Op) time.Duration) time.Duration {
	type ending struct {
		op int
		at time.Duration
	}
	number := make(map[string]int, len(p.Ops))
	for i, op := range p.Ops {
		number[op.ID] = i
	}
	waits := make([]int, len(p.Ops))
	next := make([][]int, len(p.Ops))
	var ready []int // sorted, which is by id
	for i, op := range p.Ops {
		for _, id := range op.After {
			if d, ok := number[id]; ok {
				next[d] = append(next[d], i)
				waits[i]++
			}
		}
		if waits[i] == 0 {
			ready = append(ready, i)
		}
	}
	var now time.Duration
	var running []ending // sorted by when they end
	for len(ready)+len(running) > 0 {
		for len(ready) > 0 && len(running) < max(1, parallelism) {
			e := ending{ready[0], now + max(0, typical(p.Ops[ready[0]]))}
			ready = ready[1:]
			at, _ := slices.BinarySearchFunc(running, e, func(x, y ending) int { return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.op, y.op)) })
			running = slices.Insert(running, at, e)
		}
		first := running[0]
		running = running[1:]
		now = first.at
		for _, i := range next[first.op] {
			if waits[i]--; waits[i] == 0 {
				at, _ := slices.BinarySearch(ready, i)
				ready = slices.Insert(ready, at, i)
			}
		}
	}
	return now
}

// ownDuration is how long an operation takes as far as its provider knows.
func ownDuration(op Op) time.Duration { return time.Duration(op.Seconds) * time.Second }

// defaultParallelism is how many operations apply runs at a time unless asked otherwise.
const defaultParallelism = 8

// seconds is the estimated length of an apply, rounded up.
func (e Estimate) seconds(p *Plan) int {
	d := e.Duration
	if d == 0 {
		d = p.Duration(defaultParallelism, ownDuration)
	}
	return int((d + time.Second - 1) / time.Second)
}

// price returns what the thing at an address will cost.
func (e Estimate) price(a Address) (Price, bool) {
	i := slices.IndexFunc(e.Prices, func(p Price) bool { return p.Address == a })
	if i < 0 {
		return Price{}, false
	}
	return e.Prices[i], true
}

// words is a price as it stands beside a change: "312.40 CNY/month", "was 180.00".
func (p Price) words() string {
	s := money(p.Monthly) + " " + style.Clean(p.Currency) + "/month"
	if p.Before > 0 {
		s += ", was " + money(p.Before)
	}
	if p.Note != "" {
		s += " (" + style.Clean(p.Note) + ")"
	}
	return s
}

// costWords sums up what the plan adds to the bill: "+ 312.40 CNY/month".
func (e Estimate) costWords() string {
	var parts []string
	for _, t := range e.totals() {
		sign := "+ "
		if t.Monthly < 0 {
			sign = "- "
		}
		parts = append(parts, sign+money(math.Abs(t.Monthly))+" "+style.Clean(t.Currency)+"/month")
	}
	if e.PriceNote != "" {
		parts = append(parts, style.Clean(e.PriceNote))
	}
	return strings.Join(parts, ", ")
}

// Total is what a plan adds to a bill each month in one currency.
type Total struct {
	Monthly  float64 `json:"monthly"`  // negative when the bill becomes smaller
	Currency string  `json:"currency"` // ISO 4217: "CNY"
}

// totals are the sums by currency.
func (e Estimate) totals() []Total {
	sums := map[string]float64{}
	for _, p := range e.Prices {
		sums[p.Currency] += p.Monthly - p.Before
	}
	out := []Total{}
	for _, c := range sortedKeys(sums) {
		out = append(out, Total{math.Round(sums[c]*100) / 100, c})
	}
	return out
}

// money writes an amount with two decimals and, as people read it, 1,312.40.
func money(amount float64) string {
	whole, cents, _ := strings.Cut(strconv.FormatFloat(amount, 'f', 2, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return fmt.Sprintf("%s.%s", whole, cents)
}

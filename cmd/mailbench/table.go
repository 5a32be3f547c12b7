package main

import (
	"fmt"
	"slices"
	"time"
)

// sample is one measured round of one case.
type sample struct {
	wall  time.Duration
	cpu   time.Duration // of all of the peer's processes
	count int           // messages, commands or connections that the case is about
}

// table prints each case as soon as its rounds are done.
type table struct{ peers []*peer }

func newTable(peers []*peer) *table {
	fmt.Printf("| case | %s: wall, CPU | %s: wall, CPU | wall ratio | CPU ratio |\n|---|---|---|---|---|\n", peers[0].name, peers[1].name)
	return &table{peers}
}

// measure runs the rounds of one case, the peers taking turns.
func (t *table) measure(name string, rounds int, f func(p *peer, round int) (int, error)) error {
	samples := make([][]sample, len(t.peers))
	for round := range rounds {
		for i := range t.peers {
			i = (i + round) % len(t.peers) // who is first takes turns, too
			p := t.peers[i]
			before, err := p.cpu()
			if err != nil {
				return err
			}
			start := time.Now()
			n, err := f(p, round)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", name, p.name, err)
			}
			wall := time.Since(start)
			after, err := p.cpu()
			if err != nil {
				return err
			}
			samples[i] = append(samples[i], sample{wall, after - before, n})
		}
	}
	wall, cpu := make([]float64, len(t.peers)), make([]float64, len(t.peers))
	for i, list := range samples {
		wall[i] = median(list, func(s sample) float64 { return s.wall.Seconds() / float64(s.count) })
		cpu[i] = median(list, func(s sample) float64 { return s.cpu.Seconds() / float64(s.count) })
	}
	fmt.Printf("| %s | %s, %s | %s, %s | %s | %s |\n", name, millis(wall[0]), millis(cpu[0]), millis(wall[1]), millis(cpu[1]), ratio(wall), ratio(cpu))
	return nil
}

func median(list []sample, of func(sample) float64) float64 {
	values := make([]float64, len(list))
	for i, s := range list {
		values[i] = of(s)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// ratio says how many times the peer's figure is ours.
func ratio(v []float64) string {
	if v[0] == 0 {
		return "–" // less than the kernel's clock tick
	}
	return fmt.Sprintf("%.1f×", v[1]/v[0])
}

func millis(seconds float64) string {
	ms := seconds * 1000
	switch {
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}

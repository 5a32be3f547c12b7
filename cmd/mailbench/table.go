package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// sample is one measured round of one case.
type sample struct {
	wall  time.Duration
	cpu   time.Duration // of all of the peer's processes
	count int           // messages, commands or connections that the case is about
}

// table prints each case as soon as its rounds are done.
type table struct {
	all   []*peer
	peers []*peer // that are measured; ours is the first
}

func newTable(peers []*peer) *table {
	fmt.Print("| case |")
	for _, p := range peers {
		fmt.Printf(" %s: wall, CPU |", p.name)
	}
	fmt.Print(" wall ratio | CPU ratio |\n|---|" + strings.Repeat("---|", len(peers)) + "---|---|\n")
	return &table{peers, peers}
}

// of is the same table for a case that only some of the peers can be asked about.
func (t *table) of(able []*peer) *table { return &table{all: t.all, peers: able} }

// row prints figures that are no times.
func (t *table) row(name string, cells []string) {
	fmt.Printf("| %s | %s |%s |\n", name, strings.Join(cells, " | "), strings.Repeat(" |", len(t.all)-len(cells)+1))
}

// measure runs the rounds of one case, the peers taking turns. CPU is that until a
// peer has come to rest: what it does behind its answers is its work, too.
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
			if err := p.settle(); err != nil {
				return err
			}
			after, err := p.cpu()
			if err != nil {
				return err
			}
			samples[i] = append(samples[i], sample{wall, after - before, n})
		}
	}
	fmt.Print(t.line(name, samples))
	return nil
}

// line is a case's row; samples are of t.peers.
func (t *table) line(name string, samples [][]sample) string {
	var cells, wallRatios, cpuRatios []string
	var ours [2]float64
	for i, p := range t.all {
		k := slices.Index(t.peers, p)
		if k < 0 {
			cells, wallRatios, cpuRatios = append(cells, "–"), append(wallRatios, "–"), append(cpuRatios, "–")
			continue
		}
		wall := median(samples[k], func(s sample) float64 { return s.wall.Seconds() / float64(s.count) })
		cpu := median(samples[k], func(s sample) float64 { return s.cpu.Seconds() / float64(s.count) })
		cells = append(cells, millis(wall)+", "+millis(cpu))
		if i == 0 {
			ours = [2]float64{wall, cpu}
			continue
		}
		wallRatios, cpuRatios = append(wallRatios, ratio(ours[0], wall)), append(cpuRatios, ratio(ours[1], cpu))
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", name, strings.Join(cells, " | "), strings.Join(wallRatios, ", "), strings.Join(cpuRatios, ", "))
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

// ratio says how many times a peer's figure is ours.
func ratio(ours, theirs float64) string {
	if ours == 0 {
		return "–" // less than the kernel's clock tick
	}
	return fmt.Sprintf("%.1f×", theirs/ours)
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

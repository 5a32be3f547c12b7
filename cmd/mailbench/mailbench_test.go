package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat("4711 (a (b) c) S 42 4711 4711 0 -1 4194560 1 2 0 0 100 20 3 4 20 0 1 0 99 1 2\n")
	if want := (stat{parent: 42, cpu: 1270 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %+v, %v, expected %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 a S 2", "1 (a) S 2 3", "1 (a) S x 4711 4711 0 -1 4194560 1 2 0 0 100 20 3 4 20"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// The CPU of a server is that of its children, too, also when they have ended.
func TestCPUOfAllProcesses(t *testing.T) {
	dir := t.TempDir()
	p := &peer{}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// The loop ends before the shell opens the pipe, and the shell waits there.
	if err := p.start(dir, nil, "/bin/sh", "-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; echo ready >fifo; read x <fifo"); err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if _, err := os.ReadFile(fifo); err != nil {
		t.Fatal(err)
	}
	cpu, err := p.cpu()
	if err != nil || cpu < 2*tick {
		t.Errorf("CPU %v, %v: the child's is missing", cpu, err)
	}
	other := &peer{}
	if cpu, err := other.cpu(); err != nil || cpu != 0 {
		t.Errorf("a peer without processes has used %v, %v", cpu, err)
	}
}

func TestMedian(t *testing.T) {
	of := func(s sample) float64 { return s.wall.Seconds() }
	s := func(n ...int) (list []sample) {
		for _, v := range n {
			list = append(list, sample{wall: time.Duration(v) * time.Second})
		}
		return list
	}
	if a, b := median(s(9, 1, 5), of), median(s(8, 2, 4, 6), of); a != 5 || b != 5 {
		t.Errorf("got %v and %v, expected 5 and 5", a, b)
	}
}

package main

import (
	"bytes"
	"net/mail"
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

func TestStatus(t *testing.T) {
	const text = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"
	if n, err := status(text, "VmHWM:"); err != nil || n != 2<<20 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := status(text, "VmSwap:"); err == nil {
		t.Error("a line that is not there was read")
	}
}

// Messages of a measured time are whole, of their size, and none has another's name.
func TestLetters(t *testing.T) {
	l := newLetters(4<<10, 7)
	seen := map[string]bool{}
	for i := range 100 {
		text := bytes.Join(l.at(i), nil)
		m, err := mail.ReadMessage(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(text); n < 4000 || n > 5000 || !bytes.HasSuffix(text, []byte("\r\n.\r\n")) {
			t.Fatalf("%d octets", n)
		}
		id := m.Header.Get("Message-ID")
		if id == "" || seen[id] {
			t.Fatalf("Message-ID %q", id)
		}
		seen[id] = true
	}
}

// A peer that cannot do a case has a dash in its column.
func TestTableColumns(t *testing.T) {
	a, b, c := &peer{name: "a"}, &peer{name: "b"}, &peer{name: "c"}
	all := &table{all: []*peer{a, b, c}, peers: []*peer{a, b, c}}
	got := all.of([]*peer{a, c}).line("x", [][]sample{{{wall: time.Second, cpu: time.Second, count: 1}}, {{wall: 3 * time.Second, cpu: 2 * time.Second, count: 1}}})
	if want := "| x | 1000 ms, 1000 ms | – | 3000 ms, 2000 ms | –, 3.0× | –, 2.0× |\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

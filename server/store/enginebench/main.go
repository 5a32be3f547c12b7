// Command enginebench measures the embedded engines that the store's index and
// its cached values could be kept in, on what the store asks of one. It is a
// module of its own, so that the engines that were not chosen stay out of
// mailform's dependencies. BENCH.md has a table of its figures.
//
// Each engine runs in a process of its own, which is how its memory is told.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// engine is an ordered map of octets with durable batches.
type engine interface {
	// write makes all pairs durable, or none; a nil value removes the key.
	write(pairs []pair) error
	// scan calls f with the pairs whose keys begin with prefix, in order.
	scan(prefix []byte, f func(key, value []byte)) error
	close() error
}

type pair struct{ key, value []byte }

// engines are opened by name; the files beside this one fill it.
func engines() map[string]func(dir string) (engine, error) {
	return map[string]func(dir string) (engine, error){"bbolt": openBolt, "sqlite": openSQLite, "pebble": openPebble}
}

// figure is one row of the table.
type figure struct {
	Name  string
	Value float64
	Unit  string
}

func main() {
	one := flag.String("engine", "", "measure this engine only and print JSON")
	messages := flag.Int("messages", 1_000_000, "in 20 mailboxes")
	values := flag.Int("values", 200_000, "cached values of 300 to 900 octets")
	flag.Parse()
	var err error
	if *one != "" {
		err = measure(*one, *messages, *values)
	} else {
		err = table(*messages, *values)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// table runs all engines and prints a row for each figure.
func table(messages, values int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	names := []string{"bbolt", "sqlite", "pebble"}
	all := map[string][]figure{}
	for _, n := range names {
		cmd := exec.Command(self, "-engine", n, "-messages", strconv.Itoa(messages), "-values", strconv.Itoa(values))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
		var list []figure
		if err := json.Unmarshal(out, &list); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
		all[n] = list
	}
	fmt.Printf("| | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for i, f := range all[names[0]] {
		fmt.Printf("| %s |", f.Name)
		for _, n := range names {
			fmt.Printf(" %.4g %s |", all[n][i].Value, all[n][i].Unit)
		}
		fmt.Println()
	}
	return nil
}

// run measures one engine.
type run struct {
	open    func(dir string) (engine, error)
	dir     string
	e       engine
	figures []figure
}

func measure(name string, messages, values int) error {
	open := engines()[name]
	if open == nil {
		return fmt.Errorf("no engine %q", name)
	}
	dir, err := os.MkdirTemp("", "enginebench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &run{open: open, dir: dir}
	if err := r.index(messages); err != nil {
		return err
	}
	if err := r.cache(values); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r.figures)
}

func (r *run) add(name string, v float64, unit string) {
	r.figures = append(r.figures, figure{name, v, unit})
}

// spent is what f took: wall and CPU time, in ms.
func spent(f func() error) (wall, cpu float64, err error) {
	before, start := cpuTime(), time.Now()
	err = f()
	return float64(time.Since(start).Microseconds()) / 1e3, float64((cpuTime() - before).Microseconds()) / 1e3, err
}

func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (r *run) timed(name string, n int, f func() error) error {
	wall, cpu, err := spent(f)
	r.add(name+": wall", wall/float64(n), "ms")
	r.add(name+": CPU", cpu/float64(n), "ms")
	return err
}

// reopen closes the engine, opens it and reads what a start reads.
func (r *run) reopen(name string, start []byte) error {
	if err := r.e.close(); err != nil {
		return err
	}
	runtime.GC()
	return r.timed(name, 1, func() (err error) {
		if r.e, err = r.open(r.dir); err != nil {
			return err
		}
		return r.e.scan(start, func(_, _ []byte) {})
	})
}

// memory adds what the process holds: heap and stacks, and pages of files.
func (r *run) memory(name string) {
	runtime.GC()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return
	}
	for _, what := range []string{"RssAnon", "RssFile"} {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == what+":" {
				kib, _ := strconv.ParseFloat(f[1], 64)
				r.add(name+": "+what, kib/1024, "MiB")
			}
		}
	}
}

func (r *run) size(name string) error {
	var n int64
	err := filepath.WalkDir(r.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	r.add(name, float64(n)/(1<<20), "MiB")
	return err
}

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// importing measures an import from a Maildir: what the importing process takes,
// and what the server does meanwhile and behind it.
func importing(n int, p *peer, dir string) error {
	maildir := filepath.Join(dir, "maildir")
	if err := fillMaildir(maildir, n); err != nil {
		return err
	}
	if err := p.settle(); err != nil {
		return err
	}
	before, err := p.cpu()
	if err != nil {
		return err
	}
	own := watchMemory(p)
	start := time.Now()
	cmd := p.importer("big@example.com", "maildir:"+maildir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("import: %w: %s", err, out)
	}
	wall := time.Since(start)
	during, err := p.cpu()
	if err != nil {
		return err
	}
	if err := p.settle(); err != nil {
		return err
	}
	after, err := p.cpu()
	if err != nil {
		return err
	}
	most := own()
	memory, err := p.memory()
	if err != nil {
		return err
	}
	u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return fmt.Errorf("no resource usage of the import")
	}
	fmt.Printf("%simport of %d messages: %.1f s; the importing process: %.1f s of CPU, at most %d MiB; the server: %.1f s of CPU, %.1f s behind it, at most %d MiB, and %d MiB with the files that it has mapped\n",
		out[lastLine(out):], n, wall.Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), u.Maxrss>>10,
		(during - before).Seconds(), (after - during).Seconds(), most>>20, memory>>20)
	mail, err := sizeOf(maildir)
	if err != nil {
		return err
	}
	index, err := sizeOf(p.search)
	if err != nil {
		return err
	}
	fmt.Printf("the search index has %d MiB, %.0f %% of the mail\n", index>>20, 100*float64(index)/float64(mail))
	return nil
}

// sizeOf is how many octets the files below a directory have.
func sizeOf(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// watchMemory returns a function that says what the peer's processes have had
// until then, at most, of memory that is no file's.
func watchMemory(p *peer) func() int64 {
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				var sum int64
				for _, m := range p.masters {
					if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.Process.Pid)); err == nil {
						if n, err := status(string(text), "RssAnon:"); err == nil {
							sum += n
						}
					}
				}
				most = max(most, sum)
			case <-stop:
				done <- most
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-done }
}

// lastLine is where the last line of b begins: progress may be ahead of it.
func lastLine(b []byte) int {
	for i := len(b) - 2; i >= 0; i-- {
		if b[i] == '\n' || b[i] == '\r' {
			return i + 1
		}
	}
	return 0
}

package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// restFor is longer than anything stays in memory that nobody uses.
const restFor = 8 * time.Minute

// holding measures the memory of a server that has n messages, of 20 accounts, while
// nobody asks it for anything: started anew, and after people were there.
func holding(n int, p *peer, dir string) error {
	begun := time.Now()
	for i := range accounts {
		mbox := filepath.Join(dir, "mbox")
		if err := fillMbox(mbox, i*(n/accounts), n/accounts); err != nil {
			return err
		}
		if out, err := p.importer(user(i), "mbox:"+mbox).CombinedOutput(); err != nil {
			return fmt.Errorf("import: %w: %s", err, out)
		}
		if err := os.Remove(mbox); err != nil {
			return err
		}
		if err := p.settle(); err != nil {
			return err
		}
	}
	fmt.Printf("%d messages in %d accounts, imported in %.0f s\n\n| mailformd | resident | of its own | of files |\n|---|---|---|---|\n", n, accounts, time.Since(begun).Seconds())
	if err := p.row("after the import"); err != nil {
		return err
	}
	if err := p.restart(func() error { return nil }); err != nil {
		return err
	}
	if err := p.row(fmt.Sprintf("started anew, in %d ms", p.started.Milliseconds())); err != nil {
		return err
	}
	time.Sleep(2 * time.Minute)
	if err := p.row("two minutes later"); err != nil {
		return err
	}
	for i := range accounts {
		s, err := dialIMAP(p, user(i))
		if err != nil {
			return err
		}
		for _, command := range []string{"SELECT INBOX", "FETCH 1:* (FLAGS ENVELOPE)", `SEARCH TEXT "the quick brown fox"`, "SORT (DATE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL"} {
			if _, err := s.do(command); err != nil {
				return err
			}
		}
		if i == accounts-1 {
			if err := p.row(fmt.Sprintf("all of them read, sorted and searched, the last mailbox of %d open", n/accounts)); err != nil {
				return err
			}
		}
		s.c.Close()
	}
	time.Sleep(restFor)
	return p.row(fmt.Sprintf("%.0f minutes later", restFor.Minutes()))
}

// row writes what memory the peer has.
func (p *peer) row(when string) error {
	var sums [3]int64
	tree, err := p.tree()
	if err != nil {
		return err
	}
	for pid := range tree {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has ended meanwhile
		}
		for i, name := range []string{"VmRSS:", "RssAnon:", "RssFile:"} {
			k, err := status(string(text), name)
			if err != nil {
				return err
			}
			sums[i] += k
		}
	}
	fmt.Printf("| %s | %d MiB | %d MiB | %d MiB |\n", when, sums[0]>>20, sums[1]>>20, sums[2]>>20)
	return nil
}

// fillMbox writes n messages into a file, counted from first.
func fillMbox(path string, first, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		fmt.Fprintf(w, "From bench@example.net Sun Nov 22 08:30:00 2026\n%s\n", strings.ReplaceAll(letter(first+i, bigSize), "\r\n", "\n"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

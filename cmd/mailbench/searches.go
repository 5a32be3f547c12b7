package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// searchKind is a kind of SEARCH; ask makes one, of which no two need be the same.
type searchKind struct {
	name string
	ask  func(r *rand.Rand) string
}

// searchKinds are what people look for, and what is hard: words that are everywhere.
var searchKinds = []searchKind{
	{"a rare word", func(r *rand.Rand) string { return fmt.Sprintf("TEXT w%dx", 10_000+r.IntN(90_000)) }},
	{"a common word", func(r *rand.Rand) string { return fmt.Sprintf("TEXT w%dx", 1+r.IntN(20)) }},
	{"a part of words", func(r *rand.Rand) string { return fmt.Sprintf("BODY %d", 100+r.IntN(900)) }},
	{"two words", func(r *rand.Rand) string { return fmt.Sprintf("TEXT w%dx TEXT w%dx", 1+r.IntN(100), 1+r.IntN(100)) }},
	{"a phrase", func(r *rand.Rand) string {
		return fmt.Sprintf(`TEXT "jumps over the lazy dog number %d"`, r.IntN(1000))
	}},
	{"a phrase in all", func(*rand.Rand) string { return `TEXT "the quick brown fox"` }},
	{"words in all, but not as a phrase", func(*rand.Rand) string { return `TEXT "the lazy fox"` }},
	{"Chinese", func(r *rand.Rand) string { return literal(fmt.Sprintf("邮件第%d号", r.IntN(5000))) }},
	{"Chinese in all", func(*rand.Rand) string { return literal("中文邮件") }},
	{"a subject", func(r *rand.Rand) string { return fmt.Sprintf(`SUBJECT "topic %d"`, r.IntN(500)) }},
	{"a sender", func(r *rand.Rand) string { return fmt.Sprintf(`FROM "sender%d@"`, r.IntN(50)) }},
}

func literal(text string) string {
	return fmt.Sprintf("CHARSET UTF-8 TEXT {%d+}\r\n%s", len(text), text)
}

// wordy is a message of 1.9 KB for searches: words at random, of which few are common,
// and lines that all messages nearly have.
func wordy(i int, r *rand.Rand, z *rand.Zipf) string {
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(head(i), "\r\n", "\n") + "\n")
	for k := range 12 {
		for range 12 {
			fmt.Fprintf(&b, "w%dx ", z.Uint64())
		}
		fmt.Fprintf(&b, "\nthe quick brown fox jumps over the lazy dog number %d.\n中文邮件第%d号\n", (i*31+k)%1000, r.IntN(5000))
	}
	return b.String()
}

// searching measures searches of all kinds, mixed, by one client in a mailbox of n
// messages, and the first one after a start.
func searching(n int, p *peer, dir string) error {
	const account, rounds, starts = "big@example.com", 60, 5
	maildir := filepath.Join(dir, "maildir")
	for _, d := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(maildir, d), 0o755); err != nil {
			return err
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	z := rand.NewZipf(r, 1.2, 10, 200_000)
	for i := range n {
		if err := os.WriteFile(filepath.Join(maildir, "cur", fmt.Sprintf("%d.M%dP1.bench:2,", 1_700_000_000+i, i)), []byte(wordy(i, r, z)), 0o644); err != nil {
			return err
		}
	}
	if err := p.fill(account, maildir); err != nil {
		return err
	}
	if err := p.settle(); err != nil {
		return err
	}
	open := func() (*imapSession, error) {
		s, err := dialIMAP(p, account)
		if err == nil {
			_, err = s.do("SELECT INBOX")
		}
		return s, err
	}
	s, err := open()
	if err != nil {
		return err
	}
	type search struct {
		kind    int
		command string
	}
	var list []search
	for k, kind := range searchKinds {
		for range rounds {
			list = append(list, search{k, "SEARCH " + kind.ask(r)})
		}
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	before, err := p.cpu()
	if err != nil {
		return err
	}
	took := make([][]time.Duration, len(searchKinds)+1)
	for _, x := range list {
		start := time.Now()
		if _, err := s.do(x.command); err != nil {
			return err
		}
		d := time.Since(start)
		took[x.kind] = append(took[x.kind], d)
		took[len(searchKinds)] = append(took[len(searchKinds)], d)
	}
	after, err := p.cpu()
	if err != nil {
		return err
	}
	s.c.Close()
	fmt.Printf("%d searches of %d messages through IMAP, %.1f ms of CPU each:\n\n| | p50 | p95 |\n|---|---|---|\n", len(list), n, (after-before).Seconds()*1000/float64(len(list)))
	for k, d := range took {
		name := "all"
		if k < len(searchKinds) {
			name = searchKinds[k].name
		}
		slices.Sort(d)
		fmt.Printf("| %s | %s | %s |\n", name, millis(d[len(d)/2].Seconds()), millis(d[len(d)*95/100].Seconds()))
	}
	for _, cold := range []bool{false, true} {
		var first []time.Duration
		for range starts {
			if err := p.restart(func() error {
				if cold {
					return forget(p.search)
				}
				return nil
			}); err != nil {
				return err
			}
			if s, err = open(); err != nil {
				return err
			}
			start := time.Now()
			if _, err := s.do(`SEARCH TEXT "jumps over the lazy dog number 123"`); err != nil {
				return err
			}
			first = append(first, time.Since(start))
			s.c.Close()
			if err := p.settle(); err != nil {
				return err
			}
		}
		slices.Sort(first)
		name := "warm"
		if cold {
			name = "read from the disk"
		}
		fmt.Printf("| the first after a start, the index's files %s: of %d | %s | %s |\n", name, starts, millis(first[starts/2].Seconds()), millis(first[starts-1].Seconds()))
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"os"
	passwd "os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const smtpCases = 4

// deliveries is SMTP to mailbox: a message counts when IMAP shows it.
func deliveries(o options, peers []*peer, t *table, dir string) error {
	sent := 1_000_000
	for _, c := range [smtpCases]struct {
		name                        string
		sessions, boxes, size, part int
	}{
		{"SMTP to one mailbox, 20 sessions × 4 KiB, per message", 20, 1, 4 << 10, 1},
		{"SMTP to 20 mailboxes, 20 sessions × 4 KiB, per message", 20, accounts, 4 << 10, 1},
		{"SMTP, one session × 4 KiB, per message", 1, 1, 4 << 10, 4},
		{"SMTP, 20 sessions × 100 KB, per message", 20, 1, 100_000, 4},
	} {
		if !o.cases.MatchString(c.name) {
			continue
		}
		total := max(c.sessions, o.delivers/c.part/c.sessions*c.sessions)
		readers := map[*peer][]*imapSession{} // they log in before the measurement
		for _, p := range peers {
			for i := range c.boxes {
				s, err := dialIMAP(p, user(i))
				if err != nil {
					return err
				}
				defer s.c.Close()
				readers[p] = append(readers[p], s)
			}
		}
		texts := newLetters(c.size, sent)
		err := t.measure(c.name, o.rounds, func(p *peer, _ int) (int, error) {
			texts.first += total
			n := total
			if p.messages > 0 {
				n = max(min(n, p.messages/(smtpCases*o.rounds)), 1)
			}
			return n, deliver(p, readers[p], c.sessions, n, texts)
		})
		sent = texts.first + total
		if err != nil {
			return err
		}
		wall, err := floor(filepath.Join(dir, "floor"), total, c.sessions, c.size, o.rounds)
		if err != nil {
			return err
		}
		t.row(fmt.Sprintf("the floor of that: the bytes appended, one fdatasync for each %d", c.sessions), []string{millis(wall)})
	}
	return nil
}

func deliver(p *peer, readers []*imapSession, sessions, total int, texts *letters) error {
	boxes := len(readers)
	var before []int
	for _, s := range readers {
		n, err := s.messages()
		if err != nil {
			return err
		}
		before = append(before, n)
	}
	var g errgroup.Group
	var next atomic.Int64
	for range sessions {
		g.Go(func() error {
			s, err := dialSMTP(p)
			if err != nil {
				return err
			}
			defer s.c.Close()
			for {
				i := int(next.Add(1)) - 1
				if i >= total {
					return s.do("QUIT\r\n", "221")
				}
				if err := s.message(user(i%boxes), texts.at(i)); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	deadline := time.Now().Add(2 * time.Minute)
	for i, s := range readers {
		want := before[i] + total/boxes
		if i < total%boxes {
			want++
		}
		for {
			n, err := s.messages()
			if err != nil {
				return err
			}
			if n >= want {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%d of %d messages are in the mailbox after two minutes", n, want)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// floor is the time per message of appending the same bytes to one file.
func floor(path string, total, shared, size, rounds int) (float64, error) {
	var list []sample
	for range rounds {
		f, err := os.Create(path)
		if err != nil {
			return 0, err
		}
		burst := []byte(strings.Repeat(letter(1, size), shared))
		start := time.Now()
		for range max(total/shared, 1) {
			if _, err := f.Write(burst); err != nil {
				return 0, err
			}
			if err := datasync(f); err != nil {
				return 0, err
			}
		}
		list = append(list, sample{wall: time.Since(start), count: total})
		if err := f.Close(); err != nil {
			return 0, err
		}
	}
	return median(list, func(s sample) float64 { return s.wall.Seconds() / float64(s.count) }), nil
}

const bigSize = 2000 // of the messages in the large mailbox, about

// fillMaildir puts the same messages where Dovecot finds them; storing each by
// itself, as it would, takes minutes and is not what is measured.
func fillMaildir(dir string, n int) error {
	nobody, err := passwd.Lookup("nobody")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(nobody.Gid)
	if err != nil {
		return err
	}
	for _, d := range []string{dir, filepath.Join(dir, "cur"), filepath.Join(dir, "new"), filepath.Join(dir, "tmp")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := os.Chown(d, uid, gid); err != nil {
			return err
		}
	}
	for i := range n {
		path := filepath.Join(dir, "cur", fmt.Sprintf("%d.M%dP1.bench:2,", 1_700_000_000+i, i))
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(letter(i, bigSize), "\r\n", "\n")), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// largeCase is what is done in the large mailbox.
type largeCase struct {
	commands string // one a line
	times    int    // so that the clock's tick is small beside it
	target   bool   // there is one for it
	// slow says that it takes a peer minutes in a mailbox of a million messages, and
	// no less the second time: it is not done before it is measured there.
	slow bool
}

// many is from where on a mailbox is so large that no command is small beside the
// clock's tick, and that only those are measured for which there is a target.
const many = 300_000

func (c largeCase) name(messages int) string {
	return fmt.Sprintf("`%s` of %d", strings.ReplaceAll(c.commands, "\n", "`, `"), messages)
}

// largeMailbox is one client in a mailbox of many messages, with warm caches.
func largeMailbox(o options, peers []*peer, t *table, dir string) error {
	cases := []largeCase{
		{commands: "SELECT INBOX", times: 20, target: true},
		{commands: "FETCH 1:* FLAGS", times: 1, target: true},
		{commands: "UID FETCH 1:* (FLAGS)", times: 1, target: true},
		{commands: "FETCH 1:* ENVELOPE", times: 1, target: true},
		{commands: "FETCH 1:* BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)]", times: 1, target: true},
		{commands: `SEARCH FROM "sender7@"`, times: 1, target: true},
		{commands: `SEARCH SUBJECT "topic 77"`, times: 1, target: true},
		{commands: "FETCH 1:* BODYSTRUCTURE", times: 1},
		{commands: "FETCH 1:* PREVIEW", times: 1},
		{commands: "SORT (DATE) UTF-8 ALL", times: 3, target: true},
		{commands: "SORT (ARRIVAL) UTF-8 ALL", times: 3},
		{commands: "SORT (SIZE) UTF-8 ALL", times: 3},
		{commands: "SORT (SUBJECT) UTF-8 ALL", times: 3},
		{commands: "SORT (REVERSE FROM DATE) UTF-8 ALL", times: 3},
		{commands: "SORT (TO CC) UTF-8 ALL", times: 3},
		{commands: "THREAD REFERENCES UTF-8 ALL", times: 3, target: true},
		{commands: "THREAD ORDEREDSUBJECT UTF-8 ALL", times: 3},
		{commands: "STORE 1:* +FLAGS.SILENT ($Done)\nSTORE 1:* -FLAGS.SILENT ($Done)", times: 1, target: true, slow: true},
		{commands: `SEARCH TEXT "jumps over the lazy dog number 123"`, times: 1, target: true, slow: true},
		{commands: `SEARCH TEXT "the quick brown fox"`, times: 1, slow: true},
	}
	cases = slices.DeleteFunc(cases, func(c largeCase) bool {
		return !o.cases.MatchString(c.name(o.big)) || o.big >= many && !c.target
	})
	if len(cases) == 0 {
		return nil
	}
	const account = "big@example.com"
	maildir := filepath.Join(dir, "big")
	for _, p := range peers { // who keeps mail so has it there already
		if p.maildirs != "" {
			maildir = filepath.Join(p.maildirs, account)
		}
	}
	if err := fillMaildir(maildir, o.big); err != nil {
		return err
	}
	for _, p := range peers {
		begun := time.Now()
		if p.fill != nil {
			if err := p.fill(account, maildir); err != nil {
				return fmt.Errorf("%s: filling: %w", p.name, err)
			}
		}
		if err := p.settle(); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s has the %d messages after %.0f s\n", p.name, o.big, time.Since(begun).Seconds())
	}
	sessions := map[*peer]*imapSession{}
	for _, p := range peers { // once all are filled: that may take longer than a session may be idle
		s, err := dialIMAP(p, account)
		if err != nil {
			return err
		}
		defer s.c.Close()
		sessions[p] = s
	}
	for _, c := range cases {
		commands := strings.Split(c.commands, "\n")
		name := c.name(o.big)
		if o.big >= many {
			c.times = 1
		}
		run := func(p *peer, _ int) (int, error) {
			for range c.times {
				for _, command := range commands {
					if _, err := sessions[p].do(command); err != nil {
						return 0, err
					}
				}
			}
			return c.times * len(commands), nil
		}
		var able []*peer
		for _, p := range peers { // opens the mailbox and warms the caches
			if _, err := sessions[p].do("SELECT INBOX"); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if c.slow && o.big >= many {
				able = append(able, p)
				continue
			}
			_, err := run(p, 0)
			if errors.As(err, new(refusal)) && p != peers[0] {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			able = append(able, p)
		}
		t := t.of(able)
		if err := t.measure(name, o.rounds, run); err != nil {
			return err
		}
	}
	return nil
}

// mixedLoad is 20 clients that do a bit of everything, each in a mailbox of its own.
func mixedLoad(o options, peers []*peer, t *table, _ string) error {
	const name = "mixed IMAP load, 20 clients, per command"
	if !o.cases.MatchString(name) {
		return nil
	}
	for _, p := range peers {
		for i := range accounts {
			s, err := dialIMAP(p, user(i))
			if err != nil {
				return err
			}
			err = s.appendMany("INBOX", 0, 50, 4<<10)
			s.c.Close()
			if err != nil {
				return err
			}
		}
	}
	return t.measure(name, o.rounds, func(p *peer, round int) (int, error) {
		end := time.Now().Add(o.mixed)
		var g errgroup.Group
		var mu sync.Mutex
		commands := 0
		for i := range accounts {
			g.Go(func() error {
				n := 0
				for time.Now().Before(end) {
					done, err := mixedSession(p, user(i), round)
					n += done
					if err != nil {
						return err
					}
				}
				mu.Lock()
				commands += n
				mu.Unlock()
				return nil
			})
		}
		return commands, g.Wait()
	})
}

// mixedSession is one visit; it returns how many commands it took.
func mixedSession(p *peer, account string, round int) (int, error) {
	s, err := dialIMAP(p, account)
	if err != nil {
		return 0, err
	}
	defer s.c.Close()
	n := 1
	for range 20 {
		if err := s.appendMany("INBOX", round, round+1, 4<<10); err != nil {
			return n, err
		}
		n++
		for _, command := range []string{
			`LIST "" "*"`, "STATUS INBOX (MESSAGES UNSEEN UIDNEXT)", "SELECT INBOX", "FETCH 1:20 (UID FLAGS ENVELOPE)", "FETCH * (BODY.PEEK[])",
			`STORE 1 +FLAGS (\Seen)`, `SEARCH UNSEEN`, `STORE 1 +FLAGS.SILENT (\Deleted)`, "EXPUNGE", "NOOP",
		} {
			if _, err := s.do(command); err != nil {
				return n, err
			}
			n++
		}
	}
	_, err = s.do("LOGOUT")
	return n + 1, err
}

// idleMemory is what a connection that is logged in and waits costs.
func idleMemory(o options, peers []*peer, t *table, _ string) error {
	name := fmt.Sprintf("private memory of each of %d idle connections with TLS", o.idle)
	if !o.cases.MatchString(name) {
		return nil
	}
	var each []string
	for _, p := range peers {
		if p.connections > 0 && p.connections < o.idle {
			each = append(each, "–")
			continue
		}
		for i := range accounts { // what checking a password takes is not of the connections
			s, err := dialIMAP(p, user(i))
			if err != nil {
				return err
			}
			s.c.Close()
		}
		before, err := p.private()
		if err != nil {
			return err
		}
		var open []*imapSession
		for i := range o.idle {
			s, err := dialIMAP(p, user(i%accounts))
			if err != nil {
				return err
			}
			defer s.c.Close()
			if _, err := s.do("EXAMINE INBOX"); err != nil {
				return err
			}
			if _, err := fmt.Fprint(s.c, "i IDLE\r\n"); err != nil {
				return err
			}
			if _, err := s.r.ReadString('\n'); err != nil {
				return err
			}
			open = append(open, s)
		}
		after, err := p.private()
		if err != nil {
			return err
		}
		each = append(each, fmt.Sprintf("%d KiB", (after-before)>>10/int64(len(open))))
	}
	t.row(name, each)
	return nil
}

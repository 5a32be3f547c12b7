//go:build !race

// With the race detector a sync.Pool drops some of what is put back, so that what a
// command allocates is chance there.

package imap

import (
	"bufio"
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"mailform/server/store"
)

// expense is what a command takes, in what does not depend on how busy the machine is.
type expense struct {
	allocations int64
	memory      int64 // octets that were allocated
	sent        int64 // octets, to all clients
	opened      int64 // messages
}

func (e expense) String() string {
	return fmt.Sprintf("%d allocations of %d octets, %d octets sent, %d messages opened", e.allocations, e.memory, e.sent, e.opened)
}

// scale is a server whose INBOX has n messages and is open elsewhere, too.
type scale struct {
	*world
	n     int
	store *countingStore
	line  *line
}

func newScale(t *testing.T, n int, change ...func(*Config, *Settings)) *scale {
	s := &scale{n: n, store: &countingStore{}}
	// The index file is brought up to date beside the commands, after so many changes as only
	// those to all messages of a large mailbox are: it would be counted there and not in a small one.
	s.world = newWorldOver(t, store.Options{ReserveBytes: -1, FlushMessages: 1 << 40}, append(change, func(c *Config, _ *Settings) { s.store.Store, c.Store = c.Store, s.store })...)
	s.deliver("INBOX", "Subject: s\nFrom: a@example.net\nDate: Sun, 22 Nov 2026 08:30:00 +0800\n\nHello\n")
	for have := 1; have < n; have *= 2 {
		uids := make([]store.UID, min(have, n-have))
		for i := range uids {
			uids[i] = store.UID(i + 1)
		}
		if _, _, _, err := s.world.store.Copy(t.Context(), alice, store.Named("INBOX"), uids, store.Named("INBOX")); err != nil {
			t.Fatal(err)
		}
	}
	s.client().answers([]string{"SELECT INBOX"})
	s.line = s.client()
	s.line.r = bufio.NewReaderSize(s.line.nc, 2<<20) // UIDs of all messages are one line
	s.line.answers([]string{"SELECT INBOX"})
	return s
}

func (s *scale) client() *line {
	l := s.dial("a")
	_ = l.nc.SetDeadline(time.Now().Add(5 * time.Minute))
	l.login()
	return l
}

// cost is the least of some times that f is carried out: something else may have been
// at work during one of them. f returns how many octets came.
func (s *scale) cost(f func() int) expense {
	// The collector would take buffers that are lent out away, and have others made, whenever it likes.
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var least expense
	for i := range 5 {
		var before, after runtime.MemStats
		opened := s.store.reads.Load()
		runtime.ReadMemStats(&before)
		sent := f()
		runtime.ReadMemStats(&after)
		e := expense{int64(after.Mallocs - before.Mallocs), int64(after.TotalAlloc - before.TotalAlloc), int64(sent), s.store.reads.Load() - opened}
		if i == 0 {
			continue // buffers are made
		}
		if i == 1 {
			least = e
		}
		least = expense{min(least.allocations, e.allocations), min(least.memory, e.memory), min(least.sent, e.sent), min(least.opened, e.opened)}
	}
	return least
}

// command is the cost of a command, or of several in one go. # stands for the number of messages.
func (s *scale) command(text string) expense {
	text = "c " + strings.ReplaceAll(strings.ReplaceAll(text, "#", fmt.Sprint(s.n)), "\n", "\r\nc ") + "\r\n"
	commands := strings.Count(text, "\r\n")
	return s.cost(func() (sent int) {
		s.line.send(text)
		for left := commands; left > 0; {
			b, err := s.line.r.ReadSlice('\n')
			if err != nil {
				s.Fatal(err)
			}
			if sent += len(b); bytes.HasPrefix(b, []byte("c ")) {
				left--
				if !bytes.HasPrefix(b, []byte("c OK")) {
					s.Fatalf("%q: %s", text, b)
				}
			}
		}
		return sent
	})
}

// idle is what it takes to tell a client that waits in IDLE of something.
func (s *scale) idle(happens func(), pattern string, before ...string) expense {
	l := s.client()
	l.answers(append([]string{"SELECT INBOX"}, before...))
	l.send("i IDLE\r\n")
	l.expect("+ idling")
	defer l.nc.Close()
	return s.cost(func() (sent int) {
		happens()
		for {
			got := l.read()
			sent += len(got) + 2
			if matchLine(pattern, got) {
				return sent
			}
		}
	})
}

// What is of one message, or of a mailbox as a whole, takes no more in a mailbox of
// 100,000 messages than in one of 1,000; what is of all messages takes as much for each.
func TestCostsScale(t *testing.T) {
	constant := []string{
		"NOOP", "STATUS INBOX (MESSAGES UNSEEN UIDNEXT SIZE)", "SELECT INBOX", "FETCH # FLAGS", "UID FETCH # (FLAGS)", "FETCH # ENVELOPE", "FETCH # (UID BODY.PEEK[])",
		"FETCH # BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "STORE # +FLAGS.SILENT (\\Flagged)\nSTORE # -FLAGS.SILENT (\\Flagged)", "COPY # Trash", "SEARCH UID #", "LIST \"\" * RETURN (STATUS (MESSAGES UNSEEN))",
	}
	linear := []string{"FETCH 1:* FLAGS", "UID FETCH 1:* (FLAGS)", "UID SEARCH UNSEEN", "STORE 1:* +FLAGS.SILENT (\\Answered)\nSTORE 1:* -FLAGS.SILENT (\\Answered)"}
	sizes := []int{1_000, 10_000, 100_000}
	costs := map[string][]expense{}
	for _, n := range sizes {
		s := newScale(t, n)
		for _, c := range append(constant, linear...) {
			costs[c] = append(costs[c], s.command(c))
		}
		flag := store.FlagsAdd
		costs["IDLE: flags"] = append(costs["IDLE: flags"], s.idle(func() {
			if _, err := s.world.store.UpdateFlags(t.Context(), alice, store.Named("INBOX"), []store.UID{store.UID(n)}, flag, []string{`\Draft`}); err != nil {
				t.Fatal(err)
			}
			flag = store.FlagsAdd + store.FlagsRemove - flag
		}, "* * FETCH *"))
		flag = store.FlagsAdd
		costs["IDLE: a followed result"] = append(costs["IDLE: a followed result"], s.idle(func() {
			if _, err := s.world.store.UpdateFlags(t.Context(), alice, store.Named("INBOX"), []store.UID{store.UID(n / 2)}, flag, []string{`\Draft`}); err != nil {
				t.Fatal(err)
			}
			flag = store.FlagsAdd + store.FlagsRemove - flag
		}, "* ESEARCH *", "UID SEARCH RETURN (UPDATE COUNT) UNDRAFT"))
		costs["IDLE: a message"] = append(costs["IDLE: a message"], s.idle(func() { s.deliver("INBOX", "Subject: s\n\nHello\n") }, "* * EXISTS"))
	}
	for _, name := range append(constant, "IDLE: flags", "IDLE: a followed result", "IDLE: a message") {
		first := costs[name][0]
		for i, e := range costs[name][1:] {
			n := int64(sizes[i+1])
			// Numbers are longer, and a list of messages has 17 octets for each 256 of them.
			if e.opened != first.opened || e.sent > first.sent+40 || e.allocations > first.allocations*5/4+10 || e.memory > first.memory*5/4+4096+n/10 {
				t.Errorf("%s takes %s with %d messages, and %s with %d", name, first, sizes[0], e, n)
			}
		}
	}
	for _, name := range linear {
		first := costs[name][0]
		for i, e := range costs[name][1:] {
			times := int64(sizes[i+1] / sizes[0])
			if e.opened != 0 || e.sent > times*first.sent*3/2 || e.allocations > 2*times*first.allocations || e.memory > 3*times*first.memory {
				t.Errorf("%s takes %s with %d messages, and %s with %d", name, first, sizes[0], e, sizes[i+1])
			}
		}
	}
}

package imap

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"mailform/server/store"
)

// client believes only what the server tells it, and complains when that
// contradicts itself, RFC 9051 2.3.1.2 and 7.5.
type client struct {
	*line
	box     string
	tags    int
	msgs    []clientMessage // by sequence number
	follows bool            // see follow
	results []*result
}

type clientMessage struct {
	uid   int      // 0: not told yet
	flags []string // nil: not told yet
}

// chooser decides what happens next: rapid's generator or a random one.
type chooser interface {
	n(label string, limit int) int // 0 <= n < limit
	failf(format string, args ...any)
}

type rapidChooser struct{ *rapid.T }

func (c rapidChooser) n(label string, limit int) int {
	return rapid.IntRange(0, limit-1).Draw(c.T, label)
}
func (c rapidChooser) failf(format string, args ...any) { c.Fatalf(format, args...) }

type randChooser struct {
	*rand.Rand
	failed *atomic.Pointer[string]
}

func (c randChooser) n(_ string, limit int) int { return c.IntN(limit) }
func (c randChooser) failf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.failed.CompareAndSwap(nil, &text)
	panic(errModel)
}

var errModel = fmt.Errorf("the model was contradicted")

// follow has the server tell between commands what there is to tell (RFC 5465),
// but for expunges: with those the client's numbers would change under its hands.
func (c *client) follow() {
	c.send("n NOTIFY SET (SELECTED-DELAYED (MessageNew (UID FLAGS) MessageExpunge FlagChange)) (PERSONAL (MessageNew MessageExpunge))\r\n")
	c.skip("n OK *")
	c.follows = true
}

// newClient logs in and selects the mailbox.
func newClient(w *world, name, box string) *client {
	c := &client{line: w.dial(name), box: box}
	c.login()
	c.send("s SELECT " + box + "\r\n")
	for {
		got := c.read()
		if f := strings.Fields(got); len(f) == 3 && f[2] == "EXISTS" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				w.Fatal(err)
			}
			c.msgs = make([]clientMessage, n)
		}
		if strings.HasPrefix(got, "s ") {
			return c
		}
	}
}

// do sends a command and takes in the responses. It returns the tagged one.
func (c *client) do(ch chooser, command string) string {
	c.tags++
	tag := fmt.Sprintf("%s%d", c.name, c.tags)
	c.send(tag + " " + command + "\r\n")
	verb, _, _ := strings.Cut(command, " ")
	for {
		got := c.read()
		if rest, ok := strings.CutPrefix(got, tag+" "); ok {
			return rest
		}
		if got == "+ idling" {
			c.send("DONE\r\n")
			continue
		}
		c.take(ch, verb, got)
	}
}

// take takes in an untagged response to a command.
func (c *client) take(ch chooser, verb, got string) {
	f := strings.Fields(got)
	if len(f) < 3 {
		return
	}
	if f[1] == "ESEARCH" {
		c.takeResult(ch, got)
		return
	}
	n, err := strconv.Atoi(f[1])
	if err != nil {
		return
	}
	switch f[2] {
	case "EXISTS":
		if n < len(c.msgs) {
			ch.failf("%s: %s, but there were %d", c.name, got, len(c.msgs))
		}
		c.msgs = append(c.msgs, make([]clientMessage, n-len(c.msgs))...)
	case "EXPUNGE":
		for _, r := range c.results {
			r.expunge(ch, got, n)
		}
		if n < 1 || n > len(c.msgs) {
			ch.failf("%s: %s, but there are %d", c.name, got, len(c.msgs))
		}
		if verb == "FETCH" || verb == "STORE" || verb == "SEARCH" {
			ch.failf("%s: %s during %s", c.name, got, verb)
		}
		c.msgs = slices.Delete(c.msgs, n-1, n)
	case "FETCH":
		if n < 1 || n > len(c.msgs) {
			ch.failf("%s: %s, but there are %d", c.name, got, len(c.msgs))
		}
		m := &c.msgs[n-1]
		if _, rest, ok := strings.Cut(got, "UID "); ok {
			uid, err := strconv.Atoi(rest[:strings.IndexAny(rest, " )")])
			if err != nil || m.uid != 0 && m.uid != uid {
				ch.failf("%s: %s, but number %d was UID %d", c.name, got, n, m.uid)
			}
			if n > 1 && c.msgs[n-2].uid >= uid || n < len(c.msgs) && c.msgs[n].uid != 0 && c.msgs[n].uid <= uid {
				ch.failf("%s: %s is out of order", c.name, got)
			}
			m.uid = uid
		}
		if _, rest, ok := strings.Cut(got, "FLAGS ("); ok {
			m.flags = slices.DeleteFunc(strings.Fields(rest[:strings.IndexByte(rest, ')')]), func(f string) bool { return f == `\Recent` })
		}
	}
}

// step does something with the mailbox.
func (c *client) step(ch chooser, w *world) {
	k := ch.n("kind", 15)
	if len(c.msgs) == 0 && k > 3 {
		k = 0
	}
	flag := []string{`\Seen`, `\Deleted`, "$Work"}[ch.n("flag", 3)]
	item := []string{"+FLAGS", "-FLAGS", "FLAGS"}[ch.n("item", 3)]
	seq := func() int { return 1 + ch.n("seq", len(c.msgs)) }
	switch k {
	case 0, 1:
		_, err := w.store.Deliver(context.Background(), store.Delivery{Body: strings.NewReader("A: b\r\n\r\nx"), Size: -1,
			Targets: []store.Target{{Account: alice, Mailbox: c.box}}})
		if err != nil {
			ch.failf("%v", err)
		}
	case 2:
		c.do(ch, "NOOP")
	case 3:
		c.do(ch, "IDLE")
	case 4, 5:
		c.do(ch, fmt.Sprintf("FETCH %d:* (UID FLAGS)", seq()))
	case 6:
		c.do(ch, fmt.Sprintf("STORE %d %s (%s)", seq(), item, flag))
	case 7, 8:
		n := seq()
		if c.follows { // it cannot know whether what it is told is from before its change
			c.do(ch, fmt.Sprintf("STORE %d %s (%s)", n, item, flag))
			break
		}
		before := slices.Clone(c.msgs[n-1].flags)
		if rest := c.do(ch, fmt.Sprintf("STORE %d %s.SILENT (%s)", n, item, flag)); strings.HasPrefix(rest, "OK") {
			// Unless it was told otherwise, a client takes its change for granted.
			if slices.Equal(before, c.msgs[n-1].flags) {
				c.assume(n, item, flag)
			}
		}
	case 9:
		if m := c.msgs[seq()-1]; m.uid != 0 {
			c.do(ch, fmt.Sprintf("UID STORE %d %s (%s)", m.uid, item, flag))
		}
	case 10:
		c.do(ch, "EXPUNGE")
	case 11:
		c.do(ch, fmt.Sprintf("COPY %d %s", seq(), c.box))
	case 12:
		c.do(ch, fmt.Sprintf("MOVE %d Archive", seq()))
	case 13:
		c.do(ch, "UID SEARCH "+[]string{"SEEN", "DELETED", "ALL"}[ch.n("criterion", 3)])
	case 14:
		c.followResult(ch)
	}
}

func (c *client) assume(n int, item, flag string) {
	m := &c.msgs[n-1]
	switch {
	case item == "FLAGS":
		m.flags = []string{flag}
	case m.flags == nil:
	case item == "+FLAGS" && !slices.Contains(m.flags, flag):
		m.flags = append(m.flags, flag)
		slices.Sort(m.flags)
	case item == "-FLAGS":
		m.flags = slices.DeleteFunc(m.flags, func(f string) bool { return f == flag })
	}
}

// settle brings the client up to date and compares what it believes with what is so.
func (c *client) settle(ch chooser, w *world) {
	c.do(ch, "NOOP")
	snap, watch, err := w.store.Open(context.Background(), alice, c.box)
	if err != nil {
		ch.failf("%v", err)
	}
	watch.Close()
	if snap.Messages.Len() != len(c.msgs) {
		ch.failf("%s: believes in %d messages, there are %d", c.name, len(c.msgs), snap.Messages.Len())
	}
	for i, m := range snap.Messages.All() {
		believed := c.msgs[i]
		if believed.uid != 0 && believed.uid != int(m.UID) {
			ch.failf("%s: number %d is believed to be UID %d and is %d", c.name, i+1, believed.uid, m.UID)
		}
		if believed.flags != nil && !slices.Equal(believed.flags, m.Flags) && !(len(believed.flags) == 0 && len(m.Flags) == 0) {
			ch.failf("%s: UID %d is believed to have %v and has %v", c.name, m.UID, believed.flags, m.Flags)
		}
	}
	c.checkResults(ch)
}

// TestViews lets several sessions work on one mailbox, one command at a time
// in any order: no client is ever told what contradicts what it was told before.
func TestViews(t *testing.T) {
	w := newWorld(t)
	boxes := 0
	rapid.Check(t, func(rt *rapid.T) {
		boxes++
		box := fmt.Sprintf("box%d", boxes)
		if _, err := w.store.CreateMailbox(context.Background(), alice, box, ""); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 4).Draw(rt, "messages") {
			w.deliver(box, "A: b\n\nx")
		}
		ch := rapidChooser{rt}
		var clients []*client
		for i := range rapid.IntRange(1, 3).Draw(rt, "sessions") {
			clients = append(clients, newClient(w, string(rune('a'+i)), box))
			if rapid.Bool().Draw(rt, "follows") {
				clients[i].follow()
			}
		}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			clients[ch.n("who", len(clients))].step(ch, w)
		}
		for _, c := range clients {
			c.settle(ch, w)
			c.nc.Close()
		}
	})
}

// TestViewsAtOnce is the same with all sessions at work at the same time.
func TestViewsAtOnce(t *testing.T) {
	w := newWorld(t)
	if _, err := w.store.CreateMailbox(context.Background(), alice, "shared", ""); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		w.deliver("shared", "A: b\n\nx")
	}
	var failed atomic.Pointer[string]
	var clients []*client
	var choosers []randChooser
	for i := range 6 {
		clients = append(clients, newClient(w, string(rune('a'+i)), "shared"))
		if i%2 == 1 {
			clients[i].follow()
		}
		choosers = append(choosers, randChooser{rand.New(rand.NewPCG(uint64(i), 1)), &failed})
	}
	steps := 250
	if testing.Short() {
		steps = 50
	}
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil && r != errModel {
					panic(r)
				}
			}()
			for range steps {
				if failed.Load() != nil {
					return
				}
				c.step(choosers[i], w)
			}
		})
	}
	wg.Wait()
	if text := failed.Load(); text != nil {
		t.Fatal(*text)
	}
	for i, c := range clients {
		func() {
			defer func() {
				if r := recover(); r != nil && r != errModel {
					panic(r)
				}
			}()
			c.settle(choosers[i], w)
		}()
		c.nc.Close()
	}
	if text := failed.Load(); text != nil {
		t.Fatal(*text)
	}
}

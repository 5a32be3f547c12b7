package storetest

import (
	"fmt"
	"strings"

	"mailform/server/store"
)

// tell puts changes into words.
func tell(changes []store.Change) string {
	var l []string
	for _, c := range changes {
		var what []string
		for i, name := range []string{"new", "gone", "flags", "metadata", "created", "deleted", "renamed", "subscription"} {
			if c.What&(1<<i) != 0 {
				what = append(what, name)
			}
		}
		text := fmt.Sprintf("%q %s", c.Mailbox, strings.Join(what, "+"))
		if c.From != "" {
			text += fmt.Sprintf(" from %q", c.From)
		}
		if len(c.Entries) > 0 {
			text += " " + strings.Join(c.Entries, ",")
		}
		l = append(l, text)
	}
	return strings.Join(l, "; ")
}

// testWatchAccount follows everything in an account, each mailbox's messages as one
// change, and never keeps more than it may.
func testWatchAccount(s *suite) {
	_, err := s.s.WatchAccount(s.ctx, "nobody@example.org")
	if err == nil {
		s.Error("an account that is not there is watched")
	}
	w, err := s.s.WatchAccount(s.ctx, alice)
	s.ok(err)
	ready := 0
	w.Notify(func() { ready++ })
	take := func(want string) {
		s.Helper()
		changes, overflow := w.Take()
		if overflow || ready == 0 && want != "" {
			s.Errorf("overflow %v, told %d times", overflow, ready)
		}
		ready = 0
		equal(s, "changes", tell(changes), want)
	}
	take("")
	s.deliver(bob, "INBOX", "elsewhere")
	s.deliver(alice, "INBOX", "a")
	s.deliver(alice, "Junk", "b")
	s.deliver(alice, "INBOX", "c")
	_, err = s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.FlagsAdd, []string{`\Deleted`})
	s.ok(err)
	_, err = s.s.Expunge(s.ctx, alice, store.Named("INBOX"), nil)
	s.ok(err)
	take(`"INBOX" new+gone+flags; "Junk" new`)

	_, err = s.s.CreateMailbox(s.ctx, alice, "Old", "")
	s.ok(err)
	s.deliver(alice, "Old", "d")
	s.ok(s.s.RenameMailbox(s.ctx, alice, "Old", "New"))
	s.deliver(alice, "New", "e")
	s.ok(s.s.Subscribe(s.ctx, alice, "Elsewhere", true))
	s.ok(s.s.SetMetadata(s.ctx, alice, "New", []store.MetadataEntry{{Name: "/private/comment", Value: []byte("x")}, {Name: "/shared/comment", Value: []byte("y")}}))
	s.ok(s.s.SetMetadata(s.ctx, alice, "", []store.MetadataEntry{{Name: "/private/comment", Value: []byte("x")}}))
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "New"))
	take(`"Old" created; "Old" new; "New" renamed from "Old"; "New" new; "Elsewhere" subscription; ` +
		`"New" metadata /private/comment,/shared/comment; "" metadata /private/comment; "New" deleted`)

	for range 501 {
		s.ok(s.s.Subscribe(s.ctx, alice, "Elsewhere", false))
		s.ok(s.s.Subscribe(s.ctx, alice, "Elsewhere", true))
	}
	if changes, overflow := w.Take(); !overflow || len(changes) > 1000 {
		s.Errorf("%d changes, overflow %v", len(changes), overflow)
	}
	w.Close()
	s.deliver(alice, "INBOX", "f")
	if changes, overflow := w.Take(); overflow || len(changes) > 0 {
		s.Errorf("after Close: %s", tell(changes))
	}
}

func describe(events []store.Event) string {
	var l []string
	for _, e := range events {
		for _, m := range e.New {
			l = append(l, fmt.Sprintf("new %d", m.UID))
		}
		for _, m := range e.Changed {
			l = append(l, fmt.Sprintf("flags %d %s", m.UID, strings.Join(m.Flags, ",")))
		}
		for _, u := range e.Expunged {
			l = append(l, fmt.Sprintf("gone %d", u))
		}
		if e.Renamed {
			l = append(l, "renamed "+e.Mailbox)
		}
		if e.Gone {
			l = append(l, "mailbox gone")
		}
	}
	return strings.Join(l, "; ")
}

func testWatch(s *suite) {
	s.deliver(alice, "INBOX", "before")
	snap, w, err := s.s.Open(s.ctx, alice, "INBOX")
	s.ok(err)
	equal(s, "snapshot", snap.Messages.Len(), 1)
	equal(s, "nothing yet", len(w.Take()), 0)
	s.deliver(alice, "INBOX", "x")
	s.deliver(alice, "Archive", "elsewhere")
	s.deliver(bob, "INBOX", "elsewhere")
	<-w.Ready()
	_, err = s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{1, 2}, store.FlagsAdd, []string{`\Seen`})
	s.ok(err)
	_, err = s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.FlagsAdd, []string{`\Deleted`})
	s.ok(err)
	_, err = s.s.Expunge(s.ctx, alice, store.Named("INBOX"), nil)
	s.ok(err)
	equal(s, "events", describe(w.Take()), `new 2; flags 1 \Seen; flags 2 \Seen; flags 1 \Deleted,\Seen; gone 1`)
	select {
	case <-w.Ready():
		s.Fatal("ready with nothing to take")
	default:
	}
	_, w2, err := s.s.Open(s.ctx, alice, "Archive")
	s.ok(err)
	s.ok(s.s.RenameMailbox(s.ctx, alice, "Archive", "Old"))
	s.deliver(alice, "Old", "after")
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "Old"))
	<-w2.Ready()
	equal(s, "events", describe(w2.Take()), "renamed Old; new 2; mailbox gone")
	w2.Close()
	w.Close()
	s.deliver(alice, "INBOX", "y")
	equal(s, "after Close", len(w.Take()), 0)
}

// testWatchOrder opens a mailbox while others deliver to it: snapshot and
// events together are every message once.
func testWatchOrder(s *suite) {
	const writers, each = 4, 25
	done := make(chan error, writers)
	for range writers {
		go func() {
			for range each {
				if _, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("x"), Size: 1, Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 10 {
		snap, w, err := s.s.Open(s.ctx, alice, "INBOX")
		s.ok(err)
		next := snap.Info.UIDNext
		equal(s, "messages before UIDNEXT", snap.Messages.Len(), int(next)-1)
		for next <= writers*each/2 {
			<-w.Ready()
			for _, e := range w.Take() {
				for _, m := range e.New {
					equal(s, "next UID", m.UID, next)
					next++
				}
			}
		}
		w.Close()
	}
	for range writers {
		s.ok(<-done)
	}
	equal(s, "messages", s.info(alice, "INBOX").Messages, writers*each)
}

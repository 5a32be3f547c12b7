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
	_, err = s.s.UpdateFlags(s.ctx, alice, "INBOX", []store.UID{1}, store.FlagsAdd, []string{`\Deleted`})
	s.ok(err)
	_, err = s.s.Expunge(s.ctx, alice, "INBOX", nil)
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

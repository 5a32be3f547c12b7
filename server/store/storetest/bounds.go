package storetest

import (
	"bytes"
	"fmt"

	"mailform/server/store"
)

// testBounds has an account with as much as it can have. An import brings it there, since
// it may bring more.
func testBounds(s *suite) {
	var list []store.Incoming
	for i := range store.MaxMailboxes - 6 - 2 { // what every account has, and two more
		list = append(list, store.Incoming{Mailbox: fmt.Sprint("x", i)})
	}
	_, err := s.s.Import(s.ctx, alice, list)
	s.ok(err)
	create := func(name string) error {
		_, err := s.s.CreateMailbox(s.ctx, alice, name, "")
		return err
	}
	s.is(create("a/b/c"), store.ErrTooMany)
	_, err = s.s.Mailbox(s.ctx, alice, "a")
	s.is(err, store.ErrNoMailbox)
	s.ok(create("a/b"))
	s.is(create("c"), store.ErrTooMany)
	s.is(create("a/c"), store.ErrTooMany)
	s.is(s.s.RenameMailbox(s.ctx, alice, "INBOX", "Old"), store.ErrTooMany)
	s.is(s.s.RenameMailbox(s.ctx, alice, "x1", "new/x1"), store.ErrTooMany)
	s.ok(s.s.RenameMailbox(s.ctx, alice, "x1", "a/x1"))
	s.is(s.s.DeleteMailbox(s.ctx, alice, "a"), store.ErrHasChildren)
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "a/x1"))
	s.ok(create("a/c"))

	// An import subscribes what it makes.
	subs, err := s.s.Subscriptions(s.ctx, alice)
	s.ok(err)
	for i := len(subs); i < store.MaxSubscriptions; i++ {
		s.ok(s.s.Subscribe(s.ctx, alice, fmt.Sprint("none", i), true))
	}
	s.is(s.s.Subscribe(s.ctx, alice, "one more", true), store.ErrTooMany)
	s.ok(s.s.Subscribe(s.ctx, alice, "x2", true)) // as it is
	s.ok(s.s.Subscribe(s.ctx, alice, "x2", false))
	s.ok(s.s.Subscribe(s.ctx, alice, "one more", true))

	value := bytes.Repeat([]byte("v"), store.MaxMetadataValue)
	note := func(i int) error {
		return s.s.SetMetadata(s.ctx, alice, "a", []store.MetadataEntry{{Name: fmt.Sprint("/private/", i), Value: value}})
	}
	most := store.MaxMetadataOctets/(store.MaxMetadataValue+20) - 1
	for i := range most {
		s.ok(note(i))
	}
	for i := range most {
		s.ok(note(i)) // in the place of the one before
	}
	s.ok(note(most))
	s.is(note(most+1), store.ErrMetadata)
	s.ok(s.s.SetMetadata(s.ctx, alice, "a", []store.MetadataEntry{{Name: "/private/0"}}))
	s.ok(note(most + 1))
}

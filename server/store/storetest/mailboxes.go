package storetest

import (
	"strings"

	"mailform/server/store"
)

func testNames(s *suite) {
	for _, name := range []string{"", "/", "a/", "/a", "a//b", "a*", "a%", "a\x00b", "a\nb", "\xff", strings.Repeat("x", 1001), strings.Repeat("a/", 60) + "a"} {
		_, err := s.s.CreateMailbox(s.ctx, alice, name, "")
		s.is(err, store.ErrName)
	}
	_, err := s.s.CreateMailbox(s.ctx, alice, "InBox", "")
	s.is(err, store.ErrMailboxExists)
	info, err := s.s.CreateMailbox(s.ctx, alice, "inbox/项目/2026", "")
	s.ok(err)
	equal(s, "name", info.Name, "INBOX/项目/2026")
	s.again(func() {
		equal(s, "names", s.names(alice), "INBOX Archive Drafts INBOX/项目 INBOX/项目/2026 Junk Sent Trash")
	})
	info, err = s.s.CreateMailbox(s.ctx, alice, "All", `\All`)
	s.ok(err)
	equal(s, "use", info.SpecialUse, `\All`)
	equal(s, "the same from the list", s.info(alice, "All"), info)
}

func testDelete(s *suite) {
	created, err := s.s.CreateMailbox(s.ctx, alice, "a/b", "")
	s.ok(err)
	s.deliver(alice, "a/b", "x")
	s.is(s.s.DeleteMailbox(s.ctx, alice, "a"), store.ErrHasChildren)
	s.is(s.s.DeleteMailbox(s.ctx, alice, "INBOX"), store.ErrName)
	s.is(s.s.DeleteMailbox(s.ctx, alice, "none"), store.ErrNoMailbox)
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "a/b"))
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "a"))
	s.again(func() {
		equal(s, "names", s.names(alice), "INBOX Archive Drafts Junk Sent Trash")
		bytes, _, err := s.s.Usage(s.ctx, alice)
		s.ok(err)
		equal(s, "octets", bytes, 0)
	})
	again, err := s.s.CreateMailbox(s.ctx, alice, "a/b", "")
	s.ok(err)
	if again.UIDValidity <= created.UIDValidity {
		s.Fatalf("UIDVALIDITY of a name used again is %d, was %d", again.UIDValidity, created.UIDValidity)
	}
}

func testEmpty(s *suite) {
	before := s.info(alice, "INBOX")
	_, err := s.s.CreateMailbox(s.ctx, alice, "a/b", "")
	s.ok(err)
	s.deliver(alice, "INBOX", "x")
	s.deliver(alice, "a/b", "y")
	s.deliver(bob, "INBOX", "z")
	s.ok(s.s.Subscribe(s.ctx, alice, "a/b", true))
	s.ok(s.s.EmptyAccount(s.ctx, "nobody@example.org"))
	s.ok(s.s.EmptyAccount(s.ctx, alice))
	list, err := s.s.Mailboxes(s.ctx, alice)
	s.ok(err)
	equal(s, "mailboxes", len(list), 0)
	subs, err := s.s.Subscriptions(s.ctx, alice)
	s.ok(err)
	equal(s, "subscriptions", len(subs), 0)
	s.ok(s.s.EmptyAccount(s.ctx, alice)) // again
	// It can be used again, as if it were new, and nobody takes it for the old one.
	s.close()
	s.open()
	s.again(func() {
		equal(s, "names", s.names(alice), "INBOX Archive Drafts Junk Sent Trash")
		bytes, n, err := s.s.Usage(s.ctx, alice)
		s.ok(err)
		equal(s, "octets", bytes, 0)
		equal(s, "messages", n, 0)
		equal(s, "others' mail", s.content(bob, "INBOX"), "1:z")
	})
	if now := s.info(alice, "INBOX"); now.UIDValidity <= before.UIDValidity {
		s.Fatalf("UIDVALIDITY of the new INBOX is %d, was %d", now.UIDValidity, before.UIDValidity)
	}
}

func testRename(s *suite) {
	_, err := s.s.CreateMailbox(s.ctx, alice, "a/b/c", "")
	s.ok(err)
	s.deliver(alice, "a/b/c", "x")
	validity := s.info(alice, "a/b/c").UIDValidity
	s.is(s.s.RenameMailbox(s.ctx, alice, "a", "a/x"), store.ErrName)
	s.is(s.s.RenameMailbox(s.ctx, alice, "a", "Sent"), store.ErrMailboxExists)
	s.is(s.s.RenameMailbox(s.ctx, alice, "none", "x"), store.ErrNoMailbox)
	s.ok(s.s.RenameMailbox(s.ctx, alice, "a/b", "p/q"))
	s.again(func() {
		equal(s, "names", s.names(alice), "INBOX Archive Drafts Junk Sent Trash a p p/q p/q/c")
		equal(s, "content", s.content(alice, "p/q/c"), "1:x")
		equal(s, "UIDVALIDITY", s.info(alice, "p/q/c").UIDValidity, validity)
	})
}

func testRenameInbox(s *suite) {
	s.deliver(alice, "INBOX", "a")
	_, err := s.s.CreateMailbox(s.ctx, alice, "INBOX/sub", "")
	s.ok(err)
	s.ok(s.s.RenameMailbox(s.ctx, alice, "inbox", "old/mail"))
	s.again(func() {
		equal(s, "names", s.names(alice), "INBOX Archive Drafts INBOX/sub Junk Sent Trash old old/mail")
		equal(s, "INBOX", s.content(alice, "INBOX"), "")
		equal(s, "moved", s.content(alice, "old/mail"), "1:a")
	})
	equal(s, "next UID in INBOX", s.deliver(alice, "INBOX", "b").UID, 2)
}

func testSubscriptions(s *suite) {
	s.ok(s.s.Subscribe(s.ctx, alice, "Sent", false))
	s.ok(s.s.Subscribe(s.ctx, alice, "not/there", true))
	s.ok(s.s.Subscribe(s.ctx, alice, "not/there", true))
	_, err := s.s.CreateMailbox(s.ctx, alice, "sub", "")
	s.ok(err)
	s.ok(s.s.Subscribe(s.ctx, alice, "sub", true))
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "sub"))
	s.again(func() {
		l, err := s.s.Subscriptions(s.ctx, alice)
		s.ok(err)
		equal(s, "subscriptions", strings.Join(l, " "), "Archive Drafts INBOX Junk Trash not/there sub")
		equal(s, "Sent", s.info(alice, "Sent").Subscribed, false)
	})
}

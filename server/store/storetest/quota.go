package storetest

import (
	"errors"
	"strings"
	"time"

	"mailform/server/store"
)

const carol = "carol@other.example"

// refusedBy is the quota that refused.
func (s *suite) refusedBy(err error) store.QuotaError {
	s.Helper()
	s.is(err, store.ErrQuota)
	var q *store.QuotaError
	if !errors.As(err, &q) {
		s.Fatalf("%v does not say whose quota it was", err)
	}
	return *q
}

func testDomainQuota(s *suite) {
	s.ok(s.s.EnsureAccount(s.ctx, carol, 0))
	s.deliver(alice, "INBOX", "1234") // from before there was a limit
	limit := store.Quotas{Domains: map[string]store.Quota{"example.org": {Bytes: 10}}}
	s.ok(s.s.SetQuotas(s.ctx, limit))
	s.deliver(bob, "INBOX", "5678")
	_, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("90"), Size: 2,
		Targets: []store.Target{{Account: carol, Mailbox: "INBOX"}, {Account: alice, Mailbox: "INBOX"}, {Account: bob, Mailbox: "INBOX"}}})
	equal(s, "the refusal", s.refusedBy(err), store.QuotaError{Account: bob, Domain: "example.org", Limit: 10, Used: 8, Wanted: 4})
	equal(s, "carol got nothing of the refused delivery", s.info(carol, "INBOX").Messages, 0)
	_, _, _, err = s.s.Copy(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.Named("Archive"))
	equal(s, "a copy", s.refusedBy(err).Domain, "example.org")
	_, _, err = s.s.Append(s.ctx, bob, "Drafts", strings.NewReader("123"), 3, nil, time.Time{})
	equal(s, "an append", s.refusedBy(err).Domain, "example.org")
	_, err = s.s.Import(s.ctx, bob, []store.Incoming{{Mailbox: "INBOX", Body: strings.NewReader("123"), Size: 3}})
	equal(s, "an import", s.refusedBy(err).Domain, "example.org")
	s.deliver(carol, "INBOX", "1234567890123") // another domain's
	roots := func(account string) []store.QuotaRoot {
		r, err := s.s.QuotaRoots(s.ctx, account)
		s.ok(err)
		return r
	}
	domain := store.QuotaRoot{Domain: "example.org", Used: store.Quota{Bytes: 8, Messages: 2}, Limit: store.Quota{Bytes: 10}}
	if r := roots(alice); len(r) != 2 || r[0].Domain != "" || r[0].Used.Bytes != 4 || r[1] != domain {
		s.Fatalf("roots: %+v", r)
	}
	equal(s, "roots without a limit", len(roots(carol)), 1)
	// What goes gives room, however it goes, and so it is after a restart.
	_, _, _, err = s.s.Move(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.Named("Archive"))
	s.ok(err)
	s.expungeAll(alice, "Archive")
	s.again(func() {
		s.ok(s.s.SetQuotas(s.ctx, limit))
		equal(s, "used", roots(bob)[1].Used, store.Quota{Bytes: 4, Messages: 1})
	})
	_, err = s.s.CreateMailbox(s.ctx, alice, "Box", "")
	s.ok(err)
	s.deliver(alice, "Box", "123456")
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "Box"))
	s.deliver(alice, "INBOX", "123456")
	s.ok(s.s.EmptyAccount(s.ctx, alice))
	equal(s, "used", roots(bob)[1].Used, store.Quota{Bytes: 4, Messages: 1})
	s.ok(s.s.EnsureAccount(s.ctx, alice, 0))
	s.ok(s.s.SetQuotas(s.ctx, store.Quotas{}))
	s.deliver(alice, "INBOX", "1234567890123")
}

func testMessageQuota(s *suite) {
	s.ok(s.s.SetQuotas(s.ctx, store.Quotas{Messages: map[string]int64{alice: 2}, Domains: map[string]store.Quota{"example.org": {Messages: 3}}}))
	s.deliver(alice, "INBOX", "1")
	s.deliver(alice, "INBOX", "2")
	_, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("3"), Size: 1, Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}})
	equal(s, "the refusal", s.refusedBy(err), store.QuotaError{Account: alice, Messages: true, Limit: 2, Used: 2, Wanted: 1})
	_, _, err = s.s.Append(s.ctx, alice, "Drafts", strings.NewReader(""), 0, nil, time.Time{})
	equal(s, "an append", s.refusedBy(err).Messages, true)
	_, _, _, err = s.s.Copy(s.ctx, alice, store.Named("INBOX"), []store.UID{1, 2}, store.Named("Archive"))
	equal(s, "a copy", s.refusedBy(err).Wanted, 2)
	s.deliver(bob, "INBOX", "1")
	_, err = s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("3"), Size: 1, Targets: []store.Target{{Account: bob, Mailbox: "INBOX"}}})
	equal(s, "the domain's", s.refusedBy(err), store.QuotaError{Account: bob, Domain: "example.org", Messages: true, Limit: 3, Used: 3, Wanted: 1})
	// One message may take the place of another.
	staged, err := s.s.Stage(s.ctx, bob, store.Named("INBOX"), strings.NewReader("new"), 3)
	s.ok(err)
	_, _, err = s.s.AppendStaged(s.ctx, bob, store.Named("INBOX"), []store.StagedMessage{{Body: staged}}, &store.Replaced{Mailbox: store.Named("INBOX"), UID: 1})
	s.ok(err)
	equal(s, "bob's", s.content(bob, "INBOX"), "2:new")
}

func testQuota(s *suite) {
	s.ok(s.s.EnsureAccount(s.ctx, alice, 10))
	s.deliver(alice, "INBOX", "12345678")
	_, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("123"), Size: 3,
		Targets: []store.Target{{Account: bob, Mailbox: "INBOX"}, {Account: alice, Mailbox: "INBOX"}}})
	s.is(err, store.ErrQuota)
	var q *store.QuotaError
	if !errors.As(err, &q) || q.Account != alice || q.Limit != 10 || q.Used != 8 || q.Wanted != 3 {
		s.Fatalf("the error does not say whose quota it was: %+v", q)
	}
	equal(s, "bob got nothing of the refused delivery", s.info(bob, "INBOX").Messages, 0)
	_, _, _, err = s.s.Copy(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.Named("Archive"))
	s.is(err, store.ErrQuota)
	_, _, err = s.s.Append(s.ctx, alice, "Drafts", strings.NewReader("123"), 3, nil, time.Time{})
	s.is(err, store.ErrQuota)
	// Moving takes no room, and what is expunged gives it back.
	_, _, _, err = s.s.Move(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.Named("Archive"))
	s.ok(err)
	s.expungeAll(alice, "Archive")
	s.deliver(alice, "INBOX", "1234567890")
	// Two targets of one account count together.
	s.ok(s.s.EnsureAccount(s.ctx, alice, 21))
	_, err = s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("123456"), Size: 6,
		Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}, {Account: alice, Mailbox: "Sent"}}})
	s.is(err, store.ErrQuota)
	// No quota.
	s.ok(s.s.EnsureAccount(s.ctx, alice, 0))
	s.deliver(alice, "INBOX", "1234567890123456789012345678901234567890")
}

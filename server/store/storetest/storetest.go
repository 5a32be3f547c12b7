// Package storetest holds what every store.Store must do. A driver's test
// calls Run with a way to open and reopen it.
//
// It imports server/store and nothing else of mailform.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"mailform/server/store"
)

// Harness opens a driver over storage that outlives it.
type Harness interface {
	// Open opens the store. The test closes it before it opens it again.
	Open(t *testing.T) store.Store
}

// Run tests that a driver keeps the contract. fresh makes a Harness over empty storage.
func Run(t *testing.T, fresh func(t *testing.T) Harness) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"account", testAccount},
		{"deliver", testDeliver},
		{"deliver shares a body", testSharedBody},
		{"large body", testLargeBody},
		{"broken body", testBrokenBody},
		{"quota", testQuota},
		{"quotas of domains", testDomainQuota},
		{"quotas of messages", testMessageQuota},
		{"append", testAppend},
		{"import", testImport},
		{"flags", testFlags},
		{"keywords", testKeywords},
		{"expunge", testExpunge},
		{"expunge what is old", testExpungeOld},
		{"copy and move", testCopyMove},
		{"watch", testWatch},
		{"watch is never too late", testWatchOrder},
		{"watch an account", testWatchAccount},
		{"mailbox names", testNames},
		{"delete mailbox", testDelete},
		{"empty account", testEmpty},
		{"another mailbox of that name", testAnother},
		{"rename mailbox", testRename},
		{"rename INBOX", testRenameInbox},
		{"subscriptions", testSubscriptions},
		{"bounds of an account", testBounds},
		{"metadata", testMetadata},
		{"queue", testQueue},
		{"read at", testReadAt},
		{"closed", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, h: fresh(t), ctx: t.Context()}
			s.open()
			c.test(s)
			if s.s != nil {
				s.close()
			}
		})
	}
}

const alice, bob = "alice@example.org", "bob@example.org"

type suite struct {
	*testing.T
	h   Harness
	s   store.Store
	ctx context.Context
}

func (s *suite) open() {
	s.Helper()
	s.s = s.h.Open(s.T)
	s.ok(s.s.EnsureAccount(s.ctx, alice, 0))
	s.ok(s.s.EnsureAccount(s.ctx, bob, 0))
}

func (s *suite) close() {
	s.Helper()
	s.ok(s.s.Close())
	s.s = nil
}

// again runs check, and once more after the store was closed and opened.
func (s *suite) again(check func()) {
	s.Helper()
	check()
	s.close()
	s.open()
	check()
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("got error %v, want %v", err, want)
	}
}

func (s *suite) deliver(account, mailbox, text string) store.Message {
	s.Helper()
	m, err := s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader(text), Size: int64(len(text)),
		Targets: []store.Target{{Account: account, Mailbox: mailbox}}})
	s.ok(err)
	return m[0]
}

func (s *suite) text(account string, m store.Message) string {
	s.Helper()
	r, err := s.s.Read(s.ctx, account, m)
	s.ok(err)
	b, err := io.ReadAll(r)
	s.ok(err)
	s.ok(r.Close())
	return string(b)
}

func (s *suite) snapshot(account, mailbox string) *store.Snapshot {
	s.Helper()
	snap, w, err := s.s.Open(s.ctx, account, mailbox)
	s.ok(err)
	w.Close()
	return &snap
}

// content describes a mailbox: "1:text [\Seen] 2:…".
func (s *suite) content(account, mailbox string) string {
	s.Helper()
	var l []string
	for _, m := range s.snapshot(account, mailbox).Messages.All() {
		l = append(l, strings.TrimSpace(fmt.Sprintf("%d:%s %s", m.UID, s.text(account, *m), strings.Join(m.Flags, ","))))
	}
	return strings.Join(l, " ")
}

func equal[T comparable](s *suite, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func (s *suite) names(account string) string {
	s.Helper()
	l, err := s.s.Mailboxes(s.ctx, account)
	s.ok(err)
	var names []string
	for _, m := range l {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func (s *suite) info(account, name string) store.MailboxInfo {
	s.Helper()
	l, err := s.s.Mailboxes(s.ctx, account)
	s.ok(err)
	i := slices.IndexFunc(l, func(m store.MailboxInfo) bool { return m.Name == name })
	if i < 0 {
		s.Fatalf("no mailbox %s", name)
	}
	return l[i]
}

func testAccount(s *suite) {
	s.again(func() {
		equal(s, "mailboxes", s.names(alice), "INBOX Archive Drafts Junk Sent Trash")
		equal(s, "use", s.info(alice, "Junk").SpecialUse, `\Junk`)
		equal(s, "subscribed", s.info(alice, "Sent").Subscribed, true)
		if v := s.info(alice, "INBOX"); v.UIDValidity == 0 || v.UIDNext != 1 || v.HighestModSeq == 0 || v.ObjectID == "" {
			s.Fatalf("INBOX: %+v", v)
		}
	})
	_, _, err := s.s.Usage(s.ctx, "nobody@example.org")
	s.is(err, store.ErrNoMailbox)
	_, err = s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("x"), Size: 1, Targets: []store.Target{{Account: "nobody@example.org", Mailbox: "INBOX"}}})
	s.is(err, store.ErrNoMailbox)
	// A special-use mailbox that was given another name is not made again.
	s.ok(s.s.RenameMailbox(s.ctx, alice, "Junk", "Spam"))
	s.ok(s.s.EnsureAccount(s.ctx, alice, 0))
	equal(s, "mailboxes", s.names(alice), "INBOX Archive Drafts Sent Spam Trash")
}

func testClosed(s *suite) {
	st := s.s
	s.close()
	_, err := st.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("x"), Size: 1, Targets: []store.Target{{Account: alice, Mailbox: "INBOX"}}})
	s.is(err, store.ErrClosed)
	_, err = st.Mailboxes(s.ctx, alice)
	s.is(err, store.ErrClosed)
	s.ok(st.Close())
}

package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"mailform/server/store"
)

// testKeywords has a mailbox full of keywords: who sets another one is refused, and what
// comes there comes without it.
func testKeywords(s *suite) {
	inbox := store.Named("INBOX")
	for range 3 {
		s.deliver(alice, "INBOX", "x")
	}
	set := func(uids []store.UID, op store.FlagOp, flags ...string) error {
		_, err := s.s.UpdateFlags(s.ctx, alice, inbox, uids, op, flags)
		return err
	}
	var words []string
	for i := range store.MaxKeywords {
		words = append(words, fmt.Sprintf("word%d", i))
	}
	half := store.MaxKeywords / 2
	s.ok(set([]store.UID{1}, store.FlagsAdd, words[:half]...))
	// More than there is room for: none of them.
	s.is(set([]store.UID{2, 3}, store.FlagsAdd, append(slices.Clone(words[half:]), "more")...), store.ErrKeywords)
	equal(s, "known", len(s.snapshot(alice, "INBOX").Keywords), half)
	s.is(set([]store.UID{2}, store.FlagsSet, strings.Repeat("x", store.MaxKeyword+1)), store.ErrKeywords)
	s.ok(set([]store.UID{2}, store.FlagsAdd, words[half:]...))
	s.again(func() {
		equal(s, "known", len(s.snapshot(alice, "INBOX").Keywords), store.MaxKeywords)
		before := s.content(alice, "INBOX")
		s.is(set([]store.UID{1, 2, 3}, store.FlagsAdd, "more"), store.ErrKeywords)
		s.is(set([]store.UID{3}, store.FlagsSet, words[0], "more"), store.ErrKeywords)
		_, _, err := s.s.Append(s.ctx, alice, "INBOX", strings.NewReader("new"), 3, []string{"more"}, time.Time{})
		s.is(err, store.ErrKeywords)
		equal(s, "INBOX", s.content(alice, "INBOX"), before)
	})
	s.ok(set([]store.UID{3}, store.FlagsAdd, words[0], `\Seen`))
	s.ok(set([]store.UID{3}, store.FlagsRemove, "more", words[0]))

	// What comes from elsewhere.
	long := strings.Repeat("l", store.MaxKeyword)
	_, _, err := s.s.Append(s.ctx, alice, "Drafts", strings.NewReader("draft"), 5, []string{"more", long, words[1], `\Draft`}, time.Time{})
	s.ok(err)
	_, err = s.s.Deliver(s.ctx, store.Delivery{Body: strings.NewReader("d"), Size: 1,
		Targets: []store.Target{{Account: alice, Mailbox: "INBOX", Flags: []string{"more", words[2], `\Flagged`}}}})
	s.ok(err)
	_, err = s.s.Import(s.ctx, alice, []store.Incoming{{Mailbox: "INBOX", Body: strings.NewReader("i"), Size: 1, Flags: []string{"more", words[3]}}})
	s.ok(err)
	_, _, _, err = s.s.Copy(s.ctx, alice, store.Named("Drafts"), []store.UID{1}, inbox)
	s.ok(err)
	_, _, _, err = s.s.Move(s.ctx, alice, store.Named("Drafts"), []store.UID{1}, inbox)
	s.ok(err)
	s.again(func() {
		var got []string
		for _, m := range s.snapshot(alice, "INBOX").Messages.All() {
			if m.UID > 3 {
				got = append(got, strings.Join(m.Flags, " "))
			}
		}
		equal(s, "what came", strings.Join(got, ", "), `\Flagged word2, word3, \Draft word1, \Draft word1`)
	})

	// Keywords that no message has any more make room.
	s.ok(set([]store.UID{2}, store.FlagsSet))
	s.ok(set([]store.UID{3}, store.FlagsAdd, "more"))

	// One call has room for what it brings, also for several messages in one mailbox.
	many := []store.Incoming{}
	for i := range store.MaxKeywords + 10 {
		many = append(many, store.Incoming{Mailbox: "Import", Body: strings.NewReader("i"), Size: 1, Flags: []string{fmt.Sprint("w", i)}})
	}
	_, err = s.s.Import(s.ctx, alice, many)
	s.ok(err)
	s.again(func() { equal(s, "imported", len(s.snapshot(alice, "Import").Keywords), store.MaxKeywords) })
}

package storetest

import (
	"fmt"
	"strings"
	"time"

	"mailform/server/store"
)

func testAppend(s *suite) {
	m, validity, err := s.s.Append(s.ctx, alice, "Drafts", strings.NewReader("draft"), 5, []string{`\Draft`}, time.Unix(1e9, 0))
	s.ok(err)
	equal(s, "UID", m.UID, 1)
	equal(s, "UIDVALIDITY", validity, s.info(alice, "Drafts").UIDValidity)
	_, _, err = s.s.Append(s.ctx, alice, "None", strings.NewReader("x"), 1, nil, time.Time{})
	s.is(err, store.ErrNoMailbox)
	s.again(func() {
		equal(s, "Drafts", s.content(alice, "Drafts"), `1:draft \Draft`)
		equal(s, "date", s.snapshot(alice, "Drafts").Messages.At(0).InternalDate.Unix(), int64(1e9))
	})
	// Dates that clients may send, and clocks that are wrong.
	for _, date := range []time.Time{
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 99*3600)), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		time.Date(1, 1, 2, 0, 0, 0, 0, time.FixedZone("", -23*3600)), time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		m, _, err := s.s.Append(s.ctx, alice, "Sent", strings.NewReader("x"), 1, nil, date)
		s.ok(err)
		equal(s, "date", m.InternalDate.Equal(date), true)
	}
	s.again(func() { equal(s, "messages", s.info(alice, "Sent").Messages, 4) })
}

func testFlags(s *suite) {
	for _, t := range []string{"a", "b", "c"} {
		s.deliver(alice, "INBOX", t)
	}
	before := s.info(alice, "INBOX").HighestModSeq
	got, err := s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{3, 1, 9, 1}, store.FlagsAdd, []string{`\SEEN`, "$junk"})
	s.ok(err)
	equal(s, "messages changed", len(got), 2)
	equal(s, "in UID order", got[0].UID, 1)
	after := s.info(alice, "INBOX").HighestModSeq
	if after <= before || got[0].ModSeq != after {
		s.Fatalf("modseq: mailbox %d then %d, message %d", before, after, got[0].ModSeq)
	}
	// Nothing to change: no new modseq.
	_, err = s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.FlagsAdd, []string{`\Seen`, "$JUNK"})
	s.ok(err)
	equal(s, "modseq", s.info(alice, "INBOX").HighestModSeq, after)
	_, err = s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.FlagsRemove, []string{"$Junk", `\Flagged`})
	s.ok(err)
	_, err = s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{2}, store.FlagsSet, []string{`\Deleted`, "Custom"})
	s.ok(err)
	s.again(func() {
		equal(s, "INBOX", s.content(alice, "INBOX"), `1:a \Seen 2:b Custom,\Deleted 3:c $Junk,\Seen`)
		i := s.info(alice, "INBOX")
		equal(s, "unseen", i.Unseen, 1)
		equal(s, "deleted", i.Deleted, 1)
	})
}

func testExpunge(s *suite) {
	for _, t := range []string{"a", "b", "c", "d"} {
		s.deliver(alice, "INBOX", t)
	}
	_, err := s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{1, 2, 4}, store.FlagsAdd, []string{`\Deleted`})
	s.ok(err)
	got, err := s.s.Expunge(s.ctx, alice, store.Named("INBOX"), []store.UID{2, 3, 77})
	s.ok(err)
	equal(s, "only what is named and deleted", fmt.Sprint(got), "[2]")
	got, err = s.s.Expunge(s.ctx, alice, store.Named("INBOX"), []store.UID{})
	s.ok(err)
	equal(s, "an empty set", len(got), 0)
	got, err = s.s.Expunge(s.ctx, alice, store.Named("INBOX"), nil)
	s.ok(err)
	equal(s, "the rest", fmt.Sprint(got), "[1 4]")
	s.again(func() { equal(s, "INBOX", s.content(alice, "INBOX"), "3:c") })
	equal(s, "UIDs are not used again", s.deliver(alice, "INBOX", "e").UID, 5)
	bytes, count, err := s.s.Usage(s.ctx, alice)
	s.ok(err)
	equal(s, "octets", bytes, 2)
	equal(s, "messages", count, 2)
}

func testCopyMove(s *suite) {
	s.deliver(alice, "INBOX", "a")
	m := s.deliver(alice, "INBOX", "b")
	s.deliver(alice, "Archive", "z")
	_, err := s.s.UpdateFlags(s.ctx, alice, store.Named("INBOX"), []store.UID{2}, store.FlagsAdd, []string{`\Flagged`})
	s.ok(err)
	src, dst, validity, err := s.s.Copy(s.ctx, alice, store.Named("INBOX"), []store.UID{2, 1, 8}, store.Named("Archive"))
	s.ok(err)
	equal(s, "copied", fmt.Sprint(src, dst), "[1 2] [2 3]")
	equal(s, "UIDVALIDITY", validity, s.info(alice, "Archive").UIDValidity)
	src, dst, _, err = s.s.Move(s.ctx, alice, store.Named("INBOX"), []store.UID{2}, store.Named("Trash"))
	s.ok(err)
	equal(s, "moved", fmt.Sprint(src, dst), "[2] [1]")
	_, _, _, err = s.s.Copy(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.Named("None"))
	s.is(err, store.ErrNoMailbox)
	s.again(func() {
		equal(s, "INBOX", s.content(alice, "INBOX"), "1:a")
		equal(s, "Archive", s.content(alice, "Archive"), `1:z 2:a 3:b \Flagged`)
		equal(s, "Trash", s.content(alice, "Trash"), `1:b \Flagged`)
		equal(s, "object id", s.snapshot(alice, "Trash").Messages.At(0).ObjectID, m.ObjectID)
	})
	// Within one mailbox.
	_, dst, _, err = s.s.Move(s.ctx, alice, store.Named("Archive"), []store.UID{1}, store.Named("Archive"))
	s.ok(err)
	equal(s, "new UID", fmt.Sprint(dst), "[4]")
	s.again(func() { equal(s, "Archive", s.content(alice, "Archive"), `2:a 3:b \Flagged 4:z`) })
}

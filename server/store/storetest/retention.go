package storetest

import (
	"fmt"
	"strings"
	"time"

	"mailform/server/store"
)

// What is old is what came into the mailbox long ago, not what was sent then.
func testExpungeOld(s *suite) {
	_, _, err := s.s.Append(s.ctx, alice, "Trash", strings.NewReader("sent long ago"), 13, nil, time.Unix(1e9, 0))
	s.ok(err)
	s.deliver(alice, "INBOX", "moved here")
	_, _, _, err = s.s.Move(s.ctx, alice, store.Named("INBOX"), []store.UID{1}, store.Named("Trash"))
	s.ok(err)
	uids := []store.UID{1, 2, 7}
	old := s.snapshot(alice, "Trash").Messages.At(0).SaveDate
	gone, err := s.s.ExpungeOld(s.ctx, alice, store.Named("Trash"), uids, old)
	s.ok(err)
	equal(s, "too young", len(gone), 0)
	snap, watch, err := s.s.Open(s.ctx, alice, "Trash")
	s.ok(err)
	defer watch.Close()
	gone, err = s.s.ExpungeOld(s.ctx, alice, store.Named("Trash"), uids[1:], time.Now().Add(time.Hour))
	s.ok(err)
	equal(s, "gone", fmt.Sprint(gone), "[2]")
	if e := watch.Take(); len(e) != 1 || fmt.Sprint(e[0].Expunged) != "[2]" || e[0].ModSeq <= snap.Info.HighestModSeq {
		s.Fatalf("the sessions are told %+v", e)
	}
	s.again(func() { equal(s, "left", s.content(alice, "Trash"), "1:sent long ago") })
	_, err = s.s.ExpungeOld(s.ctx, alice, store.Named("None"), uids, time.Now())
	s.is(err, store.ErrNoMailbox)
}

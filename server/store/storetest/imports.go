package storetest

import (
	"errors"
	"io"
	"strings"
	"testing/iotest"
	"time"

	"mailform/server/store"
)

// Messages from elsewhere keep flags and dates, come in their order, all or none.
func testImport(s *suite) {
	date := time.Date(2019, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	long := strings.Repeat("line\r\n", 50_000)
	list := func(last io.Reader) []store.Incoming {
		return []store.Incoming{
			{Mailbox: "Old/Empty"},
			{Mailbox: "Old", Body: strings.NewReader("a: 1\r\n\r\n1\r\n"), Size: 11, Flags: []string{`\seen`, "$label", `\Recent`}, InternalDate: date, ObjectID: "I-one_1"},
			{Mailbox: "INBOX", Body: strings.NewReader(long), Size: int64(len(long))},
			{Mailbox: "Old", Body: last, Size: -1},
		}
	}
	if _, err := s.s.Import(s.ctx, alice, list(iotest.ErrReader(errors.New("torn")))); err == nil {
		s.Fatal("a message that could not be read was imported")
	}
	if bytes, n, err := s.s.Usage(s.ctx, alice); bytes != 0 || n != 0 || err != nil {
		s.Fatalf("a part was imported: %d messages, %v", n, err)
	}
	got, err := s.s.Import(s.ctx, alice, list(strings.NewReader("a: 2\r\n\r\n2\r\n")))
	s.ok(err)
	if got[0] != nil || got[1].UID != 1 || got[3].UID != 2 || got[1].ObjectID != "I-one_1" || got[3].ObjectID == "" {
		s.Fatalf("imported %v", got)
	}
	s.close()
	s.open()
	snap, watch, err := s.s.Open(s.ctx, alice, "Old")
	s.ok(err)
	watch.Close()
	m := snap.Messages.At(0)
	if snap.Messages.Len() != 2 || !m.InternalDate.Equal(date) || strings.Join(m.Flags, " ") != `$label \Seen` || m.ObjectID != "I-one_1" || !snap.Info.Subscribed {
		s.Errorf("after a restart: %+v in %+v", m, snap.Info)
	}
	if _, _, err := s.s.Open(s.ctx, alice, "Old/Empty"); err != nil {
		s.Error(err)
	}
	s.ok(s.s.EnsureAccount(s.ctx, alice, int64(len(long))+40))
	var q *store.QuotaError
	if _, err := s.s.Import(s.ctx, alice, list(strings.NewReader("x"))); !errors.As(err, &q) {
		s.Errorf("beyond the quota: %v", err)
	}
	for _, wrong := range []store.Incoming{{Mailbox: "a//b"}, {Mailbox: "a", ObjectID: "with space"}} {
		if _, err := s.s.Import(s.ctx, alice, []store.Incoming{wrong}); err == nil {
			s.Errorf("%+v was imported", wrong)
		}
	}
}

package imap

import (
	"context"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"mailform/server/store"
)

// swapStore does something right before a call that changes messages: after all that
// the session has looked at, and before the store does.
type swapStore struct {
	Store
	staged int // messages of an APPEND that are let through first
	swap   atomic.Pointer[func()]
}

func (s *swapStore) now() {
	if f := s.swap.Swap(nil); f != nil {
		(*f)()
	}
}

func (s *swapStore) Stage(ctx context.Context, account string, box store.Box, r io.Reader, size int64) (store.Staged, error) {
	if s.staged--; s.staged < 0 {
		s.now()
	}
	return s.Store.Stage(ctx, account, box, r, size)
}

func (s *swapStore) AppendStaged(ctx context.Context, account string, box store.Box, msgs []store.StagedMessage, old *store.Replaced) ([]store.Message, uint32, error) {
	s.now()
	return s.Store.AppendStaged(ctx, account, box, msgs, old)
}

func (s *swapStore) UpdateFlagsIf(ctx context.Context, account string, box store.Box, uids []store.UID, op store.FlagOp, flags []string, unchanged store.ModSeq) (store.FlagUpdate, error) {
	s.now()
	return s.Store.UpdateFlagsIf(ctx, account, box, uids, op, flags, unchanged)
}

func (s *swapStore) Copy(ctx context.Context, account string, from store.Box, uids []store.UID, to store.Box) (src, dst []store.UID, validity uint32, err error) {
	s.now()
	return s.Store.Copy(ctx, account, from, uids, to)
}

func (s *swapStore) Move(ctx context.Context, account string, from store.Box, uids []store.UID, to store.Box) (src, dst []store.UID, validity uint32, err error) {
	s.now()
	return s.Store.Move(ctx, account, from, uids, to)
}

func (s *swapStore) Expunge(ctx context.Context, account string, box store.Box, uids []store.UID) ([]store.UID, error) {
	s.now()
	return s.Store.Expunge(ctx, account, box, uids)
}

func (s *swapStore) Vanished(ctx context.Context, account string, box store.Box, since store.ModSeq) ([]store.UID, bool, error) {
	s.now()
	return s.Store.Vanished(ctx, account, box, since)
}

// A mailbox that is deleted and made anew while a command is on its way to the commit
// is another: nothing is done to it, and the client learns what has become of its own.
func TestAnotherMailboxOfThatName(t *testing.T) {
	t.Parallel()
	const (
		gone  = "x NO [NONEXISTENT] Mailbox does not exist"
		retry = "x NO [TRYCREATE] Mailbox does not exist"
	)
	for _, c := range []struct {
		command string // "~" stands for the end of a line
		box     string // that is exchanged
		staged  int
		want    string
	}{
		{"STORE 1 +FLAGS (\\Flagged)", "Box", 0, gone},
		{"UID STORE 1 FLAGS.SILENT ()", "Box", 0, gone},
		{"EXPUNGE", "Box", 0, gone},
		{"UID EXPUNGE 1:*", "Box", 0, gone},
		{"CLOSE", "Box", 0, gone},
		{"COPY 1 Target", "Box", 0, gone},
		{"COPY 1 Target", "Target", 0, retry},
		{"UID MOVE 1 Target", "Box", 0, gone},
		{"UID MOVE 1 Target", "Target", 0, retry},
		{"COPY 1 Box", "Box", 0, gone},
		{"APPEND Target {3+}~new", "Target", 0, retry},
		{"APPEND Target {3+}~new", "Target", 1, retry},
		{"APPEND Target {3+}~new {3+}~two", "Target", 1, retry},
		{"APPEND Target {3+}~new {3+}~two", "Target", 2, retry},
		{"REPLACE 1 Target {3+}~new", "Target", 1, retry},
		{"REPLACE 1 Target {3+}~new", "Box", 1, gone},
		{"REPLACE 1 Box {3+}~new", "Box", 1, gone},
		{"SELECT Box (QRESYNC (1 1))", "Box", 0, gone},
	} {
		t.Run(c.command+" without "+c.box, func(t *testing.T) {
			t.Parallel()
			s := &swapStore{staged: c.staged}
			w := newWorld(t, func(cfg *Config, _ *Settings) { s.Store, cfg.Store = cfg.Store, s })
			w.deliver("Box", "Subject: meant\n\nx", `\Deleted`)
			w.deliver("Target", "Subject: there before\n\nx")
			l := w.dial("a")
			l.login()
			l.send("0 ENABLE QRESYNC\r\n")
			l.skip("0 OK *")
			l.send("1 SELECT Box\r\n")
			l.skip("1 OK *")
			command := c.command
			if strings.HasPrefix(command, "SELECT") {
				info, err := w.store.Mailbox(t.Context(), alice, "Box")
				if err != nil {
					t.Fatal(err)
				}
				command = strings.Replace(command, "(1 1)", "("+strconv.FormatUint(uint64(info.UIDValidity), 10)+" 1)", 1)
			}
			var uids [2]store.MailboxInfo
			swap := func() {
				if err := w.store.DeleteMailbox(t.Context(), alice, c.box); err != nil {
					t.Error(err)
				}
				w.deliver(c.box, "Subject: another\n\nx", `\Deleted`)
				w.deliver(c.box, "Subject: another\n\nx")
				uids[0], _ = w.store.Mailbox(t.Context(), alice, c.box)
			}
			s.swap.Store(&swap)
			l.send("x " + strings.ReplaceAll(command, "~", "\r\n") + "\r\n")
			for {
				got := l.read()
				if strings.HasPrefix(got, "x ") {
					if got != c.want {
						t.Errorf("got %q, want %q", got, c.want)
					}
					break
				}
			}
			if c.box == "Box" && !strings.HasPrefix(command, "SELECT") {
				l.expect("* BYE The selected mailbox was deleted")
			} else {
				l.send("2 NOOP\r\n")
				l.skip("2 OK *")
			}
			uids[1], _ = w.store.Mailbox(t.Context(), alice, c.box)
			if uids[0] != uids[1] || uids[0].Messages != 2 {
				t.Errorf("the other mailbox changed: %+v, then %+v", uids[0], uids[1])
			}
			for _, name := range []string{"Box", "Target"} {
				if name == c.box {
					continue
				}
				if info, err := w.store.Mailbox(t.Context(), alice, name); err != nil || info.Messages != 1 || info.UIDNext != 2 {
					t.Errorf("%s changed: %+v, %v", name, info, err)
				}
			}
		})
	}
}

package storetest

import (
	"errors"
	"strings"
	"time"

	"mailform/server/store"
)

// changes are all calls that change messages, with the mailbox that is meant in the
// place where each has one.
func (s *suite) changes() map[string]func(box store.Box) error {
	archive := store.Named("Archive")
	stage := func(box store.Box) (store.Staged, error) {
		return s.s.Stage(s.ctx, alice, box, strings.NewReader("new"), 3)
	}
	appendTo := func(box store.Box, replaced *store.Replaced) error {
		// Staged for a mailbox that is there: what counts is the commit.
		one, err := stage(archive)
		s.ok(err)
		two, err := stage(archive)
		s.ok(err)
		defer two.Discard()
		defer one.Discard()
		_, _, err = s.s.AppendStaged(s.ctx, alice, box, []store.StagedMessage{{Body: one}, {Body: two}}, replaced)
		return err
	}
	return map[string]func(box store.Box) error{
		"UpdateFlags": func(box store.Box) error {
			_, err := s.s.UpdateFlags(s.ctx, alice, box, []store.UID{1}, store.FlagsAdd, []string{`\Flagged`})
			return err
		},
		"UpdateFlagsIf": func(box store.Box) error {
			_, err := s.s.UpdateFlagsIf(s.ctx, alice, box, []store.UID{1}, store.FlagsSet, nil, 1<<62)
			return err
		},
		"Expunge": func(box store.Box) error {
			_, err := s.s.Expunge(s.ctx, alice, box, []store.UID{1})
			return err
		},
		"Expunge of all": func(box store.Box) error {
			_, err := s.s.Expunge(s.ctx, alice, box, nil)
			return err
		},
		"ExpungeOld": func(box store.Box) error {
			_, err := s.s.ExpungeOld(s.ctx, alice, box, []store.UID{1}, time.Now().Add(time.Hour))
			return err
		},
		"Copy from": func(box store.Box) error {
			_, _, _, err := s.s.Copy(s.ctx, alice, box, []store.UID{1}, archive)
			return err
		},
		"Copy to": func(box store.Box) error {
			_, _, _, err := s.s.Copy(s.ctx, alice, archive, []store.UID{1}, box)
			return err
		},
		"Copy of nothing": func(box store.Box) error {
			_, _, _, err := s.s.Copy(s.ctx, alice, box, nil, archive)
			return err
		},
		"Move from": func(box store.Box) error {
			_, _, _, err := s.s.Move(s.ctx, alice, box, []store.UID{1}, archive)
			return err
		},
		"Move to": func(box store.Box) error {
			_, _, _, err := s.s.Move(s.ctx, alice, archive, []store.UID{1}, box)
			return err
		},
		"Stage": func(box store.Box) error {
			staged, err := stage(box)
			if err == nil {
				staged.Discard()
			}
			return err
		},
		"AppendStaged": func(box store.Box) error { return appendTo(box, nil) },
		"AppendStaged, replacing": func(box store.Box) error {
			return appendTo(archive, &store.Replaced{Mailbox: box, UID: 1})
		},
		"AppendStaged, replacing elsewhere": func(box store.Box) error {
			return appendTo(box, &store.Replaced{Mailbox: archive, UID: 1})
		},
		"Vanished": func(box store.Box) error {
			_, _, err := s.s.Vanished(s.ctx, alice, box, 1)
			return err
		},
	}
}

// testAnother has a mailbox deleted and another made in its name before each change:
// the change does nothing to either it or the other mailbox that it names.
func testAnother(s *suite) {
	for _, gone := range []struct {
		how string
		do  func() // what happens to "Box"
	}{
		{"deleted", func() { s.ok(s.s.DeleteMailbox(s.ctx, alice, "Box")) }},
		{"deleted, and another has its name", func() {
			s.ok(s.s.DeleteMailbox(s.ctx, alice, "Box"))
			s.deliver(alice, "Box", "another's")
		}},
		{"deleted under another name", func() {
			s.ok(s.s.RenameMailbox(s.ctx, alice, "Box", "Moved"))
			s.deliver(alice, "Box", "another's")
			s.ok(s.s.DeleteMailbox(s.ctx, alice, "Moved"))
		}},
	} {
		s.deliver(alice, "Archive", "kept")
		for what, change := range s.changes() {
			s.deliver(alice, "Box", "meant")
			_, err := s.s.UpdateFlags(s.ctx, alice, store.Named("Box"), []store.UID{1}, store.FlagsAdd, []string{`\Deleted`})
			s.ok(err)
			info := s.info(alice, "Box")
			gone.do()
			if other, err := s.s.Mailbox(s.ctx, alice, "Box"); err == nil {
				_, err := s.s.UpdateFlags(s.ctx, alice, other.Box(), []store.UID{1}, store.FlagsAdd, []string{`\Deleted`})
				s.ok(err)
			}
			before := s.all()
			err = change(info.Box())
			var g *store.GoneError
			if !errors.As(err, &g) || g.Box.UIDValidity != info.UIDValidity || !errors.Is(err, store.ErrNoMailbox) {
				s.Fatalf("%s of a mailbox that was %s: %v", what, gone.how, err)
			}
			s.again(func() { equal(s, what+" of a mailbox that was "+gone.how, s.all(), before) })
			if _, err := s.s.Mailbox(s.ctx, alice, "Box"); err == nil {
				s.ok(s.s.DeleteMailbox(s.ctx, alice, "Box"))
			}
		}
	}

	// An account that was emptied has another INBOX.
	inbox := s.info(alice, "INBOX")
	s.ok(s.s.EmptyAccount(s.ctx, alice))
	s.ok(s.s.EnsureAccount(s.ctx, alice, 0))
	s.deliver(alice, "INBOX", "another's")
	_, err := s.s.UpdateFlags(s.ctx, alice, inbox.Box(), []store.UID{1}, store.FlagsAdd, []string{`\Deleted`})
	s.is(err, store.ErrNoMailbox)
	equal(s, "the new INBOX", s.content(alice, "INBOX"), "1:another's")

	// A mailbox that only has another name is the one that is meant.
	s.deliver(alice, "Archive", "kept")
	for what, change := range s.changes() {
		s.deliver(alice, "Box", "meant")
		info := s.info(alice, "Box")
		s.ok(s.s.RenameMailbox(s.ctx, alice, "Box", "Moved"))
		s.deliver(alice, "Box", "another's")
		if err := change(info.Box()); err != nil && !errors.Is(err, store.ErrNoMessage) {
			s.Fatalf("%s of a mailbox that was renamed: %v", what, err)
		}
		equal(s, "beside "+what, s.content(alice, "Box"), "1:another's")
		s.ok(s.s.DeleteMailbox(s.ctx, alice, "Moved"))
		s.ok(s.s.DeleteMailbox(s.ctx, alice, "Box"))
	}

	// Annotations go with their mailbox.
	s.deliver(alice, "Box", "x")
	s.ok(s.s.SetMetadata(s.ctx, alice, "Box", []store.MetadataEntry{{Name: "/private/comment", Value: []byte("x")}}))
	s.ok(s.s.DeleteMailbox(s.ctx, alice, "Box"))
	s.deliver(alice, "Box", "x")
	notes, err := s.s.Metadata(s.ctx, alice, "Box")
	s.ok(err)
	equal(s, "annotations", len(notes), 0)
}

// all is what alice has, but for times.
func (s *suite) all() string {
	s.Helper()
	var b strings.Builder
	for name := range strings.FieldsSeq(s.names(alice)) {
		b.WriteString(name + " {" + s.content(alice, name) + "}\n")
	}
	return b.String()
}

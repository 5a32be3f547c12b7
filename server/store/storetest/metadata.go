package storetest

import (
	"errors"
	"fmt"

	"mailform/server/store"
)

func testMetadata(s *suite) {
	set := func(mailbox string, entries ...store.MetadataEntry) error {
		return s.s.SetMetadata(s.ctx, alice, mailbox, entries)
	}
	want := func(mailbox, want string) {
		s.Helper()
		got := ""
		list, err := s.s.Metadata(s.ctx, alice, mailbox)
		for _, e := range list {
			got += fmt.Sprintf("%s=%s ", e.Name, e.Value)
		}
		if err != nil || got != want {
			s.Errorf("%q has %q, %v; want %q", mailbox, got, err, want)
		}
	}
	comment := store.MetadataEntry{Name: "/private/Comment", Value: []byte("mine\r\n\x00")}
	for _, mailbox := range []string{"INBOX", "inbox", ""} {
		if err := set(mailbox, comment, store.MetadataEntry{Name: "/private/a", Value: []byte{}}); err != nil {
			s.Fatal(err)
		}
	}
	if err := set("None", comment); !errors.Is(err, store.ErrNoMailbox) {
		s.Errorf("of no mailbox: %v", err)
	}
	if err := set("", store.MetadataEntry{Name: "/private/b", Value: make([]byte, store.MaxMetadataValue+1)}); !errors.Is(err, store.ErrMetadata) {
		s.Errorf("too large: %v", err)
	}
	many := make([]store.MetadataEntry, store.MaxMetadataEntries)
	for i := range many {
		many[i] = store.MetadataEntry{Name: fmt.Sprint("/private/", i), Value: []byte("x")}
	}
	if err := set("", many...); !errors.Is(err, store.ErrMetadata) {
		s.Errorf("too many: %v", err)
	}
	s.close()
	s.open()
	want("INBOX", "/private/a= /private/comment=mine\r\n\x00 ")
	want("", "/private/a= /private/comment=mine\r\n\x00 ")
	if err := set("", store.MetadataEntry{Name: "/PRIVATE/A"}); err != nil {
		s.Fatal(err)
	}
	want("", "/private/comment=mine\r\n\x00 ")
	// They go with their mailbox, and along when it is renamed.
	if _, err := s.s.CreateMailbox(s.ctx, alice, "x", ""); err != nil {
		s.Fatal(err)
	}
	if err := set("x", comment); err != nil {
		s.Fatal(err)
	}
	if err := s.s.RenameMailbox(s.ctx, alice, "x", "y"); err != nil {
		s.Fatal(err)
	}
	want("y", "/private/comment=mine\r\n\x00 ")
	if err := s.s.DeleteMailbox(s.ctx, alice, "y"); err != nil {
		s.Fatal(err)
	}
	if _, err := s.s.CreateMailbox(s.ctx, alice, "y", ""); err != nil {
		s.Fatal(err)
	}
	want("y", "")
	s.close()
	s.open()
	want("y", "")
}

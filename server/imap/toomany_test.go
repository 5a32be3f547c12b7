package imap

import (
	"fmt"
	"testing"

	"mailform/server/store"
)

// Who makes mailboxes and subscriptions without end is told where it is.
func TestTooManyMailboxes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var list []store.Incoming
	for i := range store.MaxMailboxes {
		list = append(list, store.Incoming{Mailbox: fmt.Sprint("x", i)})
	}
	if _, err := w.store.Import(t.Context(), alice, list); err != nil {
		t.Fatal(err)
	}
	w.talk(`
		a> 1 CREATE more
		a< 1 NO [LIMIT] There are too many of these already
		a> 2 RENAME x1 below/x1
		a< 2 NO [LIMIT] *
		a> 3 SUBSCRIBE more
		a< 3 NO [LIMIT] *
		a> 4 RENAME x1 y1
		a< 4 OK *
	`)
}

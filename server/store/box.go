package store

import "fmt"

// Box says which mailbox of an account a call means.
//
// Who has looked at a mailbox before it asks for a change means that one and no
// other: between the look and the commit it may have been deleted and another made in
// its name, whose messages have the same UIDs. A mailbox with a UIDVALIDITY is found by
// that alone, when the change is made, whatever it is called by then.
type Box struct {
	Name string
	// UIDValidity is the mailbox's, which no other of the account's ever gets; 0 is
	// whichever mailbox has the name at that moment.
	UIDValidity uint32
}

// Named means whichever mailbox has the name.
func Named(name string) Box { return Box{Name: name} }

// Box means this mailbox.
func (m *MailboxInfo) Box() Box { return Box{m.Name, m.UIDValidity} }

// GoneError is the ErrNoMailbox for a mailbox that was meant by its UIDVALIDITY. There
// may be another one of that name.
type GoneError struct{ Box Box }

func (e *GoneError) Error() string {
	return fmt.Sprintf("%s: the mailbox with UIDVALIDITY %d does not exist any more", e.Box.Name, e.Box.UIDValidity)
}

// Is makes errors.Is(err, ErrNoMailbox) true.
func (e *GoneError) Is(target error) bool { return target == ErrNoMailbox }

// clean brings the name into the form in which it is kept, if that is what counts.
func (b Box) clean() (Box, error) {
	if b.UIDValidity != 0 {
		return b, nil
	}
	name, err := cleanName(b.Name)
	if err != nil {
		return b, fmt.Errorf("%w: %w", ErrNoMailbox, err)
	}
	return Named(name), nil
}

// missing is the error when there is no such mailbox.
func (b Box) missing() error {
	if b.UIDValidity != 0 {
		return &GoneError{b}
	}
	return fmt.Errorf("%s: %w", b.Name, ErrNoMailbox)
}

// find returns the mailbox, or nil; the account's lock is held.
func (a *account) find(b Box) *mailbox {
	if b.UIDValidity != 0 {
		return a.boxes[b.UIDValidity]
	}
	return a.names[b.Name]
}

// mustBox returns the mailbox as the batch has it, or why there is none.
func (a *stagedAccount) mustBox(want Box) (*stagedBox, error) {
	name := want.Name
	if id := want.UIDValidity; id != 0 {
		name = ""
		if b := a.boxes[id]; b != nil {
			name = b.name
		} else if a.base != nil && a.base.boxes[id] != nil {
			name = a.base.boxes[id].name
		}
	}
	// One that was deleted in the batch is still in boxes, and not by its name.
	if b := a.box(name); b != nil && (want.UIDValidity == 0 || b.id == want.UIDValidity) {
		return b, nil
	}
	return nil, want.missing()
}

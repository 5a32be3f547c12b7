package store

import (
	"errors"
	"fmt"
)

// The bounds on what one account's user may have made: all of it is in memory, and costs
// something with every LIST. An import may bring more.
const (
	MaxMailboxes     = 10_000 // those above others included
	MaxSubscriptions = 10_000 // those of names that no mailbox has included
)

// ErrTooMany says that an account has as many mailboxes or subscriptions as it can.
var ErrTooMany = errors.New("the account cannot have more of these")

// roomForBox says whether a mailbox can be made, with those above it that are missing.
func (a *stagedAccount) roomForBox(name string) error {
	n := 1
	for _, p := range parents(name) {
		if a.box(p) == nil {
			n++
		}
	}
	for have, b := range a.names {
		was := a.base != nil && a.base.names[have] != nil
		switch {
		case b != nil && !was:
			n++
		case b == nil && was:
			n--
		}
	}
	if a.base != nil {
		n += len(a.base.names)
	}
	if n > MaxMailboxes {
		return fmt.Errorf("%w: %d mailboxes", ErrTooMany, MaxMailboxes)
	}
	return nil
}

// roomForSubscription says whether there can be another one.
func (a *stagedAccount) roomForSubscription(name string) error {
	n := 1
	for have, on := range a.subs {
		was := a.base != nil && a.base.subs[have]
		switch {
		case on && !was:
			n++
		case !on && was:
			n--
		}
	}
	if a.base != nil {
		n += len(a.base.subs)
	}
	if n > MaxSubscriptions && !a.subscribed(name) {
		return fmt.Errorf("%w: %d subscriptions", ErrTooMany, MaxSubscriptions)
	}
	return nil
}

// anyBelow says whether the account has a mailbox below another.
func (a *stagedAccount) anyBelow(name string) bool {
	for n, b := range a.names {
		if b != nil && below(n, name) {
			return true
		}
	}
	if a.base == nil {
		return false
	}
	for n := range a.base.names {
		if b, staged := a.names[n]; below(n, name) && (!staged || b != nil) {
			return true
		}
	}
	return false
}

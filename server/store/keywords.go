package store

import (
	"errors"
	"fmt"
	"slices"
)

// The bounds on the keywords of one mailbox, all of which a client is told when it
// selects it. Cyrus has room for 128 in a mailbox, a Maildir for 26. What a mailbox has
// from before may be more, or longer, and stays usable.
const (
	MaxKeywords = 256 // different ones, as they are written
	MaxKeyword  = 100 // octets of one that is new to the mailbox
)

// ErrKeywords says that a keyword is one too many for the mailbox, or too long.
var ErrKeywords = errors.New("the mailbox cannot have so many keywords, or such a long one")

// newKeywords are those that a transaction adds to a mailbox, which are the mailbox's
// once nothing can refuse the transaction any more.
type newKeywords struct {
	box *stagedBox
	add []string
}

func isKeyword(flag string) bool { return flag[0] != '\\' }

// has says whether the mailbox knows a keyword.
func (b *stagedBox) has(keyword string) bool {
	if b.keywords[keyword] {
		return true
	}
	if b.base == nil {
		return false
	}
	_, ok := b.base.keywords[keyword]
	return ok
}

// take takes in the new ones among flags, or says why not.
func (n *newKeywords) take(flags []string) error {
	for _, f := range flags {
		if isKeyword(f) && !n.box.has(f) && !slices.Contains(n.add, f) && !n.fits(f) {
			return fmt.Errorf("%w: %.*q", ErrKeywords, MaxKeyword, f)
		}
	}
	return nil
}

// fits takes in one that is new, if there is room for it.
func (n *newKeywords) fits(keyword string) bool {
	have := len(n.box.keywords) + len(n.add)
	if n.box.base != nil {
		have += len(n.box.base.keywords)
	}
	if len(keyword) > MaxKeyword || have >= MaxKeywords {
		return false
	}
	n.add = append(n.add, keyword)
	return true
}

// done gives them to the mailbox.
func (n *newKeywords) done() {
	for _, f := range n.add {
		if n.box.keywords == nil {
			n.box.keywords = map[string]bool{}
		}
		n.box.keywords[f] = true
	}
}

// fit returns flags without the keywords that the mailbox has no room for: messages that
// come, or are copied, come without these rather than not at all.
func (t *txn) fit(b *stagedBox, flags []string) []string {
	n := newKeywords{box: b}
	var left []string
	for i, f := range flags {
		switch {
		case !isKeyword(f) || b.has(f) || n.fits(f):
			if left != nil {
				left = append(left, f)
			}
		case left == nil:
			left = append([]string{}, flags[:i]...)
		}
	}
	n.done()
	if left == nil {
		return flags
	}
	return t.log.ix.flags.intern(left)
}

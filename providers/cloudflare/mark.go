package cloudflare

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"mailform/plan"
)

// A mark is the comment that says whose a record is:
//
//	mf1:<stack>:<slot>             the slot is the address without "dns/"
//	mf1:<stack>:<slot> own=<list>  a joined SPF record; the list has a short hash of
//	                               each mechanism that is ours, the rest is someone else's
//
// Comments hold 100 characters on every plan of the vendor, tags are not
// available on the free one. A slot that does not fit is cut and ends in ~ and a hash.
// https://developers.cloudflare.com/dns/manage-dns-records/reference/record-attributes/
const (
	markPrefix  = "mf1:"
	maxComment  = 100
	hashedTail  = 12 // hex digits after ~
	termHashLen = 3  // base64 digits, 18 bits
)

type mark struct {
	stack  string
	slot   string
	own    map[string]bool // hashes of our SPF mechanisms; nil when all of them are
	joined bool
}

// slotOf gives the slot of a record's address.
func slotOf(a plan.Address) string { return strings.TrimPrefix(string(a), "dns/") }

// comment writes the mark of a record.
func comment(stack, slot string) string {
	c := markPrefix + stack + ":" + slot
	if len(c) <= maxComment {
		return c
	}
	return c[:maxComment-hashedTail-1] + "~" + slotHash(slot)
}

// joinedComment writes the mark of an SPF record that someone else is in, too.
// When the list does not fit, the mechanisms left out count as the others', so
// they are rather kept for too long than lost.
func joinedComment(stack, slot string, own []string) string {
	c := comment(stack, slot) + " own="
	if len(c) > maxComment {
		return comment(stack, slot)[:maxComment-len(" own=")-hashedTail-1] + "~" + slotHash(slot) + " own="
	}
	for _, term := range own {
		if len(c)+termHashLen > maxComment {
			break
		}
		c += termHash(term)
	}
	return c
}

// parseMark reads a comment. Anything a person wrote after the mark is ignored.
func parseMark(comment string) (mark, bool) {
	rest, ok := strings.CutPrefix(comment, markPrefix)
	if !ok {
		return mark{}, false
	}
	stack, rest, ok := strings.Cut(rest, ":")
	if !ok || !validStack(stack) {
		return mark{}, false
	}
	slot, rest, _ := strings.Cut(rest, " ")
	if slot == "" {
		return mark{}, false
	}
	m := mark{stack: stack, slot: slot}
	for _, word := range strings.Fields(rest) {
		list, ok := strings.CutPrefix(word, "own=")
		if !ok {
			continue
		}
		m.joined, m.own = true, map[string]bool{}
		for len(list) >= termHashLen {
			m.own[list[:termHashLen]] = true
			list = list[termHashLen:]
		}
	}
	return m, true
}

// stands reports whether the mark is for the slot, which it may carry cut.
func (m mark) stands(slot string) bool {
	if m.slot == slot {
		return true
	}
	head, hash, cut := strings.Cut(m.slot, "~")
	return cut && hash == slotHash(slot) && strings.HasPrefix(slot, head)
}

func validStack(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != '-' && !digit(c) && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

func slotHash(slot string) string {
	sum := sha256.Sum256([]byte(slot))
	return hex.EncodeToString(sum[:])[:hashedTail]
}

func termHash(term string) string {
	sum := sha256.Sum256([]byte(term))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:termHashLen]
}

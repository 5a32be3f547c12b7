package threads

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// Message is what decides where a message belongs. Identifiers and subjects are
// numbers, see Key.
type Message struct {
	Num     uint32 // how the client names it; ascending
	ID      uint64 // of its message identifier; 0 when it has none
	Refs    []uint64
	Sent    int64  // when it was sent, or else arrived: Unix seconds
	Subject uint64 // of its base subject in the form that is compared
	Reply   bool   // the subject says that it is a reply or a forward
}

// Node is a message in a thread, with those that follow it.
type Node struct {
	Message  *Message // nil: nobody knows it but by reference
	Children []*Node

	// parent is what it stands below while that is being found out; later what takes
	// its place.
	parent *Node
	below  uint32 // how many stand below it
	above  bool   // a message was put below it
	gone   bool   // it was joined with another
}

// first is the message, or the first below that somebody has.
func (n *Node) first() *Message {
	for n.Message == nil && len(n.Children) > 0 {
		n = n.Children[0]
	}
	if n.Message == nil {
		return &Message{}
	}
	return n.Message
}

// sortByDate sorts nodes by when they were sent.
func sortByDate(nodes []*Node) {
	type dated struct {
		sent int64
		num  uint32
		node *Node
	}
	compare := func(a, b dated) int {
		if c := cmp.Compare(a.sent, b.sent); c != 0 {
			return c
		}
		return cmp.Compare(a.num, b.num)
	}
	if sorted := func() bool { // mostly
		var last dated
		for i, n := range nodes {
			m := n.first()
			next := dated{sent: m.Sent, num: m.Num}
			if i > 0 && compare(last, next) > 0 {
				return false
			}
			last = next
		}
		return true
	}(); sorted {
		return
	}
	list := make([]dated, len(nodes))
	for i, n := range nodes {
		m := n.first()
		list[i] = dated{m.Sent, m.Num, n}
	}
	slices.SortFunc(list, compare)
	for i, d := range list {
		nodes[i] = d.node
	}
}

// OrderedSubject makes threads of messages with equal subjects: the first is
// the parent of all others.
func OrderedSubject(msgs []Message) []*Node {
	order := make([]*Message, len(msgs))
	for i := range msgs {
		order[i] = &msgs[i]
	}
	slices.SortFunc(order, func(a, b *Message) int {
		if c := cmp.Compare(a.Subject, b.Subject); c != 0 {
			return c
		}
		if c := cmp.Compare(a.Sent, b.Sent); c != 0 {
			return c
		}
		return cmp.Compare(a.Num, b.Num)
	})
	var roots []*Node
	nodes := make([]Node, len(order))
	for i, m := range order {
		n := &nodes[i]
		n.Message = m
		if i > 0 && order[i-1].Subject == m.Subject {
			last := roots[len(roots)-1]
			last.Children = append(last.Children, n)
			continue
		}
		roots = append(roots, n)
	}
	sortByDate(roots)
	return roots
}

// References makes threads of messages by what they refer to, and joins those
// whose subjects are equal: RFC 5256 3, REFERENCES.
func References(msgs []Message) []*Node {
	roots := prune(link(msgs), true)
	sortByDate(roots)
	roots = joinSubjects(roots)
	sortAll(roots)
	return roots
}

// Refs makes threads of messages by what they refer to, whatever their subjects:
// draft-ietf-morg-inthread, REFS. The thread with the newest message comes last.
func Refs(msgs []Message) []*Node {
	roots := prune(link(msgs), true)
	sortAll(roots)
	type dated struct {
		newest int64
		num    uint32
		node   *Node
	}
	list := make([]dated, len(roots))
	for i, n := range roots {
		list[i] = dated{n.newest(), n.first().Num, n}
	}
	slices.SortFunc(list, func(a, b dated) int {
		if c := cmp.Compare(a.newest, b.newest); c != 0 {
			return c
		}
		return cmp.Compare(a.num, b.num)
	})
	for i, d := range list {
		roots[i] = d.node
	}
	return roots
}

// newest is when the last message of a thread was sent.
func (n *Node) newest() int64 {
	last := int64(math.MinInt64)
	if n.Message != nil {
		last = n.Message.Sent
	}
	for _, c := range n.Children {
		last = max(last, c.newest())
	}
	return last
}

// link is steps 1 and 2: it returns all that nothing stands above.
func link(msgs []Message) (roots []*Node) {
	byID := make(map[uint64]*Node, len(msgs))
	var rooms [][]Node // what all nodes are in
	add := func() *Node {
		k := len(rooms) - 1
		if k < 0 || len(rooms[k]) == cap(rooms[k]) {
			rooms, k = append(rooms, make([]Node, 0, max(len(msgs)/8, 16))), k+1
		}
		rooms[k] = append(rooms[k], Node{})
		return &rooms[k][len(rooms[k])-1]
	}
	node := func(id uint64) *Node {
		n := byID[id]
		if n == nil {
			n = add()
			byID[id] = n
		}
		return n
	}
	own := make([]*Node, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		// Of two with the same identifier the first has it.
		if m.ID != 0 {
			if n := node(m.ID); n.Message == nil {
				n.Message, own[i] = m, n
				continue
			}
		}
		own[i] = add()
		own[i].Message = m
	}
	for i := range msgs {
		var above *Node
		for _, ref := range msgs[i].Refs {
			n := node(ref)
			if above != nil && n.parent == nil && !n.isAbove(above) {
				n.parent, above.above = above, true
			}
			above = n
		}
		// What a message says of itself counts more than what others say of it.
		n := own[i]
		if n.parent = nil; above != nil && !n.isAbove(above) {
			n.parent, above.above = above, true
		}
	}
	top, all := 0, 0
	for _, room := range rooms {
		all += len(room)
		for i := range room {
			if p := room[i].parent; p == nil {
				top++
			} else {
				p.below++
			}
		}
	}
	// The lists of children are cut from one.
	roots, children := make([]*Node, 0, top), make([]*Node, all-top)
	for _, room := range rooms {
		for i := range room {
			n := &room[i]
			p := n.parent
			if p == nil {
				roots = append(roots, n)
				continue
			}
			if p.Children == nil {
				p.Children, children = children[:0:p.below], children[p.below:]
			}
			p.Children = append(p.Children, n)
			n.parent = nil
		}
	}
	return roots
}

// isAbove says whether n is other or stands above it.
func (n *Node) isAbove(other *Node) bool {
	if !n.above { // mostly: a thread is read from its beginning
		return n == other
	}
	for ; other != nil; other = other.parent {
		if other == n {
			return true
		}
	}
	return false
}

// prune is step 3: messages that nobody has make room for those below them.
func prune(nodes []*Node, top bool) []*Node {
	known := true
	for _, n := range nodes {
		n.Children = prune(n.Children, false)
		known = known && n.Message != nil
	}
	if known {
		return nodes
	}
	out := make([]*Node, 0, len(nodes))
	for _, n := range nodes {
		switch {
		case n.Message != nil:
			out = append(out, n)
		case len(n.Children) == 0:
		case !top || len(n.Children) == 1:
			out = append(out, n.Children...)
		default:
			sortByDate(n.Children)
			out = append(out, n)
		}
	}
	return out
}

// joinSubjects is step 5.
func joinSubjects(roots []*Node) []*Node {
	table := make(map[uint64]*Node, len(roots))
	for _, n := range roots {
		m := n.first()
		if m.Subject == 0 {
			continue
		}
		old := table[m.Subject]
		if old == nil || old.Message != nil && (n.Message == nil || old.Message.Reply && !m.Reply) {
			table[m.Subject] = n
		}
	}
	for _, n := range roots {
		m := n.first()
		into := table[m.Subject]
		if m.Subject == 0 || into == n {
			continue
		}
		switch {
		case into.Message == nil && n.Message == nil:
			into.Children = append(into.Children, n.Children...)
		case into.Message == nil || m.Reply && !into.Message.Reply:
			into.Children = append(into.Children, n)
		default:
			both := &Node{Children: []*Node{into, n}}
			into.parent = both
			table[m.Subject] = both
		}
		n.gone = true
	}
	out := roots[:0]
	for _, n := range roots {
		if n.gone {
			continue
		}
		if n.parent != nil {
			n = n.parent
		}
		out = append(out, n)
	}
	return out
}

// sortAll is step 6, from below, since a message that nobody has goes by its first.
func sortAll(nodes []*Node) {
	for _, n := range nodes {
		sortAll(n.Children)
	}
	sortByDate(nodes)
}

// MessageIDs returns the message identifiers in a References or In-Reply-To
// field, without angles.
func MessageIDs(v string) (ids []string) {
	for len(ids) < maxRefs {
		i := strings.IndexByte(v, '<')
		if i < 0 {
			break
		}
		v = v[i+1:]
		j := strings.IndexByte(v, '>')
		if j < 0 {
			break
		}
		if id := clean(v[:j]); strings.Contains(id, "@") {
			ids = append(ids, id)
		}
		v = v[j+1:]
	}
	return ids
}

// maxRefs bounds what one message may refer to.
const maxRefs = 1000

// clean takes quotes and space out of a message identifier.
func clean(id string) string {
	if !strings.ContainsAny(id, "\"\\ \t") {
		return id
	}
	return strings.NewReplacer(`"`, "", `\`, "", " ", "", "\t", "").Replace(id)
}

// Key is a number that stands for a message identifier or a subject; 0 for "".
// Two that are different have different ones, but for one pair in 2^64.
func Key(s string) uint64 {
	if s == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(s))
	return max(binary.LittleEndian.Uint64(sum[:]), 1)
}

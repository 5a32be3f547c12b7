package threads

import (
	"slices"
	"strings"
	"time"
)

// Message is what decides where a message belongs.
type Message struct {
	Num     uint32 // how the client names it; ascending
	ID      string // message identifier, without angles; "" when it has none
	Refs    []string
	Date    time.Time // sent, or else arrived
	Subject string    // base subject in the form that is compared
	Reply   bool      // the subject says that it is a reply or a forward
}

// Node is a message in a thread, with those that follow it.
type Node struct {
	Message  *Message // nil: nobody knows it but by reference
	Children []*Node

	parent *Node
	above  bool // a message was put below it
}

// date is when the message was sent, or the first below it that is known.
func (n *Node) date() time.Time { return n.first().Date }

func (n *Node) num() uint32 { return n.first().Num }

func (n *Node) first() *Message {
	for n.Message == nil && len(n.Children) > 0 {
		n = n.Children[0]
	}
	if n.Message == nil {
		return &Message{}
	}
	return n.Message
}

func byDate(a, b *Node) int {
	if c := a.date().Compare(b.date()); c != 0 {
		return c
	}
	return int(int64(a.num()) - int64(b.num()))
}

// OrderedSubject makes threads of messages with equal subjects: the first is
// the parent of all others.
func OrderedSubject(msgs []Message) []*Node {
	order := make([]*Message, len(msgs))
	for i := range msgs {
		order[i] = &msgs[i]
	}
	slices.SortStableFunc(order, func(a, b *Message) int {
		if c := strings.Compare(a.Subject, b.Subject); c != 0 {
			return c
		}
		if c := a.Date.Compare(b.Date); c != 0 {
			return c
		}
		return int(int64(a.Num) - int64(b.Num))
	})
	var roots []*Node
	for i, m := range order {
		n := &Node{Message: m}
		if i > 0 && order[i-1].Subject == m.Subject {
			last := roots[len(roots)-1]
			last.Children = append(last.Children, n)
			continue
		}
		roots = append(roots, n)
	}
	slices.SortStableFunc(roots, byDate)
	return roots
}

// References makes threads of messages by what they refer to, and joins those
// whose subjects are equal: RFC 5256 3, REFERENCES.
func References(msgs []Message) []*Node {
	roots := prune(link(msgs), true)
	slices.SortStableFunc(roots, byDate)
	roots = joinSubjects(roots)
	sortAll(roots)
	return roots
}

// link is steps 1 and 2: it returns all that nothing stands above.
func link(msgs []Message) (roots []*Node) {
	byID := make(map[string]*Node, len(msgs))
	all := make([]*Node, 0, len(msgs))
	node := func(id string) *Node {
		n := byID[id]
		if n == nil {
			n = &Node{}
			byID[id] = n
			all = append(all, n)
		}
		return n
	}
	own := make([]*Node, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		// Of two with the same identifier the first has it.
		if m.ID != "" {
			if n := node(m.ID); n.Message == nil {
				n.Message, own[i] = m, n
				continue
			}
		}
		own[i] = &Node{Message: m}
		all = append(all, own[i])
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
	for _, n := range all {
		if n.parent == nil {
			roots = append(roots, n)
		} else {
			n.parent.Children = append(n.parent.Children, n)
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
	out := make([]*Node, 0, len(nodes))
	for _, n := range nodes {
		n.Children = prune(n.Children, false)
		switch {
		case n.Message != nil:
			out = append(out, n)
		case len(n.Children) == 0:
		case !top || len(n.Children) == 1:
			out = append(out, n.Children...)
		default:
			slices.SortStableFunc(n.Children, byDate)
			out = append(out, n)
		}
	}
	return out
}

// joinSubjects is step 5.
func joinSubjects(roots []*Node) []*Node {
	table := map[string]*Node{}
	for _, n := range roots {
		m := n.first()
		if m.Subject == "" {
			continue
		}
		old := table[m.Subject]
		if old == nil || old.Message != nil && (n.Message == nil || old.Message.Reply && !m.Reply) {
			table[m.Subject] = n
		}
	}
	gone := map[*Node]bool{}
	made := map[*Node]*Node{} // a new parent, in the place of the node it was made for
	for _, n := range roots {
		m := n.first()
		into := table[m.Subject]
		if m.Subject == "" || into == n {
			continue
		}
		switch {
		case into.Message == nil && n.Message == nil:
			into.Children = append(into.Children, n.Children...)
		case into.Message == nil || m.Reply && !into.Message.Reply:
			into.Children = append(into.Children, n)
		default:
			both := &Node{Children: []*Node{into, n}}
			made[into] = both
			table[m.Subject] = both
		}
		gone[n] = true
	}
	out := roots[:0]
	for _, n := range roots {
		if gone[n] {
			continue
		}
		if both := made[n]; both != nil {
			n = both
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
	slices.SortStableFunc(nodes, byDate)
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

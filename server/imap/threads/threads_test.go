package threads

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBaseSubject(t *testing.T) {
	for _, c := range []struct {
		subject, base string
		reply         bool
	}{
		{"hello", "hello", false}, {"  a \t b ", "a b", false},
		{"Re: hello", "hello", true}, {"RE : fwd: Fw:hello", "hello", true}, {"re[2]: hello", "hello", true}, {"Re: [list] Re: hello", "hello", true},
		{"[list] hello", "hello", false}, {"[list]", "[list]", false}, {"[a] [b] x", "x", false}, {"[a] re: x", "x", true},
		{"hello (fwd) (FWD)", "hello", true}, {"[fwd: hello]", "hello", true}, {"[Fwd: Re: [x] hello (fwd)] ", "hello", true},
		{"Re\uff1ahello", "hello", true}, {"\uff1ahello", "\uff1ahello", false},
		{"Reply: x", "Reply: x", false}, {"re", "re", false}, {"re:", "", true}, {"", "", false}, {"[a[b]: x", "[a[b]: x", false},
	} {
		base, reply := BaseSubject(c.subject)
		if base != c.base || reply != c.reply {
			t.Errorf("%q: %q, %v; want %q, %v", c.subject, base, reply, c.base, c.reply)
		}
	}
}

func FuzzBaseSubject(f *testing.F) {
	for _, s := range []string{"Re: [x] [fwd: a (fwd)]", "[[[[", "re[]: :", "(fwd)(fwd)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		base, _ := BaseSubject(s)
		if again, _ := BaseSubject(base); again != base {
			t.Errorf("%q becomes %q and then %q", s, base, again)
		}
	})
}

func show(nodes []*Node) string {
	var b strings.Builder
	for _, n := range nodes {
		num := "-"
		if n.Message != nil {
			num = fmt.Sprint(n.Message.Num)
		}
		fmt.Fprintf(&b, "(%s%s)", num, show(n.Children))
	}
	return b.String()
}

// msg is a Message whose identifiers and subject are given as texts.
func msg(num uint32, id string, refs []string, sent int64, subject string, reply bool) Message {
	m := Message{Num: num, ID: Key(id), Sent: sent, Subject: Key(subject), Reply: reply}
	for _, r := range refs {
		m.Refs = append(m.Refs, Key(r))
	}
	return m
}

func at(minute int) int64 { return 60 * int64(minute) }

func TestReferences(t *testing.T) {
	for name, c := range map[string]struct {
		msgs []Message
		want string
	}{
		"replies": {[]Message{msg(1, "a", nil, at(1), "", false), msg(2, "b", []string{"a"}, at(3), "", false), msg(3, "c", []string{"a"}, at(2), "", false)}, "(1(3)(2))"},
		"a loop is cut": {[]Message{msg(1, "a", nil, at(3), "", false), msg(2, "b", []string{"a", "c"}, at(1), "", false), msg(3, "c", []string{"b"}, at(2), "", false)},
			"(3(2))(1)"},
		"what nobody has makes room":    {[]Message{msg(1, "b", []string{"a"}, at(1), "", false)}, "(1)"},
		"but holds brothers together":   {[]Message{msg(1, "b", []string{"a"}, at(2), "", false), msg(2, "c", []string{"a"}, at(1), "", false)}, "(-(2)(1))"},
		"subjects join":                 {[]Message{msg(1, "a", nil, at(1), "X", false), msg(2, "b", nil, at(2), "X", true)}, "(1(2))"},
		"equal ones become brothers":    {[]Message{msg(1, "a", nil, at(1), "X", false), msg(2, "b", nil, at(2), "X", false)}, "(-(1)(2))"},
		"identifiers given twice":       {[]Message{msg(1, "a", nil, at(1), "", false), msg(2, "a", nil, at(2), "", false), msg(3, "b", []string{"a"}, at(3), "", false)}, "(1(3))(2)"},
		"no subject joins nothing":      {[]Message{msg(1, "", nil, at(1), "", false), msg(2, "", nil, at(2), "", false)}, "(1)(2)"},
		"the reply comes first":         {[]Message{msg(1, "a", nil, at(1), "X", true), msg(2, "b", nil, at(2), "X", false)}, "(2(1))"},
		"nothing":                       {nil, ""},
		"a message that names itself":   {[]Message{msg(1, "a", []string{"a"}, at(1), "", false)}, "(1)"},
		"what it says counts more":      {[]Message{msg(1, "c", []string{"a", "b"}, at(3), "", false), msg(2, "b", []string{"d"}, at(2), "", false), msg(3, "d", nil, at(1), "", false)}, "(3(2(1)))"},
		"two that nobody has, one name": {[]Message{msg(1, "b", []string{"a"}, at(1), "X", false), msg(2, "c", []string{"a"}, at(2), "Y", false), msg(3, "e", []string{"d"}, at(3), "X", false), msg(4, "f", []string{"d"}, at(4), "Z", false)}, "(-(1)(2)(3)(4))"},
	} {
		if got := show(References(c.msgs)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestRefs(t *testing.T) {
	for name, c := range map[string]struct {
		msgs []Message
		want string
	}{
		"the newest thread is last":      {[]Message{msg(1, "a", nil, at(1), "", false), msg(2, "b", nil, at(2), "", false), msg(3, "c", []string{"a"}, at(3), "", false)}, "(2)(1(3))"},
		"subjects do not matter":         {[]Message{msg(1, "a", nil, at(1), "X", false), msg(2, "b", nil, at(2), "X", true), msg(3, "c", nil, at(3), "X", false)}, "(1)(2)(3)"},
		"nor do they with what is gone":  {[]Message{msg(1, "b", []string{"a"}, at(1), "X", false), msg(2, "c", []string{"d"}, at(2), "X", false)}, "(1)(2)"},
		"brothers by their own dates":    {[]Message{msg(1, "a", nil, at(1), "", false), msg(2, "b", []string{"a"}, at(3), "", false), msg(3, "c", []string{"a"}, at(4), "", false), msg(4, "d", []string{"b"}, at(5), "", false), msg(5, "e", []string{"a"}, at(2), "", false)}, "(1(5)(2(4))(3))"},
		"of two that nobody has the sum": {[]Message{msg(1, "b", []string{"a"}, at(2), "", false), msg(2, "e", nil, at(3), "", false), msg(3, "c", []string{"a"}, at(4), "", false)}, "(2)(-(1)(3))"},
		"a loop is cut":                  {[]Message{msg(1, "a", []string{"b"}, at(3), "", false), msg(2, "b", []string{"a"}, at(1), "", false)}, "(2(1))"},
		"at one time the first is first": {[]Message{msg(1, "a", nil, at(1), "", false), msg(2, "b", nil, at(1), "", false)}, "(1)(2)"},
		"nothing":                        {nil, ""},
	} {
		if got := show(Refs(c.msgs)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestOrderedSubject(t *testing.T) {
	got := show(OrderedSubject([]Message{msg(1, "", nil, at(5), "B", false), msg(2, "", nil, at(2), "A", false), msg(3, "", nil, at(1), "A", true), msg(4, "", nil, at(9), "A", true)}))
	if want := "(3(2)(4))(1)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Whatever messages say of one another, each is in one place.
func TestEveryMessageOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(rt, "messages")
		id := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f"})
		msgs := make([]Message, n)
		for i := range msgs {
			msgs[i] = Message{Num: uint32(i + 1), ID: Key(id.Draw(rt, "id")), Sent: at(rapid.IntRange(0, 5).Draw(rt, "minute")),
				Subject: Key(rapid.SampledFrom([]string{"", "X", "Y"}).Draw(rt, "subject")), Reply: rapid.Bool().Draw(rt, "reply")}
			for _, ref := range rapid.SliceOfN(id, 0, 4).Draw(rt, "refs") {
				if ref != "" {
					msgs[i].Refs = append(msgs[i].Refs, Key(ref))
				}
			}
		}
		for name, arrange := range map[string]func([]Message) []*Node{"references": References, "refs": Refs, "orderedsubject": OrderedSubject} {
			seen := map[uint32]int{}
			var walk func([]*Node)
			walk = func(nodes []*Node) {
				for _, x := range nodes {
					if x.Message != nil {
						seen[x.Message.Num]++
					} else if len(x.Children) == 0 {
						rt.Fatalf("%s: an empty place", name)
					}
					walk(x.Children)
				}
			}
			walk(arrange(msgs))
			for i := range msgs {
				if seen[uint32(i+1)] != 1 {
					rt.Fatalf("%s: message %d is in %d places", name, i+1, seen[uint32(i+1)])
				}
			}
		}
	})
}

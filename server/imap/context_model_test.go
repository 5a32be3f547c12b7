package imap

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// result is what a client believes of a search whose result is followed, RFC 5267.
type result struct {
	tag, criteria string
	uid           bool
	has           map[int]bool // sequence numbers or UIDs
}

// expunge moves numbers up. What is expunged has left the result before.
func (r *result) expunge(ch chooser, got string, n int) {
	if r.uid {
		return
	}
	if r.has[n] {
		ch.failf("%s is still in the result of %s", got, r.tag)
	}
	moved := map[int]bool{}
	for i := range r.has {
		if i > n {
			i--
		}
		moved[i] = true
	}
	r.has = moved
}

// followed are the searches of the model: of flags, of what never changes, and of
// what depends on which message is the last.
var followed = []string{"ALL", "SEEN", "UNDELETED KEYWORD $Work", "OR SEEN NOT DELETED", "UID 3:*", "UID 5:* UNSEEN", "NOT UID *", "UID 100:*",
	"HEADER A b", "TEXT x SEEN", "NOT TEXT x", "MODSEQ 9", "LARGER 1 1:* ANSWERED"}

// followResult makes a context, or ends one when there are many.
func (c *client) followResult(ch chooser) {
	if len(c.results) > 3 {
		r := c.results[0]
		c.results = c.results[1:]
		if got := c.do(ch, fmt.Sprintf("CANCELUPDATE %q", r.tag)); !strings.HasPrefix(got, "OK") {
			ch.failf("%s: %s is not followed: %s", c.name, r.tag, got)
		}
		return
	}
	r := &result{tag: fmt.Sprintf("%s%d", c.name, c.tags+1), criteria: followed[ch.n("followed", len(followed))], uid: ch.n("uid", 2) == 1, has: map[int]bool{}}
	c.results = append(c.results, r)
	if got := c.do(ch, r.command("RETURN (UPDATE ALL) ")); !strings.HasPrefix(got, "OK") {
		ch.failf("%s: %s", c.name, got)
	}
}

func (r *result) command(options string) string {
	if r.uid {
		return "UID SEARCH " + options + r.criteria
	}
	return "SEARCH " + options + r.criteria
}

// takeResult takes in an ESEARCH response.
func (c *client) takeResult(ch chooser, got string) {
	rest, _ := strings.CutPrefix(got, `* ESEARCH (TAG "`)
	tag, rest, _ := strings.Cut(rest, `")`)
	i := slices.IndexFunc(c.results, func(r *result) bool { return r.tag == tag })
	if i < 0 {
		return // of a search that is not followed, or no longer
	}
	r := c.results[i]
	rest, uid := strings.CutPrefix(rest, " UID")
	if uid != r.uid && rest != "" {
		ch.failf("%s: %s, and the command was %s", c.name, got, r.command(""))
	}
	words := strings.Fields(strings.NewReplacer("(0 ", "", ")", "").Replace(rest))
	for ; len(words) > 1; words = words[2:] {
		if words[0] == "MODSEQ" {
			continue
		}
		for _, n := range numbers(ch, words[1]) {
			if !r.uid && n > len(c.msgs) {
				ch.failf("%s: %s, but there are %d messages", c.name, got, len(c.msgs))
			}
			if r.has[n] == (words[0] != "REMOVEFROM") {
				ch.failf("%s: %s, but %d was so already", c.name, got, n)
			}
			if words[0] == "REMOVEFROM" {
				delete(r.has, n)
			} else {
				r.has[n] = true
			}
		}
	}
}

// numbers are those in a set.
func numbers(ch chooser, set string) (l []int) {
	for part := range strings.SplitSeq(set, ",") {
		from, to, ok := strings.Cut(part, ":")
		if !ok {
			to = from
		}
		i, err := strconv.Atoi(from)
		j, err2 := strconv.Atoi(to)
		if err != nil || err2 != nil {
			ch.failf("%q is no set", set)
		}
		for ; i <= j; i++ {
			l = append(l, i)
		}
	}
	return l
}

// checkResults compares what is believed with what a fresh search finds.
func (c *client) checkResults(ch chooser) {
	for _, r := range c.results {
		c.tags++
		tag := fmt.Sprintf("%s%d", c.name, c.tags)
		c.send(tag + " " + r.command("") + "\r\n")
		fresh := map[int]bool{}
		for {
			got := c.read()
			if strings.HasPrefix(got, tag+" ") {
				break
			}
			if list, ok := strings.CutPrefix(got, "* SEARCH"); ok {
				list, _, _ = strings.Cut(list, " (MODSEQ")
				for _, word := range strings.Fields(list) {
					n, err := strconv.Atoi(word)
					if err != nil {
						ch.failf("%s: %s", c.name, got)
					}
					fresh[n] = true
				}
				continue
			}
			c.take(ch, "SEARCH", got)
		}
		if !maps.Equal(fresh, r.has) {
			ch.failf("%s: %s (%s) is believed to be %v and is %v", c.name, r.tag, r.command(""), slices.Sorted(maps.Keys(r.has)), slices.Sorted(maps.Keys(fresh)))
		}
	}
}

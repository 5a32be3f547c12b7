package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestList changes Lists that share their messages with one another, each beside a
// slice that shares nothing.
func TestList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		type pair struct {
			list List
			want []Message
		}
		pairs := []*pair{{}}
		next, modseq := UID(1), ModSeq(1)
		intern := newIndex().flags.intern
		flags := func() []string {
			if rapid.IntRange(0, 9).Draw(rt, "rare") == 0 {
				return intern([]string{fmt.Sprintf("k%d", rapid.IntRange(0, 400).Draw(rt, "keyword"))})
			}
			return intern(rapid.SampledFrom([][]string{nil, {`\Seen`}, {`\Flagged`, `\Seen`}}).Draw(rt, "flags"))
		}
		message := func() Message {
			next += UID(rapid.SampledFrom([]int{1, 1, 1, 1, 2, 40, 300}).Draw(rt, "gap"))
			modseq++
			m := Message{UID: next, ModSeq: modseq, Flags: flags(), ObjectID: "E" + strings.Repeat("x", int(next%7)), InternalDate: time.Unix(int64(next)*1e6, 0).UTC(),
				Body: BodyRef{Segment: uint64(next), Offset: int64(next) * 64, Size: int64(next % 900)}}
			if next%5 == 0 {
				m.Head = BodyRef{Segment: 1, Offset: 64, Size: 80, Stored: 9}
			}
			if next%11 == 0 {
				m.InternalDate = time.Unix(int64(next), 0).In(time.FixedZone("", 330*60))
			}
			m.Size = m.Head.Size + m.Body.Size
			return m
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			p := pairs[rapid.IntRange(0, len(pairs)-1).Draw(rt, "which")]
			place := func() int { return rapid.IntRange(0, len(p.want)-1).Draw(rt, "place") }
			switch kind := rapid.IntRange(0, 6).Draw(rt, "kind"); {
			case kind <= 1 || len(p.want) == 0:
				var msgs []*Message
				for range rapid.SampledFrom([]int{1, 1, 3, 270}).Draw(rt, "new") {
					m := message()
					p.want = append(p.want, m)
					msgs = append(msgs, &m)
				}
				p.list.Append(msgs...)
			case kind == 2:
				for range rapid.IntRange(1, 300).Draw(rt, "changes") {
					i, f := place(), flags()
					modseq++
					p.list.SetFlags(i, f, modseq)
					p.want[i].Flags, p.want[i].ModSeq = f, modseq
				}
			case kind == 3:
				from := place()
				to := rapid.IntRange(from, len(p.want)).Draw(rt, "to")
				step := rapid.IntRange(1, 3).Draw(rt, "step")
				var places []int
				var kept []Message
				for i, m := range p.want {
					if i >= from && i < to && (i-from)%step == 0 {
						places = append(places, i)
					} else {
						kept = append(kept, m)
					}
				}
				p.list.Remove(places)
				p.want = kept
			case kind == 4 && len(pairs) < 4:
				pairs = append(pairs, &pair{p.list.Clone(), slices.Clone(p.want)})
			case kind == 5: // elsewhere, as compaction does
				i := place()
				p.want[i].Body.Segment += 1 << 40
				m := p.want[i]
				p.list.replace([]*Message{&m})
			case kind == 6: // what comes back from the file
				var l List
				for _, b := range p.list.blocks {
					e := &encoder{}
					b.encode(e)
					again, err := decodeBlock(b.number, e.b, intern)
					if err != nil {
						rt.Fatal(err)
					}
					l.push(again)
				}
				p.list = l
			}
		}
		for _, p := range pairs {
			if p.list.Len() != len(p.want) {
				rt.Fatalf("%d messages, want %d", p.list.Len(), len(p.want))
			}
			unseen := slices.IndexFunc(p.want, func(m Message) bool { return !hasFlag(m.Flags, `\Seen`) })
			if got := p.list.FirstWithout(`\Seen`); got != unseen {
				rt.Fatalf("the first unseen is at %d, want %d", got, unseen)
			}
			for i, m := range p.list.All() {
				if want := p.want[i]; fmt.Sprint(*m) != fmt.Sprint(want) {
					rt.Fatalf("at %d is %v, want %v", i, *m, want)
				}
				if got := p.list.At(i); got.UID != m.UID || p.list.UID(i) != m.UID || p.list.Index(m.UID) != i {
					rt.Fatalf("UID %d at %d is %v, found at %d", m.UID, i, got, p.list.Index(m.UID))
				}
				if next := p.list.Index(m.UID + 1); next != i+1 {
					rt.Fatalf("behind UID %d comes place %d, want %d", m.UID, next, i+1)
				}
			}
			for uid := range next + 2 {
				_, want := slices.BinarySearchFunc(p.want, uid, func(m Message, uid UID) int { return int(m.UID) - int(uid) })
				if _, ok := p.list.Find(uid); ok != want {
					rt.Fatalf("UID %d is found: %v", uid, ok)
				}
			}
		}
	})
}
